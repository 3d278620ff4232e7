import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import type { HostPathType } from '../../src/kube/pod.ts';
import { hostPath } from '../../src/volume/hostpath.ts';
import { aContext } from './a-context.ts';
import { scratch } from './scratch.ts';

const signal = AbortSignal.timeout(60_000);

function setUp(path: string, type: HostPathType) {
  return hostPath.setUp(aContext('/nowhere'), { name: 'v', kind: 'hostPath', path, type }, signal);
}

async function refused(path: string, type: HostPathType): Promise<Failure> {
  const error: unknown = await setUp(path, type).then(
    () => assert.fail(`${path} was taken for ${type}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Failure, String(error));
  return error;
}

const KINDS = ['directory', 'file', 'socket', 'char', 'block', 'missing'] as const;

async function oneOfEach(path: string): Promise<Disposable> {
  mkdirSync(join(path, 'directory'));
  writeFileSync(join(path, 'file'), '');
  const server = createServer().listen(join(path, 'socket'));
  await once(server, 'listening');
  execFileSync('mknod', [join(path, 'char'), 'c', '1', '3']);
  execFileSync('mknod', [join(path, 'block'), 'b', '7', '200']);
  return { [Symbol.dispose]: () => void server.close() };
}

const TYPES: readonly (readonly [HostPathType, (typeof KINDS)[number], string])[] = [
  ['Directory', 'directory', 'a directory'],
  ['File', 'file', 'a file'],
  ['Socket', 'socket', 'a socket file'],
  ['CharDevice', 'char', 'a character device'],
  ['BlockDevice', 'block', 'a block device'],
];

for (const [type, fits, what] of TYPES) {
  test(`${type}: that, and nothing else`, async () => {
    using dir = scratch();
    using _server = await oneOfEach(dir.path);
    for (const kind of KINDS) {
      const path = join(dir.path, kind);
      if (kind === fits) {
        assert.deepEqual(await setUp(path, type), { hostPath: path });
        continue;
      }
      const { message, code } = await refused(path, type);
      // The kubelet's sentence, and what to do.
      assert.ok(
        message.startsWith(`hostPath type check failed: ${path} is not ${what}: `),
        message,
      );
      assert.equal(code, kind === 'missing' ? 'NotFound' : 'AlreadyExists');
      assert.equal(existsSync(path), kind !== 'missing');
    }
  });
}

test('no type: taken as it is, there or not', async () => {
  using dir = scratch();
  using _server = await oneOfEach(dir.path);
  for (const kind of KINDS) {
    const path = join(dir.path, kind);
    assert.deepEqual(await setUp(path, ''), { hostPath: path });
  }
  assert.equal(existsSync(join(dir.path, 'missing')), false);
});

test('DirectoryOrCreate: made for all to use, parents too; what was there keeps its mode', async () => {
  using dir = scratch();
  const before = process.umask(0o077);
  try {
    mkdirSync(join(dir.path, 'old'));
    chmodSync(join(dir.path, 'old'), 0o711);
    const path = `${dir.path}/old//a/b/`;
    assert.deepEqual(await setUp(path, 'DirectoryOrCreate'), { hostPath: path });
    const modes = ['old', 'old/a', 'old/a/b'].map((name) =>
      (lstatSync(join(dir.path, name)).mode & 0o7777).toString(8),
    );
    assert.deepEqual(modes, ['711', '755', '755']);
    await setUp(path, 'DirectoryOrCreate');
    writeFileSync(join(dir.path, 'file'), '');
    const failure = await refused(join(dir.path, 'file'), 'DirectoryOrCreate');
    assert.match(failure.message, /is not a directory: something else is there/);
  } finally {
    process.umask(before);
  }
});

test('FileOrCreate: an empty file; its directory must be there', async () => {
  using dir = scratch();
  const before = process.umask(0o077);
  try {
    const path = join(dir.path, 'new');
    assert.deepEqual(await setUp(path, 'FileOrCreate'), { hostPath: path });
    const found = lstatSync(path);
    assert.deepEqual([found.mode & 0o7777, found.size, found.isFile()], [0o644, 0, true]);
    writeFileSync(path, 'content');
    await setUp(path, 'FileOrCreate');
    assert.equal(lstatSync(path).size, 7);
    const failure = await refused(join(dir.path, 'no/such'), 'FileOrCreate');
    assert.match(failure.message, /can't make hostPath .*no\/such/);
    const there = await refused(dir.path, 'FileOrCreate');
    assert.match(there.message, /is not a file: something else is there/);
  } finally {
    process.umask(before);
  }
});

test('a link counts as what it points to, one to nothing is made into nothing', async () => {
  using dir = scratch();
  mkdirSync(join(dir.path, 'real'));
  symlinkSync('real', join(dir.path, 'link'));
  symlinkSync('nothing', join(dir.path, 'dangling'));
  await setUp(join(dir.path, 'link'), 'Directory');
  await refused(join(dir.path, 'dangling'), 'Directory');
  await refused(join(dir.path, 'dangling'), 'FileOrCreate');
  assert.equal(existsSync(join(dir.path, 'nothing')), false);
});

for (const path of ['', 'relative', './x', '/a/../etc', '/a/..', '/a\0b']) {
  test(`the path ${JSON.stringify(path)} is refused`, async () => {
    const failure = await refused(path, '');
    assert.equal(failure.code, 'InvalidArgument');
    assert.match(failure.message, /^volume v: hostPath\.path .* must be an absolute path/);
  });
}
