import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Everything } from '../../src/agent/looks.ts';
import { orphansOf } from '../../src/agent/orphans.ts';
import { systemClock } from '../../src/base/clock.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { plan } from '../../src/pod/plan.ts';
import { reduce } from '../../src/pod/reduce.ts';

const labels = {
  'io.kubernetes.pod.uid': 'u1',
  'io.kubernetes.pod.name': 'lost',
  'io.kubernetes.pod.namespace': 'default',
};
const sandbox = {
  id: 's1',
  metadata: { uid: 'u1', name: 'lost', namespace: 'default', attempt: 0 },
  state: 'SANDBOX_READY' as const,
  createdAt: 1n,
  labels,
  annotations: {},
};
const container = {
  id: 'c1',
  podSandboxId: 's1',
  name: 'a',
  attempt: 0,
  state: 'CONTAINER_RUNNING' as const,
  createdAt: 1n,
  imageRef: '',
  labels: { ...labels, 'io.kubernetes.container.name': 'a' },
  annotations: {},
};
const clock = systemClock('boot', () => 0);

function everything(changes: Partial<Everything>): Everything {
  const viewOf = () => ({ seq: 1, epoch: 'e', sandboxes: [], containers: [] });
  return { uids: new Set(), viewOf, sandboxes: [], containers: [], ...changes };
}

test('what somebody wants is no orphan', () => {
  const all = everything({ sandboxes: [sandbox], containers: [container] });
  assert.deepEqual(
    orphansOf(all, (uid) => uid === 'u1', clock),
    [],
  );
});

test('an orphan is ended by the same core as any pod: its process first', () => {
  const all = everything({ sandboxes: [sandbox], containers: [container] });
  const [want, ...more] = orphansOf(all, () => false, clock);
  assert.ok(want !== undefined && more.length === 0);
  const view = {
    seq: 1,
    epoch: 'e',
    sandboxes: [{ id: 's1', attempt: 0, state: 'SANDBOX_READY' as const, ips: [] }],
    containers: [
      {
        ...container,
        startedAt: 1n,
        finishedAt: 0n,
        exitCode: 0,
        reason: '',
        message: '',
        logPath: '',
      },
    ],
  };
  const now = clock.now();
  const seen = reduce(want, firstSeen(undefined), { type: 'Looked', view }, now);
  assert.deepEqual(
    plan(want, seen, now).start.map(({ type }) => type),
    ['StopContainer'],
  );
});

test('a container without a sandbox is an orphan too', () => {
  const [want] = orphansOf(everything({ containers: [container] }), () => false, clock);
  assert.equal(want?.pod.metadata.uid, 'u1');
});

test('containers of others are none of our business', () => {
  const foreign = { ...container, labels: {} };
  assert.deepEqual(
    orphansOf(everything({ containers: [foreign] }), () => false, clock),
    [],
  );
});

test('the preStop hook of an orphan is known from its container', () => {
  const annotations = {
    'io.kubernetes.container.preStopHandler': '{"exec":{"command":["bye"]}}',
  };
  const all = everything({ sandboxes: [sandbox], containers: [{ ...container, annotations }] });
  const [want] = orphansOf(all, () => false, clock);
  assert.deepEqual(want?.pod.spec.containers[0]?.lifecycle, {
    preStop: { kind: 'exec', command: ['bye'] },
  });
});
