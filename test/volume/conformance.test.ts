/** What holds for every kind of volume. A new kind does not compile here without its fixture. */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import type { Volume } from '../../src/kube/pod.ts';
import { isMountPoint, mountsBelow } from '../../src/linux/proc.ts';
import { VOLUMES, setUpVolume, tearDownLeftovers, tearDownVolume } from '../../src/volume/index.ts';
import type { VolumeContext } from '../../src/volume/plugin.ts';
import { aConfigMap, aSecret, objectsOfTest } from '../kube/objects-of.ts';
import { aContext } from './a-context.ts';
import { bindAt, mountTmpfsAt, scratch } from './scratch.ts';

type Fixture = {
  readonly name: string;
  readonly volume: (path: string) => Volume;
  /** It lies in the pod's directory, and what is in it goes with it. */
  readonly owned: boolean;
  /** It is a mount of its own, and a mount can be in use. */
  readonly mounted: boolean;
};

const ALL = { items: [], optional: false, defaultMode: 0o644 } as const;

const FIXTURES: { readonly [K in Volume['kind']]: readonly Fixture[] } = {
  emptyDir: [
    {
      name: 'emptyDir on disk',
      volume: () => ({ name: 'v', kind: 'emptyDir', medium: '' }),
      owned: true,
      mounted: false,
    },
    {
      name: 'emptyDir in memory',
      volume: () => ({ name: 'v', kind: 'emptyDir', medium: 'Memory', sizeLimit: '1Mi' }),
      owned: true,
      mounted: true,
    },
  ],
  hostPath: [
    {
      name: 'hostPath',
      volume: (path) => ({
        name: 'v',
        kind: 'hostPath',
        path: join(path, 'host'),
        type: 'DirectoryOrCreate',
      }),
      owned: false,
      mounted: false,
    },
  ],
  configMap: [
    {
      name: 'configMap',
      volume: () => ({ name: 'v', kind: 'configMap', objectName: 'settings', ...ALL }),
      owned: true,
      mounted: true,
    },
  ],
  secret: [
    {
      name: 'secret',
      volume: () => ({ name: 'v', kind: 'secret', objectName: 'login', ...ALL }),
      owned: true,
      mounted: true,
    },
  ],
  downwardAPI: [
    {
      name: 'downwardAPI',
      volume: () => ({
        name: 'v',
        kind: 'downwardAPI',
        items: [{ path: 'of/pod', from: { kind: 'fieldRef', fieldPath: 'metadata.name' } }],
        defaultMode: 0o644,
      }),
      owned: true,
      mounted: true,
    },
  ],
  projected: [
    {
      name: 'projected',
      volume: () => ({
        name: 'v',
        kind: 'projected',
        sources: [
          { kind: 'secret', objectName: 'login', ...ALL },
          { kind: 'serviceAccountToken', audience: '', expirationSeconds: 3600, path: 'token' },
        ],
        defaultMode: 0o644,
      }),
      owned: true,
      mounted: true,
    },
  ],
};

const signal = AbortSignal.timeout(120_000);

function contextIn(path: string): VolumeContext {
  return aContext(join(path, 'root'), {
    objects: objectsOfTest({
      configMaps: [aConfigMap('settings', { color: 'red' })],
      secrets: [aSecret('login', { user: 'me', password: 'p' })],
    }),
  });
}

function secrets(path: string): string {
  const outside = join(path, 'outside');
  mkdirSync(join(outside, 'deep/er'), { recursive: true });
  writeFileSync(join(outside, 'deep/er/precious'), 'do not lose me');
  return outside;
}

const all = Object.values(FIXTURES).flat();
assert.deepEqual(Object.keys(FIXTURES).sort(), Object.keys(VOLUMES).sort());
for (const [kind, plugin] of Object.entries(VOLUMES)) assert.equal(plugin.kind, kind);

for (const { name, volume: make, owned, mounted } of all) {
  function begin(path: string) {
    mkdirSync(join(path, 'root'));
    return { context: contextIn(path), volume: make(path) };
  }

  test(`${name}: set up twice is one volume, torn down twice is gone`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    const first = await setUpVolume(context, volume, signal);
    const { hostPath } = first;
    writeFileSync(join(hostPath, 'kept'), 'yes');
    const mountsBefore = mountsBelow(dir.path).length;
    assert.deepEqual(await setUpVolume(context, volume, signal), first);
    assert.equal(readFileSync(join(hostPath, 'kept'), 'utf8'), 'yes');
    assert.equal(mountsBelow(dir.path).length, mountsBefore, 'it was mounted again');
    await tearDownVolume(context, volume, signal);
    await tearDownVolume(context, volume, signal);
    assert.equal(existsSync(join(hostPath, 'kept')), !owned);
    assert.equal(existsSync(hostPath), !owned);
    assert.deepEqual(mountsBelow(dir.path), []);
  });

  test(`${name}: two at once are one volume`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    const [one, two] = await Promise.allSettled([
      setUpVolume(context, volume, signal),
      setUpVolume(context, volume, signal),
    ]);
    assert.ok(one.status === 'fulfilled' || two.status === 'fulfilled');
    const { hostPath } = await setUpVolume(context, volume, signal);
    assert.ok(statSync(hostPath).isDirectory());
    await tearDownVolume(context, volume, signal);
    assert.deepEqual(mountsBelow(dir.path), []);
  });

  test(`${name}: teardown of what was never set up`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    await tearDownVolume(context, volume, signal);
    assert.deepEqual(readdirSync(join(dir.path, 'root')), []);
  });

  test(`${name}: given up in the middle, it can be set up and torn down`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    for (const ms of [0, 1, 2, 4, 8]) {
      await setUpVolume(context, volume, AbortSignal.timeout(ms)).catch((error: unknown) => {
        assert.ok(error instanceof Failure, String(error));
      });
      const { hostPath } = await setUpVolume(context, volume, signal);
      writeFileSync(join(hostPath, 'file'), 'x');
      await tearDownVolume(context, volume, AbortSignal.timeout(ms)).catch((error: unknown) => {
        assert.ok(error instanceof Failure, String(error));
      });
      await tearDownVolume(context, volume, signal);
      assert.equal(existsSync(hostPath), !owned);
    }
  });

  test(`${name}: teardown follows no link that a container planted`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    const outside = secrets(dir.path);
    const { hostPath } = await setUpVolume(context, volume, signal);
    symlinkSync(outside, join(hostPath, 'link'));
    symlinkSync('/', join(hostPath, 'slash'));
    symlinkSync('../../../../..', join(hostPath, 'up'));
    mkdirSync(join(hostPath, 'a/b'), { recursive: true });
    symlinkSync(join(outside, 'deep'), join(hostPath, 'a/b/deep'));
    symlinkSync(join(outside, 'deep/er/precious'), join(hostPath, 'a/b/file'));
    await tearDownVolume(context, volume, signal);
    assert.equal(readFileSync(join(outside, 'deep/er/precious'), 'utf8'), 'do not lose me');
    assert.equal(existsSync(hostPath), !owned);
  });

  test(`${name}: what is mounted inside stops the teardown, and stays whole`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    const outside = secrets(dir.path);
    const { hostPath } = await setUpVolume(context, volume, signal);
    mkdirSync(join(hostPath, 'bound'));
    bindAt(outside, join(hostPath, 'bound'));
    mkdirSync(join(hostPath, 'tmpfs'));
    mountTmpfsAt(join(hostPath, 'tmpfs'));
    writeFileSync(join(hostPath, 'tmpfs/data'), 'still here');
    if (owned) {
      await assert.rejects(tearDownVolume(context, volume, signal), (error) => {
        assert.ok(error instanceof Failure);
        assert.ok(error.message.includes(hostPath), error.message);
        return true;
      });
    } else {
      await tearDownVolume(context, volume, signal);
    }
    assert.equal(readFileSync(join(outside, 'deep/er/precious'), 'utf8'), 'do not lose me');
    assert.equal(readFileSync(join(hostPath, 'tmpfs/data'), 'utf8'), 'still here');
    assert.ok(isMountPoint(join(hostPath, 'bound')));
  });

  async function inUse() {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    const { hostPath } = await setUpVolume(context, volume, signal);
    assert.ok(isMountPoint(hostPath));
    process.chdir(hostPath);
    try {
      writeFileSync(join(hostPath, 'data'), 'x');
      await assert.rejects(tearDownVolume(context, volume, signal), (error) => {
        assert.ok(error instanceof Failure && error.code === 'Unavailable', String(error));
        assert.match(error.message, /busy/);
        return true;
      });
      assert.ok(existsSync(join(hostPath, 'data')));
    } finally {
      process.chdir('/');
    }
    await tearDownVolume(context, volume, signal);
    assert.equal(existsSync(hostPath), false);
  }
  if (mounted) test(`${name}: in use, it is not lost`, inUse);

  test(`${name}: the leftovers of a forgotten pod are found and taken away`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    const outside = secrets(dir.path);
    const { hostPath } = await setUpVolume(context, volume, signal);
    symlinkSync(outside, join(hostPath, 'link'));
    const { rootDirectory, podUid } = context;
    await tearDownLeftovers({ rootDirectory, podUid }, signal);
    await tearDownLeftovers({ rootDirectory, podUid }, signal);
    assert.equal(existsSync(hostPath), !owned);
    assert.deepEqual(mountsBelow(dir.path), []);
    assert.ok(existsSync(join(outside, 'deep/er/precious')));
  });

  test(`${name}: the root may be reached through a link, a part below it may not`, async () => {
    using dir = scratch();
    const { context, volume } = begin(dir.path);
    symlinkSync(join(dir.path, 'root'), join(dir.path, 'by-link'));
    const linked = { ...context, rootDirectory: join(dir.path, 'by-link') };
    const { hostPath } = await setUpVolume(linked, volume, signal);
    assert.equal((await setUpVolume(context, volume, signal)).hostPath, hostPath);
    assert.ok(mountsBelow(dir.path).length <= 1);
    await tearDownVolume(linked, volume, signal);
    assert.equal(existsSync(hostPath), !owned);
    if (!owned) return;
    const outside = secrets(dir.path);
    rmSync(join(dir.path, 'root/pods'), { recursive: true });
    symlinkSync(outside, join(dir.path, 'root/pods'));
    await assert.rejects(setUpVolume(context, volume, signal), Failure);
    await assert.rejects(tearDownVolume(context, volume, signal), Failure);
    assert.deepEqual(readdirSync(outside), ['deep']);
  });

  for (const podUid of owned ? ['..', '../../etc', 'a/b', ''] : []) {
    test(`${name}: the uid ${JSON.stringify(podUid)} leads nowhere`, async () => {
      using dir = scratch();
      const { context, volume } = begin(dir.path);
      const wrong = { ...context, podUid };
      await assert.rejects(setUpVolume(wrong, volume, signal), Failure);
      await assert.rejects(tearDownVolume(wrong, volume, signal), Failure);
      assert.deepEqual(readdirSync(join(dir.path, 'root')), []);
    });
  }
}
