/** What is stored of the API server's objects can be read on this node, and nowhere else. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openDatabase } from '../../src/store/database.ts';
import type { StoredObject } from '../../src/store/sealed.ts';
import { captureLog, handClock, open, place, pod, type Place } from './world.ts';

const CANARY = 'c4nary-of-a-secret';

const object = (name: string, text = `${CANARY} of ${name}`): StoredObject => ({
  ...{ kind: 'Secret', namespace: 'x', name, uid: `uid-${name}`, version: '7' },
  text,
});

test('objects come back after a restart, the newest of each name', (t) => {
  const where = place(t);
  {
    using store = open(where);
    store.putObject(object('a', 'old'));
    store.putObject(object('a', 'new ü'));
    store.putObject(object('b'));
    store.putObject(object('c'));
    store.removeObjects([{ kind: 'Secret', namespace: 'x', name: 'c' }]);
  }
  using store = open(where);
  assert.deepEqual(store.objects(), { sound: [object('a', 'new ü'), object('b')], damaged: [] });
  assert.equal(statSync(join(where.directory, 'device.key')).mode & 0o777, 0o600);
});

test('no file of the store has anything of them in plain, open, killed or closed', async (t) => {
  const where = place(t);
  const writer = spawn(
    process.execPath,
    [join(import.meta.dirname, 'objects-writer.ts'), where.directory, where.podsDirectory, CANARY],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(writer.stdout, 'data');
  assert.deepEqual(filesWith(where, CANARY), []);
  writer.kill('SIGKILL');
  await once(writer, 'exit');
  assert.deepEqual(filesWith(where, CANARY), []);
  // The search finds what is there: a name is no secret.
  assert.notDeepEqual(filesWith(where, 'uid-a'), []);
  {
    using store = open(where);
    assert.deepEqual(
      store.objects().sound.map(({ text }) => text),
      [CANARY],
    );
    store.backup();
    store.removeObjects([{ kind: 'Secret', namespace: 'x', name: 'a' }]);
  }
  assert.deepEqual(filesWith(where, CANARY), []);
});

test('a row in the place of another one, or changed, is damaged and hurts no other', (t) => {
  const changes: Readonly<Record<string, string>> = {
    'sealed of another name': `UPDATE objects SET sealed =
      (SELECT sealed FROM objects WHERE name = 'b') WHERE name = 'a'`,
    'another kind': `UPDATE objects SET kind = 'ConfigMap' WHERE name = 'a'`,
    'another namespace': `UPDATE objects SET namespace = 'y' WHERE name = 'a'`,
    'another uid': `UPDATE objects SET uid = 'other' WHERE name = 'a'`,
    'another version': `UPDATE objects SET version = '8' WHERE name = 'a'`,
    'cut off': `UPDATE objects SET sealed = substr(sealed, 1, 20) WHERE name = 'a'`,
    empty: `UPDATE objects SET sealed = x'' WHERE name = 'a'`,
  };
  for (const [what, sql] of Object.entries(changes)) {
    const where = place(t);
    fill(where, 'a', 'b');
    const database = openDatabase(join(where.directory, 'limpet.db'), 'full');
    database.exec(sql);
    database.close();
    using store = open(where);
    const { sound, damaged } = store.objects();
    assert.deepEqual(sound, [object('b')], what);
    assert.deepEqual(
      damaged.map(({ uid }) => uid),
      [what === 'another uid' ? 'other' : 'uid-a'],
      what,
    );
    store.putObject(object('a'));
    if (!/kind|namespace/.test(what)) assert.deepEqual(store.objects().damaged, [], what);
  }
});

test('without the key of before, nothing is taken for what it is not', (t) => {
  for (const harm of [
    (path: string) => rmSync(path),
    (path: string) => truncateSync(path),
    (path: string) => writeFileSync(path, 'x'.repeat(32)),
  ]) {
    const where = place(t);
    fill(where, 'a');
    harm(join(where.directory, 'device.key'));
    const { log } = captureLog();
    {
      using store = open(where, { log });
      assert.deepEqual(store.objects().sound, []);
      assert.equal(store.objects().damaged.length, 1);
      store.putObject(object('a'));
    }
    using store = open(where, { log });
    assert.deepEqual(store.objects(), { sound: [object('a')], damaged: [] });
  }
});

test('a backup is made for the sake of objects, but not of those that are short-lived', (t) => {
  const where = place(t);
  const clock = handClock();
  using store = open(where, { clock });
  const backup = join(where.directory, 'backup/limpet-1.db');
  store.putObject(object('token'), true);
  clock.advance(3_600_000);
  assert.equal(existsSync(backup), false);
  store.putObject(object('a'));
  clock.advance(3_600_000);
  assert.equal(existsSync(backup), true);
});

test('another source of the key may take the place of the file', (t) => {
  const where = place(t);
  const deviceKey = () => new Uint8Array(32).fill(7);
  {
    using store = open(where, { deviceKey });
    store.putObject(object('a'));
  }
  assert.equal(readdirSync(where.directory).includes('device.key'), false);
  using store = open(where, { deviceKey });
  assert.deepEqual(store.objects().sound, [object('a')]);
});

test('a database that was lost gets them from its backup, a damaged one from itself', (t) => {
  const harms: Readonly<Record<string, (path: string) => void>> = {
    restored: (path) => rmSync(path),
    // Its header is gone, so only the backup is left.
    torn: (path) => writeFileSync(path, 'no database\n'.repeat(1000)),
  };
  for (const [what, harm] of Object.entries(harms)) {
    const where = place(t);
    {
      using store = open(where);
      store.putPod(pod('p'), 'api', '');
      store.putObject(object('a'));
      store.backup();
    }
    rmSync(join(where.directory, 'limpet.db-wal'), { force: true });
    harm(join(where.directory, 'limpet.db'));
    using store = open(where);
    assert.equal(store.opening.state, 'restored', what);
    assert.deepEqual(store.objects().sound, [object('a')], what);
  }
});

test('a damaged page of the pods leaves what was stored after the backup', (t) => {
  const where = place(t);
  {
    using store = open(where);
    store.putPod(pod('p'), 'api', '');
    store.backup();
    store.putObject(object('a'));
    store.putObject(object('b'));
  }
  const path = join(where.directory, 'limpet.db');
  const database = openDatabase(path, 'full');
  const { rootpage } = database
    .prepare<[], { rootpage: number }>("SELECT rootpage FROM sqlite_schema WHERE name = 'ledgers'")
    .get()!;
  database.close();
  const bytes = readFileSync(path);
  bytes.fill(0xa5, (rootpage - 1) * 4096, rootpage * 4096);
  writeFileSync(path, bytes);
  rmSync(`${path}-wal`, { force: true });
  rmSync(join(where.directory, 'backup'), { recursive: true });
  using store = open(where);
  assert.equal(store.opening.state, 'rebuilt', store.opening.message);
  assert.deepEqual(store.objects().sound, [object('a'), object('b')]);
});

function fill(where: Place, ...names: readonly string[]): void {
  using store = open(where);
  for (const name of names) store.putObject(object(name));
}

function filesWith({ directory }: Place, text: string): readonly string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => readFileSync(path).includes(text));
}
