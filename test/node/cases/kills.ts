/** What happens to pods when the agent or the runtime is killed: nothing. */
import assert from 'node:assert/strict';
import { until } from '../../../scripts/lib/install-limpet.ts';
import type { PodReport } from '../../../src/server/api.ts';
import type { Board } from '../board.ts';
import {
  IMAGE,
  container,
  isReady,
  live,
  logsOf,
  nameOf,
  pause,
  podText,
  statusesOf,
  together,
} from '../board.ts';
import type { Cases } from './case.ts';

/** 50 in the campaign. */
const KILLS = Number(process.env['LIMPET_KILLS'] ?? 4);
/** 6 in the campaign, with 30 pods. */
const RUNTIME_KILLS = Number(process.env['LIMPET_RUNTIME_KILLS'] ?? 1);
const PODS = Number(process.env['LIMPET_PODS'] ?? 6);

type Vitals = { readonly pid: number; readonly fds: number; readonly dirtyKiB: number };

async function vitals(board: Board): Promise<Vitals> {
  const text = await board.sh(
    'p=$(systemctl show limpet -P MainPID); echo $p; ls /proc/$p/fd | wc -l; ' +
      "grep -E '^Private_Dirty' /proc/$p/smaps_rollup",
  );
  const [pid, fds] = text.split('\n').map(Number);
  const dirtyKiB = Number(/Private_Dirty:\s+(\d+) kB/.exec(text)?.[1] ?? Number.NaN);
  return { pid: pid ?? 0, fds: fds ?? 0, dirtyKiB };
}

/** Milliseconds of processor that the agent takes in 20 s of rest. */
async function restMs(board: Board): Promise<number> {
  await pause(10_000);
  const ticks = async () => {
    const text = await board.sh('cat /proc/$(systemctl show limpet -P MainPID)/stat');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = await ticks();
  await pause(20_000);
  return 10 * ((await ticks()) - before);
}

/** The agent answers and sees the runtime. */
async function answering(board: Board, what: string): Promise<void> {
  await until(
    what,
    async () => {
      const status = await board.status().catch(() => undefined);
      return status?.runtime.connected === true && status.pods.pending === 0;
    },
    (so) => so,
    { timeoutMs: 180_000, everyMs: 1000 },
  );
}

function worker(index: number): string {
  return podText(`worker-${index}`, undefined);
}

async function kills(board: Board): Promise<void> {
  const steady = Array.from({ length: 3 }, (_, index) => worker(index));
  // What keeps the agent busy while it is killed.
  const crashing = podText('crashing', 'sleep 1; exit 1');
  await board.apply(together(...steady, crashing));
  await board.untilPods(
    'the workers run',
    (pods) =>
      pods.filter((report) => nameOf(report).startsWith('worker') && isReady(report)).length === 3,
  );
  const ids = new Map(
    (await board.pods())
      .filter((report) => nameOf(report).startsWith('worker'))
      .map((report) => [
        statusesOf(report)[0]?.containerID?.replace('containerd://', '') ?? '',
        nameOf(report),
      ]),
  );
  const before = await board.processes();
  for (const id of ids.keys()) assert.ok(before.has(id), `the container ${id} has a process`);
  const first = await vitals(board);
  const firstMs = await restMs(board);
  let restartsBefore = 0;
  for (let round = 0; round < KILLS; round++) {
    const { pid } = await vitals(board);
    assert.notEqual(pid, 0);
    // Load: pods come and go around the moment of the kill.
    await board.apply(podText(`load-${round}`, undefined)).catch(() => undefined);
    await pause(((round * 7919) % 13) * 250);
    await board.sh(`kill -9 ${pid}`);
    await until(
      'systemd has started limpet again',
      async () => (await vitals(board).catch(() => undefined))?.pid ?? 0,
      (now) => now !== 0 && now !== pid,
      { timeoutMs: 120_000, everyMs: 1000 },
    );
    await answering(board, 'the agent is at work again');
    const now = await board.processes();
    for (const [id, name] of ids) {
      assert.equal(now.get(id), before.get(id), `${name} went on after kill ${round}`);
    }
    const pods = await board.pods();
    const count = statusesOf(live(pods, 'crashing')!)[0]!.restartCount;
    assert.ok(count >= restartsBefore, 'no restart count goes back');
    restartsBefore = count;
    const load = live(pods, `load-${round}`);
    assert.ok(load !== undefined, 'what was acknowledged is there');
    await board.delete(`load-${round}`, 0);
  }
  await board.untilPods(
    'the load is gone',
    (pods) => !pods.some((p) => nameOf(p).startsWith('load')),
  );
  const lastMs = await restMs(board);
  const last = await vitals(board);
  board.note(
    `${KILLS} kills: descriptors ${first.fds} then ${last.fds}, ` +
      `private dirty ${first.dirtyKiB} then ${last.dirtyKiB} KiB, ` +
      `processor in 20 s of rest ${firstMs} then ${lastMs} ms`,
  );
  // A restart of the crashing pod costs an emulated processor most of a second.
  assert.ok(lastMs <= 2 * firstMs + 2000, `the processor's time went from ${firstMs} to ${lastMs}`);
  assert.ok(last.fds <= first.fds + 4, `descriptors went from ${first.fds} to ${last.fds}`);
  assert.ok(last.dirtyKiB <= first.dirtyKiB + 4096, 'memory does not grow with kills');
  for (const [id] of ids) assert.equal((await board.processes()).get(id), before.get(id));
}

async function runtimeKills(board: Board): Promise<void> {
  const names = Array.from({ length: PODS }, (_, index) => `steady-${index}`);
  await board.apply(together(...names.map((name) => podText(name, undefined))));
  await board.untilPods(
    `${PODS} pods run`,
    (pods) => pods.length === PODS && pods.every(isReady),
    900_000,
  );
  const before = await board.processes();
  assert.ok(before.size >= PODS);
  const { fds } = await vitals(board);
  for (let round = 0; round < RUNTIME_KILLS; round++) {
    await board.sh('kill -9 $(systemctl show containerd -P MainPID)');
    const began = performance.now();
    await pause(500);
    await until(
      'the agent has noticed, and containerd answers again',
      () => board.status(),
      ({ runtime, findings }) =>
        runtime.connected &&
        runtime.networkReady &&
        findings.every(({ health }) => health === 'ok'),
      { timeoutMs: 90_000, everyMs: 1000 },
    );
    await board.untilPods(
      'all pods are well',
      (pods) => pods.length === PODS && pods.every(isReady),
      90_000,
    );
    const probe = `after-${round}`;
    await board.apply(podText(probe, 'exit 0', { restartPolicy: 'Never' }));
    await board.untilPods(
      'a new pod runs',
      (pods) => live(pods, probe)?.status.phase === 'Succeeded',
      90_000,
    );
    const seconds = (performance.now() - began) / 1000;
    board.note(`containerd killed with ${PODS} pods: all right after ${seconds.toFixed(1)} s`);
    assert.ok(seconds < 60, `all is right within a minute, not ${seconds.toFixed(1)} s`);
    await board.delete(probe, 0);
    await board.untilPods('the new pod is gone', (pods) => pods.length === PODS);
    assert.deepEqual(await board.processes(), before, 'no container ended');
  }
  const pods = await board.pods();
  for (const report of pods) assert.equal(statusesOf(report)[0]?.restartCount, 0);
  const last = await vitals(board);
  assert.ok(last.fds <= fds + 4, `descriptors went from ${fds} to ${last.fds}`);
}

/** Stopped for a while, limpet finds what it left; what ended meanwhile is started again. */
async function stopped(board: Board): Promise<void> {
  await board.apply(together(worker(0), worker(1), podText('doomed', 'sleep 100000')));
  const pods = await board.untilPods(
    'three pods run',
    (seen) => seen.length === 3 && seen.every(isReady),
  );
  const id = statusesOf(live(pods, 'doomed')!)[0]?.containerID?.replace('containerd://', '') ?? '';
  const before = await board.processes();
  await board.sh('systemctl stop limpet');
  assert.deepEqual(await board.processes(), before, 'the pods go on without the agent');
  const gone = await board.tell('limpet pods');
  assert.equal(gone.code, 3);
  assert.match(gone.stderr, /the agent is not running/);
  await board.sh(`kill -9 ${before.get(id)?.split(':')[0]}; sleep 1; systemctl start limpet`);
  await board.untilPods('what ended meanwhile runs again', (seen) => {
    const doomed = live(seen, 'doomed');
    return doomed !== undefined && isReady(doomed) && statusesOf(doomed)[0]!.restartCount === 1;
  });
  const after = await board.processes();
  for (const [other, process] of before) {
    if (other !== id) assert.equal(after.get(other), process);
  }
}

/**
 * The shim of a sandbox does not answer while a container is made in it, as on a board that is too
 * busy: containerd 1.7 then makes one that can't be started. A job runs all the same, once.
 */
async function silentShim(board: Board): Promise<void> {
  const image = 'limpet.local/late:1';
  const main = { name: 'main', image, imagePullPolicy: 'IfNotPresent', command: ['echo', 'ran'] };
  await board.apply(podText('late', undefined, { restartPolicy: 'Never', containers: [main] }));
  await board.untilPods('the sandbox is there, and no image', (pods) => {
    const { status } = live(pods, 'late')!;
    return (
      status.podIP !== undefined &&
      /Image/.test(status.containerStatuses[0]?.state.waiting?.reason ?? '')
    );
  });
  const [[pid = ''] = []] = [...(await board.processes()).values()].map((one) => one.split(':'));
  const shim = (await board.sh(`sed -n 's/^PPid:\\s*//p' /proc/${pid}/status`)).trim();
  await board.sh(`kill -STOP ${shim}; ctr -n k8s.io images tag ${IMAGE} ${image}`);
  const made = async () => (await board.events('late')).some(({ reason }) => reason === 'Created');
  try {
    await until('a container is made', made, (so) => so, { timeoutMs: 60_000, everyMs: 500 });
  } finally {
    await board.sh(`kill -CONT ${shim}`);
  }
  const pods = await board.untilPods('the job has ended', (seen) =>
    /Succeeded|Failed/.test(live(seen, 'late')?.status.phase ?? ''),
  );
  assert.equal(live(pods, 'late')!.status.phase, 'Succeeded', JSON.stringify(live(pods, 'late')));
  assert.equal((await logsOf(board)).get('late/main'), 'ran\n');
  await board.sh(`ctr -n k8s.io images rm ${image}`);
}

/**
 * A pull that failed, as each does without a network, takes no image with it: not when the runtime
 * comes back, and not after a power cut, when nothing could bring it back.
 */
async function failedPull(board: Board): Promise<void> {
  const other = 'limpet.local/other-name:1';
  await board.sh(`ctr -n k8s.io images tag ${IMAGE} ${other}`);
  const pulled = (image: string) => [container({ more: { image, imagePullPolicy: 'Always' } })];
  await board.apply(
    together(
      podText('copy', undefined, { containers: pulled(IMAGE) }),
      podText('other', undefined, { containers: pulled(other) }),
      podText('nowhere', undefined, { containers: pulled('limpet.local/nowhere:1') }),
    ),
  );
  const isSettled = (pods: readonly PodReport[]) =>
    pods.length === 3 &&
    pods.every((report) => isReady(report) === (nameOf(report) !== 'nowhere')) &&
    /Image/.test(live(pods, 'nowhere')?.summary ?? '');
  await board.untilPods('two run with the copy at hand', isSettled);
  const images = () => board.sh('ctr -n k8s.io images ls -q name~=limpet.local | sort');
  const before = await images();
  await board.sh('kill -9 $(systemctl show containerd -P MainPID); sleep 1');
  await until(
    'the agent sees containerd again',
    async () => (await board.status()).runtime.connected,
    (so) => so,
    { timeoutMs: 90_000, everyMs: 1000 },
  );
  await board.untilPods('they still run', isSettled);
  assert.equal(await images(), before);
  await board.node.cut();
  await board.node.boot({ unplugged: true });
  await board.reconnect();
  await board.untilPods('they run again with no network', isSettled, 300_000);
  assert.equal(await images(), before);
  await board.node.plug();
  await board.sh(`ctr -n k8s.io images rm ${other}`);
}

/** The state of the kept code at the last start, and the hash of the file. */
async function compiled(board: Board): Promise<{ readonly state: string; readonly hash: string }> {
  const text = await board.sh(
    "journalctl -b -u limpet -o cat --no-pager | grep -o 'compiled=[a-z]*' | tail -n 1; " +
      'cat /var/lib/limpet/compiled-???????????????? 2>/dev/null | sha256sum',
  );
  const [state = '', hash = ''] = text.split('\n');
  return { state, hash };
}

async function keptCode(board: Board): Promise<void> {
  const nothing = (await board.sh('sha256sum < /dev/null')).trim();
  const startAgain = async () => {
    await board.sh('systemctl restart limpet');
    await answering(board, 'limpet answers again');
    return await compiled(board);
  };
  const kept = async (name: string, isKept: (hash: string) => boolean) => {
    // It is kept once a start has shown all that it takes to start a pod.
    await board.apply(podText(name, undefined));
    await board.untilPods(`${name} runs`, (pods) => pods.every(isReady));
    const options = { timeoutMs: 120_000, everyMs: 1000 };
    const hash = async () => (await compiled(board)).hash;
    return await until('compiled code is kept', hash, isKept, options);
  };
  const whole = await kept('first', (hash) => hash !== nothing);
  assert.deepEqual(await startAgain(), { state: 'compiled=used', hash: whole });
  await board.sh(
    'printf damaged | dd of=$(ls /var/lib/limpet/compiled-????????????????) bs=1 seek=5000 conv=notrunc status=none',
  );
  const damaged = await startAgain();
  assert.equal(damaged.state, 'compiled=refused');
  const mended = await kept('second', (hash) => hash !== damaged.hash);
  assert.deepEqual(await startAgain(), { state: 'compiled=used', hash: mended });
}

export const killCases: Cases = {
  'kill -9 of limpet under load': kills,
  'kill -9 of containerd': runtimeKills,
  'limpet stopped for a while': stopped,
  'a shim that does not answer': silentShim,
  'pulls that failed': failedPull,
  'compiled code, kept and damaged': keptCode,
};
