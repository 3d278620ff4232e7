import assert from 'node:assert/strict';
import { test } from 'node:test';

import { oneTaken, tokensAt, untilOneMs } from '../../src/node/token-bucket.ts';

const REFILL = { burst: 2, everyMs: 1000 };

test('a bucket gives its burst, then one in each interval, and never more than the burst', () => {
  assert.equal(untilOneMs(undefined, REFILL, 0), 0);
  const bucket = oneTaken(oneTaken(undefined, REFILL, 0), REFILL, 0);
  assert.equal(untilOneMs(bucket, REFILL, 0), 1000);
  assert.equal(untilOneMs(bucket, REFILL, 400), 600);
  assert.equal(untilOneMs(bucket, REFILL, 1000), 0);
  assert.equal(tokensAt(bucket, REFILL, 1_000_000), 2);
});
