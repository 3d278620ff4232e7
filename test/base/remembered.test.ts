import assert from 'node:assert/strict';
import { test } from 'node:test';

import { remembered } from '../../src/base/remembered.ts';
import { handClock } from '../store/world.ts';

test('a value is read once in its time, and anew after it', () => {
  const clock = handClock();
  let reads = 0;
  const value = remembered(clock, 5000, () => ++reads);
  assert.equal(reads, 0);
  assert.equal(value(), 1);
  clock.advance(4999);
  assert.equal(value(), 1);
  clock.advance(1);
  assert.equal(value(), 2);
  assert.equal(value(), 2);
});
