/** Sharing, giving up and falling back of pulls; the pulls themselves are in test/node. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createImages } from '../../src/agent/images.ts';
import type { PullRecord, PullRecords } from '../../src/agent/images.ts';
import { pullRecords } from '../../src/agent/pull-records.ts';
import { createSlots } from '../../src/agent/slots.ts';
import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import type { Image, ImageService } from '../../src/kube/cri.ts';

type Registry = {
  readonly service: ImageService;
  readonly local: Map<string, Image>;
  readonly pulls: string[];
  /** How the next pulls end. */
  answer: (name: string, signal: AbortSignal) => Promise<void>;
};

function image(name: string): Image {
  return {
    id: `sha256:${name}`,
    repoTags: [name],
    repoDigests: [],
    size: 1,
    username: '',
    pinned: false,
  };
}

function registry(...present: readonly string[]): Registry {
  const local = new Map(present.map((name) => [name, image(name)]));
  const self: Registry = {
    local,
    pulls: [],
    answer: () => Promise.resolve(),
    service: {
      imageStatus: (name) => Promise.resolve(local.get(name)),
      pullImage: async (name, _sandbox, auth, signal) => {
        self.pulls.push(auth === undefined ? name : `${name} as ${auth.username}`);
        await self.answer(name, signal);
        local.set(name, image(name));
        return `sha256:${name}`;
      },
      listImages: () => Promise.resolve([...local.values()]),
      removeImage: (name) => Promise.resolve(void local.delete(name)),
    },
  };
  return self;
}

/** The real ones, in a store of its own; `synced` are the images that were. */
function records(...begun: readonly PullRecord[]): PullRecords & { readonly synced: string[] } {
  const rows = new Map<string, string>();
  const synced: string[] = [];
  const store = {
    meta: (key: string) => rows.get(key),
    setMeta: (key: string, value: string | undefined) =>
      void (value === undefined ? rows.delete(key) : rows.set(key, value)),
  };
  const kept = pullRecords(store, (name) => Promise.resolve(void synced.push(name)));
  for (const record of begun) kept.begin(record);
  return { ...kept, synced };
}

/** A pull that an earlier boot, or an earlier life of the agent, did not see the end of. */
function begun(name: string, boot: string, ...before: readonly string[]): PullRecord {
  return { name, boot, before: before.map((other) => `sha256:${other}`) };
}

function imagesOf({ service }: Registry, kept = records()) {
  const clock = systemClock('boot', () => 0);
  return createImages({ service, slots: createSlots(2), clock, records: kept });
}

const never = new AbortController().signal;
const offline = () => Promise.reject(new Failure('Unavailable', 'no route to host'));

test('an image that is here is not pulled', async () => {
  const here = registry('a');
  const { note } = await imagesOf(here).ensure('a', 'IfNotPresent', 0, never);
  assert.deepEqual(here.pulls, []);
  assert.match(note, /already present on machine/);
});

test('pods with other credentials do not share a pull', async () => {
  const here = registry();
  const images = imagesOf(here);
  const as = (username: string) => () => [{ username, password: 'p' }];
  here.answer = async () => await new Promise((resolve) => setImmediate(resolve));
  await Promise.all([
    images.ensure('a', 'IfNotPresent', 0, never, as('u')),
    images.ensure('a', 'IfNotPresent', 1, never, as('u')),
    images.ensure('a', 'IfNotPresent', 2, never, as('v')),
    images.ensure('a', 'IfNotPresent', 3, never),
  ]);
  assert.deepEqual(here.pulls.toSorted(), ['a', 'a as u', 'a as v']);
});

test('credentials are tried in their order, and asked for only when there is something to pull', async () => {
  const here = registry('b');
  const images = imagesOf(here);
  const auths = ['u', 'v', 'w'].map((username) => ({ username, password: 'p' }));
  const refuse = () => Promise.reject(new Failure('PermissionDenied', 'denied'));
  here.answer = () => (here.pulls.at(-1) === 'a as v' ? Promise.resolve() : refuse());
  await images.ensure('a', 'IfNotPresent', 0, never, () => auths);
  assert.deepEqual(here.pulls, ['a as u', 'a as v']);
  here.answer = refuse;
  await assert.rejects(
    images.ensure('c', 'IfNotPresent', 0, never, () => auths),
    { code: 'PermissionDenied', message: '[denied]' },
  );
  const unknown = () => {
    throw new Failure('Unavailable', 'not heard of the secret');
  };
  await images.ensure('b', 'IfNotPresent', 0, never, unknown);
  await assert.rejects(images.ensure('d', 'IfNotPresent', 0, never, unknown), /not heard/);
});

test('one pull serves all who wait for it', async () => {
  const here = registry();
  const images = imagesOf(here);
  const all = await Promise.all(
    Array.from({ length: 5 }, () => images.ensure('a', 'IfNotPresent', 0, never)),
  );
  assert.deepEqual(here.pulls, ['a']);
  assert.deepEqual(new Set(all.map(({ image: { id } }) => id)), new Set(['sha256:a']));
});

test('a pull goes on while one still waits, and ends with the last', async () => {
  const here = registry();
  let given: AbortSignal | undefined;
  here.answer = (_name, signal) =>
    new Promise((_, reject) => {
      given = signal;
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  const images = imagesOf(here);
  const [one, two] = [new AbortController(), new AbortController()];
  const first = images.ensure('a', 'IfNotPresent', 0, one.signal);
  const second = images.ensure('a', 'IfNotPresent', 0, two.signal);
  await new Promise((resolve) => setImmediate(resolve));
  one.abort(new Error('first gave up'));
  await assert.rejects(first, /first gave up/);
  assert.equal(given?.aborted, false);
  two.abort(new Error('second gave up'));
  await assert.rejects(second, /second gave up/);
  assert.equal(given?.aborted, true);
});

test('Never does not pull', async () => {
  const here = registry();
  await assert.rejects(imagesOf(here).ensure('a', 'Never', 0, never), (error: Failure) => {
    assert.equal(error.reason, 'ErrImageNeverPull');
    return true;
  });
  assert.deepEqual(here.pulls, []);
});

test('Always pulls, but offline the copy at hand is used', async () => {
  const here = registry('a');
  const images = imagesOf(here);
  await images.ensure('a', 'Always', 0, never);
  assert.deepEqual(here.pulls, ['a']);
  here.answer = offline;
  const { image: copy, note } = await images.ensure('a', 'Always', 0, never);
  assert.equal(copy.id, 'sha256:a');
  assert.match(note, /could not be pulled: no route to host/);
});

test('without a copy a failed pull fails, in the words of the kubelet', async () => {
  const here = registry();
  here.answer = offline;
  await assert.rejects(imagesOf(here).ensure('a', 'Always', 0, never), (error: Failure) => {
    assert.equal(error.reason, 'ErrImagePull');
    assert.match(error.message, /no route to host/);
    return true;
  });
});

test('an image whose pull was cut short is removed, as its files may be empty', async () => {
  const here = registry('a', 'b');
  const kept = records(begun('a', 'the boot before', 'b'));
  assert.deepEqual(await imagesOf(here, kept).repair(never), ['a']);
  assert.deepEqual([...here.local.keys()], ['b']);
  assert.deepEqual(kept.unfinished(), []);
});

test('what was there before a pull that was cut short stays, under whatever name', async () => {
  const here = registry('a', 'b');
  here.local.set('c', image('b'));
  const kept = records(begun('a', 'the boot before', 'a', 'b'), begun('c', 'the boot before', 'b'));
  assert.deepEqual(await imagesOf(here, kept).repair(never), []);
  assert.deepEqual([...here.local.keys()], ['a', 'b', 'c']);
  assert.deepEqual(kept.unfinished(), []);
});

test('an image that became whole under another name meanwhile stays', async () => {
  const here = registry();
  here.local.set('a', image('x')).set('b', image('x'));
  const kept = records(begun('a', 'boot'), begun('b', 'boot'));
  await imagesOf(here, kept).ensure('a', 'IfNotPresent', 0, never);
  assert.deepEqual(kept.unfinished(), [begun('b', 'boot', 'x')]);
  const later = records(...kept.unfinished().map((one) => ({ ...one, boot: 'the boot before' })));
  assert.deepEqual(await imagesOf(here, later).repair(never), []);
  assert.deepEqual([...here.local.keys()], ['a', 'b']);
});

test('what is no record in the store does no harm', () => {
  for (const text of ['["a"]', '{', 'null', '[null, 1, {"name":"a","boot":"b"}]']) {
    const { unfinished } = pullRecords({ meta: () => text, setMeta: () => undefined });
    assert.deepEqual(unfinished(), []);
  }
});

test('in the same boot nothing is lost: what was pulled is synced', async () => {
  const here = registry('a');
  const kept = records(begun('a', 'boot'), begun('b', 'boot'));
  assert.deepEqual(await imagesOf(here, kept).repair(never), []);
  assert.deepEqual([...here.local.keys()], ['a']);
  assert.deepEqual([kept.synced, kept.unfinished()], [['a'], []]);
});

test('a pull that failed leaves nothing to repair, also of the copy at hand', async () => {
  const here = registry('a');
  const kept = records();
  here.answer = () => Promise.reject(new Failure('Unknown', 'failed to resolve reference'));
  await imagesOf(here, kept).ensure('a', 'Always', 0, never);
  await assert.rejects(imagesOf(here, kept).ensure('b', 'IfNotPresent', 0, never));
  assert.deepEqual(kept.unfinished(), []);
});

test('a pull that may still go on stays on record, and is synced when its image is used', async () => {
  const here = registry('x');
  const kept = records();
  here.answer = offline;
  await assert.rejects(imagesOf(here, kept).ensure('a', 'IfNotPresent', 0, never));
  assert.deepEqual(kept.unfinished(), [begun('a', 'boot', 'x')]);
  here.local.set('a', image('a'));
  await imagesOf(here, kept).ensure('a', 'IfNotPresent', 0, never);
  assert.deepEqual([kept.synced, kept.unfinished()], [['a'], []]);
});

test('a pull that has begun meanwhile keeps its record', async () => {
  const here = registry();
  const kept = records(begun('a', 'the boot before'));
  let answer = (): void => undefined;
  here.answer = () => new Promise((resolve) => (answer = resolve));
  const { imageStatus } = here.service;
  let pulling: Promise<unknown> | undefined;
  const slow: ImageService = {
    ...here.service,
    imageStatus: async (name, signal) => {
      const found = await imageStatus(name, signal);
      if (pulling === undefined) {
        // What somebody else wants while the repair waits for this answer.
        pulling = images.ensure('a', 'IfNotPresent', 0, never);
        while (here.pulls.length === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      return found;
    },
  };
  const images = imagesOf({ ...here, service: slow }, kept);
  await images.repair(never);
  assert.deepEqual(
    kept.unfinished().map(({ name }) => name),
    ['a'],
  );
  answer();
  await pulling;
  assert.deepEqual(kept.unfinished(), []);
});

test('a pull is on record from before it begins until it is safe', async () => {
  const here = registry();
  const kept = records();
  here.answer = () => {
    assert.deepEqual(kept.unfinished(), [begun('a', 'boot')]);
    return Promise.resolve();
  };
  await imagesOf(here, kept).ensure('a', 'IfNotPresent', 0, never);
  assert.deepEqual(kept.unfinished(), []);
});
