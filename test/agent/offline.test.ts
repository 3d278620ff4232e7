import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { OfflinePods } from '../../src/agent/offline.ts';
import type { Turns, Worker } from '../../src/agent/turns.ts';
import { createLog } from '../../src/base/log.ts';
import { firstSeen, type Ledger, type PodEvent } from '../../src/pod/model.ts';
import { aPod } from '../pod/a-pod.ts';
import { handClock } from '../store/world.ts';

/** One pod that may run for five minutes without the API server, and another that may for ever. */
function rig(t: TestContext, directory = mkdtempSync(join(tmpdir(), 'limpet-offline-'))) {
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const clock = handClock();
  const workers = new Map<string, Worker>();
  const posted: [string, PodEvent['type'], unknown][] = [];
  const restarted: Ledger[] = [];
  const turns = {
    workers,
    post: (uid: string, event: PodEvent) => {
      posted.push([uid, event.type, 'fence' in event ? event.fence?.reason : undefined]);
    },
    restart: (_: Worker, ledger: Ledger) => restarted.push(ledger),
  } as unknown as Turns;
  const add = (uid: string, annotations: Record<string, string>): Worker => {
    const pod = aPod({}, { uid, annotations });
    const worker = { uid, want: { pod, source: 'api', order: 1 }, seen: firstSeen(undefined) };
    workers.set(uid, worker as Worker);
    return worker as Worker;
  };
  const fenced = add('a', { 'limpet.dev/offline-policy': 'stop-after=5m' });
  const free = add('b', {});
  const start = () => {
    const log = createLog('error', () => undefined);
    const pods = new OfflinePods({ clock, log, directory, turns: () => turns });
    t.after(() => pods[Symbol.dispose]());
    return pods;
  };
  return { clock, start, fenced, free, posted, restarted, directory };
}

test('a pod is stopped when its time without the API server is over, on the monotonic clock', (t) => {
  const { clock, start, fenced, free, posted } = rig(t);
  const pods = start();
  pods.heard();
  pods.caughtUp();
  pods.attend([fenced, free]);
  clock.advance(200_000);
  pods.heard();
  pods.missed();
  clock.advance(299_000);
  assert.deepEqual(posted, []);
  clock.advance(2_000);
  assert.deepEqual(posted, [['a', 'OfflineTooLong', undefined]]);
});

test('the time goes on over a restart of the agent', (t) => {
  const { clock, start, fenced, posted } = rig(t);
  const first = start();
  first.heard();
  first[Symbol.dispose]();
  clock.advance(200_000);
  const second = start();
  second.attend([fenced]);
  assert.deepEqual(posted, []);
  clock.advance(101_000);
  assert.deepEqual(posted, [['a', 'OfflineTooLong', undefined]]);
});

test('after a boot it waits until all is told, not for the first sign of life', (t) => {
  const { start, fenced, free, posted } = rig(t);
  const pods = start();
  pods.attend([fenced, free]);
  assert.deepEqual(posted, [['a', 'Fenced', 'NodeOffline']]);
  fenced.seen = { ...fenced.seen, fence: { reason: 'NodeOffline', message: '' } };
  pods.heard();
  assert.equal(posted.length, 1);
  pods.caughtUp();
  assert.deepEqual(posted[1], ['a', 'Fenced', undefined]);
});

test('one that was stopped starts again when the API server still has it', (t) => {
  const { clock, start, fenced, restarted } = rig(t);
  const pods = start();
  pods.heard();
  pods.missed();
  const since = clock.now();
  const ledger: Ledger = {
    sandboxAttempt: 0,
    containers: { main: { attempt: 2, sandboxAttempt: 0 } },
    ending: { cause: 'offline', graceSeconds: 1, since },
    terminal: { phase: 'Failed', at: since },
  };
  fenced.seen = firstSeen(ledger);
  pods.attend([fenced]);
  assert.deepEqual(restarted, []);
  pods.caughtUp();
  assert.deepEqual(restarted, [
    { sandboxAttempt: 0, containers: { main: { attempt: 2, sandboxAttempt: 0 } } },
  ]);
});
