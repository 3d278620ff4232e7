import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { createSettling } from '../../src/agent/settling.ts';
import type { Worker } from '../../src/agent/turns.ts';
import { createLog } from '../../src/base/log.ts';
import { handClock } from '../store/world.ts';

function rig(t: TestContext) {
  const clock = handClock();
  const log = createLog('error', () => undefined);
  const settling = createSettling(clock, log, () => undefined);
  t.after(() => settling[Symbol.dispose]());
  let isOver = false;
  void settling.podsFirst.then(() => (isOver = true));
  const over = async () => {
    await new Promise(setImmediate);
    return isOver;
  };
  const busy = { aborts: new Map([['pull', new AbortController()]]) } as unknown as Worker;
  const idle = { aborts: new Map() } as unknown as Worker;
  return { clock, settling, over, busy, idle };
}

test('what can wait waits while something is being done for a pod', async (t) => {
  const { settling, over, busy, idle } = rig(t);
  settling.turned(undefined, [idle, busy]);
  assert.equal(await over(), false);
  settling.turned(undefined, [idle, idle]);
  assert.equal(await over(), true);
});

test('a hold has begun nothing yet, and a node without pods waits for nothing', async (t) => {
  const { settling, over, idle } = rig(t);
  settling.turned({ reason: 'RuntimeNotReady', message: 'waiting' }, [idle]);
  assert.equal(await over(), false);
  settling.turned(undefined, []);
  assert.equal(await over(), true);
});

test('it waits for a while only', async (t) => {
  const { clock, settling, over, busy } = rig(t);
  settling.turned(undefined, [busy]);
  clock.advance(29_000);
  assert.equal(await over(), false);
  clock.advance(2000);
  assert.equal(await over(), true);
});
