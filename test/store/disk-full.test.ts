/** A disk that is really full: a small tmpfs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { errnoOf, Failure } from '../../src/base/failure.ts';
import type { Store } from '../../src/store/store.ts';
import {
  captureLog,
  deletion,
  event,
  handClock,
  ledger,
  names,
  open,
  place,
  pod,
} from './world.ts';

const SIZE = '12m';
/** Also without root where the kernel lets users mount a tmpfs of their own. */
const mayMount = process.getuid?.() === 0;
const options = mayMount ? {} : { skip: 'mounting a small tmpfs takes root' };

test('a full disk refuses pods, still takes ledgers and deletions, and heals', options, (t) => {
  const disk = smallDisk(t);
  const clock = handClock();
  using store = open(disk, { clock });
  store.putPods(['a', 'b', 'c'].map((name) => ({ ...big(name, 10), source: 'local' }) as const));
  store.putLedgers([{ uid: 'uid-a', ledger: ledger(1) }]);
  const reserve = join(disk.directory, 'reserve');
  assert.ok(existsSync(reserve));

  fillUp(disk.root);
  const before = JSON.stringify(store.pods());
  const many = Array.from(
    { length: 100 },
    (_, n) => ({ ...big(`x-${n}`, 20), source: 'local' }) as const,
  );
  assert.throws(
    () => store.putPods(many),
    noSpace(/cannot store 100 pods.*limpet\.db.*free some space/),
  );
  assert.equal(JSON.stringify(store.pods()), before, 'none of them is stored');
  assert.equal(isNoSpace(store), true);
  assert.ok(existsSync(reserve), 'the reserve is not for new pods');

  store.putDeletion('uid-b', deletion());
  let attempt = 2;
  const hog = () =>
    store.putLedgers(
      ['a', 'b', 'c'].map((name) => ({ uid: `uid-${name}`, ledger: bigLedger(attempt) })),
    );
  assert.throws(
    () => {
      for (; attempt < 10_000; attempt++) hog();
    },
    noSpace(/cannot store 3 ledgers/),
  );
  assert.equal(existsSync(reserve), false, 'the reserve was given up before that');
  assert.equal(isNoSpace(store), true);
  const [first, second] = store.pods();
  assert.equal(
    first?.ledger?.containers['main']?.attempt,
    attempt - 1,
    'the last one that was acked',
  );
  assert.equal(second?.deletion?.graceSeconds, 30);

  rmSync(join(disk.root, 'ballast'));
  assert.deepEqual(hog(), []);
  assert.deepEqual(store.health(), { ok: true });
  assert.ok(existsSync(reserve), 'and it is held again');
  assert.equal(store.putPods(many).length, 100);
  store[Symbol.dispose]();
  using again = open(disk);
  assert.equal(again.opening.state, 'clean', again.opening.message);
  assert.equal(again.pods().length, 103);
});

test('a store on a full disk is opened with all its pods', options, (t) => {
  const source = place(t);
  const first = open(source);
  for (const name of ['a', 'b', 'c']) first.putPod(pod(name), 'local', '');
  const disk = smallDisk(t);
  cpSync(source.directory, disk.directory, { recursive: true });
  cpSync(source.podsDirectory, disk.podsDirectory, { recursive: true });
  first[Symbol.dispose]();
  fillUp(disk.root);
  using store = open(disk);
  assert.equal(store.opening.state, 'unclean', store.opening.message);
  assert.deepEqual(names(store), ['a', 'b', 'c']);
});

test('events that find no space disturb nobody', options, (t) => {
  const disk = smallDisk(t);
  const { log, lines } = captureLog();
  const clock = handClock();
  using store = open(disk, { log, clock });
  fillUp(disk.root);
  const says = (n: number) => event(`Reason${n}`, 'uid-web', `${n} `.repeat(200));
  const failed = () => lines.filter((line) => line.includes('cannot write events')).length;
  for (let n = 0; n < 1000 && failed() === 0; n++) {
    store.recordEvent(says(n), clock.now());
    clock.advance(10_000);
  }
  assert.equal(failed(), 1, 'it found no space');
  const recorded = store.events().length;
  for (let n = 1000; n < 1003; n++) {
    store.recordEvent(says(n), clock.now());
    clock.advance(10_000);
  }
  assert.equal(failed(), 1, 'said once');
  assert.equal(store.events().at(-1)?.reason, 'Reason1002');
  assert.ok(store.events().length >= recorded);
  assert.deepEqual(store.health(), { ok: true });
  rmSync(join(disk.root, 'ballast'));
  store.recordEvent(says(2000), clock.now());
  clock.advance(10_000);
  assert.equal(store.events().at(-1)?.reason, 'Reason2000');
});

type Disk = { readonly root: string; readonly directory: string; readonly podsDirectory: string };

function smallDisk(t: TestContext): Disk {
  const root = mkdtempSync(join(tmpdir(), 'limpet-small-disk-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE}`, 'tmpfs', root]);
  assert.equal(mounted.status, 0, mounted.stderr.toString());
  t.after(() => {
    spawnSync('umount', ['--lazy', root]);
    rmSync(root, { recursive: true, force: true });
  });
  return { root, directory: join(root, 'store'), podsDirectory: join(root, 'pods') };
}

/** Leaves not a single block. */
function fillUp(root: string): void {
  const ballast = join(root, 'ballast');
  writeFileSync(ballast, '');
  for (let bytes = 1024 * 1024; bytes >= 4096;) {
    try {
      writeFileSync(ballast, Buffer.alloc(bytes), { flag: 'a' });
    } catch (error) {
      assert.equal(errnoOf(error), 'ENOSPC');
      bytes /= 2;
    }
  }
  assert.equal(statfsSync(root).bavail, 0);
}

function big(name: string, kib: number) {
  const base = pod(name);
  const annotations = { note: name.padEnd(kib * 1024, '.') };
  return { pod: { ...base, metadata: { ...base.metadata, annotations } }, specHash: '' };
}

/** Grows, so that it asks for space. */
function bigLedger(attempt: number) {
  const base = ledger(attempt);
  const outcome = {
    ...{ attempt, sandboxAttempt: 0, exitCode: 1, reason: 'Error', seenAt: base.started! },
    message: 'm'.repeat(attempt * 500),
  };
  return { ...base, containers: { main: { ...base.containers['main']!, outcome } } };
}

function isNoSpace(store: Store): boolean {
  const health = store.health();
  return !health.ok && health.fault.code === 'NoSpace';
}

function noSpace(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Failure, String(error));
    assert.equal(error.code, 'NoSpace', error.message);
    assert.match(error.message, message);
    return true;
  };
}
