import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeen, type Seen, type Want } from '../../src/pod/model.ts';
import { statusOf, summaryOf } from '../../src/pod/status.ts';
import type { Ledger, Outcome } from '../../src/pod/model.ts';
import { aContainer, aPod } from './a-pod.ts';

const AT = { monoMs: 100_000, wallMs: 1_700_000_100_000, boot: 'b' };

const ended = (exitCode: number, message?: string): Outcome => ({
  attempt: 0,
  sandboxAttempt: 0,
  exitCode,
  reason: exitCode === 0 ? 'Completed' : 'Error',
  seenAt: AT,
  ...(message !== undefined && { message }),
});

/** A ledger whose containers ended so. */
function ledgerOf(outcomes: Readonly<Record<string, Outcome>>, more: Partial<Ledger> = {}): Ledger {
  const containers = Object.entries(outcomes).map(([name, outcome]) => [
    name,
    { attempt: 0, sandboxAttempt: 0, outcome },
  ]);
  return {
    admitted: true,
    sandboxAttempt: 0,
    containers: Object.fromEntries(containers) as Ledger['containers'],
    ...more,
  };
}

const FAILED = { terminal: { phase: 'Failed', at: AT } } as const;

test('between two starts that fail a container is in CrashLoopBackOff, as for the kubelet', () => {
  const want: Want = { pod: aPod(), source: 'local', order: 1 };
  const at = { monoMs: 100_000, wallMs: 1_700_000_100_000, boot: 'b' };
  const now = { ...at, monoMs: at.monoMs + 5000, wallMs: at.wallMs + 5000 };
  const fault = {
    code: 'Unknown',
    message: 'exec: "/no/such": no such file',
    reason: 'RunContainerError',
  } as const;
  const outcome = {
    ...{ attempt: 2, sandboxAttempt: 0, exitCode: 128, reason: 'StartError', seenAt: at },
  };
  const seen: Seen = {
    ...firstSeen({
      admitted: true,
      sandboxAttempt: 0,
      containers: {
        web: { attempt: 2, sandboxAttempt: 0, outcome, backoff: { delayMs: 20_000, at } },
      },
    }),
    retries: { 'container/web': { fault, failures: 3, untilMonoMs: now.monoMs - 1000 } },
  };
  const { containerStatuses } = statusOf(want, seen, now, {});
  const [web] = containerStatuses;
  assert.equal(web?.state.waiting?.reason, 'CrashLoopBackOff');
  assert.match(web.state.waiting.message ?? '', /^back-off 20s restarting failed container=web/);
  assert.equal(web.lastState.terminated?.reason, 'StartError');
  const later = { ...now, monoMs: at.monoMs + 30_000, wallMs: at.wallMs + 30_000 };
  const [due] = statusOf(want, seen, later, {}).containerStatuses;
  assert.equal(due?.state.waiting?.reason, 'RunContainerError');
});

test('a pod whose init container failed for good shows that, as kubectl does', () => {
  const init = aContainer({ name: 'setup' });
  const want: Want = {
    pod: aPod({ restartPolicy: 'Never', initContainers: [init] }),
    source: 'local',
    order: 1,
  };
  const status = statusOf(want, firstSeen(ledgerOf({ setup: ended(7) }, FAILED)), AT, {});
  assert.equal(summaryOf(want, status), 'Init:Error');
  assert.equal(status.containerStatuses[0]?.state.waiting?.reason, 'PodInitializing');
});

test('a pod of which a part is done and a part runs is NotReady', () => {
  const containers = [aContainer({ name: 'done' }), aContainer({ name: 'runs' })];
  const want: Want = {
    pod: aPod({ restartPolicy: 'Never', containers }),
    source: 'local',
    order: 1,
  };
  const seen = firstSeen(ledgerOf({ done: ended(0) }));
  const status = statusOf(want, seen, AT, {});
  const { containerStatuses } = status;
  const runs = { running: { startedAt: '2026-01-01T00:00:00Z' } };
  const running = {
    ...status,
    containerStatuses: [
      containerStatuses[0]!,
      { ...containerStatuses[1]!, ready: true, state: runs },
    ],
  };
  assert.equal(summaryOf(want, running), 'NotReady');
});

test('a sidecar that was killed when all was done does not hide that, as with kubectl', () => {
  const side = aContainer({ name: 'side', restartPolicy: 'Always' });
  const want: Want = {
    pod: aPod({ restartPolicy: 'Never', initContainers: [side] }),
    source: 'local',
    order: 1,
  };
  const terminal = { phase: 'Succeeded', at: AT } as const;
  const seen = firstSeen(ledgerOf({ side: ended(137), web: ended(0) }, { terminal }));
  assert.equal(summaryOf(want, statusOf(want, seen, AT, {})), 'Completed');
});

test('of containers that are done the one that failed is shown, as with kubectl', () => {
  const containers = [aContainer({ name: 'done' }), aContainer({ name: 'failed' })];
  const want: Want = {
    pod: aPod({ restartPolicy: 'Never', containers }),
    source: 'local',
    order: 1,
  };
  const seen = firstSeen(ledgerOf({ done: ended(0), failed: ended(3) }, FAILED));
  assert.equal(summaryOf(want, statusOf(want, seen, AT, {})), 'Error');
});

test('in a pod that is over a container that never ran does not wait any more', () => {
  const want: Want = { pod: aPod({ activeDeadlineSeconds: 1 }), source: 'local', order: 1 };
  const terminal = { ...FAILED.terminal, reason: 'DeadlineExceeded' };
  const { containerStatuses } = statusOf(want, firstSeen(ledgerOf({}, { terminal })), AT, {});
  assert.deepEqual(containerStatuses[0]?.state.terminated, {
    exitCode: 137,
    reason: 'ContainerStatusUnknown',
    message: 'The container could not be located when the pod was terminated',
  });
});

test('the termination messages of a pod have 12 KiB together, in equal shares', () => {
  const names = ['a', 'b', 'c', 'd'];
  const want: Want = {
    pod: aPod({ restartPolicy: 'Never', containers: names.map((name) => aContainer({ name })) }),
    source: 'local',
    order: 1,
  };
  const text = 'ä'.repeat(2048);
  const outcomes = Object.fromEntries(names.map((name) => [name, ended(1, text)]));
  const { containerStatuses } = statusOf(want, firstSeen(ledgerOf(outcomes, FAILED)), AT, {});
  for (const { state } of containerStatuses) {
    assert.equal(state.terminated?.message, 'ä'.repeat(1536));
  }
  const two: Want = {
    ...want,
    pod: aPod({ containers: [aContainer({ name: 'a' }), aContainer({ name: 'b' })] }),
  };
  const [a] = statusOf(two, firstSeen(ledgerOf(outcomes, FAILED)), AT, {}).containerStatuses;
  assert.equal(a?.state.terminated?.message, text);
});

test('a pod that is over keeps the addresses that it had', () => {
  const want: Want = { pod: aPod(), source: 'local', order: 1 };
  const sandbox = { id: 's', attempt: 0, state: 'SANDBOX_READY', ips: ['10.88.0.7'] } as const;
  const view = { seq: 1, epoch: 'e', sandboxes: [sandbox], containers: [] };
  const before = statusOf(want, { ...firstSeen(ledgerOf({})), view }, AT, {});
  assert.equal(before.podIP, '10.88.0.7');
  const gone = {
    ...view,
    sandboxes: [{ ...sandbox, state: 'SANDBOX_NOTREADY', ips: [] } as const],
  };
  const over = { ...firstSeen(ledgerOf({}, FAILED)), view: gone };
  assert.deepEqual(statusOf(want, over, AT, {}, before).podIPs, [{ ip: '10.88.0.7' }]);
  const ended = { ...firstSeen(ledgerOf({})), view: gone };
  assert.equal(statusOf(want, ended, AT, {}, before).podIP, undefined, 'it gets a new sandbox');
});
