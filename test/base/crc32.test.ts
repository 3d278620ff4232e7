import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from '../../src/base/crc32.ts';

test('what is stored with a checksum can be read by any version: it is the CRC-32 of the standard', () => {
  assert.equal(crc32('123456789'), 0xcbf43926, 'the check value of the standard');
  assert.equal(crc32('grüße 🐚'), crc32(Buffer.from('grüße 🐚')), 'of the text as UTF-8');
});
