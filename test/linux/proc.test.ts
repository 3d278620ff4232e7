import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { test } from 'node:test';

import * as proc from '../../src/linux/proc.ts';

test('the facts agree with what the system tools say', () => {
  assert.match(proc.bootId(), /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
  assert.equal(proc.memTotalBytes(), os.totalmem());
  const online = execFileSync('getconf', ['_NPROCESSORS_ONLN'], { encoding: 'utf8' });
  assert.equal(proc.cpuCount(), Number(online));
  assert.equal(proc.kernelVersion(), execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim());
  assert.ok(proc.isMountPoint('/proc'));
  assert.ok(proc.isMountPoint('/proc/'));
  assert.ok(!proc.isMountPoint('/proc/self'));
});

test('the size of pages is what the system tools say', () => {
  const bytes = Number(execFileSync('getconf', ['PAGE_SIZE'], { encoding: 'utf8' }));
  assert.equal(proc.pageBytesOf(readFileSync('/proc/self/auxv')), bytes);
  const vector = (value: bigint) =>
    new Uint8Array(BigUint64Array.of(33n, 4n, 6n, value, 0n).buffer);
  assert.equal(proc.pageBytesOf(vector(16_384n)), 16_384);
  for (const wrong of [0n, 5000n, 2n ** 63n]) {
    assert.equal(proc.pageBytesOf(vector(wrong)), undefined);
  }
  assert.equal(proc.pageBytesOf(new Uint8Array(7)), undefined);
});

test('lists of processors', () => {
  assert.equal(proc.parseCpuList('0-3\n'), 4);
  assert.equal(proc.parseCpuList('0,2-3,7\n'), 4);
  assert.equal(proc.parseCpuList('0\n'), 1);
  assert.equal(proc.parseCpuList('\n'), 0);
});

test('memory', () => {
  assert.equal(proc.parseMemTotal('MemTotal:        8000 kB\nMemFree: 1 kB\n'), 8_192_000);
  assert.throws(() => proc.parseMemTotal(''), { code: 'Unknown' });
});

test('mountinfo, with optional fields, escapes and lines that are none', () => {
  const text = [
    '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue',
    '37 35 0:5 / /a\\040b\\134c rw - tmpfs tmpfs rw',
    'nonsense',
    '',
  ].join('\n');
  assert.deepEqual(proc.parseMountInfo(text), [
    {
      mountId: 36,
      parentId: 35,
      device: '98:0',
      root: '/mnt1',
      mountPoint: '/mnt2',
      options: ['rw', 'noatime'],
      fsType: 'ext3',
      source: '/dev/root',
      superOptions: ['rw', 'errors=continue'],
    },
    {
      mountId: 37,
      parentId: 35,
      device: '0:5',
      root: '/',
      mountPoint: '/a b\\c',
      options: ['rw'],
      fsType: 'tmpfs',
      source: 'tmpfs',
      superOptions: ['rw'],
    },
  ]);
});

test('mounts below a path come innermost first, and names that only begin alike do not', () => {
  const below = proc.mountsBelow('/').map(({ mountPoint }) => mountPoint);
  assert.ok(below.includes('/proc') && below.includes('/'));
  assert.ok(below.indexOf('/') > below.indexOf('/proc'), below.join(' '));
  assert.deepEqual(proc.mountsBelow('/pro'), []);
});
