/** The manifest directory with real files, real inotify and real time. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, openSync, closeSync, writeSync } from 'node:fs';
import {
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
} from 'node:fs';
import { utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test, type TestContext } from 'node:test';

import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { createLog } from '../../src/base/log.ts';
import type { Pod } from '../../src/kube/pod.ts';
import {
  watchManifests,
  type ManifestOptions,
  type ManifestsResult,
} from '../../src/source/manifest-directory.ts';

const QUIET_MS = 300;

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-manifests-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const manifest = (name: string, image = 'i') => `apiVersion: v1
kind: Pod
metadata:
  name: ${name}
spec:
  containers:
  - name: first
    image: ${image}
  - name: second
    image: ${image}
`;

const LONG_AGO = new Date('2020-01-01T00:00:00Z');

/** A watched directory; `until` waits for a result that is as it should be. */
function watched(t: TestContext, directory: string, options: Partial<ManifestOptions> = {}) {
  const stop = new AbortController();
  const results: ManifestsResult[] = [];
  const lines: string[] = [];
  let news = Promise.withResolvers<void>();
  const done = watchManifests(directory, {
    clock: systemClock('boot', () => 0),
    log: createLog('warn', (line) => lines.push(line)),
    nodeName: 'pi',
    signal: stop.signal,
    quietMs: QUIET_MS,
    rescanMs: 60_000,
    onChange: (result) => {
      results.push(result);
      news.resolve();
      news = Promise.withResolvers();
    },
    ...options,
  });
  t.after(async () => {
    stop.abort();
    await done;
  });
  const until = async (want: (result: ManifestsResult) => boolean): Promise<ManifestsResult> => {
    const deadline = performance.now() + 15_000;
    for (;;) {
      const last = results.at(-1);
      if (last !== undefined && want(last)) return last;
      const left = deadline - performance.now();
      if (left < 0) throw new Error(`not seen; last result: ${JSON.stringify(last)}`);
      await Promise.race([news.promise, sleep(left, undefined, { ref: false })]);
    }
  };
  return { results, lines, until, stop, done };
}

const namesOf = ({ pods }: ManifestsResult) => pods.map(({ metadata }) => metadata.name);
const imagesOf = ({ pods }: ManifestsResult) => pods.map(({ spec }) => spec.containers[0]!.image);

function unlinkIfThere(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

// Most of it is waiting: side by side.
describe('the manifest directory', { concurrency: 8 }, () => {
  test('pods come and go with their files; dotfiles are not looked at', async (t) => {
    const directory = scratch(t);
    writeFileSync(join(directory, 'b.yaml'), manifest('b'));
    writeFileSync(
      join(directory, 'a.json'),
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'a' },
        spec: { containers: [{ name: 'c', image: 'i' }] },
      }),
    );
    writeFileSync(join(directory, '.hidden.yaml'), 'no manifest');
    const { until, results } = watched(t, directory);
    const first = await until(({ pods }) => pods.length === 2);
    assert.deepEqual(first, results[0], 'the first result is whole');
    assert.equal(first.synced, true);
    assert.deepEqual(first.errors, []);
    assert.deepEqual(namesOf(first), ['a-pi', 'b-pi']);
    assert.equal(
      first.pods[0]!.metadata.annotations!['limpet/manifest'],
      join(directory, 'a.json'),
    );

    writeFileSync(join(directory, 'c.yaml'), manifest('c'));
    await until((result) => namesOf(result).includes('c-pi'));
    unlinkSync(join(directory, 'a.json'));
    const last = await until((result) => !namesOf(result).includes('a-pi'));
    assert.deepEqual(namesOf(last), ['b-pi', 'c-pi']);
    assert.deepEqual(last.pods[0], first.pods[1], 'the others are as they were');
  });

  test('an empty directory is news: there are no pods', async (t) => {
    const { until } = watched(t, scratch(t));
    const result = await until(() => true);
    assert.deepEqual(result, { synced: true, pods: [], errors: [] });
  });

  test('a changed manifest is a new pod, an unchanged one is not', async (t) => {
    const directory = scratch(t);
    const path = join(directory, 'web.yaml');
    writeFileSync(path, manifest('web'));
    const { until, results } = watched(t, directory);
    const first = await until(({ pods }) => pods.length === 1);
    utimesSync(path, LONG_AGO, LONG_AGO);
    await sleep(4 * QUIET_MS);
    writeFileSync(path, `# only a comment\n${manifest('web')}`);
    await sleep(4 * QUIET_MS);
    assert.equal(results.length, 1, 'nothing to tell');
    writeFileSync(path, manifest('web', 'j'));
    const second = await until((result) => imagesOf(result)[0] === 'j');
    assert.notEqual(second.pods[0]!.metadata.uid, first.pods[0]!.metadata.uid);
  });

  test('each thing that is no manifest is one clear error, and the others run', async (t) => {
    const directory = scratch(t);
    const at = (name: string) => join(directory, name);
    writeFileSync(at('good.yaml'), manifest('good'));
    mkdirSync(at('directory'));
    execFileSync('mkfifo', [at('fifo')]);
    symlinkSync('nowhere', at('dangling'));
    symlinkSync('loop', at('loop'));
    symlinkSync('/dev/zero', at('zero'));
    const server = createServer().listen(at('socket'));
    t.after(() => server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    writeFileSync(at('empty.yaml'), '');
    writeFileSync(at('binary.yaml'), Buffer.from([0, 1, 2, 3, 255]));
    writeFileSync(at('utf16.yaml'), Buffer.from(`\uFEFF${manifest('x')}`, 'utf16le'));
    writeFileSync(at('broken.yaml'), 'a: "b');
    writeFileSync(at('unknown.yaml'), `${manifest('x')}  hostNetwrk: true\n`);
    writeFileSync(at('large.yaml'), '');
    truncateSync(at('large.yaml'), 10 * 1024 * 1024);
    const { until } = watched(t, directory);
    const { pods, errors } = await until(({ synced }) => synced);
    assert.deepEqual(
      pods.map(({ metadata }) => metadata.name),
      ['good-pi'],
    );
    const said: Record<string, string> = {};
    for (const { path, message } of errors) said[path.slice(directory.length + 1)] ??= message;
    assert.deepEqual(said, {
      'binary.yaml': 'is not UTF-8 text; save it as UTF-8',
      'broken.yaml':
        'line 1: is no valid YAML: Missing closing "quote; close the quote or bracket, or write "key: value" with a space',
      dangling: 'is a link to something that is not there; repair or remove it',
      directory:
        'is a directory, and manifests are not looked for in it; move them up, or remove it',
      'empty.yaml': 'is empty; write a pod into it, or remove it',
      fifo: 'is a fifo and not a file; remove it',
      'large.yaml': 'has 10485760 bytes, more than the 1048576 that a manifest may have; split it',
      loop: 'is a link that leads to itself; repair or remove it',
      socket: 'is a socket and not a file; remove it',
      'unknown.yaml':
        'line 11: spec.hostNetwrk: PodSpec has no such field; did you mean "hostNetwork"?',
      'utf16.yaml': 'is UTF-16; save it as UTF-8',
      zero: 'is a device and not a file; remove it',
    });
  });

  test('a file that must not be read is an error of its own', async (t) => {
    const directory = scratch(t);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, 'secret.yaml'), manifest('secret'));
    writeFileSync(join(directory, 'web.yaml'), manifest('web'));
    chmodSync(join(directory, 'secret.yaml'), 0);
    // Root may read everything, so another user looks.
    const program = `
    import { readStaticPods } from ${JSON.stringify(new URL('../../src/source/manifest-file.ts', import.meta.url))};
    for (const name of ['secret', 'web']) {
      console.log(JSON.stringify(await readStaticPods(process.argv[1] + '/' + name + '.yaml', 'pi')));
    }`;
    const args = ['--input-type=module', '-e', program, directory];
    const asNobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
    const output = execFileSync(process.execPath, args, { encoding: 'utf8', ...asNobody });
    const [secret, web] = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; messages?: string[] });
    assert.deepEqual(secret!.messages, [
      "can't be read (EACCES); let the user that runs limpet read it",
    ]);
    assert.equal(web!.kind, 'pods');
  });

  test('a manifest that is written bit by bit is taken when it is whole, and not before', async (t) => {
    const directory = scratch(t);
    const { until, results } = watched(t, directory, { quietMs: 1500 });
    await until(({ synced }) => synced);
    const file = openSync(join(directory, 'web.yaml'), 'w');
    // From "first container" on, every prefix is a valid pod with a part missing.
    for (const char of manifest('web')) {
      writeSync(file, char);
      await sleep(8);
    }
    closeSync(file);
    const { pods } = await until((result) => result.pods.length > 0);
    assert.deepEqual(
      pods[0]!.spec.containers.map(({ name, image }) => [name, image]),
      [
        ['first', 'i'],
        ['second', 'i'],
      ],
    );
    assert.equal(results.length, 2, JSON.stringify(results));
  });

  test('a file that becomes bad keeps the pods that it had, and says so', async (t) => {
    const directory = scratch(t);
    const path = join(directory, 'web.yaml');
    writeFileSync(path, manifest('web'));
    writeFileSync(join(directory, 'other.yaml'), manifest('other'));
    const { until } = watched(t, directory);
    const before = await until(({ pods }) => pods.length === 2);
    for (const spoil of [
      () => truncateSync(path, 0),
      () => writeFileSync(path, manifest('web').slice(0, 60)),
      () => (unlinkSync(path), mkdirSync(path)),
      () => (rmSync(path, { recursive: true }), symlinkSync('gone', path)),
    ]) {
      spoil();
      const after = await until(({ errors }) => errors.length >= 2);
      assert.deepEqual(after.pods, before.pods);
      assert.equal(
        after.errors.at(-1)!.message,
        'until it is repaired, its last good pods keep running: web-pi',
      );
      unlinkIfThere(path);
      writeFileSync(path, manifest('web'));
      const healed = await until(({ errors }) => errors.length === 0);
      assert.deepEqual(healed.pods, before.pods);
    }
  });

  test('a file that is bad when the agent starts keeps the pods that the node had of it', async (t) => {
    const directory = scratch(t);
    const path = join(directory, 'web.yaml');
    writeFileSync(path, manifest('web'));
    writeFileSync(join(directory, 'gone.yaml'), manifest('gone'));
    const first = watched(t, directory);
    const before = await first.until(({ pods }) => pods.length === 2);
    first.stop.abort();
    await first.done;
    // What a power cut leaves of a file that was just written.
    truncateSync(path, 0);
    unlinkSync(join(directory, 'gone.yaml'));
    const { until, results } = watched(t, directory, { previous: before.pods });
    const after = await until(({ synced }) => synced);
    assert.equal(results.length, 1);
    assert.deepEqual(namesOf(after), ['web-pi'], 'and the file that is gone ends its pod');
    assert.deepEqual(
      after.pods[0],
      before.pods.find(({ metadata }) => metadata.name === 'web-pi'),
    );
    assert.equal(after.errors[0]!.message, 'is empty; write a pod into it, or remove it');
  });

  test('a file that an editor replaces does not end its pods', async (t) => {
    const directory = scratch(t);
    const path = join(directory, 'web.yaml');
    writeFileSync(path, manifest('web'));
    const { until, results } = watched(t, directory, { quietMs: 1500 });
    await until(({ pods }) => pods.length === 1);
    // As vim does it: the old file aside, the new one in its place.
    renameSync(path, join(directory, '.web.yaml~'));
    await sleep(QUIET_MS);
    writeFileSync(path, manifest('web', 'j'));
    await until((result) => imagesOf(result)[0] === 'j');
    // As everybody should.
    writeFileSync(join(directory, '.web.yaml.new'), manifest('web', 'k'));
    renameSync(join(directory, '.web.yaml.new'), path);
    await until((result) => imagesOf(result)[0] === 'k');
    assert.ok(results.every(({ pods }) => pods.length === 1));
  });

  test('links into a directory that is swapped, as ConfigMap volumes have them, are followed', async (t) => {
    const directory = scratch(t);
    const release = (name: string, image: string) => {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, 'web.yaml'), manifest('web', image));
      utimesSync(join(directory, name, 'web.yaml'), LONG_AGO, LONG_AGO);
      symlinkSync(name, join(directory, '..data_tmp'));
      renameSync(join(directory, '..data_tmp'), join(directory, '..data'));
    };
    release('..one', 'i');
    symlinkSync('..data/web.yaml', join(directory, 'web.yaml'));
    const { until } = watched(t, directory);
    await until((result) => imagesOf(result)[0] === 'i');
    release('..two', 'j');
    const result = await until((one) => imagesOf(one)[0] === 'j');
    assert.deepEqual(result.errors, []);
  });

  test('what inotify does not tell, a rescan finds', async (t) => {
    const directory = scratch(t);
    const target = join(scratch(t), 'elsewhere.yaml');
    writeFileSync(target, manifest('web'));
    symlinkSync(target, join(directory, 'web.yaml'));
    const { until } = watched(t, directory, { rescanMs: 500 });
    await until((result) => imagesOf(result)[0] === 'i');
    writeFileSync(target, manifest('web', 'j'));
    await until((result) => imagesOf(result)[0] === 'j');
  });

  test('of two files that define one pod the first by name has it', async (t) => {
    const directory = scratch(t);
    writeFileSync(join(directory, 'b.yaml'), manifest('web', 'b'));
    writeFileSync(join(directory, 'c.yaml'), manifest('web', 'c'));
    const { until } = watched(t, directory);
    const result = await until(({ synced }) => synced);
    assert.deepEqual(imagesOf(result), ['b']);
    assert.deepEqual(result.errors, [
      {
        path: join(directory, 'c.yaml'),
        message: `the pod default/web-pi is already in ${join(directory, 'b.yaml')}; remove one of them`,
      },
    ]);
    unlinkSync(join(directory, 'b.yaml'));
    const after = await until(({ errors }) => errors.length === 0);
    assert.deepEqual(imagesOf(after), ['c']);
  });

  test('a copy of a manifest does not take the pod from the file that had it', async (t) => {
    const directory = scratch(t);
    writeFileSync(join(directory, 'web.yaml'), manifest('web', 'first'));
    const first = watched(t, directory);
    const before = await first.until(({ synced }) => synced);
    writeFileSync(join(directory, '#web.yaml#'), manifest('web', 'copy'));
    const both = await first.until(({ errors }) => errors.length > 0);
    assert.deepEqual(both.pods, before.pods);
    assert.deepEqual(both.errors, [
      {
        path: join(directory, '#web.yaml#'),
        message: `the pod default/web-pi is already in ${join(directory, 'web.yaml')}; remove one of them`,
      },
    ]);
    first.stop.abort();
    await first.done;

    const again = watched(t, directory, { previous: before.pods });
    assert.deepEqual((await again.until(({ synced }) => synced)).pods, before.pods);
    unlinkSync(join(directory, 'web.yaml'));
    assert.deepEqual(imagesOf(await again.until(({ errors }) => errors.length === 0)), ['copy']);
  });

  test('a directory that is not there says nothing, and one that vanishes ends nothing', async (t) => {
    const parent = scratch(t);
    const directory = join(parent, 'manifests');
    const previous = [
      {
        metadata: {
          name: 'old',
          namespace: 'default',
          uid: 'u',
          annotations: { 'limpet/manifest': join(directory, 'old.yaml') },
        },
      } as unknown as Pod,
    ];
    const { until } = watched(t, directory, { previous, rescanMs: 500 });
    const first = await until(() => true);
    assert.equal(first.synced, false);
    assert.deepEqual(first.pods, previous);
    assert.deepEqual(first.errors, [
      { path: directory, message: 'is not there; create the directory, or mount what it is on' },
    ]);

    mkdirSync(directory);
    writeFileSync(join(directory, 'web.yaml'), manifest('web'));
    const there = await until(({ synced }) => synced);
    assert.deepEqual(namesOf(there), ['web-pi']);
    renameSync(directory, join(parent, 'away'));
    const away = await until(({ errors }) => errors.length > 0);
    assert.equal(away.synced, true);
    assert.deepEqual(away.pods, there.pods);
    renameSync(join(parent, 'away'), directory);
    const back = await until(({ errors }) => errors.length === 0);
    assert.deepEqual(back.pods, there.pods);
    unlinkSync(join(directory, 'web.yaml'));
    await until(({ pods }) => pods.length === 0);
  });

  test('a path that is no directory is an error', async (t) => {
    const path = join(scratch(t), 'file');
    writeFileSync(path, manifest('web'));
    const { until } = watched(t, path);
    const { errors } = await until(() => true);
    assert.match(errors[0]!.message, /^is not a directory/);
  });

  test('a result that could not be stored is told again', async (t) => {
    const directory = scratch(t);
    writeFileSync(join(directory, 'web.yaml'), manifest('web'));
    let refusals = 2;
    const taken: ManifestsResult[] = [];
    watched(t, directory, {
      rescanMs: 200,
      onChange: (result) => {
        refusals -= 1;
        if (refusals >= 0) throw new Failure('NoSpace', 'the disk is full');
        taken.push(result);
      },
    });
    const deadline = performance.now() + 10_000;
    while (taken.length === 0 && performance.now() < deadline) await sleep(50);
    assert.deepEqual(taken.map(namesOf), [['web-pi']]);
  });

  test('too many files are an error, and the first ones are taken', async (t) => {
    const directory = scratch(t);
    for (let i = 0; i < LIMITS.manifestFiles + 3; i += 1) {
      const name = `f${String(i).padStart(4, '0')}.json`;
      writeFileSync(join(directory, name), '{}');
    }
    const { until } = watched(t, directory);
    const { errors } = await until(({ synced }) => synced);
    assert.deepEqual(errors[0], {
      path: directory,
      message: 'has 3 files too many, which are not read; remove them',
    });
    assert.equal(new Set(errors.slice(1).map(({ path }) => path)).size, LIMITS.manifestFiles);
  });

  test('errors are logged once, not with every change', async (t) => {
    const directory = scratch(t);
    writeFileSync(join(directory, 'bad.yaml'), 'x');
    const { until, lines } = watched(t, directory);
    await until(({ synced }) => synced);
    writeFileSync(join(directory, 'web.yaml'), manifest('web'));
    await until(({ pods }) => pods.length === 1);
    assert.equal(lines.filter((line) => line.includes('bad.yaml')).length, 1, lines.join(''));
  });
});

test('nothing is left open, and nothing is read while nothing changes', async (t) => {
  const directory = scratch(t);
  const size = 50_000;
  const large = (name: string, image = 'i') => `# ${'x'.repeat(size)}\n${manifest(name, image)}`;
  for (const name of ['a', 'b', 'c']) writeFileSync(join(directory, `${name}.yaml`), large(name));
  const open = () => readdirSync('/proc/self/fd').length;
  const before = open();
  const { until, stop, done, results } = watched(t, directory, { rescanMs: 30 });
  await until(({ pods }) => pods.length === 3);
  for (let i = 0; i < 20; i += 1) {
    writeFileSync(join(directory, 'a.yaml'), large('a', `i${i}`));
    await sleep(30);
  }
  await until((result) => imagesOf(result)[0] === 'i19');
  const told = results.length;
  const bytesRead = () => Number(/^rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))![1]);
  await sleep(200);
  const began = bytesRead();
  await sleep(1000);
  const read = bytesRead() - began;
  assert.ok(read < size, `${read} bytes were read in some 8 rescans of 3 files`);
  assert.equal(results.length, told);
  stop.abort();
  await done;
  await sleep(50);
  assert.ok(open() <= before + 1, `${open()} descriptors, ${before} before`);
});
