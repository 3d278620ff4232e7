// Probes and hooks: what they hold up, what they end, and what outlives the agent.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, PodSpec, Probe } from '../../src/kube/pod.ts';
import type { PodStatus } from '../../src/kube/pod.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { statusOf } from '../../src/pod/status.ts';
import type { Behaviour, Health } from '../sim/pods.ts';
import { WELL, container, pod } from '../sim/pods.ts';
import { Rig } from './rig.ts';

const PROBE: Probe = {
  ...{ handler: { kind: 'exec', command: ['x'] }, initialDelaySeconds: 0, timeoutSeconds: 1 },
  ...{ periodSeconds: 10, successThreshold: 1, failureThreshold: 3 },
};
const HOOK = { kind: 'exec', command: ['x'] } as const;

function rigOf(
  containers: readonly Container[],
  spec: Partial<PodSpec> = {},
  health: Record<string, Partial<Health> & Partial<Behaviour>> = {},
): Rig {
  const behaviours = Object.entries(health).map(
    ([name, one]) => [name, { ...one, health: { ...WELL, ...one } }] as const,
  );
  const rig = new Rig(pod('p', { containers, ...spec }), Object.fromEntries(behaviours));
  rig.after(1);
  rig.zero();
  return rig;
}

const statusIn = (rig: Rig): PodStatus => statusOf(rig.want, rig.seen, rig.now(), {});
const ready = (rig: Rig): string =>
  statusIn(rig).conditions.find(({ type }) => type === 'Ready')?.status ?? '';

test('a liveness probe that fails: stopped with the grace of the probe, and started again', () => {
  const livenessProbe = { ...PROBE, terminationGracePeriodSeconds: 7 };
  const rig = rigOf([container('a', { livenessProbe })], {}, { a: { ignoresTerm: true } });
  rig.probed('a', 'liveness', 'failure');
  assert.deepEqual(rig.after(100), [
    '0 StopContainer a#0 7s',
    '7 SIGKILL a#0 by StopContainer',
    '7 PullImage busybox',
    '7 CreateContainer a#1',
    '7 StartContainer a#1',
  ]);
});

test('what a probe says of a former run counts for nothing', () => {
  const rig = rigOf([container('a', { livenessProbe: PROBE, startupProbe: PROBE })]);
  const { containerId: id } = rig.process('a');
  rig.exit('a', 1);
  rig.after(20);
  rig.post({ type: 'Probed', name: 'a', id, probe: 'liveness', result: 'failure' });
  rig.post({ type: 'Probed', name: 'a', id, probe: 'startup', result: 'success' });
  assert.deepEqual(rig.after(5), []);
  assert.equal(statusIn(rig).containerStatuses[0]?.started, false);
});

test('under Never a failed probe ends the pod', () => {
  const rig = rigOf([container('a', { startupProbe: PROBE })], { restartPolicy: 'Never' });
  rig.probed('a', 'startup', 'failure');
  assert.deepEqual(rig.after(50), [
    '0 StopContainer a#0 30s',
    '0 Failed',
    '0 StopPodSandbox 0',
    '0 TearDownPod',
  ]);
});

test('a kill goes on with what is left of its grace when the agent restarts', () => {
  const rig = rigOf([container('a', { livenessProbe: PROBE })], {}, { a: { ignoresTerm: true } });
  rig.probed('a', 'liveness', 'failure');
  rig.after(10);
  rig.zero();
  rig.restartAgent();
  const lines = rig.after(30);
  assert.ok(lines.includes('0 StopContainer a#0 20s'), lines.join('\n'));
  assert.ok(lines.includes('20 SIGKILL a#0 by StopContainer'), lines.join('\n'));
});

test('what a probe says in the first second of a kill does not give its grace back later', () => {
  const containers = [container('a', { livenessProbe: PROBE, readinessProbe: PROBE })];
  const rig = rigOf(containers, {}, { a: { ignoresTerm: true } });
  rig.probed('a', 'liveness', 'failure');
  rig.after(0.9);
  rig.probed('a', 'readiness', 'success');
  rig.after(9.1);
  rig.zero();
  rig.restartAgent();
  const lines = rig.after(30);
  assert.ok(lines.includes('0 StopContainer a#0 20s'), lines.join('\n'));
});

test('a readiness probe turns readiness on and off, and nothing is stopped', () => {
  const rig = rigOf([container('a', { readinessProbe: PROBE })]);
  assert.equal(ready(rig), 'False');
  rig.probed('a', 'readiness', 'success');
  assert.deepEqual(rig.after(1), []);
  assert.equal(ready(rig), 'True');
  rig.probed('a', 'readiness', 'failure');
  assert.deepEqual(rig.after(1), []);
  assert.equal(ready(rig), 'False');
  const condition = statusIn(rig).conditions.find(({ type }) => type === 'ContainersReady');
  assert.equal(condition?.reason, 'ContainersNotReady');
  assert.equal(condition?.message, 'containers with unready status: [a]');
});

test('what was ready is ready after a restart of the agent, until its probe says otherwise', () => {
  const rig = rigOf([
    container('a', { readinessProbe: PROBE, startupProbe: PROBE, livenessProbe: PROBE }),
  ]);
  rig.probed('a', 'startup', 'success');
  rig.probed('a', 'readiness', 'success');
  rig.after(1);
  assert.equal(ready(rig), 'True');
  rig.restartAgent(5);
  rig.after(1);
  const [status] = statusIn(rig).containerStatuses;
  assert.deepEqual([status?.ready, status?.started, status?.restartCount], [true, true, 0]);
  const condition = statusIn(rig).conditions.find(({ type }) => type === 'Ready');
  assert.equal(condition?.lastTransitionTime, '2026-01-01T00:00:01Z', 'ready since then');
  rig.probed('a', 'readiness', 'failure');
  rig.after(1);
  assert.equal(ready(rig), 'False');
});

test('a new run is not ready, whatever the one before was', () => {
  const rig = rigOf([container('a', { readinessProbe: PROBE })]);
  rig.probed('a', 'readiness', 'success');
  rig.after(1);
  rig.exit('a', 1);
  rig.after(20);
  assert.equal(statusIn(rig).containerStatuses[0]?.restartCount, 1);
  assert.equal(ready(rig), 'False');
});

test('a readiness that flaps is stored once a minute', () => {
  const rig = rigOf([container('a', { readinessProbe: PROBE })]);
  const stored = new Set<object>();
  for (let i = 0; i < 240; i += 1) {
    rig.probed('a', 'readiness', i % 2 === 0 ? 'success' : 'failure');
    rig.after(1);
    stored.add(rig.seen.ledger);
  }
  assert.ok(stored.size >= 3 && stored.size <= 6, `${stored.size} times in four minutes`);
  rig.probed('a', 'readiness', 'success');
  rig.after(61);
  assert.equal(rig.seen.ledger.containers['a']?.ready?.is, true, 'what holds is stored in the end');
});

test('a sidecar holds up what is behind it until its startup probe succeeds', () => {
  const initContainers = [
    container('side', { restartPolicy: 'Always', startupProbe: PROBE }),
    container('init'),
  ];
  const rig = rigOf([container('a')], { initContainers });
  rig.after(100);
  assert.deepEqual(rig.starts, ['side#0']);
  rig.probed('side', 'startup', 'failure');
  rig.after(1);
  assert.deepEqual(rig.starts, ['side#0', 'side#1'], 'one that fails is restarted');
  rig.probed('side', 'startup', 'success');
  rig.after(1);
  assert.deepEqual(rig.starts, ['side#0', 'side#1', 'init#0']);
});

test('postStart: not started until the hook has ended, and the next container waits', () => {
  const containers = [container('a', { lifecycle: { postStart: HOOK } }), container('b')];
  const rig = rigOf(containers, {}, { a: { postStartMs: 5000 } });
  assert.deepEqual(rig.starts, ['a#0']);
  const [a] = statusIn(rig).containerStatuses;
  assert.deepEqual(a?.state, { waiting: { reason: 'ContainerCreating' } });
  assert.equal(statusIn(rig).phase, 'Pending');
  rig.after(5);
  assert.deepEqual(rig.starts, ['a#0', 'b#0']);
  assert.equal(ready(rig), 'True');
  rig.restartAgent();
  assert.deepEqual(rig.after(10), ['5 SetUpPod'], 'a hook that has ended is not run again');
});

test('what is to be stopped does not wait for the postStart hook of another', () => {
  const containers = [
    container('a', { lifecycle: { postStart: HOOK } }),
    container('b', { livenessProbe: PROBE }),
  ];
  const rig = rigOf(containers, {}, { a: { postStartMs: 30_000 } });
  rig.after(40);
  rig.exit('a', 1);
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0', 'b#0', 'a#1']);
  rig.probed('b', 'liveness', 'failure');
  assert.deepEqual(
    rig.after(1).map((line) => line.replace(/^\d+ /, '')),
    ['StopContainer b#0 30s'],
  );
  assert.deepEqual(rig.starts, ['a#0', 'b#0', 'a#1'], 'but to start again it waits');
});

test('a sidecar is stopped while the one before it is on its way up', () => {
  const restartPolicy = 'Always' as const;
  const initContainers = [
    container('first', { restartPolicy, startupProbe: PROBE }),
    container('second', { restartPolicy, startupProbe: PROBE }),
  ];
  const rig = rigOf([container('main')], { initContainers });
  rig.probed('first', 'startup', 'success');
  rig.after(1);
  rig.exit('first', 1);
  rig.after(1);
  assert.deepEqual(rig.starts, ['first#0', 'second#0', 'first#1']);
  rig.probed('second', 'startup', 'failure');
  assert.ok(rig.after(1).some((line) => line.endsWith('StopContainer second#0 30s')));
});

test('postStart fails: the container is stopped, with its preStop hook, and started again', () => {
  const lifecycle = { postStart: HOOK, preStop: HOOK };
  const rig = rigOf(
    [container('a', { lifecycle })],
    { terminationGracePeriodSeconds: 10 },
    { a: { postStartFails: true, postStartMs: 3000, preStopMs: 4000, ignoresTerm: true } },
  );
  assert.deepEqual(rig.after(9), ['2 RunPreStop a#0', '6 StopContainer a#0 6s']);
  const [a] = statusIn(rig).containerStatuses;
  assert.equal(a?.state.waiting?.reason, 'PostStartHookError');
  assert.deepEqual(rig.after(4).slice(0, 4), [
    '12 SIGKILL a#0 by StopContainer',
    '12 PullImage busybox',
    '12 CreateContainer a#1',
    '12 StartContainer a#1',
  ]);
});

const FULL = { reason: 'NodeStorageFull', message: 'the disk is full' } as const;

test('a disk that fills while a preStop hook runs does not hold up the signal after it', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK }, livenessProbe: PROBE })];
  const spec = { terminationGracePeriodSeconds: 10 };
  const rig = rigOf(containers, spec, { a: { preStopMs: 4000, ignoresTerm: true } });
  rig.probed('a', 'liveness', 'failure');
  rig.after(1);
  rig.post({ type: 'Held', hold: FULL });
  assert.deepEqual(rig.after(600), ['4 StopContainer a#0 6s', '10 SIGKILL a#0 by StopContainer']);
  rig.post({ type: 'Held', hold: undefined });
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0', 'a#1']);
});

test('what could not be started again is not stopped by a probe while the disk is full', () => {
  const rig = rigOf([container('a', { lifecycle: { preStop: HOOK }, livenessProbe: PROBE })]);
  rig.post({ type: 'Held', hold: FULL });
  rig.after(1);
  rig.probed('a', 'liveness', 'failure');
  assert.deepEqual(rig.after(600), []);
  rig.post({ type: 'Held', hold: undefined });
  assert.equal(rig.after(1)[0], '601 RunPreStop a#0');
});

test('postStart cut off by a crash of the agent is run again', () => {
  const containers = [container('a', { lifecycle: { postStart: HOOK } })];
  const rig = rigOf(containers, {}, { a: { postStartMs: 5000 } });
  rig.restartAgent();
  assert.deepEqual(rig.after(10), ['0 SetUpPod', '0 RunPostStart a#0']);
  assert.equal(ready(rig), 'True');
});

test('a lost runtime and a full disk are no failures of a postStart hook', () => {
  const containers = [container('a', { lifecycle: { postStart: HOOK } })];
  const rig = new Rig(pod('p', { containers }));
  rig.fail('RunPostStart', 'Unavailable');
  rig.fail('RunPostStart', 'NoSpace');
  rig.after(10);
  assert.deepEqual(rig.starts, ['a#0']);
  assert.equal(ready(rig), 'True');
});

test('a pod that ends does not wait for a postStart hook', () => {
  const containers = [container('a', { lifecycle: { postStart: HOOK } })];
  const rig = rigOf(containers, {}, { a: { postStartMs: 60_000 } });
  rig.delete(30);
  const lines = rig.after(10);
  assert.equal(lines[0], '0 cancel RunPostStart a#0');
  assert.equal(lines.at(-1), '0 done');
});

test('preStop comes before SIGTERM, and its time counts', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK } })];
  const rig = rigOf(containers, {}, { a: { preStopMs: 4000, ignoresTerm: true } });
  rig.delete(10);
  const lines = rig.after(20).slice(0, 3);
  assert.deepEqual(lines, [
    '0 RunPreStop a#0',
    '4 StopContainer a#0 6s',
    '10 SIGKILL a#0 by StopContainer',
  ]);
});

test('a preStop hook that hangs is given up when the grace is over; then there are two seconds', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK } })];
  const rig = rigOf(containers, {}, { a: { preStopMs: Infinity, ignoresTerm: true } });
  rig.delete(10);
  assert.deepEqual(rig.after(20).slice(0, 4), [
    '0 RunPreStop a#0',
    '10 cancel RunPreStop a#0',
    '10 StopContainer a#0 2s',
    '12 SIGKILL a#0 by StopContainer',
  ]);
});

test('a restart of the agent in the middle of a preStop hook gives no more grace', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK } })];
  const rig = rigOf(containers, {}, { a: { preStopMs: Infinity, ignoresTerm: true } });
  rig.delete(10);
  rig.after(6);
  rig.restartAgent();
  assert.deepEqual(rig.after(20).slice(0, 4), [
    '6 RunPreStop a#0',
    '10 cancel RunPreStop a#0',
    '10 StopContainer a#0 2s',
    '12 SIGKILL a#0 by StopContainer',
  ]);
});

test('a shorter grace cuts a preStop hook short', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK } })];
  const rig = rigOf(containers, {}, { a: { preStopMs: Infinity, ignoresTerm: true } });
  rig.delete(100);
  rig.after(3);
  rig.delete(1);
  assert.deepEqual(rig.after(20).slice(0, 3), [
    '3 cancel RunPreStop a#0',
    '3 StopContainer a#0 2s',
    '5 SIGKILL a#0 by StopContainer',
  ]);
});

test('without grace there is no preStop hook', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK } })];
  const rig = rigOf(containers);
  rig.delete(0);
  assert.equal(rig.after(20)[0], '0 StopContainer a#0 0s');
});

test('a container that ends by itself does not wait for its preStop hook', () => {
  const containers = [container('a', { lifecycle: { preStop: HOOK } })];
  const rig = rigOf(containers, {}, { a: { preStopMs: Infinity } });
  rig.delete(60);
  rig.after(3);
  rig.exit('a', 0);
  const lines = rig.after(10);
  assert.ok(lines.includes('3 cancel RunPreStop a#0'), lines.join('\n'));
  assert.equal(lines.at(-1), '3 done');
});

test('the preStop hooks of sidecars run at once, their SIGTERM comes after the others', () => {
  const initContainers = [
    container('side', { restartPolicy: 'Always', lifecycle: { preStop: HOOK } }),
  ];
  const rig = rigOf([container('a')], { initContainers }, { a: { ignoresTerm: true } });
  rig.delete(8);
  assert.deepEqual(rig.after(20).slice(0, 4), [
    '0 StopContainer a#0 8s',
    '0 RunPreStop side#0',
    '8 SIGKILL a#0 by StopContainer',
    '8 StopContainer side#0 2s',
  ]);
});

test('what was known of a run that left nothing does not count for the next of its attempt', () => {
  const probes = { livenessProbe: PROBE, readinessProbe: PROBE, startupProbe: PROBE };
  const rig = rigOf([container('a', probes)], {}, { a: { ignoresTerm: true } });
  rig.seen = firstSeen(undefined);
  rig.restartAgent();
  rig.after(1);
  rig.probed('a', 'startup', 'success');
  rig.probed('a', 'readiness', 'success');
  rig.probed('a', 'liveness', 'failure');
  rig.after(5);
  rig.powerCut({ wiped: true });
  assert.ok(!rig.after(100).some((line) => line.includes('StopContainer')));
  const [status] = statusIn(rig).containerStatuses;
  assert.deepEqual([status?.started, status?.ready, status?.restartCount], [false, false, 0]);
});

test('with the ledger lost nothing that runs is stopped, and no hook is run again', () => {
  const lifecycle = { postStart: HOOK, preStop: HOOK };
  const rig = rigOf([container('a', { lifecycle, livenessProbe: PROBE })]);
  rig.seen = { ...rig.seen, ledger: { sandboxAttempt: -1, containers: {} } };
  rig.restartAgent();
  const lines = rig.after(30);
  assert.deepEqual(lines, ['0 SetUpPod']);
  assert.equal(ready(rig), 'True');
});

/** The API server has another image for the container `a`. */
function withImage(rig: Rig, image: string): void {
  const { pod: before } = rig.want;
  const containers = before.spec.containers.map((one) => {
    return one.name === 'a' ? { ...one, image } : one;
  });
  rig.want = { ...rig.want, pod: { ...before, spec: { ...before.spec, containers } } };
  rig.post({ type: 'Tick' });
}

test('a container whose image was changed is made anew at once, the others stay', () => {
  const rig = rigOf([container('a'), container('b')]);
  rig.want = { ...rig.want, source: 'api' };
  withImage(rig, 'busybox:2');
  assert.deepEqual(rig.after(100), [
    '0 StopContainer a#0 30s',
    '0 PullImage busybox:2',
    '0 CreateContainer a#1',
    '0 StartContainer a#1',
  ]);
  withImage(rig, 'busybox:3');
  rig.zero();
  assert.equal(rig.after(100).at(-1), '0 StartContainer a#2', 'no backoff');
});

test('under Never a changed image changes nothing', () => {
  const rig = rigOf([container('a')], { restartPolicy: 'Never' });
  rig.want = { ...rig.want, source: 'api' };
  withImage(rig, 'busybox:2');
  assert.deepEqual(rig.after(100), []);
});
