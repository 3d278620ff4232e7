import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Failure } from '../../src/base/failure.ts';
import { openToRead } from '../../src/store/database.ts';
import { readPodFiles } from '../../src/store/pod-file.ts';
import { captureLog, deletion, handClock, ledger, names, open, place, pod } from './world.ts';

test('what was stored is there after a proper stop', (t) => {
  const where = place(t);
  {
    using store = open(where);
    assert.equal(store.opening.state, 'new');
    assert.deepEqual(store.pods(), []);
    assert.equal(store.putPod(pod('web'), 'local', 'hash-web'), 1);
    assert.deepEqual(
      store.putPods([
        { pod: pod('job'), source: 'file', specHash: 'hash-job' },
        { pod: pod('db'), source: 'api', specHash: 'hash-db' },
      ]),
      [2, 3],
    );
    store.putLedgers([{ uid: 'uid-job', ledger: ledger(4) }]);
    store.putDeletion('uid-db', deletion(5));
    store.setMeta('colour', 'green');
    assert.deepEqual(store.health(), { ok: true });
  }
  using store = open(where);
  assert.equal(store.opening.state, 'clean');
  assert.deepEqual(store.pods(), [
    { pod: pod('web'), source: 'local', order: 1, specHash: 'hash-web' },
    { pod: pod('job'), source: 'file', order: 2, specHash: 'hash-job', ledger: ledger(4) },
    { pod: pod('db'), source: 'api', order: 3, specHash: 'hash-db', deletion: deletion(5) },
  ]);
  assert.equal(store.meta('colour'), 'green');
  assert.equal(store.meta('size'), undefined);
  store.setMeta('colour', undefined);
  assert.equal(store.meta('colour'), undefined);
});

test('an order is never given twice, also not that of a pod that is forgotten', (t) => {
  const where = place(t);
  {
    using store = open(where);
    store.putPod(pod('a'), 'local', '');
    store.putPod(pod('b'), 'local', '');
    store.putDeletion('uid-b', deletion());
    store.forget('uid-b');
    assert.deepEqual(names(store), ['a']);
  }
  using store = open(where);
  assert.equal(store.putPod(pod('c'), 'local', ''), 3);
});

test('a uid that is stored again keeps its order and its deletion', (t) => {
  using store = open(place(t));
  store.putPod(pod('a'), 'file', 'one');
  store.putPod(pod('b'), 'file', 'one');
  store.putDeletion('uid-a', deletion());
  assert.equal(store.putPod(pod('renamed', 'uid-a'), 'file', 'two'), 1);
  const [first] = store.pods();
  assert.equal(first?.pod.metadata.name, 'renamed');
  assert.equal(first?.specHash, 'two');
  assert.deepEqual(first?.deletion, deletion());
});

test('putPods and replacePods are all or nothing', (t) => {
  const where = place(t);
  using store = open(where);
  store.putPod(pod('old'), 'local', '');
  const bad = { pod: pod('bad', '../bad'), source: 'local', specHash: '' } as const;
  const good = { pod: pod('good'), source: 'local', specHash: '' } as const;
  assert.throws(() => store.putPods([good, bad]), failure('InvalidArgument', /metadata\.uid/));
  const unknown = { uid: 'uid-nobody', deletion: deletion() };
  assert.throws(
    () => store.replacePods({ add: [good], delete: [unknown] }),
    failure('NotFound', /uid-nobody/),
  );
  assert.deepEqual(names(store), ['old']);
  assert.deepEqual(readdirSync(where.podsDirectory), ['uid-old']);
  assert.deepEqual(
    store.replacePods({ add: [good], delete: [{ uid: 'uid-old', deletion: deletion(1) }] }),
    [2],
  );
  assert.deepEqual(
    store.pods().map((stored) => stored.deletion?.graceSeconds),
    [1, undefined],
  );
});

test('a ledger of a pod that is not stored is left out and named', (t) => {
  using store = open(place(t));
  store.putPod(pod('a'), 'local', '');
  const unknown = store.putLedgers([
    { uid: 'uid-gone', ledger: ledger(1) },
    { uid: 'uid-a', ledger: ledger(2) },
  ]);
  assert.deepEqual(unknown, ['uid-gone']);
  assert.deepEqual(store.pods()[0]?.ledger, ledger(2));
  assert.throws(() => store.putDeletion('uid-gone', deletion()), failure('NotFound', /uid-gone/));
  store.forget('uid-gone');
});

test('forgetting takes ledger and pod file along', (t) => {
  const where = place(t);
  {
    using store = open(where);
    store.putPod(pod('a'), 'local', '');
    store.putLedgers([{ uid: 'uid-a', ledger: ledger(3) }]);
    assert.equal(readPodFiles(where.podsDirectory).length, 1);
    store.forget('uid-a');
    assert.equal(readPodFiles(where.podsDirectory).length, 0);
    store.putPod(pod('a'), 'local', ''); // the uid of a static pod can come again
    assert.equal(store.pods()[0]?.ledger, undefined);
  }
  using store = open(where);
  assert.equal(store.opening.state, 'clean');
  assert.deepEqual(
    store.pods().map((stored) => stored.deletion),
    [undefined],
  );
});

test('the time floor is the newest wall time stored', (t) => {
  const where = place(t);
  const clock = handClock(5_000);
  {
    using store = open(where, { clock });
    assert.equal(store.timeFloor(), 0);
    store.putPod(pod('a'), 'local', '');
    assert.equal(store.timeFloor(), 5_000);
    clock.setWall(9_000);
    store.putLedgers([{ uid: 'uid-a', ledger: ledger(0) }]);
    assert.equal(store.timeFloor(), 9_000);
  }
  using store = open(where, { clock: handClock(2_000) });
  assert.equal(store.timeFloor(), 9_000, 'nothing was written yet');
});

test('a forgotten pod leaves its time behind', (t) => {
  const where = place(t);
  {
    using store = open(where, { clock: handClock(9_000) });
    store.putPod(pod('a'), 'local', '');
    store.forget('uid-a');
  }
  using store = open(where, { clock: handClock(2_000) });
  assert.equal(store.timeFloor(), 9_000);
});

test('times of a clock that was far ahead go when it has been set back', (t) => {
  const where = place(t);
  const clock = handClock(5_000);
  {
    using store = open(where, { clock });
    store.putPod(pod('a'), 'local', '');
    clock.setWall(9_000_000);
    store.putPod(pod('b'), 'local', '');
    store.putLedgers([{ uid: 'uid-a', ledger: ledger(0) }]);
    clock.setWall(6_000);
    store.putLedgers([{ uid: 'uid-b', ledger: ledger(0) }]);
    assert.equal(store.timeFloor(), 6_000);
  }
  using store = open(where, { clock: handClock(2_000) });
  assert.equal(store.timeFloor(), 6_000);
});

test('a store that was not closed is opened as unclean, with everything in it', (t) => {
  const where = place(t);
  const script = `
    import { pod, open } from ${JSON.stringify(join(import.meta.dirname, 'world.ts'))};
    const store = open(${JSON.stringify(where)});
    store.putPod(pod('a'), 'local', '');
    process.kill(process.pid, 'SIGKILL');`;
  const run = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script]);
  assert.equal(run.signal, 'SIGKILL', run.stderr.toString());
  using store = open(where);
  assert.equal(store.opening.state, 'unclean');
  assert.deepEqual(names(store), ['a']);
  assert.deepEqual(store.opening.uncertain, []);
});

test('so is one that was never closed, though SQLite closes the database when the process ends', (t) => {
  const where = place(t);
  const script = `
    import { pod, open } from ${JSON.stringify(join(import.meta.dirname, 'world.ts'))};
    const store = open(${JSON.stringify(where)});
    store.putPod(pod('a'), 'local', '');
    process.exitCode = 3;`;
  const run = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script]);
  assert.equal(run.status, 3, run.stderr.toString());
  assert.equal(existsSync(join(where.directory, 'limpet.db-wal')), false);
  using store = open(where);
  assert.equal(store.opening.state, 'unclean');
  assert.equal(store.opening.setAside, undefined);
  assert.deepEqual(names(store), ['a']);
});

test('a second agent is kept out and disturbs nothing', (t) => {
  const where = place(t);
  using store = open(where);
  store.putPod(pod('a'), 'local', '');
  const script = `
    import { open } from ${JSON.stringify(join(import.meta.dirname, 'world.ts'))};
    try { open(${JSON.stringify(where)}); } catch (error) { console.log(error.code, error.message); }`;
  const run = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', script]);
  assert.match(run.stdout.toString(), /^Unavailable .*another limpet has it open/);
  assert.equal(existsSync(join(where.directory, 'set-aside')), false);
  store.putPod(pod('b'), 'local', '');
  assert.deepEqual(names(store), ['a', 'b']);
});

test('files are for root only, the database runs with full sync and without a shared index', (t) => {
  const where = place(t);
  using store = open(where);
  store.putPod(pod('a'), 'local', '');
  assert.equal(statSync(where.directory).mode & 0o777, 0o700);
  for (const name of ['limpet.db', 'limpet.db-wal', 'deleted.json', 'reserve']) {
    const file = join(where.directory, name);
    if (existsSync(file)) assert.equal(statSync(file).mode & 0o777, 0o600, name);
  }
  assert.equal(statSync(join(where.podsDirectory, 'uid-a', 'pod.json')).mode & 0o777, 0o600);
  assert.equal(existsSync(join(where.directory, 'limpet.db-shm')), false);
});

test('backups follow changes of pods, not of ledgers, and not too often', (t) => {
  const where = place(t);
  const clock = handClock();
  using store = open(where, { clock });
  const backup = (n: number) => join(where.directory, 'backup', `limpet-${n}.db`);
  const podsIn = (file: string): number => {
    const database = openToRead(file);
    const count = database.prepare<[], { n: number }>('SELECT count(*) AS n FROM pods').get()!.n;
    database.close();
    return count;
  };
  clock.advance(3_600_000);
  assert.equal(existsSync(backup(1)), false);
  store.putPod(pod('a'), 'local', '');
  store.putPod(pod('b'), 'local', '');
  clock.advance(60_000);
  assert.equal(podsIn(backup(1)), 2);
  store.putPod(pod('c'), 'local', '');
  clock.advance(8 * 60_000);
  assert.equal(podsIn(backup(1)), 2, 'the ten minutes are not over');
  clock.advance(2 * 60_000);
  assert.equal(podsIn(backup(1)), 3);
  assert.equal(podsIn(backup(2)), 2);
  const { mtimeMs } = statSync(backup(1));
  store.putLedgers([{ uid: 'uid-a', ledger: ledger(1) }]);
  clock.advance(3_600_000);
  assert.equal(statSync(backup(1)).mtimeMs, mtimeMs);
  assert.equal(clock.timers, 0, 'nothing is scheduled while nothing changes');
});

test('a proper stop makes the backup that is due', (t) => {
  const where = place(t);
  open(where)[Symbol.dispose]();
  assert.equal(existsSync(join(where.directory, 'backup')), false);
  {
    using store = open(where);
    store.putPod(pod('a'), 'local', '');
  }
  assert.equal(existsSync(join(where.directory, 'backup', 'limpet-1.db')), true);
  assert.deepEqual(
    readdirSync(where.directory).filter((name) => /-wal$|-shm$|tmp$|new$/.test(name)),
    [],
  );
});

test('a backup that fails is said, and tried again', (t) => {
  const where = place(t);
  const clock = handClock();
  const { log, lines } = captureLog();
  using store = open(where, { clock, log });
  const folder = join(where.directory, 'backup');
  store.putPod(pod('a'), 'local', '');
  rmSync(folder, { recursive: true, force: true });
  spawnSync('ln', ['-s', '/proc/nowhere', folder]);
  assert.equal(store.backup(), false);
  assert.match(lines.join(''), /cannot make a backup.*nowhere|cannot make a backup/);
  rmSync(folder);
  clock.advance(11 * 60_000);
  assert.equal(existsSync(join(folder, 'limpet-1.db')), true);
  assert.deepEqual(store.health(), { ok: true });
});

test('nothing secret is left in the files of a pod that was forgotten', (t) => {
  const where = place(t);
  {
    using store = open(where);
    const secret = pod('a');
    const [container] = secret.spec.containers;
    const env = [{ name: 'TOKEN', value: 'p4ssw0rd-in-an-env' }];
    store.putPod(
      { ...secret, spec: { ...secret.spec, containers: [{ ...container!, env }] } },
      'local',
      '',
    );
    assert.match(readFileSync(join(where.directory, 'limpet.db-wal'), 'latin1'), /p4ssw0rd/);
    store.forget('uid-a');
  }
  for (const name of ['limpet.db', 'deleted.json', 'backup/limpet-1.db']) {
    const text = readFileSync(join(where.directory, name), 'latin1');
    assert.doesNotMatch(text, /p4ssw0rd/, name);
  }
});

function failure(code: string, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof Failure, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  };
}
