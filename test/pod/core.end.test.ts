// The end of a pod and everything that goes wrong on the way.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeen } from '../../src/pod/model.ts';
import type { Action, ContainerSeen, Now, Seen, View, Want } from '../../src/pod/model.ts';
import { plan } from '../../src/pod/plan.ts';
import { reduce } from '../../src/pod/reduce.ts';
import { container, pod } from '../sim/pods.ts';
import { Rig } from './rig.ts';

const EMPTY_DIR = { name: 'v', kind: 'emptyDir', medium: '' } as const;
const DEAF = { ignoresTerm: true } as const;

test('a deletion stops, then takes down, then forgets', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  const rig = new Rig(pod('p', { initContainers, volumes: [EMPTY_DIR] }));
  rig.after(1);
  rig.zero();
  rig.delete(30);
  assert.deepEqual(rig.after(60), [
    '0 StopContainer a#0 30s',
    '0 StopContainer side#0 30s',
    '0 Failed',
    '0 StopPodSandbox 0',
    '0 TearDownVolume v',
    '0 TearDownPod',
    '0 RemovePodSandbox 0',
    '0 TearDownPod final',
    '0 done',
  ]);
});

test('a process that ignores SIGTERM has its whole grace; a sidecar shares what is left', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  const rig = new Rig(pod('p', { initContainers }), { a: { termMs: 7000 }, side: DEAF });
  rig.after(1);
  rig.zero();
  rig.delete(10);
  assert.deepEqual(rig.after(60).slice(0, 4), [
    '0 StopContainer a#0 10s',
    '7 StopContainer side#0 3s',
    '10 SIGKILL side#0 by StopContainer',
    '10 Failed',
  ]);
});

test('a sidecar gets two seconds when nothing is left, and none when none was asked for', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  for (const [grace, sidecar] of [
    [10, 2],
    [1, 1],
    [0, 0],
  ] as const) {
    const rig = new Rig(pod('p', { initContainers }), { a: DEAF, side: DEAF });
    rig.after(1);
    rig.zero();
    rig.delete(grace);
    const lines = rig.after(60).filter((line) => line.includes('SIGKILL'));
    const [first, second] = [grace, grace + sidecar];
    assert.deepEqual(lines, [
      `${first} SIGKILL a#0 by StopContainer`,
      `${second} SIGKILL side#0 by StopContainer`,
    ]);
  }
});

test('what is left of the grace outlives the agent', () => {
  const rig = new Rig(pod('p', {}), { a: DEAF });
  rig.after(1);
  rig.zero();
  rig.delete(30);
  rig.after(10);
  rig.restartAgent(5);
  const lines = rig.after(60);
  assert.deepEqual(lines.slice(0, 2), [
    '15 StopContainer a#0 15s',
    '30 SIGKILL a#0 by StopContainer',
  ]);
});

test('a grace longer ago than its length leaves two seconds', () => {
  const rig = new Rig(pod('p', {}), { a: DEAF });
  rig.after(1);
  rig.zero();
  rig.delete(30);
  rig.after(10);
  rig.restartAgent(100);
  assert.equal(rig.after(60)[0], '110 StopContainer a#0 2s');
});

test('the grace does not pass while no signal could be sent', () => {
  const away = new Rig(pod('p', {}), { a: DEAF });
  away.after(1);
  away.zero();
  away.runtimeAway();
  away.delete(5);
  away.after(60);
  away.zero();
  away.runtimeBack();
  const lines = away.after(60).filter((line) => /SIGKILL/.test(line));
  assert.deepEqual(lines, ['5 SIGKILL a#0 by StopContainer']);

  const killed = new Rig(pod('p', {}), { a: DEAF });
  killed.after(1);
  killed.zero();
  killed.delete(5);
  killed.restartAgent(60);
  assert.deepEqual(killed.after(60).slice(0, 2), [
    '60 StopContainer a#0 5s',
    '65 SIGKILL a#0 by StopContainer',
  ]);
});

test('a container that was killed before the pod began to end takes nothing of the grace', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  const spec = { initContainers, restartPolicy: 'Never' } as const;
  const rig = new Rig(pod('p', spec), { a: DEAF, side: DEAF });
  rig.after(1);
  rig.zero();
  rig.probed('a', 'liveness', 'failure');
  rig.after(29);
  rig.fail('StopContainer side', 'Unavailable', 3);
  assert.deepEqual(rig.after(60).slice(0, 6), [
    '30 SIGKILL a#0 by StopContainer',
    '30 StopContainer side#0 30s',
    '31 StopContainer side#0 30s',
    '33 StopContainer side#0 30s',
    '37 StopContainer side#0 30s',
    '67 SIGKILL side#0 by StopContainer',
  ]);
});

test('what has ended unseen before the pod began to end takes nothing of the grace', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  const rig = new Rig(pod('p', { initContainers }), { a: { termMs: 3000 }, side: DEAF });
  rig.after(1);
  rig.zero();
  rig.probed('a', 'liveness', 'failure');
  rig.after(2);
  rig.fail('Look', 'Unavailable', 4);
  rig.after(2);
  rig.delete(30);
  const lines = rig.after(60);
  assert.match(lines[0]!, /^[0-9.]+ StopContainer side#0 30s$/, lines.join('\n'));
});

test('a stop that failed is tried again with the whole grace', () => {
  const rig = new Rig(pod('p', {}), { a: DEAF });
  rig.after(1);
  rig.zero();
  rig.fail('StopContainer', 'Unavailable', 2);
  rig.delete(5);
  assert.deepEqual(rig.after(60).slice(0, 4), [
    '0 StopContainer a#0 5s',
    '1 StopContainer a#0 5s',
    '3 StopContainer a#0 5s',
    '8 SIGKILL a#0 by StopContainer',
  ]);
});

test('a shorter grace counts from the first signal; a longer one gives nothing back', () => {
  const rig = new Rig(pod('p', {}), { a: DEAF });
  rig.after(1);
  rig.zero();
  rig.delete(100);
  rig.after(4);
  rig.delete(10);
  assert.deepEqual(
    rig.after(3),
    ['0 StopContainer a#0 100s', '4 cancel StopContainer a#0 100s', '4 StopContainer a#0 6s'].slice(
      1,
    ),
  );
  rig.delete(1000);
  assert.deepEqual(rig.after(10).slice(0, 2), ['10 SIGKILL a#0 by StopContainer', '10 Failed']);
});

test('a deletion gives up a pull, and waits for a sandbox on its way', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(0);
  const want: Want = { ...rig.want, deletion: { graceSeconds: 5, at: rig.now() } };
  const pull: Action = { type: 'PullImage', key: 'image/x', image: 'x', policy: 'Always' };
  let seen = reduce(rig.want, firstSeen(undefined), { type: 'Admitted' }, rig.now());
  seen = reduce(rig.want, seen, { type: 'ActionStarted', action: pull }, rig.now());
  seen = reduce(want, seen, { type: 'Tick' }, rig.now());
  const next = plan(want, seen, rig.now());
  assert.deepEqual(next.cancel, ['image/x']);
  assert.deepEqual(
    next.start.map(({ type }) => type),
    ['Look'],
  );
});

test('a start on its way is waited for before sidecars are stopped', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  const want: Want = { pod: pod('p', { initContainers }), source: 'local', order: 1 };
  const now: Now = { monoMs: 1000, wallMs: 1000, boot: 'b' };
  let seen: Seen = firstSeen({
    ...{ sandboxAttempt: 0, admitted: true },
    containers: {
      side: { attempt: 0, sandboxAttempt: 0 },
      a: { attempt: 0, sandboxAttempt: 0 },
    },
  });
  const containers = [
    seenContainer('side', 'CONTAINER_RUNNING'),
    seenContainer('a', 'CONTAINER_CREATED'),
  ];
  seen = reduce(want, seen, { type: 'Looked', view: viewOf(containers) }, now);
  const action: Action = {
    ...{ type: 'StartContainer', key: 'container/a', name: 'a', id: 'a', attempt: 0 },
    ...{ sandboxAttempt: 0, epoch: 'e1' },
  };
  seen = reduce(want, seen, { type: 'ActionStarted', action }, now);
  const ending: Want = { ...want, deletion: { graceSeconds: 5, at: now } };
  seen = reduce(ending, seen, { type: 'Tick' }, now);
  assert.deepEqual(plan(ending, seen, now).start, []);
});

test('pull backoff: 10, 20, 40, … 300 seconds', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('PullImage', 'Unavailable', 8);
  const pulls = rig.after(2000).filter((line) => line.includes('PullImage'));
  const times = pulls.map((line) => Number.parseInt(line, 10));
  assert.deepEqual(times, [0, 10, 30, 70, 150, 310, 610, 910, 1210]);
  assert.deepEqual(rig.starts, ['a#0']);
});

test('two containers with one image pull it once', () => {
  const rig = new Rig(pod('p', { containers: [container('a'), container('b')] }));
  assert.equal(rig.after(1).filter((line) => line.includes('PullImage')).length, 1);
  assert.deepEqual(rig.starts, ['a#0', 'b#0']);
});

test('an image that was removed is pulled again', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  rig.world.images.clear();
  rig.exit('a', 1);
  rig.after(5);
  assert.deepEqual(rig.starts, ['a#0', 'a#1']);
});

test('a name held by something half-written is left for the next one', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.world.halfWritten.add('p/a/0');
  rig.world.halfWritten.add('p/0');
  const lines = rig.after(60);
  assert.deepEqual(
    lines.filter((line) => line.includes('RunPodSandbox')),
    ['0 RunPodSandbox 0', '1 RunPodSandbox 1'],
  );
  assert.deepEqual(rig.starts, ['a#1']);
});

test('a full disk: nothing new is begun, and it goes on afterwards', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('RunPodSandbox', 'NoSpace');
  rig.after(0);
  rig.post({ type: 'Held', hold: { reason: 'NoSpace', message: 'the disk is full' } });
  assert.deepEqual(rig.after(600), []);
  rig.post({ type: 'Held', hold: undefined });
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0']);
  rig.post({ type: 'Held', hold: { reason: 'NoSpace', message: 'the disk is full' } });
  rig.after(600);
  assert.equal(rig.world.alive.size, 1, 'what runs is kept');
  rig.delete(5);
  assert.equal(rig.after(5).at(-1), `${600 + 600 + 1} done`, 'and can be deleted');
});

test('a pod that waits for another starts nothing, and goes on when it may', () => {
  const rig = new Rig(pod('p', { volumes: [EMPTY_DIR] }));
  rig.post({ type: 'Waiting', waitFor: { reason: 'PortTaken', message: 'port 80 is taken' } });
  assert.deepEqual(rig.after(600), []);
  rig.post({ type: 'Admitted' });
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0']);
});

test('a rejected pod fails with the reason and starts nothing', () => {
  const rig = new Rig(pod('p', {}));
  rig.post({ type: 'Rejected', reason: 'OutOfmemory', message: 'no room' });
  assert.deepEqual(rig.after(60), ['0 Failed OutOfmemory', '0 TearDownPod']);
  assert.equal(rig.seen.ledger.terminal?.message, 'no room');
});

test('what is said twice is stored once', () => {
  const rig = new Rig(pod('p', {}));
  const rejected = { type: 'Rejected', reason: 'OutOfmemory', message: 'no room' } as const;
  rig.post(rejected);
  rig.after(60);
  assert.equal(reduce(rig.want, rig.seen, rejected, rig.now()).ledger, rig.seen.ledger);

  const again = new Rig(pod('p', {}));
  again.fail('CreateContainer', 'Unavailable', 3);
  again.after(0);
  const created = again.seen.ledger;
  assert.equal(again.after(3).filter((line) => line.includes('CreateContainer')).length, 2);
  assert.equal(again.seen.ledger, created, 'a creation that is tried again');
  again.fail('StartContainer', 'Unavailable', 3);
  again.after(5);
  const intended = again.seen.ledger;
  assert.equal(intended.containers['a']?.intent?.attempt, 0);
  again.after(1);
  assert.equal(again.seen.ledger, intended, 'a start that is tried again');
});

test('a pod that waits for a stop is woken once, and not each second', () => {
  const rig = new Rig(pod('p', {}), { a: DEAF });
  rig.after(1);
  rig.delete(30);
  rig.after(0);
  rig.after(2);
  assert.notEqual(rig.seen.ledger.containers['a']?.stopping, undefined);
  assert.equal(plan(rig.want, rig.seen, rig.now()).wakeAtMonoMs, undefined);
});

test('a dead sandbox: its containers are stopped with grace, then all is made anew', () => {
  const rig = new Rig(pod('p', {}), { a: { termMs: 3000 } });
  rig.after(1);
  rig.zero();
  rig.world.sandboxDies([...rig.world.sandboxes.keys()][0]!);
  assert.deepEqual(rig.after(60), [
    '0 StopContainer a#0 30s',
    '0 PullImage busybox',
    '3 RemovePodSandbox 0',
    '3 RunPodSandbox 1',
    '3 CreateContainer a#1',
    '3 StartContainer a#1',
  ]);
});

test('a sandbox that failed and happened is found and used', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('RunPodSandbox', 'DeadlineExceeded', 1, true);
  const lines = rig.after(60);
  assert.deepEqual(
    lines.filter((line) => line.includes('Sandbox')),
    ['0 RunPodSandbox 0'],
  );
  assert.deepEqual(rig.starts, ['a#0']);
});

test('of two sandboxes one is kept, and two strays of one name are stopped one by one', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.world.runPodSandbox('p', 0);
  rig.world.runPodSandbox('p', 1);
  rig.world.images.add('busybox');
  const [first, second] = [...rig.world.sandboxes.keys()];
  rig.world.createContainer('p', 'a', 0, first!, 'busybox');
  rig.world.createContainer('p', 'a', 1, first!, 'busybox');
  for (const id of rig.world.containers.keys()) rig.world.startContainer(id, false);
  const lines = rig.after(60);
  assert.deepEqual(
    lines.filter((line) => /StopContainer/.test(line)),
    ['0 StopContainer a#1 30s', '0 StopContainer a#0 30s'],
  );
  assert.equal(rig.world.sandboxes.get(second!)?.status.state, 'SANDBOX_NOTREADY', 'it has ended');
  assert.equal(rig.world.alive.size, 0);
});

test('containers whose sandbox record was lost do not stand in the way, and are not left', () => {
  for (const isStarted of [false, true]) {
    const rig = new Rig(pod('p', {}));
    if (!isStarted) rig.fail('StartContainer', 'Unavailable', 1);
    rig.after(0);
    rig.world.sync();
    for (const sandbox of rig.world.sandboxes.values()) sandbox.saved = undefined;
    rig.powerCut({ loses: true });
    rig.after(60);
    assert.equal(rig.world.alive.size, 1);
    assert.equal(rig.world.sandboxes.size, 1);
    rig.delete(5);
    assert.equal(rig.after(60).at(-1), '60 done');
    assert.deepEqual([...rig.world.containers.keys()], []);
  }
});

test('a look that fails is repeated less and less often', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('Look', 'Unavailable', 9);
  rig.after(3600);
  assert.deepEqual(rig.starts, ['a#0']);
});

test('an answer that comes twice, or for another life of the agent, changes nothing', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  const action: Action = { type: 'RunPodSandbox', key: 'sandbox', attempt: 0 };
  const event = { type: 'ActionEnded', action, seq: 99, result: { ok: true } } as const;
  assert.equal(reduce(rig.want, rig.seen, event, rig.now()), rig.seen);
});

test('reduce and plan change none of their arguments and say the same twice', () => {
  const rig = new Rig(pod('p', { initContainers: [container('init')], volumes: [EMPTY_DIR] }));
  rig.seen = freeze(rig.seen);
  rig.want = freeze(rig.want);
  for (const happens of [() => rig.exit('init', 0), () => rig.exit('a', 1), () => rig.delete(5)]) {
    rig.after(5);
    freeze(rig.seen);
    freeze(rig.want);
    const first = plan(rig.want, rig.seen, rig.now());
    assert.deepEqual(plan(rig.want, rig.seen, rig.now()), first);
    happens();
  }
  assert.ok(rig.after(60).at(-1)?.endsWith('done'));
});

test('a second action with a key that is busy breaks an invariant', () => {
  const rig = new Rig(pod('p', {}));
  const action: Action = { type: 'Look', key: 'look' };
  const seen = reduce(rig.want, rig.seen, { type: 'ActionStarted', action }, rig.now());
  assert.throws(
    () => reduce(rig.want, seen, { type: 'ActionStarted', action }, rig.now()),
    /broken invariant: two actions with the key look/,
  );
});

function viewOf(containers: readonly ContainerSeen[]): View {
  const sandboxes = [{ id: 's', attempt: 0, state: 'SANDBOX_READY', ips: [] } as const];
  return { seq: 1, epoch: 'e1', sandboxes, containers };
}

function seenContainer(name: string, state: ContainerSeen['state']): ContainerSeen {
  return {
    ...{ id: name, name, attempt: 0, state, podSandboxId: 's', createdAt: 1n, startedAt: 0n },
    ...{ finishedAt: 0n, exitCode: 0, imageRef: '', reason: '', message: '', labels: {} },
    ...{ annotations: {}, logPath: '' },
  };
}

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const part of Object.values(value)) freeze(part);
  return value;
}

test('a pod that can not be carried out has no containers, and ends as it is told', () => {
  const rig = new Rig(pod('p', { containers: [] }));
  rig.post({ type: 'Rejected', reason: 'PodFeatureUnsupported', message: 'spec.x' });
  assert.equal(
    rig.after(10).find((line) => line.includes('PodFeatureUnsupported')) !== undefined,
    true,
  );
  assert.equal(rig.seen.ledger.terminal?.phase, 'Failed');
});
