/**
 * What happens when `limpet.db` is damaged or gone: the old files are set aside as they are, the
 * newest sound backup (or an empty database) takes their place, and every row that can still be
 * read from the old one and passes its check sum goes in too, since it is newer than the backup.
 */
import {
  closeSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { syncDirectory, syncFile } from '../base/durable-file.ts';
import type { Log } from '../base/log.ts';
import { soundBackup } from './backup.ts';
import {
  closeQuietly,
  openDatabase,
  openToRead,
  type NativeBinding,
  type Sqlite,
} from './database.ts';
import { decodeLedger, decodePod, type Decoded, type LedgerRow, type PodRow } from './rows.ts';
import { migrate, refuseNewer } from './schema.ts';
import { podRowOf, prepareTables, type Tables } from './tables.ts';

/** The rows of one database; those with a wrong check sum are not among them. */
export type Rows = { readonly pods: readonly PodRow[]; readonly ledgers: readonly LedgerRow[] };

const SET_ASIDE = 'set-aside';
const SALVAGE = 'salvage.tmp';
const SUFFIXES = ['', '-wal', '-shm', '-journal'] as const;
/** What is bigger than this has not been written by limpet, and copying it would fill the card. */
const MAX_SALVAGE_BYTES = 64 * 1024 * 1024;
/** Orders that were given after the backup must not be given again. */
const ORDER_GAP = 1000;

/** The files of a database that exist, whatever they are. */
export function databaseFiles(path: string): readonly string[] {
  return SUFFIXES.map((suffix) => path + suffix).filter(
    (file) => lstatSync(file, { throwIfNoEntry: false }) !== undefined,
  );
}

/**
 * Moves a database with all its files to a new folder in `<directory>/set-aside` and returns that.
 * Nothing in there is ever deleted by limpet. Throws the system error.
 */
export function setAside(directory: string, path: string, wallMs: number): string {
  const root = join(directory, SET_ASIDE);
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const taken = readdirSync(root).length;
  const folder = join(root, `${wallMs}-${taken + 1}`);
  mkdirSync(folder, { mode: 0o700 });
  // The log goes first: after a power cut in between, it never stands beside another database.
  for (const file of [...databaseFiles(path)].reverse()) {
    renameSync(file, join(folder, basename(file)));
  }
  for (const changed of [folder, root, directory]) syncDirectory(changed);
  return folder;
}

/** How many times something has been set aside, for people to clear away. */
export function countSetAside(directory: string): number {
  const root = join(directory, SET_ASIDE);
  return existsSync(root) ? readdirSync(root).length : 0;
}

/** Puts a database where there is none: from a backup if there is a sound one, else an empty one. */
export function openReplacement(
  directory: string,
  path: string,
  log: Log,
  nativeBinding?: NativeBinding,
): { readonly database: Sqlite; readonly backup: string | undefined } {
  const backup = soundBackup(directory, log, nativeBinding);
  if (backup === undefined) {
    closeSync(openSync(path, 'a', 0o600));
  } else {
    const temporary = `${path}.tmp`;
    copyFileSync(backup, temporary);
    syncFile(temporary);
    renameSync(temporary, path);
    syncDirectory(directory);
  }
  const database = openDatabase(path, 'full', nativeBinding);
  try {
    refuseNewer(database, path);
    migrate(database);
    return { database, backup };
  } catch (error) {
    closeQuietly(database);
    throw error;
  }
}

/** What can still be read of a database that was set aside. The files there are not touched. */
export function salvage(
  directory: string,
  folder: string,
  name: string,
  log: Log,
  nativeBinding?: NativeBinding,
): Rows {
  const nothing: Rows = { pods: [], ledgers: [] };
  const stat = lstatSync(join(folder, name), { throwIfNoEntry: false });
  if (stat?.isFile() !== true || stat.size > MAX_SALVAGE_BYTES) return nothing;
  const copies = join(directory, SALVAGE);
  try {
    rmSync(copies, { recursive: true, force: true });
    mkdirSync(copies, { mode: 0o700 });
    for (const suffix of ['', '-wal']) {
      const from = join(folder, name + suffix);
      if (existsSync(from)) copyFileSync(from, join(copies, name + suffix));
    }
    return readWhatIsLeft(join(copies, name), nativeBinding);
  } catch (error) {
    log.warn('nothing could be read from the old database', { folder, error: String(error) });
    return nothing;
  } finally {
    rmSync(copies, { recursive: true, force: true });
  }
}

function readWhatIsLeft(path: string, nativeBinding: NativeBinding | undefined): Rows {
  const database = openToRead(path, nativeBinding);
  try {
    refuseNewer(database, path);
    try {
      migrate(database);
    } catch {
      // Its tables are then those of an older version; what has other columns is not taken.
    }
    const pods = readTable<PodRow>(database, 'pods', 'ord').filter((row) => decodePod(row).ok);
    const ledgers = readTable<LedgerRow>(database, 'ledgers', 'uid').filter(
      (row) => decodeLedger(row).ok,
    );
    return { pods, ledgers };
  } finally {
    closeQuietly(database);
  }
}

/** Reads from both ends up to what is damaged, and across it as far as an index leads. */
function readTable<R extends PodRow | LedgerRow>(
  database: Sqlite,
  table: 'pods' | 'ledgers',
  key: 'ord' | 'uid',
): readonly R[] {
  const found = new Map<string, R>();
  for (const direction of ['ASC', 'DESC']) {
    try {
      const rows = database.prepare<[], R>(`SELECT * FROM ${table} ORDER BY ${key} ${direction}`);
      for (const row of rows.iterate()) found.set(row.uid, row);
      break; // to the end, so nothing is missing
    } catch {
      // The other direction is tried; what was read up to here is kept.
    }
  }
  return [...found.values()];
}

/** For each pod and each ledger the row that was written last. */
export function newestRows(origins: readonly Rows[]): Rows {
  const pick = <R extends PodRow | LedgerRow>(rows: readonly R[]): readonly R[] => {
    const newest = new Map<string, R>();
    for (const row of rows) {
      const other = newest.get(row.uid);
      if (other === undefined || row.wall_ms > other.wall_ms) newest.set(row.uid, row);
    }
    return [...newest.values()];
  };
  return {
    pods: pick(origins.flatMap((rows) => rows.pods)),
    ledgers: pick(origins.flatMap((rows) => rows.ledgers)),
  };
}

/** Brings `rows` into a database that was restored, in one transaction. */
export function mergeRows(database: Sqlite, rows: Rows, wallMs: number): void {
  const tables = prepareTables(database);
  database
    .transaction(() => {
      const [pods, ledgers] = [tables.podRows(), tables.ledgerRows()];
      for (const row of pods) quarantineIfBad('pods', row, decodePod(row));
      for (const row of ledgers) quarantineIfBad('ledgers', row, decodeLedger(row));
      const sound: Rows = {
        pods: pods.filter((row) => decodePod(row).ok),
        ledgers: ledgers.filter((row) => decodeLedger(row).ok),
      };
      const all = newestRows([rows, sound]);
      database.exec('DELETE FROM ledgers; DELETE FROM pods');
      // Two pods of one order: the later one gets a new order, after all others.
      const orders = new Map<number, PodRow>();
      const late: PodRow[] = [];
      for (const row of [...all.pods].sort((a, b) => a.wall_ms - b.wall_ms)) {
        if (orders.has(row.ord)) late.push(row);
        else orders.set(row.ord, row);
      }
      for (const row of orders.values()) tables.insertPod(row);
      for (const row of late) insertLast(tables, row);
      for (const row of all.ledgers) tables.insertLedger(row);
      skipOrders(database, tables.lastOrder() + ORDER_GAP);
    })
    .immediate();

  function quarantineIfBad(
    table: string,
    row: PodRow | LedgerRow,
    decoded: Decoded<unknown>,
  ): void {
    if (!decoded.ok) tables.quarantine(`backup ${table}`, row, decoded.problem, wallMs);
  }
}

function insertLast(tables: Tables, row: PodRow): void {
  const decoded = decodePod(row);
  if (!decoded.ok) return;
  tables.insertPod(podRowOf({ ...decoded.value, order: tables.lastOrder() + 1 }, row.wall_ms));
}

function skipOrders(database: Sqlite, last: number): void {
  database.prepare("DELETE FROM sqlite_sequence WHERE name = 'pods'").run();
  database.prepare("INSERT INTO sqlite_sequence (name, seq) VALUES ('pods', ?)").run(last);
}
