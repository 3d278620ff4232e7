import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Failure } from '../../src/base/failure.ts';
import { openDatabase, type Sqlite } from '../../src/store/database.ts';
import { ledgerCheckSum, podCheckSum } from '../../src/store/rows.ts';
import { MIGRATIONS, migrate, schemaVersion } from '../../src/store/schema.ts';
import { ledger, open, place, pod, type Place } from './world.ts';

/**
 * What a limpet of each format has left behind, by format. Add an entry when a step is added, and
 * leave the older ones as they are.
 */
const LEFT_BEHIND: Readonly<Record<number, (database: Sqlite) => void>> = {
  0: () => {},
  1: (database) => {
    const text = JSON.stringify(pod('old'));
    const row = { ord: 7, uid: 'uid-old', source: 'local', spec_hash: 'hash', pod: text };
    database
      .prepare('INSERT INTO pods VALUES (?, ?, ?, ?, ?, ?, NULL, ?)')
      .run(7, 'uid-old', 'local', 'hash', text, podCheckSum(row), 1_700_000_000_000);
    const ledgerText = JSON.stringify(ledger(5));
    const checkSum = ledgerCheckSum({ uid: 'uid-old', ledger: ledgerText });
    database
      .prepare('INSERT INTO ledgers VALUES (?, ?, ?, ?)')
      .run('uid-old', ledgerText, checkSum, 1_700_000_000_001);
    database.prepare('INSERT INTO meta VALUES (?, ?)').run('colour', 'green');
  },
  2: (database) => {
    LEFT_BEHIND[1]!(database);
    database
      .prepare('INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)')
      .run('Secret', 'x', 'password', 'uid-s', '4', Buffer.from('of another key'), 1);
  },
};

test('there is a fixture of every format', () => {
  assert.deepEqual(
    Object.keys(LEFT_BEHIND).map(Number),
    Array.from({ length: MIGRATIONS.length + 1 }, (_, version) => version),
  );
});

for (const [text, fill] of Object.entries(LEFT_BEHIND)) {
  const version = Number(text);
  test(`a store of format ${version} is opened with all that is in it`, (t) => {
    const where = place(t);
    write(where, (database) => {
      migrate(database, MIGRATIONS.slice(0, version));
      fill(database);
    });
    using store = open(where);
    assert.equal(store.opening.state, version === 0 ? 'new' : 'clean', store.opening.message);
    if (version === 0) return;
    assert.deepEqual(store.pods(), [
      { pod: pod('old'), source: 'local', order: 7, specHash: 'hash', ledger: ledger(5) },
    ]);
    assert.equal(store.meta('colour'), 'green');
    assert.equal(store.timeFloor(), 1_700_000_000_001);
    assert.equal(store.putPod(pod('new'), 'local', ''), 8);
  });
}

test('a store of a newer limpet is left as it is', (t) => {
  const where = place(t);
  write(where, (database) => {
    migrate(database, [...MIGRATIONS, 'CREATE TABLE novelty (a TEXT)']);
  });
  const path = join(where.directory, 'limpet.db');
  const old = readFileSync(path);
  assert.throws(
    () => open(where),
    (error: unknown) =>
      error instanceof Failure &&
      error.code === 'InvalidArgument' &&
      /newer limpet \(format \d+, .*limpet\.db|limpet\.db was written by a newer/.test(
        error.message,
      ),
  );
  assert.deepEqual(readFileSync(path), old);
  assert.equal(existsSync(join(where.directory, 'set-aside')), false);
});

test('a step that fails leaves the format before it, and nothing of itself', (t) => {
  const where = place(t);
  write(where, (database) => {
    const steps = ['CREATE TABLE one (a TEXT)', 'CREATE TABLE two (a TEXT); DROP TABLE nowhere'];
    assert.throws(() => migrate(database, steps), /nowhere/);
    assert.equal(schemaVersion(database), 1);
    const tables = database.prepare<[], { name: string }>('SELECT name FROM sqlite_schema').all();
    assert.deepEqual(
      tables.map(({ name }) => name),
      ['one'],
    );
  });
});

function write(where: Place, fill: (database: Sqlite) => void): void {
  mkdirSync(where.directory, { recursive: true });
  const database = openDatabase(join(where.directory, 'limpet.db'), 'full');
  fill(database);
  database.close();
}
