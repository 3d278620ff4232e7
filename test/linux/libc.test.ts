import assert from 'node:assert/strict';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

test('ioctl: how much of a file is left to read', () => {
  using dir = scratch();
  const path = join(dir.path, 'file');
  writeFileSync(path, 'x'.repeat(1234));
  const libc = openLibc();
  assert.ok(libc !== undefined);
  const FIONREAD = 0x541b;
  const answer = Buffer.alloc(4);
  const fd = openSync(path, 'r');
  try {
    assert.equal(libc.ioctl(fd, FIONREAD, answer), 0);
    assert.equal(answer.readInt32LE(), 1234);
    assert.ok(libc.ioctl(fd, 0xdead, answer) < 0);
  } finally {
    closeSync(fd);
  }
});
