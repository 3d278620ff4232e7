import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import { createReviewCache } from '../../src/server/review.ts';

/** A clock that a test moves by hand. */
function handClock(): Clock & { pass(ms: number): void } {
  let monoMs = 0;
  const timers = new Set<{ atMs: number; run: () => void }>();
  return {
    now: () => ({ monoMs, wallMs: 0, boot: 'b' }),
    sleep: () => Promise.reject(new Error('unused')),
    at: (atMs, run) => {
      const timer = { atMs, run };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    soon: (run) => void setImmediate(run),
    pass: (ms) => {
      monoMs += ms;
      for (const timer of timers) {
        if (timer.atMs > monoMs) continue;
        timers.delete(timer);
        timer.run();
      }
    },
  };
}

function rig(size = 3) {
  const clock = handClock();
  const stop = new AbortController();
  const cache = createReviewCache<string>({
    clock,
    size,
    signal: stop.signal,
    ttlMs: (value) => (value === 'yes' ? 100 : 10),
  });
  let asked = 0;
  const get = (key: string, value = 'yes') =>
    cache.get(key, async () => {
      asked++;
      return value;
    });
  return { cache, clock, stop, get, asked: () => asked };
}

test('an answer lives as long as its value says', async () => {
  const { get, clock, asked } = rig();
  await get('a');
  await get('b', 'no');
  clock.pass(9);
  await Promise.all([get('a'), get('b')]);
  assert.equal(asked(), 2);
  clock.pass(1);
  await Promise.all([get('a'), get('b', 'no')]);
  assert.equal(asked(), 3);
  clock.pass(90);
  await get('a');
  assert.equal(asked(), 4);
});

test('no more than so many are kept, and those asked for last', async () => {
  const { get, asked } = rig();
  for (const key of ['a', 'b', 'c']) await get(key);
  await get('a');
  await get('d');
  assert.equal(asked(), 4);
  await get('a');
  assert.equal(asked(), 4);
  await get('b');
  assert.equal(asked(), 5, 'the one not asked for was dropped');
});

test('of one key there is one question at a time, and a failure is everybody’s', async () => {
  const { cache } = rig();
  const { promise, reject } = Promise.withResolvers<string>();
  let asked = 0;
  const ask = async (): Promise<string> => {
    asked++;
    return await promise;
  };
  const waiting = [cache.get('a', ask), cache.get('a', ask)].map((one) =>
    one.catch((error: unknown) => (error as Error).message),
  );
  reject(new Error('no'));
  assert.deepEqual(await Promise.all(waiting), ['no', 'no']);
  assert.equal(asked, 1);
  assert.equal(await cache.get('a', async () => 'yes'), 'yes', 'and it is not remembered');
});

test('a question that nobody answers ends, also when the agent does', async () => {
  const { cache, clock, stop } = rig();
  let signal: AbortSignal | undefined;
  const ask = (given: AbortSignal): Promise<string> => {
    signal = given;
    return new Promise(() => undefined);
  };
  const late = cache.get('a', ask);
  clock.pass(29_999);
  assert.equal(signal?.aborted, false);
  clock.pass(1);
  await assert.rejects(late, (e) => e instanceof Failure && e.code === 'DeadlineExceeded');
  assert.ok(signal?.aborted);
  const stopped = cache.get('b', ask);
  stop.abort();
  await assert.rejects(stopped, (e) => e instanceof Failure && e.code === 'Cancelled');
  await assert.rejects(cache.get('c', ask), (e) => e instanceof Failure && e.code === 'Cancelled');
});
