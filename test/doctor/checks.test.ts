// Each check on a machine that is made of a few files.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import { cgroupCheck } from '../../src/doctor/cgroup.ts';
import { clockCheck } from '../../src/doctor/clock.ts';
import { cniCheck } from '../../src/doctor/cni.ts';
import { judgeSpace, judgeSpeed, spaceCheck, speedCheck } from '../../src/doctor/disk.ts';
import { CHECKS, examine } from '../../src/doctor/index.ts';
import { forwardingCheck, kernelCheck } from '../../src/doctor/kernel.ts';
import type { Check, Machine } from '../../src/doctor/machine.ts';
import { pagesCheck, swapCheck } from '../../src/doctor/memory.ts';
import { manifestsCheck, rivalsCheck } from '../../src/doctor/neighbours.ts';
import {
  directoriesCheck,
  judgeVersion,
  runtimeCheck,
  socketCheck,
} from '../../src/doctor/runtime.ts';
import type { Finding } from '../../src/server/api.ts';

const CONTROLLERS = '/sys/fs/cgroup/cgroup.controllers';
const CMDLINE = '/boot/firmware/cmdline.txt';

/** A machine of these files; a name that ends with a slash is a directory. */
function machine(
  t: TestContext,
  files: Readonly<Record<string, string | Uint8Array>>,
  over: Partial<Machine> = {},
): Machine {
  const root = mkdtempSync(join(tmpdir(), 'limpet-machine-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    const full = join(root, path);
    mkdirSync(path.endsWith('/') ? full : dirname(full), { recursive: true });
    if (!path.endsWith('/')) writeFileSync(full, text, { mode: 0o755 });
  }
  return {
    root,
    rootDirectory: '/var/lib/limpet',
    manifestDirectory: '/etc/kubernetes/manifests',
    runtimeSocket: '/run/containerd/containerd.sock',
    kubeconfig: '/etc/kubernetes/kubelet.conf',
    kubeconfigIsDefault: true,
    clock: systemClock('', () => 0),
    signal: new AbortController().signal,
    earliestWallMs: 0,
    askRuntime: () => Promise.reject(new Failure('Unavailable', 'nobody is there')),
    ...over,
  };
}

async function only(check: Check, of: Machine): Promise<Finding> {
  const findings = await check.run(of);
  assert.equal(findings.length, 1, JSON.stringify(findings));
  const [finding] = findings;
  assert.ok(finding !== undefined && finding.check === check.name);
  return finding;
}

/** Holds health, and that message and remedy together say what is expected. */
function says(finding: Finding, health: Finding['health'], expected: RegExp): void {
  const text = `${finding.message} -> ${finding.remedy ?? ''}`;
  assert.equal(finding.health, health, text);
  assert.match(text, expected);
}

test('cgroup: the line for a Raspberry Pi is exact', async (t) => {
  const all = 'cpuset cpu io memory pids\n';
  says(await only(cgroupCheck, machine(t, { [CONTROLLERS]: all })), 'ok', /v2/);
  const off = {
    [CONTROLLERS]: 'cpuset cpu io pids',
    [CMDLINE]: 'root=/dev/mmcblk0p2',
    '/proc/cmdline': 'x',
  };
  says(
    await only(cgroupCheck, machine(t, off)),
    'failed',
    /sudo sed -i '1s\/\$\/ cgroup_enable=memory cgroup_memory=1\/' \/boot\/firmware\/cmdline\.txt && sudo reboot$/,
  );
  const asked = { ...off, '/proc/cmdline': 'cgroup_disable=memory cgroup_enable=memory' };
  says(await only(cgroupCheck, machine(t, asked)), 'failed', /full-upgrade/);
  const old = { '/boot/cmdline.txt': 'x' };
  says(
    await only(cgroupCheck, machine(t, old)),
    'failed',
    /systemd\.unified_cgroup_hierarchy=1 cgroup_enable=memory cgroup_memory=1.*\/boot\/cmdline\.txt/,
  );
  const grub = { [CONTROLLERS]: 'cpu pids io cpuset', '/etc/default/grub': '' };
  says(await only(cgroupCheck, machine(t, grub)), 'failed', /update-grub/);
  says(await only(cgroupCheck, machine(t, { [CONTROLLERS]: 'memory cpu' })), 'failed', /pids/);
  says(
    await only(cgroupCheck, machine(t, { [CONTROLLERS]: 'memory cpu pids io' })),
    'degraded',
    /cpuset/,
  );
});

test('runtime socket: missing, no socket, too open', async (t) => {
  const of = machine(t, { '/run/containerd/': '' });
  says(await only(socketCheck, of), 'failed', /apt install containerd/);
  const path = join(of.root, of.runtimeSocket);
  writeFileSync(path, '');
  says(await only(socketCheck, of), 'failed', /is not a socket/);
  rmSync(path);
  const server = createServer().listen(path);
  t.after(() => server.close());
  await new Promise((resolve) => server.once('listening', resolve));
  chmodSync(path, 0o660);
  says(await only(socketCheck, of), 'ok', /mode 0660/);
  chmodSync(path, 0o666);
  says(await only(socketCheck, of), 'failed', /every user can become root/);
});

test('runtime files: open directories are named', async (t) => {
  const of = machine(t, { '/var/lib/containerd/': '' });
  chmodSync(join(of.root, '/var/lib/containerd'), 0o711);
  says(await only(directoriesCheck, of), 'degraded', /sudo chmod 0700 \/var\/lib\/containerd$/);
  chmodSync(join(of.root, '/var/lib/containerd'), 0o700);
  says(await only(directoriesCheck, of), 'ok', /closed/);
});

test('runtime: the version floor, and what is known to be vulnerable', () => {
  const judge = (runtimeVersion: string, runtimeName = 'containerd'): Finding =>
    judgeVersion({ runtimeName, runtimeVersion, runtimeApiVersion: 'v1' });
  says(judge('1.6.36~ds1'), 'failed', /needs 1\.7/);
  says(judge('1.7.24~ds1'), 'degraded', /1\.7\.33.*distribution may have fixed/);
  says(judge('1.7.33'), 'ok', /containerd 1\.7\.33/);
  says(judge('v2.0.9'), 'degraded', /2\.0\.10/);
  says(judge('2.1.9+unknown'), 'ok', /./);
  says(judge('v2.9.0'), 'ok', /./);
  says(judge('1.30.1', 'cri-o'), 'ok', /cri-o/);
});

test('runtime: what it says of itself is passed on', async (t) => {
  says(
    await only(runtimeCheck, machine(t, {})),
    'failed',
    /nobody is there.*journalctl -u containerd/,
  );
  const version = { runtimeName: 'containerd', runtimeVersion: '2.2.7', runtimeApiVersion: 'v1' };
  const message = 'cni plugin not initialized';
  const conditions = [
    { type: 'RuntimeReady', status: true, reason: '', message: '' },
    { type: 'NetworkReady', status: false, reason: '', message },
  ];
  const asked = (files: Record<string, string>) =>
    runtimeCheck.run(machine(t, files, { askRuntime: async () => ({ version, conditions }) }));
  const findings = await asked({});
  assert.deepEqual(
    findings.map(({ check, health }) => [check, health]),
    [
      ['runtime', 'ok'],
      ['network', 'failed'],
    ],
  );
  says(findings[1]!, 'failed', /not initialized.*put a CNI configuration into \/etc\/cni\/net\.d/);
  const conf = { '/etc/cni/net.d/10-a.conf': '{"type":"bridge"}' };
  says((await asked(conf))[1]!, 'failed', /10-a\.conf: sudo systemctl restart containerd/);
});

test('cni: configuration and programs, where containerd looks for them', async (t) => {
  const conflist = JSON.stringify({
    plugins: [{ type: 'bridge', ipam: { type: 'host-local' } }, { type: 'portmap' }],
  });
  const programs = (directory: string): Record<string, string> =>
    Object.fromEntries(
      ['loopback', 'bridge', 'host-local', 'portmap'].map((name) => [`${directory}/${name}`, '']),
    );
  const conf = '/etc/cni/net.d/10-a.conflist';
  says(await only(cniCheck, machine(t, {})), 'failed', /containernetworking-plugins/);
  says(await only(cniCheck, machine(t, { '/etc/cni/net.d/.keep': '' })), 'failed', /no CNI config/);
  says(await only(cniCheck, machine(t, { [conf]: '{' })), 'failed', /not valid JSON/);
  says(await only(cniCheck, machine(t, { [conf]: '{}' })), 'failed', /names no plugin/);
  const bare = machine(t, { [conf]: conflist });
  says(await only(cniCheck, bare), 'failed', /loopback, bridge, host-local, portmap.*apt install/);
  const debian = { [conf]: conflist, ...programs('/usr/lib/cni') };
  says(await only(cniCheck, machine(t, debian)), 'failed', /set bin_dir = "\/usr\/lib\/cni"/);
  for (const setting of ['  bin_dir = "/usr/lib/cni"', "bin_dirs = ['/x', '/usr/lib/cni']"]) {
    const config = `# bin_dir = "/opt/other"\n${setting}\n`;
    const of = machine(t, { ...debian, '/etc/containerd/config.toml': config });
    says(await only(cniCheck, of), 'ok', /bridge, host-local, portmap/);
  }
  const plain = { '/etc/cni/net.d/99-b.conf': '{"type":"bridge","ipam":{"type":"host-local"}}' };
  const findings = await cniCheck.run(machine(t, { ...plain, ...programs('/opt/cni/bin') }));
  assert.deepEqual(
    findings.map(({ health }) => health),
    ['ok', 'degraded'],
  );
  assert.match(findings[1]?.message ?? '', /hostPort/);
});

test('disk: full, nearly full, out of inodes, slow', async (t) => {
  const gib = 1024 ** 3;
  says(judgeSpace('/', 50 * 1024 ** 2, 8 * gib, 1, 2), 'failed', /full: 50 MiB of 8192 MiB/);
  says(judgeSpace('/', 0.5 * gib, 8 * gib, 50, 100), 'degraded', /nearly full/);
  says(judgeSpace('/', 4 * gib, 8 * gib, 1, 100), 'degraded', /1 of 100 inodes/);
  says(judgeSpace('/', 4 * gib, 8 * gib, 0, 0), 'ok', /4096 MiB/);
  says(judgeSpeed('/', [3, 900, 5, 4, 6]), 'ok', /5 ms/);
  says(judgeSpeed('/', [120, 101, 150, 3, 900]), 'degraded', /120 ms, which is slow/);
  const of = machine(t, { '/var/lib/': '' });
  says(await only(speedCheck, of), 'ok', /a small write lasts/);
  assert.ok(['ok', 'degraded', 'failed'].includes((await only(spaceCheck, of)).health));
  const { readdirSync } = await import('node:fs');
  assert.deepEqual(readdirSync(join(of.root, '/var/lib')), [], 'nothing is left behind');
});

test('clock: before the build, not synchronised, synchronised', async (t) => {
  const future = { earliestWallMs: Number.MAX_SAFE_INTEGER };
  says(await only(clockCheck, machine(t, {}, future)), 'failed', /before limpet was made/);
  says(await only(clockCheck, machine(t, {})), 'degraded', /nobody has set the clock/);
  const synced = { '/run/systemd/timesync/synchronized': '' };
  says(await only(clockCheck, machine(t, synced)), 'ok', /timesyncd/);
  says(await only(clockCheck, machine(t, { '/run/chrony/chronyd.pid': '1' })), 'ok', /chrony/);
});

test('memory: huge pages hurt with large pages only; swap on a card is named', async (t) => {
  const thp = '/sys/kernel/mm/transparent_hugepage/enabled';
  const pages = (kib: number): Uint8Array =>
    new Uint8Array(BigUint64Array.of(33n, 4n, 6n, BigInt(kib * 1024), 0n, 0n).buffer);
  const big = { [thp]: '[always] madvise never', '/proc/self/auxv': pages(16) };
  says(await only(pagesCheck, machine(t, big)), 'degraded', /16 KiB.*can get 32 MiB.*madvise/);
  says(await only(pagesCheck, machine(t, { ...big, '/proc/self/auxv': pages(4) })), 'ok', /always/);
  says(await only(pagesCheck, machine(t, { ...big, [thp]: 'always [madvise]' })), 'ok', /madvise/);
  const swaps = (line: string): Record<string, string> => ({
    '/proc/swaps': `Filename Type\n${line}`,
  });
  says(await only(swapCheck, machine(t, swaps(''))), 'ok', /none/);
  says(
    await only(swapCheck, machine(t, swaps('/dev/zram0 partition 1 0 100\n'))),
    'ok',
    /compressed/,
  );
  says(
    await only(swapCheck, machine(t, swaps('/var/swap file 1 0 -2\n'))),
    'degraded',
    /\/var\/swap/,
  );
});

test('kernel, forwarding, rivals, manifests', async (t) => {
  const kernel = (release: string, pids = '4194304'): Machine =>
    machine(t, {
      '/proc/sys/kernel/osrelease': `${release}\n`,
      '/proc/sys/kernel/pid_max': pids,
      '/proc/sys/fs/inotify/max_user_instances': '128',
    });
  says(await only(kernelCheck, kernel('6.12.34+rpt-rpi-2712')), 'ok', /6\.12/);
  says(await only(kernelCheck, kernel('5.4.0')), 'degraded', /older than 5\.8/);
  says(await only(kernelCheck, kernel('6.1.0', '4096')), 'degraded', /4096 processes/);
  const forward = '/proc/sys/net/ipv4/ip_forward';
  says(await only(forwardingCheck, machine(t, { [forward]: '1\n' })), 'ok', /on/);
  says(await only(forwardingCheck, machine(t, { [forward]: '0\n' })), 'degraded', /off/);
  const processes = { '/proc/1/comm': 'systemd\n', '/proc/77/comm': 'kubelet\n' };
  says(await only(rivalsCheck, machine(t, processes)), 'failed', /kubelet runs here too/);
  says(await only(rivalsCheck, machine(t, { '/proc/1/comm': 'systemd\n' })), 'ok', /none/);
  const folder = machine(t, { '/etc/kubernetes/manifests/': '' });
  chmodSync(join(folder.root, folder.manifestDirectory), 0o777);
  says(await only(manifestsCheck, folder), 'failed', /chmod go-w/);
  chmodSync(join(folder.root, folder.manifestDirectory), 0o755);
  says(await only(manifestsCheck, folder), 'ok', /manifests/);
  says(await only(manifestsCheck, machine(t, {})), 'degraded', /mkdir -p/);
});

test('all checks give findings with a remedy for what is wrong, on a machine with nothing', async (t) => {
  const findings = await examine(machine(t, {}));
  for (const { name } of CHECKS)
    assert.ok(
      findings.some(({ check }) => check === name),
      name,
    );
  for (const { check, health, remedy } of findings) {
    if (health === 'failed') assert.ok(remedy !== undefined, check);
  }
});

test('a check that breaks is a finding and does not keep the others back', async (t) => {
  const broken: Check = {
    name: 'broken',
    run: () => {
      throw new Error('boom');
    },
  };
  const findings = await examine(machine(t, {}), [broken, rivalsCheck]);
  assert.deepEqual(
    findings.map(({ health }) => health),
    ['degraded', 'ok'],
  );
});
