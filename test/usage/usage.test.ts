/** The readers, with real cgroups and network namespaces, and trees of files where none are had. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { withRates } from '../../src/node/usage.ts';
import { mounts } from '../../src/linux/proc.ts';
import { kernelFiles } from '../../src/usage/kernel-file.ts';
import { createUsage, LEAST_AGE_MS, type KnownPod } from '../../src/usage/usage.ts';

const clock = systemClock('boot', () => 0);
const podRef = { name: 'web', namespace: 'default', uid: 'u-1' };
const pod: KnownPod = {
  ...{ podRef, qos: 'Burstable', hostNetwork: false, sandboxId: 'sb' },
  containers: [{ name: 'main', id: 'c1' }],
};

const unified = mounts().find(({ fsType }) => fsType === 'cgroup2')?.mountPoint;
const asRoot =
  process.getuid?.() === 0 && unified !== undefined ? {} : { skip: 'needs root and cgroup v2' };

function write(root: string, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

function scratch(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'limpet-usage-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

const FILES = {
  'cpu.stat': 'usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\n',
  'memory.current': '10485760\n',
  'memory.stat': 'anon 4096000\nfile 6000000\ninactive_file 4194304\npgfault 12\npgmajfault 3\n',
  'memory.max': '134217728\n',
  'memory.swap.current': '0\n',
  'io.stat': '179:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n',
  'pids.current': '4\n',
  'memory.pressure': 'some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n',
};
const below = (directory: string, files: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`${directory}/${name}`, text]));

const EXPECTED = {
  cpu: { usageCoreNanoSeconds: 2e9 },
  memory: {
    usageBytes: 10_485_760,
    workingSetBytes: 6_291_456,
    rssBytes: 4_096_000,
    availableBytes: 134_217_728 - 6_291_456,
    ...{ pageFaults: 12, majorPageFaults: 3 },
    psi: { some: { total: 7000, avg10: 0, avg60: 0, avg300: 0 } },
  },
  swap: { swapUsageBytes: 0 },
  io: { readBytes: 4096, writeBytes: 8192 },
  process_stats: { process_count: 4 },
};

for (const driver of ['systemd', 'cgroupfs'] as const) {
  test(`pods and containers below the cgroups of the driver ${driver}`, async (t) => {
    const root = scratch(t);
    const [all, burstable, inPod, inContainer] =
      driver === 'systemd'
        ? [
            'kubepods.slice',
            'kubepods.slice/kubepods-burstable.slice',
            'kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podu_1.slice',
            'cri-containerd-c1.scope',
          ]
        : ['kubepods', 'kubepods/burstable', 'kubepods/burstable/podu-1', 'c1'];
    write(root, below(all, FILES));
    write(root, below(burstable, FILES));
    write(root, below(inPod, { ...FILES, 'memory.max': 'max\n' }));
    write(root, below(`${inPod}/${inContainer}`, FILES));
    const usage = createUsage({
      ...{ clock, directory: root, cgroupRoot: root, driver: () => driver },
      pods: () => [pod, { ...pod, podRef: { ...podRef, uid: 'gone' } }],
    });
    const { pods, kubepods, qosClasses } = await usage('containers', 0);
    assert.equal(pods?.length, 1);
    const { monoMs, podRef: ref, containers, memory, ...rest } = pods[0]!;
    assert.equal(ref.uid, 'u-1');
    const { availableBytes: _, ...unlimited } = EXPECTED.memory;
    assert.deepEqual(memory, unlimited);
    const { memory: _m, ...others } = EXPECTED;
    assert.deepEqual(rest, { ...others, sandboxId: 'sb' });
    assert.deepEqual(
      containers,
      [{ name: 'main', id: 'c1', ...EXPECTED, monoMs }].map((one) => ({
        ...one,
        monoMs: containers![0]!.monoMs,
      })),
    );
    assert.deepEqual({ ...kubepods, monoMs: 0 }, { ...EXPECTED, monoMs: 0 });
    assert.deepEqual(Object.keys(qosClasses ?? {}), ['Burstable']);
  });
}

test('bad files are absent figures', async (t) => {
  const root = scratch(t);
  const rubbish = Object.fromEntries(Object.keys(FILES).map((name) => [name, '\0\uffff -1 NaN']));
  for (const path of ['kubepods', 'kubepods/burstable', 'kubepods/burstable/podu-1']) {
    write(root, below(path, rubbish));
  }
  mkdirSync(join(root, 'kubepods/burstable/podu-1/c1/cpu.stat'), { recursive: true });
  const usage = createUsage({
    ...{ clock, directory: join(root, 'none'), cgroupRoot: root, driver: () => 'cgroupfs' },
    pods: () => [pod],
  });
  const { pods, node } = await usage('containers', 0);
  const { monoMs: _, ...rest } = pods![0]!;
  const io = { readBytes: 0, writeBytes: 0 };
  assert.deepEqual(rest, { podRef, sandboxId: 'sb', io, containers: [] });
  assert.equal(node.fs, undefined);
  assert.equal(node.cpu, undefined);
});

test('one reading serves all who come at about the same time, and who wants less', async (t) => {
  const root = scratch(t);
  let asked = 0;
  const usage = createUsage({
    ...{ clock, directory: root, cgroupRoot: root, driver: () => 'cgroupfs' },
    pods: () => ((asked += 1), []),
  });
  assert.equal(asked, 0, 'nobody asks, nothing is read');
  const [one, two] = await Promise.all([usage('containers', 0), usage('pods', 0)]);
  assert.equal(one, two);
  assert.equal(await usage('node', 10_000), one);
  assert.equal(asked, 1);
  const node = await usage('node', 10_000);
  await sleep(LEAST_AGE_MS + 20);
  assert.equal(await usage('containers', 10_000), node);
  assert.notEqual(await usage('node', 0), node, 'it is too old');
  await usage('pods', 10_000);
  assert.equal(asked, 2, 'the newest is of the node alone');
});

test('volumes are read for who asks for them, once a minute', async (t) => {
  const root = scratch(t);
  for (const path of ['kubepods', 'kubepods/burstable/podu-1']) write(root, below(path, FILES));
  const usage = createUsage({
    ...{ clock, directory: root, cgroupRoot: root, driver: () => 'cgroupfs' },
    pods: () => [pod],
  });
  assert.equal((await usage('containers', 0)).pods?.[0]?.volumes, undefined);
  await sleep(LEAST_AGE_MS + 20);
  write(root, { 'pods/u-1/volumes/kubernetes.io~empty-dir/data/file': 'text' });
  const [first] = (await usage('volumes', 0)).pods!;
  assert.deepEqual(
    first?.volumes?.map(({ name, inodesUsed }) => [name, inodesUsed]),
    [['data', 2]],
  );
  assert.equal(first?.containers?.length, 0);
  write(root, { 'pods/u-1/volumes/kubernetes.io~empty-dir/data/another': 'text' });
  const [second] = (await usage('volumes', 0)).pods!;
  assert.equal(second?.volumes, first?.volumes);
});

test('files longer than a page, and none', (t) => {
  const root = scratch(t);
  const long = 'some line that is repeated again and again\n'.repeat(5000);
  write(root, { long, empty: '' });
  const read = kernelFiles();
  assert.equal(read(join(root, 'long')), long);
  assert.equal(read(join(root, 'empty')), '');
  assert.equal(read(join(root, 'none')), undefined);
  assert.equal(read(root), undefined);
  // The kernel hands this out in parts of less than a page.
  assert.equal(read('/proc/self/mountinfo'), readFileSync('/proc/self/mountinfo', 'latin1'));
});

test('a process in a real cgroup and a network of its own', asRoot, async (t) => {
  const root = join(unified!, `limpet-usage-${process.pid}`);
  const inPod = join(root, 'kubepods/burstable/podu-1');
  for (const name of ['c1', 'sb']) mkdirSync(join(inPod, name), { recursive: true });
  const busy = spawn(process.execPath, ['-e', 'for(;;);'], { stdio: 'ignore' });
  const pause = spawn('unshare', ['--net', 'sleep', '60'], { stdio: 'ignore' });
  t.after(async () => {
    for (const child of [busy, pause]) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    await sleep(100);
    for (const path of ['podu-1/c1', 'podu-1/sb', 'podu-1', '', '..', '../..']) {
      rmdirSync(join(root, 'kubepods/burstable', path));
    }
  });
  writeFileSync(join(inPod, 'c1/cgroup.procs'), String(busy.pid));
  writeFileSync(join(inPod, 'sb/cgroup.procs'), String(pause.pid));
  await sleep(300);
  const usage = createUsage({
    ...{ clock, directory: '/', cgroupRoot: root, driver: () => 'cgroupfs' },
    pods: () => [pod],
  });
  const before = await usage('containers', 0);
  await sleep(700);
  const now = withRates(before, await usage('containers', 0));
  const [web] = now.pods!;
  const main = web!.containers![0]!;
  const cores = main.cpu!.usageNanoCores! / 1e9;
  assert.ok(cores > 0.05 && cores < 1.1, `one busy process: ${cores} cores`);
  const microseconds = Number(
    /^usage_usec (\d+)/.exec(readFileSync(join(inPod, 'c1/cpu.stat'), 'latin1'))?.[1],
  );
  assert.ok(main.cpu!.usageCoreNanoSeconds <= microseconds * 1000);
  assert.ok(web!.cpu!.usageCoreNanoSeconds >= main.cpu!.usageCoreNanoSeconds);
  // A new network has nothing but its loopback: it is not that of the machine.
  assert.deepEqual(web!.network?.interfaces, []);
  assert.ok(now.node.uptimeSeconds! > 0 && now.node.capacity!.memoryBytes! > 0);
  assert.ok(now.node.fs!.capacityBytes > now.node.fs!.usedBytes);
});
