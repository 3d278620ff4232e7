import assert from 'node:assert/strict';
import { test } from 'node:test';

import { seededRandom } from '../../src/base/random.ts';
import { parseQuantity, quantityBytes, quantityMilli } from '../../src/kube/quantity.ts';

test('every suffix', () => {
  const ones: readonly [string, bigint][] = [
    ['1', 1n],
    ['+1', 1n],
    ['-1', -1n],
    ['1k', 1000n],
    ['1M', 10n ** 6n],
    ['1G', 10n ** 9n],
    ['1T', 10n ** 12n],
    ['1P', 10n ** 15n],
    ['1E', 10n ** 18n],
    ['1Ki', 1024n],
    ['1Mi', 1024n ** 2n],
    ['1Gi', 1024n ** 3n],
    ['1Ti', 1024n ** 4n],
    ['1Pi', 1024n ** 5n],
    ['1Ei', 1024n ** 6n],
    ['1e3', 1000n],
    ['1E3', 1000n],
    ['1E+3', 1000n],
    ['1.5Gi', 1536n * 1024n ** 2n],
    ['.5k', 500n],
    ['5.k', 5000n],
    ['0', 0n],
    ['-0', 0n],
    ['000001', 1n],
  ];
  for (const [text, value] of ones) {
    assert.equal(parseQuantity(text), value * 10n ** 9n, text);
  }
  assert.equal(parseQuantity('1n'), 1n);
  assert.equal(parseQuantity('1u'), 1000n);
  assert.equal(parseQuantity('1m'), 1_000_000n);
  assert.equal(parseQuantity('15e-1'), 1_500_000_000n);
});

test('finer than a nano is rounded away from zero, too large is cut off', () => {
  assert.equal(parseQuantity('0.1n'), 1n);
  assert.equal(parseQuantity('-0.1n'), -1n);
  assert.equal(parseQuantity('1e-99'), 1n);
  assert.equal(parseQuantity('1e-999999999'), 1n);
  assert.equal(parseQuantity('1.0000000001'), 1_000_000_001n);
  const most = (2n ** 63n - 1n) * 10n ** 9n;
  assert.equal(parseQuantity('100E'), most);
  assert.equal(parseQuantity('8Ei'), most);
  assert.equal(parseQuantity('1e999999999'), most);
  assert.equal(parseQuantity('-1e100'), -most);
});

test('what is no quantity', () => {
  const none = [
    '',
    ' ',
    '1 ',
    ' 1',
    '1mi',
    '1KI',
    '1ki',
    '1K',
    'Mi',
    '15e-1e',
    '.',
    '+',
    'e3',
    '1e',
    '1.2.3',
  ];
  // "K" is not a suffix, "k" is.
  for (const text of [
    ...none,
    '0x10',
    '1_000',
    '1,5',
    'NaN',
    '1e3Ki',
    '--1',
    '١',
    '1'.repeat(101),
  ]) {
    assert.equal(parseQuantity(text), undefined, JSON.stringify(text));
  }
  assert.throws(() => quantityBytes('12 MB'), {
    code: 'InvalidArgument',
    message: '"12 MB" is no quantity: write 100m, 0.5, 2, 128Mi or 1e3',
  });
});

test('milli and bytes are rounded up', () => {
  assert.equal(quantityMilli('0.0001'), 1);
  assert.equal(quantityMilli('1500u'), 2);
  assert.equal(quantityMilli('2'), 2000);
  assert.equal(quantityMilli('100m'), 100);
  assert.equal(quantityBytes('100m'), 1);
  assert.equal(quantityBytes('128Mi'), 134_217_728);
  assert.equal(quantityBytes('0.1Gi'), 107_374_183);
  assert.equal(quantityBytes('-1500m'), -2);
  assert.equal(quantityBytes('9E'), Number.MAX_SAFE_INTEGER);
  assert.ok(Object.is(quantityBytes('-0'), 0));
});

test('any text either is a quantity within bounds or none', () => {
  const random = seededRandom(7);
  const letters = '0123456789.+-eEKMGiknum';
  let parsed = 0;
  for (let i = 0; i < 50_000; i++) {
    const length = 1 + Math.floor(random.next() * 6);
    const text = Array.from(
      { length },
      () => letters[Math.floor(random.next() * letters.length)],
    ).join('');
    const nanos = parseQuantity(text);
    if (nanos === undefined) continue;
    parsed++;
    assert.ok(nanos <= (2n ** 63n - 1n) * 10n ** 9n, text);
    assert.ok(Number.isSafeInteger(quantityBytes(text)), text);
  }
  assert.ok(parsed > 1000, `${parsed}`);
});
