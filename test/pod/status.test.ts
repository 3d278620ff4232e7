import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeen, type Seen, type Want } from '../../src/pod/model.ts';
import { statusOf } from '../../src/pod/status.ts';
import { aPod } from './a-pod.ts';

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
