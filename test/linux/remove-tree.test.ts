import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';

import { bindMount, mountTmpfs, unmount } from '../../src/linux/mount.ts';
import { isMountPoint } from '../../src/linux/proc.ts';
import { removeTree } from '../../src/linux/remove-tree.ts';

const never = new AbortController().signal;
const asRoot = { skip: process.getuid?.() === 0 ? false : 'mounts need root' };
let dir: string;
let root: string;
let outside: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'limpet-tree-'));
  root = join(dir, 'root');
  outside = join(dir, 'outside');
  mkdirSync(root);
  mkdirSync(outside);
  writeFileSync(join(outside, 'precious'), 'kept');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('a tree goes, and what its links name stays', async () => {
  mkdirSync(join(root, 'pod/a/b'), { recursive: true });
  writeFileSync(join(root, 'pod/a/file'), '');
  symlinkSync(outside, join(root, 'pod/a/dirlink'));
  symlinkSync(join(outside, 'precious'), join(root, 'pod/link'));
  execFileSync('mkfifo', [join(root, 'pod/fifo')]);
  // A name that is not UTF-8.
  writeFileSync(Buffer.concat([Buffer.from(`${root}/pod/`), Buffer.from([0xff, 0xfe])]), '');
  await removeTree(root, join(root, 'pod'), never);
  assert.deepEqual(readdirSync(root), []);
  assert.equal(readFileSync(join(outside, 'precious'), 'utf8'), 'kept');
});

test('a link itself is removed, not followed', async () => {
  symlinkSync(outside, join(root, 'pod'));
  await removeTree(root, join(root, 'pod'), never);
  assert.deepEqual(readdirSync(root), []);
  assert.ok(existsSync(join(outside, 'precious')));
});

test('a link on the way is refused', async () => {
  symlinkSync(outside, join(root, 'way'));
  const removed = removeTree(root, join(root, 'way/precious'), never);
  await assert.rejects(removed, { code: 'NotFound' });
  assert.ok(existsSync(join(outside, 'precious')));
});

test('only what is strictly below the root is removed', async () => {
  for (const path of [
    root,
    outside,
    `${root}/../outside`,
    `${root}/a/../..`,
    'pod',
    '/',
    `${root}x`,
  ]) {
    await assert.rejects(removeTree(root, path, never), { code: 'InvalidArgument' }, path);
  }
  assert.ok(existsSync(join(outside, 'precious')));
});

test('what is not there is removed already', async () => {
  await removeTree(root, join(root, 'none'), never);
  await removeTree(root, join(root, 'none/deeper'), never);
});

test('a tree deeper than any path may be is removed with few open files', async () => {
  // 3000 levels: longer than PATH_MAX, made from the inside, with a trap for the name in use.
  execFileSync('python3', [
    '-c',
    'import os,sys\nos.chdir(sys.argv[1])\nos.makedirs("pod/.limpet-deep-0/x")\nos.chdir("pod")\n' +
      'for i in range(3000):\n os.mkdir("d"); os.chdir("d")\nopen("f","w").close()',
    root,
  ]);
  const opened = () => readdirSync('/proc/self/fd').length;
  const before = opened();
  let most = 0;
  const timer = setInterval(() => (most = Math.max(most, opened())), 1);
  await removeTree(root, join(root, 'pod'), never);
  clearInterval(timer);
  assert.deepEqual(readdirSync(root), []);
  assert.ok(most - before < 150, `${most - before} files were open`);
  assert.equal(opened(), before);
});

test('an aborted removal stops and can be taken up again', async () => {
  mkdirSync(join(root, 'pod/a'), { recursive: true });
  const aborted = AbortSignal.abort(new Error('stop'));
  await assert.rejects(removeTree(root, join(root, 'pod'), aborted), { code: 'Cancelled' });
  assert.ok(existsSync(join(root, 'pod/a')));
  await removeTree(root, join(root, 'pod'), never);
  assert.ok(!existsSync(join(root, 'pod')));
});

test('nothing is removed while something is mounted in the tree', asRoot, async () => {
  const mounted = join(root, 'pod/volumes/data');
  mkdirSync(mounted, { recursive: true });
  writeFileSync(join(root, 'pod/file'), '');
  // A bind mount of the same file system: the device number would not show it.
  await bindMount(outside, mounted, { readOnly: false }, never);
  try {
    await assert.rejects(removeTree(root, join(root, 'pod'), never), (error: Error) => {
      assert.match(error.message, /is still mounted at .*pod\/volumes\/data/);
      return true;
    });
    await assert.rejects(removeTree(root, mounted, never), { code: 'Unavailable' });
    assert.ok(existsSync(join(root, 'pod/file')));
  } finally {
    await unmount(mounted, never);
  }
  assert.ok(existsSync(join(outside, 'precious')));
  await removeTree(root, join(root, 'pod'), never);
});

test('a tmpfs is mounted once, with its size and mode, and unmounted', asRoot, async () => {
  const path = join(root, 'memory');
  mkdirSync(path);
  await mountTmpfs(path, { sizeBytes: 1024 * 1024, mode: 0o1777 }, never);
  await mountTmpfs(path, { sizeBytes: 1024 * 1024, mode: 0o1777 }, never);
  try {
    assert.equal(execFileSync('stat', ['-c', '%a', path], { encoding: 'utf8' }), '1777\n');
    assert.throws(() => writeFileSync(join(path, 'big'), Buffer.alloc(2 * 1024 * 1024)), {
      code: 'ENOSPC',
    });
  } finally {
    await unmount(path, never);
  }
  assert.ok(!isMountPoint(path));
  await unmount(path, never);
});

test('a read-only bind mount can not be written', asRoot, async () => {
  const path = join(root, 'ro');
  mkdirSync(path);
  await bindMount(outside, path, { readOnly: true }, never);
  try {
    assert.equal(readFileSync(join(path, 'precious'), 'utf8'), 'kept');
    assert.throws(() => writeFileSync(join(path, 'new'), ''), { code: 'EROFS' });
    assert.doesNotThrow(() => writeFileSync(join(outside, 'new'), ''));
  } finally {
    await unmount(path, never);
  }
});

test('a mount that fails says what was tried and why', asRoot, async () => {
  const path = join(root, 'none');
  const mounted = mountTmpfs(path, { mode: 0o755 }, never);
  await assert.rejects(mounted, (error: Error & { code: string }) => {
    assert.equal(error.code, 'NotFound');
    assert.match(error.message, /^can't mount a tmpfs at .*\/none: mount: /);
    return true;
  });
  const odd = mountTmpfs('relative', { mode: 0o755 }, never);
  await assert.rejects(odd, { code: 'InvalidArgument' });
});
