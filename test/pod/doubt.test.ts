import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withDoubt } from '../../src/pod/doubt.ts';
import type { Ledger, View, Want } from '../../src/pod/model.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { reduce } from '../../src/pod/reduce.ts';
import { aContainer, aPod } from './a-pod.ts';

const now = { monoMs: 5000, wallMs: 1_800_000_000_000, boot: 'b' };
const empty: View = { seq: 1, epoch: 'e', sandboxes: [], containers: [] };

function never(ledger?: Ledger): Want & { readonly ledger: Ledger | undefined } {
  const pod = aPod({ restartPolicy: 'Never', containers: [aContainer({ name: 'once' })] });
  return { pod, source: 'local', order: 1, ledger: withDoubt(pod, ledger) };
}

test('a Never pod whose ledger is lost and that the runtime does not know ends as Failed', () => {
  const want = never();
  const seen = reduce(want, firstSeen(want.ledger), { type: 'Looked', view: empty }, now);
  assert.equal(seen.ledger.terminal?.phase, 'Failed');
  assert.equal(seen.ledger.terminal?.reason, 'NodePowerLoss');
});

test('what the runtime knows of it counts more than the doubt', () => {
  const want = never();
  const container = {
    id: 'c',
    podSandboxId: 's',
    name: 'once',
    attempt: 0,
    state: 'CONTAINER_EXITED' as const,
    createdAt: 1n,
    startedAt: 2n,
    finishedAt: 3n,
    exitCode: 0,
    imageRef: '',
    reason: 'Completed',
    message: '',
    labels: {},
    annotations: {},
    logPath: '',
  };
  const view = { ...empty, containers: [container] };
  const seen = reduce(want, firstSeen(want.ledger), { type: 'Looked', view }, now);
  assert.equal(seen.ledger.terminal?.phase, 'Succeeded');
});

test('a pod that may be started again is not doubted', () => {
  assert.equal(withDoubt(aPod({ restartPolicy: 'Always' }), undefined), undefined);
  assert.equal(withDoubt(aPod({ restartPolicy: 'OnFailure' }), undefined), undefined);
});

test('a known end stays known', () => {
  const outcome = {
    attempt: 0,
    sandboxAttempt: 0,
    exitCode: 0,
    reason: 'Completed',
    seenAt: now,
  };
  const ledger: Ledger = {
    sandboxAttempt: 0,
    containers: { once: { attempt: 0, sandboxAttempt: 0, outcome } },
  };
  assert.deepEqual(never(ledger).ledger, ledger);
});
