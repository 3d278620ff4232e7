import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLibc } from '../../src/linux/libc.ts';

test('the kernel can be asked whether its clock is kept right', () => {
  const libc = openLibc();
  assert.ok(libc !== undefined);
  assert.equal(typeof libc.clockIsSynchronized(), 'boolean');
  assert.equal(libc.clockIsSynchronized(), libc.clockIsSynchronized());
});
