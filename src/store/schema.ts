/** The tables of `limpet.db`, as the steps that led to them. */
import { Failure } from '../base/failure.ts';
import type { Sqlite } from './database.ts';

/**
 * Step n brings a database from version n to n + 1. A step that was released is never changed: add
 * another one, and rows of the old version to the test.
 *
 * `ord` is the order of acceptance, `check_sum` the CRC-32 of the row (see rows.ts), `wall_ms` the
 * time of the last write: the newest of them all is the time floor, at the cost of no extra page.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE pods (
     ord INTEGER PRIMARY KEY AUTOINCREMENT,
     uid TEXT NOT NULL UNIQUE,
     source TEXT NOT NULL,
     spec_hash TEXT NOT NULL,
     pod TEXT NOT NULL,
     check_sum INTEGER NOT NULL,
     deletion TEXT,
     wall_ms INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE ledgers (
     uid TEXT PRIMARY KEY REFERENCES pods (uid) ON DELETE CASCADE,
     ledger TEXT NOT NULL,
     check_sum INTEGER NOT NULL,
     wall_ms INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE quarantine (
     id INTEGER PRIMARY KEY,
     origin TEXT NOT NULL,
     uid TEXT,
     problem TEXT NOT NULL,
     raw TEXT NOT NULL,
     wall_ms INTEGER NOT NULL
   ) STRICT;`,
  // What pods take from the API server, and their tokens. See sealed.ts.
  `CREATE TABLE objects (
     kind TEXT NOT NULL,
     namespace TEXT NOT NULL,
     name TEXT NOT NULL,
     uid TEXT NOT NULL,
     version TEXT NOT NULL,
     sealed BLOB NOT NULL,
     wall_ms INTEGER NOT NULL,
     PRIMARY KEY (kind, namespace, name)
   ) STRICT, WITHOUT ROWID;`,
];

export function schemaVersion(database: Sqlite): number {
  return Number(database.pragma('user_version', { simple: true }));
}

/**
 * Throws a `Failure` for a database that a newer limpet has written: what this one would lose of it
 * can't be known, so it is not touched.
 */
export function refuseNewer(database: Sqlite, path: string, known = MIGRATIONS.length): void {
  const version = schemaVersion(database);
  if (version <= known) return;
  throw new Failure(
    'InvalidArgument',
    `${path} was written by a newer limpet (format ${version}, this one knows up to ${known}); ` +
      'it was left as it is. Install the newer limpet again, or move the file away to start ' +
      'without what it holds',
  );
}

/** Brings the tables up to date, each step in a transaction of its own. */
export function migrate(database: Sqlite, steps: readonly string[] = MIGRATIONS): void {
  for (let version = schemaVersion(database); version < steps.length; version++) {
    database
      .transaction(() => {
        database.exec(steps[version]!);
        database.pragma(`user_version = ${version + 1}`);
      })
      .immediate();
  }
}
