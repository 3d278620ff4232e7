/**
 * What happens when `limpet.db` is damaged or gone: the old files are set aside as they are, the
 * newest sound backup (or an empty database) takes their place, and every row that can still be
 * read from the old one and passes its check sum goes in too, since it is newer than the backup.
 *
 * The power may be cut at any moment of it. The new database gets its name only when it is
 * complete, and a folder that was set aside is marked only then; until that, it is begun anew.
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
  statSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { syncDirectory, syncFile, writeFileDurably } from '../base/durable-file.ts';
import type { Log } from '../base/log.ts';
import { soundBackup } from './backup.ts';
import {
  closeQuietly,
  openDatabase,
  openToRead,
  type NativeBinding,
  type Sqlite,
} from './database.ts';
import {
  decodeLedger,
  decodePod,
  type Decoded,
  type LedgerRow,
  type ObjectRow,
  type PodRow,
} from './rows.ts';
import { migrate, refuseNewer } from './schema.ts';
import { podRowOf, prepareTables, type Tables } from './tables.ts';

/** The rows of one database; those with a wrong check sum are not among them. */
export type Rows = {
  readonly pods: readonly PodRow[];
  readonly ledgers: readonly LedgerRow[];
  /** Whether they are sound only the node's key can tell. */
  readonly objects: readonly ObjectRow[];
  /** UIDs whose ledger was doubtful already. */
  readonly uncertain: readonly string[];
};

const SET_ASIDE = 'set-aside';
/** In a folder that was set aside: what it held has been taken over. */
const DONE_MARK = 'taken-over';
const SALVAGE = 'salvage.tmp';
const MAKING = 'limpet.db.new';
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
 * Nothing in there is ever deleted by limpet. `open` is the database if it is open still: to close
 * it would bring the log into the damaged file, so it is copied first. Throws the system error.
 */
export function setAside(directory: string, path: string, wallMs: number, open?: Sqlite): string {
  const root = join(directory, SET_ASIDE);
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const places = readdirSync(root).map(placeOf);
  const folder = join(root, `${wallMs}-${Math.max(0, ...places) + 1}`);
  mkdirSync(folder, { mode: 0o700 });
  // The log goes first: after a power cut in between, it never stands beside another database.
  const files = databaseFiles(path).toReversed();
  const move = (file: string) => renameSync(file, join(folder, basename(file)));
  if (open === undefined) files.forEach(move);
  else if (files.some((file) => statSync(file).size > MAX_SALVAGE_BYTES)) {
    closeQuietly(open);
    databaseFiles(path).toReversed().forEach(move);
  } else {
    for (const file of files) copyDurably(file, join(folder, basename(file)));
    for (const changed of [folder, root, directory]) syncDirectory(changed);
    closeQuietly(open);
    for (const file of files) rmSync(file, { force: true });
  }
  for (const changed of [folder, root, directory]) syncDirectory(changed);
  return folder;
}

function copyDurably(from: string, to: string): void {
  copyFileSync(from, to);
  syncFile(to);
}

/** The number at the end of a folder's name: the clock may have gone back between two of them. */
function placeOf(folder: string): number {
  return Number(/-(\d+)$/.exec(folder)?.[1] ?? 0);
}

/** Folders that were set aside, oldest first; `pending`: not yet made use of. */
export function listSetAside(
  directory: string,
): readonly { readonly folder: string; readonly pending: boolean }[] {
  const root = join(directory, SET_ASIDE);
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .map((name) => join(root, name))
    .map((folder) => ({ folder, pending: !existsSync(join(folder, DONE_MARK)) }))
    .sort((a, b) => placeOf(a.folder) - placeOf(b.folder));
}

export type Replacement = {
  /** The backup that it was made from, if there was a sound one. */
  readonly backup: string | undefined;
  /** What was read from the folders that were set aside. */
  readonly salvaged: Rows;
};

export type ReplacementOptions = {
  /** What was set aside may lack commits, so no ledger in it can be relied on. */
  readonly stale: boolean;
  readonly wallMs: number;
  readonly log: Log;
  readonly nativeBinding: NativeBinding | undefined;
};

/**
 * Makes the database at `path`, where there is none, from the newest sound backup and what can be
 * read of the databases set aside. Throws the error of SQLite or of the file system.
 */
export function makeReplacement(
  directory: string,
  path: string,
  options: ReplacementOptions,
): Replacement {
  const { stale, wallMs, log, nativeBinding } = options;
  const folders = listSetAside(directory)
    .filter(({ folder, pending }) => pending && existsSync(join(folder, basename(path))))
    .map(({ folder }) => folder);
  const salvaged = newestRows(
    folders.map((folder) => salvage(directory, folder, basename(path), log, nativeBinding)),
  );
  const backup = soundBackup(directory, log, nativeBinding);
  const making = join(directory, MAKING);
  for (const file of databaseFiles(making)) rmSync(file, { recursive: true });
  if (backup === undefined) closeSync(openSync(making, 'a', 0o600));
  else copyFileSync(backup, making);
  const database = openDatabase(making, 'full', nativeBinding);
  try {
    refuseNewer(database, backup ?? making);
    migrate(database);
    mergeRows(database, salvaged, stale, wallMs);
  } finally {
    database.close(); // brings all into the one file and removes the log
  }
  syncFile(making);
  renameSync(making, path);
  syncDirectory(directory);
  for (const folder of folders) {
    writeFileDurably(join(folder, DONE_MARK), 'What could be read was taken over.\n');
  }
  return { backup, salvaged };
}

/** What can still be read of a database that was set aside. The files there are not touched. */
function salvage(
  directory: string,
  folder: string,
  name: string,
  log: Log,
  nativeBinding: NativeBinding | undefined,
): Rows {
  const nothing: Rows = { pods: [], ledgers: [], objects: [], uncertain: [] };
  const copies = join(directory, SALVAGE);
  try {
    const stat = statSync(join(folder, name));
    if (!stat.isFile() || stat.size > MAX_SALVAGE_BYTES) return nothing;
    rmSync(copies, { recursive: true, force: true });
    mkdirSync(copies, { mode: 0o700 });
    for (const suffix of ['', '-wal']) {
      const from = join(folder, name + suffix);
      const found = statSync(from, { throwIfNoEntry: false });
      if (found?.isFile() === true) copyFileSync(from, join(copies, name + suffix));
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
    const pods = readTable<PodRow>(database, 'pods', ['ord']).filter((row) => decodePod(row).ok);
    const ledgers = readTable<LedgerRow>(database, 'ledgers', ['uid']).filter(
      (row) => decodeLedger(row).ok,
    );
    const objects = readTable<ObjectRow>(database, 'objects', ['kind', 'namespace', 'name']);
    const uncertain = readUncertain(database) ?? pods.map(({ uid }) => uid);
    return { pods, ledgers, objects, uncertain };
  } finally {
    closeQuietly(database);
  }
}

/** Undefined if it can't be read. */
function readUncertain(database: Sqlite): readonly string[] | undefined {
  try {
    return prepareTables(database).uncertain();
  } catch {
    return undefined;
  }
}

/** Reads from both ends up to what is damaged, and across it as far as an index leads. */
function readTable<R extends PodRow | LedgerRow | ObjectRow>(
  database: Sqlite,
  table: 'pods' | 'ledgers' | 'objects',
  order: readonly string[],
): readonly R[] {
  const found = new Map<string, R>();
  for (const direction of ['ASC', 'DESC']) {
    try {
      const by = order.map((column) => `${column} ${direction}`).join(', ');
      const rows = database.prepare<[], R>(`SELECT * FROM ${table} ORDER BY ${by}`);
      for (const row of rows.iterate()) found.set(identityOf(row), row);
      break; // to the end, so nothing is missing
    } catch {
      // The other direction is tried; what was read up to here is kept.
    }
  }
  return [...found.values()];
}

function identityOf(row: PodRow | LedgerRow | ObjectRow): string {
  return 'sealed' in row ? `${row.kind}/${row.namespace}/${row.name}` : row.uid;
}

/** For each pod, each ledger and each object the row that was written last. */
function newestRows(origins: readonly Rows[]): Rows {
  const pick = <R extends PodRow | LedgerRow | ObjectRow>(rows: readonly R[]): readonly R[] => {
    const newest = new Map<string, R>();
    for (const row of rows) {
      const identity = identityOf(row);
      const other = newest.get(identity);
      if (other === undefined || row.wall_ms > other.wall_ms) newest.set(identity, row);
    }
    return [...newest.values()];
  };
  return {
    pods: pick(origins.flatMap((rows) => rows.pods)),
    ledgers: pick(origins.flatMap((rows) => rows.ledgers)),
    objects: pick(origins.flatMap((rows) => rows.objects)),
    uncertain: origins.flatMap((rows) => rows.uncertain),
  };
}

/** Brings what was salvaged into a database that was restored, in one transaction. */
function mergeRows(database: Sqlite, rows: Rows, stale: boolean, wallMs: number): void {
  const tables = prepareTables(database);
  database
    .transaction(() => {
      const [pods, ledgers] = [tables.podRows(), tables.ledgerRows()];
      for (const row of pods) quarantineIfBad('pods', row, decodePod(row));
      for (const row of ledgers) quarantineIfBad('ledgers', row, decodeLedger(row));
      const sound: Rows = {
        pods: pods.filter((row) => decodePod(row).ok),
        ledgers: ledgers.filter((row) => decodeLedger(row).ok),
        objects: tables.objectRows(),
        uncertain: tables.uncertain(),
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
      for (const row of all.objects) tables.putObject(row);
      skipOrders(database, tables.lastOrder() + ORDER_GAP);
      const sure = new Set(stale ? [] : rows.ledgers.map(({ uid }) => uid));
      for (const uid of all.uncertain) sure.delete(uid);
      tables.setUncertain(all.pods.map(({ uid }) => uid).filter((uid) => !sure.has(uid)));
      tables.setOpen(false); // it stood in the backup
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
