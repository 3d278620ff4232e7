import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';

const LATER_MS = Date.parse('2090-01-01T00:00:00Z');

test('a clock that is right is taken as it is', () => {
  const clock = systemClock('boot', () => 1_000_000);
  assert.ok(Math.abs(clock.now().wallMs - Date.now()) < 1000);
});

test('a clock that was lost goes on from the time floor', async () => {
  const clock = systemClock('boot', () => LATER_MS);
  const first = clock.now();
  assert.ok(first.wallMs >= LATER_MS && first.wallMs < LATER_MS + 60_000);
  await sleep(50);
  const second = clock.now();
  assert.equal(second.wallMs - first.wallMs, second.monoMs - first.monoMs);
});

test('a clock that somebody has set is believed, also when it was ahead before', (t) => {
  const clock = systemClock('boot', () => LATER_MS);
  assert.ok(clock.now().wallMs >= LATER_MS);
  const really = Date.now.bind(Date);
  // No test may set the clock of the machine.
  t.mock.method(Date, 'now', () => really() + 3_600_000);
  const { wallMs } = clock.now();
  assert.ok(Math.abs(wallMs - really() - 3_600_000) < 1000);
});

test('a clock that the kernel knows to be right is believed', () => {
  const clock = systemClock(
    'boot',
    () => LATER_MS,
    () => true,
  );
  assert.ok(Math.abs(clock.now().wallMs - Date.now()) < 1000);
});
