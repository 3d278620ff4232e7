// Pods that must not run while the API server is out of reach, and their way back.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PodSpec } from '../../src/kube/pod.ts';
import { offlinePolicy, policyProblem } from '../../src/kube/offline-policy.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { reborn } from '../../src/pod/reborn.ts';
import { container, pod } from '../sim/pods.ts';
import { Rig } from './rig.ts';

const HOLD = { reason: 'NodeOffline', message: 'waits' };

function rigOf(spec: Partial<PodSpec> = {}): Rig {
  const rig = new Rig(pod('p', { containers: [container('a')], ...spec }));
  rig.after(1);
  rig.zero();
  return rig;
}

test('the annotations', () => {
  const of = (text: string) => offlinePolicy({ 'limpet.dev/offline-policy': text }).stopAfterMs;
  assert.equal(of('stop-after=5m'), 300_000);
  for (const other of ['run', '', 'stop-after=', 'stop-after=0s', 'stop-after=-1s', 'stop']) {
    assert.equal(of(other), undefined);
    const problem = policyProblem('limpet.dev/offline-policy', other);
    assert.equal(problem === undefined, other === 'run', other);
  }
  assert.equal(policyProblem('limpet.dev/on-return', 'fail'), undefined);
  assert.match(policyProblem('limpet.dev/on-return', 'x') ?? '', /"restart" or "fail"/);
  assert.equal(policyProblem('other', 'x'), undefined);
});

test('cut off for too long it is stopped, and starts again when it may', () => {
  const rig = rigOf();
  rig.post({ type: 'OfflineTooLong', message: 'not heard for 5m0s' });
  const lines = rig.after(20);
  assert.ok(lines.includes('0 StopContainer a#0 30s'), lines.join('\n'));
  assert.equal(rig.seen.ledger.terminal?.reason, 'NodeOffline');
  const ledger = reborn(rig.want, rig.seen.ledger);
  assert.ok(ledger);
  rig.seen = { ...firstSeen(ledger) };
  rig.post({ type: 'Tick' });
  rig.zero();
  const again = rig.after(20);
  assert.ok(again.includes('0 StartContainer a#1'), again.join('\n'));
  assert.equal(rig.seen.ledger.terminal, undefined);
});

test('who may run once only, or is to fail, does not start again', () => {
  for (const [spec, annotations] of [
    [{ restartPolicy: 'Never' }, {}],
    [{}, { 'limpet.dev/on-return': 'fail' }],
  ] as const) {
    const rig = rigOf(spec);
    const { pod: before } = rig.want;
    rig.want = {
      ...rig.want,
      pod: { ...before, metadata: { ...before.metadata, annotations } },
    };
    rig.post({ type: 'OfflineTooLong', message: '' });
    rig.after(20);
    assert.equal(rig.seen.ledger.terminal?.phase, 'Failed');
    assert.equal(reborn(rig.want, rig.seen.ledger), undefined);
  }
});

test('a pod that ended for another reason is not begun anew', () => {
  const rig = rigOf({ restartPolicy: 'OnFailure' });
  rig.exit('a', 0);
  rig.after(20);
  assert.equal(rig.seen.ledger.terminal?.phase, 'Succeeded');
  assert.equal(reborn(rig.want, rig.seen.ledger), undefined);
});

test('a fence keeps from starting, and ends nothing', () => {
  const rig = rigOf();
  rig.post({ type: 'Fenced', fence: HOLD });
  rig.exit('a', 1);
  assert.deepEqual(rig.after(20), []);
  rig.post({ type: 'Fenced', fence: undefined });
  const lines = rig.after(1);
  assert.ok(
    lines.some((line) => line.includes('StartContainer a#1')),
    lines.join('\n'),
  );
});
