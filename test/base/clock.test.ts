import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';

test('wall time is never before the floor, and goes on from there', async () => {
  const floorMs = Date.now() + 3_600_000;
  const clock = systemClock('boot', () => floorMs);
  const first = clock.now();
  assert.ok(first.wallMs >= floorMs);
  await sleep(20);
  const then = clock.now();
  assert.equal(then.wallMs - first.wallMs, then.monoMs - first.monoMs);
  assert.ok(then.wallMs > first.wallMs);
});

test('a clock that is ahead of the floor is believed', () => {
  const wallMs = Date.now();
  assert.ok(systemClock('boot', () => 0).now().wallMs - wallMs < 1000);
});
