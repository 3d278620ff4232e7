import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodStatus } from '../../src/kube/pod.ts';
import { podStatusPatch, saysTheSame, withKnownTimes } from '../../src/pod/status-report.ts';

const FACTS = { uid: 'u1', generation: 2, hostIPs: ['192.0.2.1'] };
const STATUS: PodStatus = {
  phase: 'Running',
  qosClass: 'BestEffort',
  startTime: '2026-01-01T00:00:00Z',
  podIP: '10.0.0.7',
  podIPs: [{ ip: '10.0.0.7' }],
  conditions: [
    { type: 'Ready', status: 'True', lastTransitionTime: '2026-01-01T00:00:09Z' },
    { type: 'Initialized', status: 'True', lastTransitionTime: '2026-01-01T00:00:09Z' },
  ],
  containerStatuses: [],
  initContainerStatuses: [],
};

/** What an API server makes of the patch, with a condition of somebody else. */
function stored(patch: object): Record<string, unknown> {
  const { status } = JSON.parse(JSON.stringify(patch)) as { status: Record<string, unknown> };
  const list = (name: string) => (status[name] as object[]).filter((item) => !('$patch' in item));
  const others = [{ type: 'DisruptionTarget', status: 'True', lastProbeTime: null }];
  return {
    ...status,
    hostIPs: list('hostIPs'),
    podIPs: list('podIPs'),
    conditions: [...list('conditions'), ...others],
  };
}

test('what was told is known when it is heard again, and what others changed is not', () => {
  const patch = podStatusPatch(STATUS, FACTS);
  const found = stored(patch);
  assert.ok(saysTheSame(found, patch));
  assert.ok(!saysTheSame({ ...found, phase: 'Pending' }, patch));
  assert.ok(!saysTheSame({ ...found, podIPs: [] }, patch));
  assert.ok(!saysTheSame({ ...found, reason: 'Evicted' }, patch), 'a reason that is none of ours');
  const notReady = { type: 'Ready', status: 'False' };
  assert.ok(!saysTheSame({ ...found, conditions: [notReady] }, patch));
  for (const rubbish of [undefined, null, 7, []]) assert.ok(!saysTheSame(rubbish, patch));
});

test('the address of a pod takes the place of the one that it had before', () => {
  const { status } = podStatusPatch(STATUS, FACTS) as { status: { podIPs: unknown } };
  assert.deepEqual(status.podIPs, [{ ip: '10.0.0.7' }, { $patch: 'replace' }]);
});

test('an agent that has just started keeps the times of what has not changed', () => {
  const before = podStatusPatch(STATUS, FACTS);
  const conditions = STATUS.conditions.map((condition) => ({
    ...condition,
    lastTransitionTime: '2026-02-02T00:00:00Z',
  }));
  const restarted = { ...STATUS, conditions };
  assert.ok(!saysTheSame(stored(before), podStatusPatch(restarted, FACTS)));
  const told = withKnownTimes(restarted, stored(before));
  assert.ok(saysTheSame(stored(before), podStatusPatch(told, FACTS)), 'nothing is to be told');
  const changed = [{ ...conditions[0]!, status: 'False' as const }];
  const [ready] = withKnownTimes({ ...STATUS, conditions: changed }, stored(before)).conditions;
  assert.equal(ready?.lastTransitionTime, '2026-02-02T00:00:00Z');
  assert.equal(withKnownTimes(STATUS, undefined), STATUS);
});
