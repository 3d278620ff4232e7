// The life of a pod: order of starts, restart policies, crash loops, power cuts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RestartPolicy } from '../../src/kube/pod.ts';
import type { Action } from '../../src/pod/model.ts';
import { plan } from '../../src/pod/plan.ts';
import { reduce } from '../../src/pod/reduce.ts';
import { container, pod } from '../sim/pods.ts';
import { Rig } from './rig.ts';

const EMPTY_DIR = { name: 'v', kind: 'emptyDir', medium: '' } as const;

test('a pod is set up from its directories to its containers', () => {
  const spec = { volumes: [EMPTY_DIR], containers: [container('a'), container('b')] };
  const rig = new Rig(pod('p', spec));
  assert.deepEqual(rig.after(1), [
    '0 SetUpPod',
    '0 SetUpVolume v',
    '0 PullImage busybox',
    '0 RunPodSandbox 0',
    '0 CreateContainer a#0',
    '0 CreateContainer b#0',
    '0 StartContainer a#0',
    '0 StartContainer b#0',
  ]);
  assert.deepEqual(rig.after(3600), [], 'and then it rests');
});

test('init containers run one after the other, sidecars in between go on', () => {
  const initContainers = [
    container('first'),
    container('side', { restartPolicy: 'Always' }),
    container('last'),
  ];
  const rig = new Rig(pod('p', { initContainers }));
  rig.after(1);
  assert.deepEqual(rig.starts, ['first#0']);
  rig.exit('first', 0);
  rig.after(1);
  assert.deepEqual(rig.starts, ['first#0', 'side#0', 'last#0']);
  rig.exit('last', 0);
  rig.after(1);
  assert.deepEqual(rig.starts, ['first#0', 'side#0', 'last#0', 'a#0']);
  rig.exit('side', 0);
  rig.after(1);
  assert.equal(rig.starts.at(-1), 'side#1', 'a sidecar that ended runs again');
  assert.deepEqual(rig.starts.slice(0, 4), ['first#0', 'side#0', 'last#0', 'a#0']);
});

test('nothing goes on before a sidecar runs', () => {
  const initContainers = [container('side', { restartPolicy: 'Always', image: 'rare' })];
  const rig = new Rig(pod('p', { initContainers }));
  rig.fail('PullImage rare', 'Unavailable');
  rig.after(9);
  assert.deepEqual(rig.starts, []);
  rig.after(2);
  assert.deepEqual(rig.starts, ['side#0', 'a#0']);
});

test('a failed init container runs again with a pause, under Never it fails the pod', () => {
  const initContainers = [container('init')];
  const again = new Rig(pod('p', { initContainers, restartPolicy: 'OnFailure' }));
  again.after(1);
  again.exit('init', 1);
  again.after(1);
  again.exit('init', 1);
  again.after(9);
  assert.deepEqual(again.starts, ['init#0', 'init#1']);
  again.after(2);
  assert.deepEqual(again.starts, ['init#0', 'init#1', 'init#2']);

  const never = new Rig(pod('p', { initContainers, restartPolicy: 'Never' }));
  never.after(1);
  never.lines();
  never.exit('init', 1);
  const lines = never.after(100);
  assert.deepEqual(lines, ['1 Failed', '1 StopPodSandbox 0', '1 TearDownPod']);
  assert.deepEqual(never.starts, ['init#0']);
});

test('after a power cut the new run comes first, and the old sandbox is removed last', () => {
  const rig = new Rig(pod('p', { initContainers: [container('init')], volumes: [EMPTY_DIR] }));
  rig.after(1);
  rig.exit('init', 0);
  rig.after(1);
  rig.powerCut();
  assert.deepEqual(rig.after(1), [
    '0 SetUpPod',
    '0 SetUpVolume v',
    '0 PullImage busybox',
    '0 RunPodSandbox 1',
    '0 CreateContainer init#1',
    '0 StartContainer init#1',
    // What comes next is seen to while the init container runs.
    '0 PullImage busybox',
  ]);
  rig.exit('init', 0);
  assert.deepEqual(rig.after(1), [
    '1 CreateContainer a#1',
    '1 StartContainer a#1',
    '1 RemovePodSandbox 0',
  ]);
  assert.deepEqual(rig.starts, ['init#0', 'a#0', 'init#1', 'a#1']);
});

test('a sandbox of an earlier boot that cannot be removed keeps nothing from running', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  rig.powerCut();
  rig.fail('RemovePodSandbox 0', 'Unknown', 2);
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0', 'a#1']);
  assert.deepEqual(rig.after(3), ['3 RemovePodSandbox 0'], 'and is tried again');
  rig.powerCut();
  rig.powerCut();
  assert.deepEqual(rig.after(1).at(-1), '0 RemovePodSandbox 1');
  assert.equal(rig.starts.at(-1), 'a#2');
});

test('a container that was created before a power cut is made again while its sandbox lingers', () => {
  const rig = new Rig(pod('p', {}));
  // It is there, and the power goes before it is started.
  rig.fail('CreateContainer a#0', 'Unknown', 1, true);
  rig.after(0.5);
  rig.powerCut();
  rig.fail('RemovePodSandbox 0', 'Unknown', 100);
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0']);
});

test('a sidecar that still ends in a former sandbox is none to go on with', () => {
  const initContainers = [container('side', { restartPolicy: 'Always' })];
  const containers = [container('a', { image: 'rare' })];
  const rig = new Rig(pod('p', { initContainers, containers }), { side: { ignoresTerm: true } });
  rig.fail('RunPodSandbox 0', 'DeadlineExceeded');
  rig.fail('PullImage rare', 'Unavailable');
  rig.after(5);
  assert.deepEqual(rig.starts, ['side#0']);
  rig.world.sandboxDies(rig.process('side').sandboxId);
  // The attempt that was given up comes up after all.
  rig.world.runPodSandbox('p', 0);
  rig.after(20);
  assert.deepEqual(rig.starts, ['side#0']);
  rig.after(20);
  assert.deepEqual(rig.starts, ['side#0', 'side#1', 'a#0']);
});

test('an init container that succeeded never waits, however often the power goes', () => {
  const rig = new Rig(pod('p', { initContainers: [container('init')] }));
  for (let boot = 0; boot < 5; boot++) {
    rig.after(1);
    rig.exit('init', 0);
    rig.after(1);
    assert.deepEqual(rig.starts.slice(-2), [`init#${boot}`, `a#${boot}`]);
    rig.powerCut();
  }
});

test('an init container that is done does not run again in the same sandbox', () => {
  const rig = new Rig(pod('p', { initContainers: [container('init')] }));
  rig.after(1);
  rig.exit('init', 0);
  rig.after(1);
  rig.restartAgent();
  rig.after(1);
  rig.exit('a', 1);
  rig.after(1);
  rig.restartRuntime();
  rig.after(60);
  assert.deepEqual(rig.starts, ['init#0', 'a#0', 'a#1']);
});

test('crash loop: 0, 10, 20, … 300 seconds, and from the start after ten good minutes', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  const pauses: number[] = [];
  for (let i = 0; i < 8; i += 1) {
    rig.zero();
    rig.exit('a', 1);
    const start = rig.after(301).find((line) => line.includes('StartContainer'));
    pauses.push(Number.parseInt(start!, 10));
  }
  assert.deepEqual(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
  rig.after(601);
  rig.zero();
  rig.exit('a', 1);
  assert.equal(rig.after(1).at(-1), '0 StartContainer a#9', 'the loop is over');
  rig.zero();
  rig.exit('a', 1);
  assert.equal(rig.after(11).at(-1), '10 StartContainer a#10', 'and starts anew');
});

test('the backoff outlives the agent and the reboot', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  for (const seconds of [1, 11, 21]) {
    rig.exit('a', 1);
    rig.after(seconds);
  }
  rig.zero();
  rig.exit('a', 1);
  rig.after(5);
  rig.restartAgent(10);
  assert.deepEqual(rig.after(24), ['15 SetUpPod'], 'of 40 s, 39 have passed');
  assert.equal(rig.after(2).at(-1), '40 StartContainer a#4');
  rig.exit('a', 1);
  rig.after(1);
  rig.powerCut();
  const lines = rig.after(81);
  assert.equal(lines.at(-1), '49 StartContainer a#5', '80 s, of which 30 passed without power');
});

test('a pause goes on from the boot when the clock went back by years', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  rig.exit('a', 1);
  rig.after(1);
  rig.exit('a', 1);
  rig.after(1);
  rig.powerCut({ clockBackMs: 20 * 365 * 86_400_000 });
  assert.equal(rig.after(60).at(-1), '5 StartContainer a#2', '5 s after a boot that took 5 s');
});

test('a jump of the wall clock changes no pause', () => {
  for (const jumpMs of [1, -1]) {
    const rig = new Rig(pod('p', {}));
    rig.after(1);
    rig.exit('a', 1);
    rig.after(1);
    rig.zero();
    rig.exit('a', 1);
    rig.after(1);
    rig.wallOffsetMs += jumpMs * 20 * 365 * 86_400_000;
    rig.post({ type: 'Tick' });
    assert.equal(rig.after(20).at(-1), '10 StartContainer a#2');
  }
});

type Ending = 'exit 0' | 'exit 1' | 'cut while running' | 'cut when created' | 'cut, all lost';
const MATRIX: readonly [RestartPolicy, Ending, starts: string[], end: string | undefined][] = [
  ['Always', 'exit 0', ['a#0', 'a#1'], undefined],
  ['Always', 'exit 1', ['a#0', 'a#1'], undefined],
  ['Always', 'cut while running', ['a#0', 'a#1'], undefined],
  ['Always', 'cut when created', ['a#0'], undefined],
  ['Always', 'cut, all lost', ['a#0', 'a#1'], undefined],
  ['OnFailure', 'exit 0', ['a#0'], 'Succeeded'],
  ['OnFailure', 'exit 1', ['a#0', 'a#1'], undefined],
  ['OnFailure', 'cut while running', ['a#0', 'a#1'], undefined],
  ['OnFailure', 'cut when created', ['a#0'], undefined],
  ['OnFailure', 'cut, all lost', ['a#0', 'a#1'], undefined],
  ['Never', 'exit 0', ['a#0'], 'Succeeded'],
  ['Never', 'exit 1', ['a#0'], 'Failed'],
  ['Never', 'cut while running', ['a#0'], 'Failed NodePowerLoss'],
  ['Never', 'cut when created', ['a#0'], undefined],
  ['Never', 'cut, all lost', ['a#0'], 'Failed NodePowerLoss'],
];

for (const [restartPolicy, ending, starts, end] of MATRIX) {
  test(`${restartPolicy}, ${ending}: ${end ?? 'runs'} after ${starts.join(', ')}`, () => {
    const rig = new Rig(pod('p', { restartPolicy }));
    if (ending === 'cut when created') {
      rig.fail('StartContainer', 'Unavailable');
      rig.fail('CreateContainer', 'Unavailable', 1, true);
      // The container is there, and the agent is about to start it when the power goes.
      rig.after(0);
      assert.deepEqual(
        [...rig.world.containers.values()].map((c) => c.name),
        ['a'],
      );
      assert.equal(rig.seen.ledger.containers['a']?.intent, undefined);
    } else rig.after(1);
    if (ending === 'exit 0') rig.exit('a', 0);
    if (ending === 'exit 1') rig.exit('a', 1);
    if (ending.startsWith('cut')) rig.powerCut({ loses: true, wiped: ending === 'cut, all lost' });
    const lines = rig.after(60);
    assert.deepEqual(rig.starts, starts);
    const { terminal } = rig.seen.ledger;
    const shown = terminal && [terminal.phase, terminal.reason].filter(Boolean).join(' ');
    assert.equal(shown, end, lines.join('\n'));
    assert.equal(rig.world.alive.size, end === undefined ? 1 : 0);
  });
}

test('an intent without a start, cut by the power, ends a Never pod and says so', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.fail('StartContainer', 'DeadlineExceeded', 1);
  rig.after(0);
  assert.equal(rig.seen.ledger.containers['a']?.intent?.attempt, 0);
  rig.powerCut();
  rig.after(60);
  assert.deepEqual(rig.starts, []);
  assert.equal(rig.seen.ledger.terminal?.reason, 'NodePowerLoss');
  assert.match(rig.seen.ledger.terminal?.message ?? '', /may have run; it is not started again/);
  assert.equal(rig.seen.ledger.containers['a']?.outcome?.exitCode, 137);
});

test('a start that failed in the same life of the runtime is tried again, even under Never', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.fail('StartContainer', 'Unavailable', 2);
  const lines = rig.after(60).filter((line) => line.includes('StartContainer'));
  assert.deepEqual(lines, ['0 StartContainer a#0', '1 StartContainer a#0', '3 StartContainer a#0']);
  assert.deepEqual(rig.starts, ['a#0']);
});

test('a start that happened without an answer is not repeated', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.fail('StartContainer', 'DeadlineExceeded', 1, true);
  rig.after(60);
  assert.deepEqual(rig.starts, ['a#0']);
  assert.equal(rig.seen.ledger.terminal, undefined);
});

test('a runtime that forgot that a Never container ran does not make it run again', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }), { a: { termMs: 0 } });
  rig.after(1);
  rig.world.runtimeStops();
  rig.exit('a', 0);
  rig.restartRuntime(true);
  rig.after(60);
  assert.deepEqual(rig.starts, ['a#0']);
  assert.equal(rig.seen.ledger.terminal?.phase, 'Failed');
  assert.equal(rig.seen.ledger.containers['a']?.outcome?.reason, 'ContainerStatusUnknown');
});

test('a pod of several tasks ends with the last of them, and runs none again', () => {
  const containers = [container('a'), container('b')];
  const rig = new Rig(pod('p', { containers, restartPolicy: 'OnFailure' }));
  rig.after(1);
  rig.exit('a', 0);
  rig.after(60);
  rig.powerCut();
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0', 'b#0', 'b#1']);
  rig.exit('b', 0);
  rig.after(60);
  assert.equal(rig.seen.ledger.terminal?.phase, 'Succeeded');
  assert.deepEqual(rig.starts, ['a#0', 'b#0', 'b#1']);
});

test('sidecars are ended when the tasks are done, from the last to the first', () => {
  const initContainers = [
    container('one', { restartPolicy: 'Always' }),
    container('two', { restartPolicy: 'Always' }),
  ];
  const rig = new Rig(pod('p', { initContainers, restartPolicy: 'Never' }));
  rig.after(1);
  rig.zero();
  rig.exit('a', 0);
  assert.deepEqual(rig.after(5), [
    '0 StopContainer two#0 30s',
    '0 StopContainer one#0 30s',
    '0 Succeeded',
    '0 StopPodSandbox 0',
    '0 TearDownPod',
  ]);
});

test('a terminal pod stays as it is, whatever comes', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.after(1);
  rig.exit('a', 0);
  rig.after(10);
  rig.restartAgent();
  rig.powerCut({ wiped: true });
  rig.after(60);
  assert.deepEqual(rig.starts, ['a#0']);
  assert.equal(rig.seen.ledger.terminal?.phase, 'Succeeded');
  rig.delete(30);
  assert.deepEqual(rig.after(1).at(-1), '60 done');
});

test('activeDeadlineSeconds ends a pod, with its grace; time without power does not count', () => {
  const rig = new Rig(pod('p', { activeDeadlineSeconds: 60, terminationGracePeriodSeconds: 5 }));
  rig.after(40);
  rig.exit('a', 1);
  rig.after(1);
  rig.powerCut();
  assert.equal(rig.seen.ledger.active?.ms, 40_000);
  const before = rig.after(19);
  assert.ok(!before.some((line) => line.includes('StopContainer')), before.join('\n'));
  const lines = rig.after(10);
  assert.deepEqual(lines.slice(0, 2), ['20 StopContainer a#2 5s', '20 Failed DeadlineExceeded']);
  assert.equal(rig.world.alive.size, 0);
});

test('the active time is stored now and then, so that power cuts do not make it endless', () => {
  const rig = new Rig(pod('p', { activeDeadlineSeconds: 1000 }));
  for (let cuts = 0; cuts < 20 && rig.seen.ledger.ending === undefined; cuts += 1) {
    rig.after(110);
    rig.powerCut();
  }
  assert.equal(rig.seen.ledger.ending?.reason, 'DeadlineExceeded');
});

test('restart counts do not go back when the runtime lost everything', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  rig.exit('a', 1);
  rig.after(1);
  rig.powerCut({ wiped: true });
  rig.after(60);
  assert.deepEqual(rig.starts, ['a#0', 'a#1', 'a#2']);
});

test('what runs is taken over when the ledger was lost', () => {
  const spec = { initContainers: [container('init')], containers: [container('a')] };
  const rig = new Rig(pod('p', spec));
  rig.after(1);
  rig.exit('init', 0);
  rig.after(1);
  rig.exit('a', 1);
  rig.after(1);
  rig.killAgent();
  rig.seen = { ...rig.seen, ledger: { sandboxAttempt: -1, containers: {} } };
  rig.startAgent();
  assert.deepEqual(rig.after(60), ['3 SetUpPod']);
  assert.equal(rig.seen.ledger.containers['a']?.attempt, 1, 'with its restart count');
  assert.equal(rig.seen.ledger.sandboxAttempt, 0);
});

test('with an older ledger a sandbox of this boot is still removed before the next one', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  const { ledger } = rig.seen;
  rig.powerCut();
  rig.after(10);
  rig.killAgent();
  rig.world.sandboxDies(rig.process('a').sandboxId);
  rig.zero();
  rig.seen = { ...rig.seen, ledger };
  rig.startAgent();
  assert.deepEqual(
    rig.after(1).filter((line) => line.includes('Sandbox')),
    ['0 RemovePodSandbox 1', '0 RunPodSandbox 2'],
  );
});

test('a former sandbox is not stopped while a container is being started in it', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('StartContainer a#0', 'Unknown');
  rig.after(0.5);
  const { want, seen } = rig;
  const now = rig.now();
  const [created] = seen.view!.containers;
  const action: Action = {
    type: 'StartContainer',
    ...{ key: 'container/a', name: 'a', id: created!.id },
    ...{ attempt: 0, sandboxAttempt: 0, epoch: 'e1' },
  };
  const newer = { id: 'newer', attempt: 1, state: 'SANDBOX_READY', ips: [] } as const;
  const view = { ...seen.view!, seq: 100, sandboxes: [newer, ...seen.view!.sandboxes] };
  const starting = reduce(want, seen, { type: 'ActionStarted', action }, now);
  const looked = reduce(want, starting, { type: 'Looked', view }, now);
  assert.deepEqual(plan(want, looked, now).start, []);
  const result = { ok: true } as const;
  const started = reduce(want, looked, { type: 'ActionEnded', action, seq: 100, result }, now);
  const containers = [{ ...created!, state: 'CONTAINER_RUNNING' } as const];
  const again = { type: 'Looked', view: { ...view, seq: 101, containers } } as const;
  const types = plan(want, reduce(want, started, again, now), now).start.map(({ type }) => type);
  assert.deepEqual(types.slice(0, 1), ['StopContainer']);
});

test('the time until a container starts is no time that it ran well', () => {
  const rig = new Rig(pod('p', {}));
  rig.after(1);
  // It is created again, and then its sandbox dies and no other one comes up for minutes.
  rig.fail('CreateContainer a#1', 'Unknown', 1, true);
  rig.exit('a', 1);
  rig.after(0.5);
  for (const id of rig.world.sandboxes.keys()) rig.world.sandboxDies(id);
  rig.fail('RunPodSandbox', 'Unknown', 8);
  rig.after(200);
  assert.deepEqual(rig.starts, ['a#0', 'a#1']);
  rig.after(500);
  rig.exit('a', 1);
  rig.after(9);
  assert.deepEqual(rig.starts, ['a#0', 'a#1']);
  rig.after(2);
  assert.deepEqual(rig.starts, ['a#0', 'a#1', 'a#2']);
});

test('nothing is created in a sandbox whose stop is on its way', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('CreateContainer a#0', 'Unknown');
  rig.after(0.5);
  const { want, seen } = rig;
  const now = { ...rig.now(), monoMs: rig.now().monoMs + 10_000 };
  const { id } = seen.view!.sandboxes[0]!;
  const action: Action = { type: 'StopPodSandbox', key: `sandbox/${id}`, id };
  const types = (of: typeof seen) => plan(want, of, now).start.map(({ type }) => type);
  const ready = { ...seen, images: { busybox: { ref: 'sha256:busybox' } } };
  assert.deepEqual(types(ready), ['CreateContainer']);
  const stopping = reduce(want, ready, { type: 'ActionStarted', action }, now);
  assert.deepEqual(types(stopping), []);
});
