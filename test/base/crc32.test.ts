import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as zlib from 'node:zlib';
import { crc32 } from '../../src/base/crc32.ts';
import { seededRandom } from '../../src/base/random.ts';

test('crc32 agrees with that of zlib', () => {
  const random = seededRandom(1);
  const texts = ['', 'a', '123456789', 'grüße 🐚', '\0\uffff', 'x'.repeat(5000)];
  for (let n = 0; n < 200; n++) {
    const codes = Array.from({ length: n }, () => Math.floor(random.next() * 0x3000));
    texts.push(String.fromCharCode(...codes));
  }
  for (const text of texts) assert.equal(crc32(text), zlib.crc32(text), JSON.stringify(text));
  assert.equal(crc32('123456789'), 0xcbf43926, 'the check value of the standard');
});
