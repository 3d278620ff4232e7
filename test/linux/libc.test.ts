import assert from 'node:assert/strict';
import { test } from 'node:test';

import { openLibc } from '../../src/linux/libc.ts';
import { mounts } from '../../src/linux/proc.ts';
import { scratch } from '../volume/scratch.ts';

test('the kernel can be asked whether its clock is kept right', () => {
  const libc = openLibc();
  assert.ok(libc !== undefined);
  assert.equal(typeof libc.clockIsSynchronized(), 'boolean');
  assert.equal(libc.clockIsSynchronized(), libc.clockIsSynchronized());
});

test('a tmpfs is mounted and taken away without a process', () => {
  using dir = scratch();
  const libc = openLibc();
  assert.ok(libc !== undefined);
  const isMounted = () => mounts().some(({ mountPoint }) => mountPoint === dir.path);
  assert.equal(libc.mountTmpfs(dir.path, 0, 'mode=0700,size=4096'), true);
  assert.equal(isMounted(), true);
  assert.equal(libc.unmount(dir.path), true);
  assert.equal(isMounted(), false);
  assert.equal(libc.unmount(dir.path), false, 'nothing is left to unmount');
  assert.equal(libc.mountTmpfs(dir.path, 0, 'mode=rubbish'), false);
  assert.equal(libc.mountTmpfs('relative/nowhere', 0, ''), false);
});
