import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventsOf } from '../../src/pod/events.ts';
import type { ContainerLedger, Seen, Want } from '../../src/pod/model.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { aContainer, aPod } from './a-pod.ts';

const now = { monoMs: 100_000, wallMs: 1_800_000_000_000, boot: 'b' };

function want(): Want {
  const pod = aPod({
    initContainers: [aContainer({ name: 'prepare' })],
    containers: [aContainer({ name: 'web' })],
  });
  return { pod, source: 'local', order: 1 };
}

/** The step in which a container was seen to have ended, while it has a backoff. */
function endOf(name: string, exitCode: number): readonly string[] {
  const running: ContainerLedger = {
    attempt: 1,
    sandboxAttempt: 0,
    backoff: { delayMs: 10_000, at: now },
  };
  const outcome = { attempt: 1, sandboxAttempt: 0, exitCode, reason: 'Error', seenAt: now };
  const before: Seen = firstSeen({ sandboxAttempt: 0, containers: { [name]: running } });
  const after: Seen = firstSeen({
    sandboxAttempt: 0,
    containers: { [name]: { ...running, outcome } },
  });
  return eventsOf(want(), before, after, { type: 'Tick' }, now).map(({ reason }) => reason);
}

test('a container that will be started again after a while is backed off', () => {
  assert.deepEqual(endOf('web', 1), ['BackOff']);
  assert.deepEqual(endOf('prepare', 1), ['BackOff']);
});

test('an init container that is done is not', () => {
  assert.deepEqual(endOf('prepare', 0), []);
});
