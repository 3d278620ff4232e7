import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  statSync,
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import { mounts } from '../../src/linux/proc.ts';
import { emptyDir } from '../../src/volume/emptydir.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';
import { aContext } from './a-context.ts';
import { bindAt, scratch } from './scratch.ts';

const signal = AbortSignal.timeout(60_000);
const MIB = 2 ** 20;
const DISK = { name: 'v', kind: 'emptyDir', medium: '' } as const;
const MEMORY = { name: 'v', kind: 'emptyDir', medium: 'Memory' } as const;
const PLACE = 'pods/1f0a-22/volumes/kubernetes.io~empty-dir';

function modeOf(path: string): string {
  return (lstatSync(path).mode & 0o7777).toString(8);
}

test('on disk: where the kubelet has it, for everybody, whatever the umask', async () => {
  using dir = scratch();
  const before = process.umask(0o077);
  try {
    const { hostPath } = await emptyDir.setUp(aContext(dir.path), DISK, signal);
    assert.equal(hostPath, join(dir.path, PLACE, 'v'));
    assert.equal(modeOf(hostPath), '777');
    assert.equal(modeOf(join(dir.path, 'pods')), '750');
    assert.equal(modeOf(join(dir.path, 'pods/1f0a-22')), '750');
  } finally {
    process.umask(before);
  }
});

for (const volume of [DISK, MEMORY]) {
  test(`fsGroup owns it, medium ${JSON.stringify(volume.medium)}`, async () => {
    using dir = scratch();
    const pod = aPod({ securityContext: { fsGroup: 1234 } });
    const { hostPath } = await emptyDir.setUp(aContext(dir.path, { pod }), volume, signal);
    assert.equal(modeOf(hostPath), '2777');
    assert.deepEqual([statSync(hostPath).uid, statSync(hostPath).gid], [0, 1234]);
  });

  test(`a mode that a container chose stays, medium ${JSON.stringify(volume.medium)}`, async () => {
    using dir = scratch();
    const { hostPath } = await emptyDir.setUp(aContext(dir.path), volume, signal);
    chmodSync(hostPath, 0o700);
    await emptyDir.setUp(aContext(dir.path), volume, signal);
    assert.equal(modeOf(hostPath), '700');
  });
}

test('on disk: after a power cut in the middle there is no half-made volume', async () => {
  using dir = scratch();
  const pod = aPod({ securityContext: { fsGroup: 1234 } });
  mkdirSync(join(dir.path, PLACE, '.v.new'), { recursive: true, mode: 0o700 });
  const { hostPath } = await emptyDir.setUp(aContext(dir.path, { pod }), DISK, signal);
  assert.equal(modeOf(hostPath), '2777');
  assert.equal(statSync(hostPath).gid, 1234);
  assert.deepEqual(readdirSync(join(dir.path, PLACE)), ['v']);
  mkdirSync(join(dir.path, PLACE, '.v.new'));
  await emptyDir.tearDown(aContext(dir.path), DISK, signal);
  assert.deepEqual(readdirSync(join(dir.path, PLACE)), []);
});

test('on disk: something else is in its place', async () => {
  using dir = scratch();
  mkdirSync(join(dir.path, PLACE), { recursive: true });
  symlinkSync('/etc', join(dir.path, PLACE, 'v'));
  await assert.rejects(
    emptyDir.setUp(aContext(dir.path), DISK, signal),
    (error) => error instanceof Failure && /is no directory/.test(error.message),
  );
  await assert.rejects(emptyDir.setUp(aContext(dir.path), MEMORY, signal), Failure);
  await emptyDir.tearDown(aContext(dir.path), DISK, signal);
  assert.ok(existsSync('/etc/passwd'));
});

function sizeOf(path: string): number {
  const { bsize, blocks } = statfsSync(path);
  return bsize * blocks;
}

test('in memory: a tmpfs of the least size that is set anywhere', async () => {
  using dir = scratch();
  const limits = { memory: '8Mi' };
  const limited = aPod({ containers: [aContainer({ resources: { requests: {}, limits } })] });
  for (const [name, sizeLimit, pod, memoryBytes, wantedBytes] of [
    ['a', '4Mi', limited, 16 * MIB, 4 * MIB],
    ['b', '12Mi', limited, 16 * MIB, 8 * MIB],
    ['c', '64Mi', aPod(), 16 * MIB, 16 * MIB],
  ] as const) {
    const volume = { ...MEMORY, name, sizeLimit };
    const where = aContext(dir.path, { pod, allocatable: { cpuMilli: 1000, memoryBytes } });
    const { hostPath } = await emptyDir.setUp(where, volume, signal);
    assert.equal(modeOf(hostPath), '777');
    assert.equal(sizeOf(hostPath), wantedBytes, name);
    const entry = mounts().find(({ mountPoint }) => mountPoint === hostPath);
    assert.equal(entry?.fsType, 'tmpfs');
    assert.throws(
      () => writeFileSync(join(hostPath, 'too-much'), Buffer.alloc(wantedBytes + 1)),
      /ENOSPC/,
    );
    await emptyDir.tearDown(where, volume, signal);
    assert.equal(existsSync(hostPath), false);
  }
});

test('in memory: what an agent before us mounted stays, with its content', async () => {
  using dir = scratch();
  const { hostPath } = await emptyDir.setUp(aContext(dir.path), MEMORY, signal);
  writeFileSync(join(hostPath, 'state'), 'x');
  const id = () => mounts().filter(({ mountPoint }) => mountPoint === hostPath);
  const before = id();
  await emptyDir.setUp(aContext(dir.path), { ...MEMORY, sizeLimit: '1Mi' }, signal);
  assert.deepEqual(id(), before);
  assert.ok(existsSync(join(hostPath, 'state')));
});

test('in memory: what is mounted in its place by others is neither used nor removed', async () => {
  using dir = scratch();
  const place = join(dir.path, PLACE, 'v');
  mkdirSync(place, { recursive: true });
  mkdirSync(join(dir.path, 'other'));
  writeFileSync(join(dir.path, 'other/data'), 'x');
  bindAt(join(dir.path, 'other'), place);
  await assert.rejects(
    emptyDir.setUp(aContext(dir.path), MEMORY, signal),
    (error) => error instanceof Failure && /is mounted at .* unmount it/.test(error.message),
  );
  await assert.rejects(emptyDir.tearDown(aContext(dir.path), MEMORY, signal), Failure);
  assert.ok(existsSync(join(dir.path, 'other/data')));
});

test('a tree that a container made as nasty as it could', async () => {
  using dir = scratch();
  const { hostPath } = await emptyDir.setUp(aContext(dir.path), DISK, signal);
  // Deeper than a path can be long, names that are no UTF-8, nothing writable.
  const before = process.cwd();
  process.chdir(hostPath);
  for (let i = 0; i < 1500; i++) {
    mkdirSync('deep-deep');
    process.chdir('deep-deep');
  }
  process.chdir(before);
  mkdirSync(Buffer.concat([Buffer.from(`${hostPath}/`), Buffer.from([0xff, 0xfe])]));
  mkdirSync(join(hostPath, 'locked/in'), { recursive: true });
  writeFileSync(join(hostPath, 'locked/in/file'), 'x', { mode: 0 });
  chmodSync(join(hostPath, 'locked'), 0);
  await emptyDir.tearDown(aContext(dir.path), DISK, signal);
  assert.equal(existsSync(hostPath), false);
});
