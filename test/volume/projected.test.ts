import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure, type FailureCode } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import type { TokenRequest } from '../../src/kube/objects.ts';
import type { Pod, Volume } from '../../src/kube/pod.ts';
import { mounts } from '../../src/linux/proc.ts';
import { setUpVolume, tearDownVolume } from '../../src/volume/index.ts';
import type { VolumeContext } from '../../src/volume/plugin.ts';
import { aConfigMap, aSecret, objectsOfTest } from '../kube/objects-of.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';
import { aContext } from './a-context.ts';
import { bindAt, scratch } from './scratch.ts';

const signal = AbortSignal.timeout(120_000);
const ALL = { items: [], optional: false } as const;
const SECRET: Volume = {
  name: 'v',
  kind: 'secret',
  objectName: 'login',
  ...ALL,
  defaultMode: 0o644,
};
const TOKEN = {
  kind: 'serviceAccountToken',
  audience: 'vault',
  expirationSeconds: 3600,
  path: 'token',
} as const;
const API_ACCESS: Volume = {
  name: 'v',
  kind: 'projected',
  sources: [
    TOKEN,
    { kind: 'configMap', objectName: 'kube-root-ca.crt', ...ALL },
    {
      kind: 'downwardAPI',
      items: [{ path: 'namespace', from: { kind: 'fieldRef', fieldPath: 'metadata.namespace' } }],
    },
  ],
  defaultMode: 0o644,
};
const CA = aConfigMap('kube-root-ca.crt', { 'ca.crt': '-----BEGIN' });

const logins = (data: Record<string, string | Buffer>) =>
  objectsOfTest({ secrets: [aSecret('login', data)] });
const read = (path: string, name: string) => readFileSync(join(path, name), 'utf8');
const modeOf = (path: string) => (statSync(path).mode & 0o7777).toString(8);

async function failure(context: VolumeContext, volume: Volume): Promise<[FailureCode, string]> {
  const error: unknown = await setUpVolume(context, volume, signal).then(
    () => assert.fail('it was set up'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Failure, String(error));
  return [error.code, error.message];
}

test('what a pod of the API server gets to speak with it', async () => {
  using dir = scratch();
  const asked: TokenRequest[] = [];
  const pod = aPod({ serviceAccountName: 'robot' });
  const context = aContext(dir.path, {
    pod,
    objects: objectsOfTest({ configMaps: [CA] }),
    token: (request) => {
      asked.push(request);
      return Promise.resolve({ token: 'ey.x', expiresAtMs: 1234 });
    },
  });
  const ready = await setUpVolume(context, API_ACCESS, signal);
  assert.equal(ready.expiresAtMs, 1234);
  const { hostPath } = ready;
  assert.equal(hostPath, join(dir.path, 'pods/1f0a-22/volumes/kubernetes.io~projected/v'));
  const names = readdirSync(hostPath).filter((name) => !name.startsWith('..'));
  assert.deepEqual(names.sort(), ['ca.crt', 'namespace', 'token']);
  assert.equal(read(hostPath, 'token'), 'ey.x');
  assert.equal(read(hostPath, 'ca.crt'), '-----BEGIN');
  assert.equal(read(hostPath, 'namespace'), 'default');
  assert.equal(modeOf(hostPath), '1777');
  assert.equal(modeOf(join(hostPath, 'token')), '644');
  assert.deepEqual(asked, [
    {
      namespace: 'default',
      serviceAccountName: 'robot',
      audiences: ['vault'],
      expirationSeconds: 3600,
      boundPod: { name: 'shop', uid: '1f0a-22' },
    },
  ]);
});

test('files change with their objects, and only then', async () => {
  using dir = scratch();
  const context = aContext(dir.path, { objects: logins({ user: 'me', old: 'x' }) });
  const { hostPath } = await setUpVolume(context, SECRET, signal);
  const generation = readlinkSync(join(hostPath, '..data'));
  const later = { ...context, wallMs: context.wallMs + 60_000 };
  await setUpVolume(later, SECRET, signal);
  assert.equal(readlinkSync(join(hostPath, '..data')), generation, 'nothing has changed');
  await setUpVolume({ ...later, objects: logins({ user: 'you', new: 'y' }) }, SECRET, signal);
  assert.notEqual(readlinkSync(join(hostPath, '..data')), generation);
  assert.equal(read(hostPath, 'user'), 'you');
  assert.equal(read(hostPath, 'new'), 'y');
  assert.equal(existsSync(join(hostPath, 'old')), false);
  assert.equal(mounts().filter(({ mountPoint }) => mountPoint === hostPath).length, 1);
});

test('what is missing begins nothing, and takes nothing away', async () => {
  using dir = scratch();
  const context = aContext(dir.path, { objects: objectsOfTest({}) });
  assert.deepEqual(await failure(context, SECRET), ['NotFound', 'secret "login" not found']);
  assert.deepEqual(readdirSync(dir.path), [], 'not even a directory');
  const { hostPath } = await setUpVolume(
    { ...context, objects: logins({ user: 'me' }) },
    SECRET,
    signal,
  );
  const unheard = objectsOfTest({ otherwise: 'unknown' });
  for (const [objects, code] of [
    [objectsOfTest({}), 'NotFound'],
    [unheard, 'Unavailable'],
    [logins({ user: 'x'.repeat(LIMITS.objectBytes + 1) }), 'Unknown'],
  ] as const) {
    assert.equal((await failure({ ...context, objects }, SECRET))[0], code);
    assert.equal(read(hostPath, 'user'), 'me');
  }
  const optional = { ...SECRET, optional: true };
  await setUpVolume({ ...context, objects: objectsOfTest({}) }, optional, signal);
  assert.deepEqual(
    readdirSync(hostPath).filter((name) => !name.startsWith('..')),
    [],
    'an optional one that is gone is empty',
  );
  assert.equal((await failure({ ...context, objects: unheard }, optional))[0], 'Unavailable');
});

test('a token that can not be had begins nothing', async () => {
  using dir = scratch();
  const context = aContext(dir.path, {
    objects: objectsOfTest({ configMaps: [CA] }),
    token: () => Promise.reject(new Failure('Unavailable', 'nobody is there')),
  });
  assert.deepEqual(await failure(context, API_ACCESS), ['Unavailable', 'nobody is there']);
  assert.deepEqual(readdirSync(dir.path), []);
});

test('fsGroup and the user of the pod', async () => {
  using dir = scratch();
  const objects = objectsOfTest({ configMaps: [CA], secrets: [aSecret('login', { user: 'me' })] });
  const facts = async (securityContext: Pod['spec']['securityContext'], podUid: string) => {
    const pod = aPod({ securityContext });
    const context = aContext(dir.path, { pod, podUid, objects });
    const { hostPath } = await setUpVolume(context, API_ACCESS, signal);
    return ['.', 'token', 'ca.crt'].map((name) => {
      const { uid, gid } = statSync(join(hostPath, name));
      return `${modeOf(join(hostPath, name))} ${uid}:${gid}`;
    });
  };
  assert.deepEqual(await facts({ fsGroup: 50 }, 'a'), ['3777 0:50', '640 0:50', '644 0:50']);
  assert.deepEqual(await facts({ runAsUser: 60 }, 'b'), ['1777 0:0', '600 60:0', '644 0:0']);
  const both = { fsGroup: 50, runAsUser: 60 };
  assert.deepEqual(await facts(both, 'c'), ['3777 0:50', '640 60:50', '644 0:50']);
});

test('other volumes can be mounted into one', async () => {
  using dir = scratch();
  const mount = (name: string, mountPath: string) => ({ name, mountPath, readOnly: false });
  const container = aContainer({
    volumeMounts: [mount('v', '/etc/app'), mount('x', '/etc/app/cache/deep')],
  });
  const context = aContext(dir.path, {
    pod: aPod({ containers: [container] }),
    objects: logins({ user: 'me' }),
  });
  const { hostPath } = await setUpVolume(context, SECRET, signal);
  assert.ok(statSync(join(hostPath, 'cache/deep')).isDirectory());
  await setUpVolume({ ...context, objects: logins({ user: 'you' }) }, SECRET, signal);
  assert.ok(statSync(join(hostPath, 'cache/deep')).isDirectory());
  assert.equal(read(hostPath, 'user'), 'you');
});

test('its memory is limited, and what does not fit leaves the old files', async () => {
  using dir = scratch();
  const context = aContext(dir.path, { objects: logins({ user: 'me' }) });
  const { hostPath } = await setUpVolume(context, SECRET, signal);
  const { bsize, blocks } = statfsSync(hostPath);
  assert.equal(bsize * blocks, LIMITS.volumeSourceBytes);
  writeFileSync(join(hostPath, 'filler'), Buffer.alloc(LIMITS.volumeSourceBytes - 64 * 1024));
  const large = logins({ user: 'x'.repeat(LIMITS.objectBytes) });
  assert.equal((await failure({ ...context, objects: large }, SECRET))[0], 'NoSpace');
  assert.equal(read(hostPath, 'user'), 'me');
});

test('the largest object that may be is replaced by another one', async () => {
  using dir = scratch();
  const objects = (byte: string) => logins({ big: byte.repeat(LIMITS.objectBytes) });
  const context = aContext(dir.path, { objects: objects('a') });
  const { hostPath } = await setUpVolume(context, SECRET, signal);
  await setUpVolume({ ...context, objects: objects('b') }, SECRET, signal);
  assert.equal(read(hostPath, 'big').length, LIMITS.objectBytes);
  assert.equal(read(hostPath, 'big')[0], 'b');
});

test('no secret is on a file system that has a disk', async () => {
  using dir = scratch();
  const root = join(dir.path, 'root');
  const below = join(dir.path, 'below');
  mkdirSync(root);
  mkdirSync(below);
  // Shows what is on the disk itself, under whatever is mounted on it.
  bindAt(root, below);
  const canary = (n: number) => `canary-${n}-${'c'.repeat(30)}`;
  const objects = (n: number) =>
    objectsOfTest({
      configMaps: [aConfigMap('kube-root-ca.crt', { 'ca.crt': canary(n) })],
      secrets: [aSecret('login', { password: canary(n) })],
    });
  const context = (n: number) =>
    aContext(root, {
      objects: objects(n),
      token: () => Promise.resolve({ token: canary(n), expiresAtMs: 1 }),
    });
  const map: Volume = {
    name: 'm',
    kind: 'configMap',
    objectName: 'kube-root-ca.crt',
    ...ALL,
    defaultMode: 0o644,
  };
  const onDisk = () =>
    execFileSync('grep', ['-r', '-a', '-c', 'canary', below], { encoding: 'utf8' });
  for (const n of [1, 2, 3]) {
    for (const volume of [SECRET, API_ACCESS, map]) {
      const { hostPath } = await setUpVolume(context(n), volume, signal);
      assert.match(
        execFileSync('grep', ['-r', canary(n), hostPath], { encoding: 'utf8' }),
        /canary/,
      );
      assert.throws(onDisk, /Command failed/, 'grep found it');
    }
  }
  assert.equal(execFileSync('find', [below, '-type', 'f'], { encoding: 'utf8' }), '');
  for (const volume of [SECRET, API_ACCESS, map]) {
    await tearDownVolume(context(3), volume, signal);
  }
  assert.throws(onDisk, /Command failed/);
});
