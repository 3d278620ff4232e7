/**
 * One SQLite file: how it is opened, and the one place where SQLite's errors become a `Failure`.
 *
 * The lock is exclusive for as long as the file is open. It keeps a second agent out, and it keeps
 * the index of the write-ahead log in memory: otherwise that index is a mapped file which the
 * kernel writes to the card again and again. The file must never be opened by other means while it
 * is open here, since closing any descriptor of it drops the lock of the whole process (POSIX).
 */
import { statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { errnoOf, Failure, type FailureCode } from '../base/failure.ts';

export type Sqlite = Database.Database;

/** The loaded addon or the path of its file, for the single executable; else it is looked up. */
export type NativeBinding = string | object;

/** `full`: a commit is on the disk when it returns. `normal`: a power cut may take the last ones. */
export type Durability = 'full' | 'normal';

/** What is wrong with a database that has to be set aside. */
export class Damage extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Damage';
  }
}

const SYNCHRONOUS = { full: 2, normal: 1 } as const satisfies Record<Durability, number>;
const PAGE_BYTES = 4096;
/** Frames after which the log is written back: few, so that the log stays small on the card. */
const CHECKPOINT_PAGES = 100;
const CACHE_KIB = 128;
const BUSY_TIMEOUT_MS = 2000;

/**
 * Opens or creates `path` with our settings. Throws the error of SQLite as it is, and a `Failure`
 * if the file can't be brought to the wanted durability.
 */
export function openDatabase(
  path: string,
  durability: Durability,
  nativeBinding?: NativeBinding,
): Sqlite {
  const database = connect(path, {}, nativeBinding);
  try {
    database.pragma('locking_mode = EXCLUSIVE');
    database.pragma(`page_size = ${PAGE_BYTES}`);
    // The first read: takes the lock and fails here on what is no database.
    database.pragma('user_version', { simple: true });
    const mode = database.pragma('journal_mode = WAL', { simple: true });
    for (const setting of [
      `synchronous = ${SYNCHRONOUS[durability]}`,
      `wal_autocheckpoint = ${CHECKPOINT_PAGES}`,
      `journal_size_limit = ${CHECKPOINT_PAGES * PAGE_BYTES}`,
      `cache_size = -${CACHE_KIB}`,
      'mmap_size = 0',
      'temp_store = MEMORY',
      'foreign_keys = ON',
      'secure_delete = ON',
      'cell_size_check = ON',
      'trusted_schema = OFF',
    ]) {
      database.pragma(setting);
    }
    const synchronous = database.pragma('synchronous', { simple: true });
    const inMemory = path === ':memory:';
    if (!inMemory && (mode !== 'wal' || synchronous !== SYNCHRONOUS[durability])) {
      throw new Failure(
        'Unknown',
        `${path}: SQLite runs with journal_mode=${String(mode)} synchronous=` +
          `${String(synchronous)} instead of wal and ${SYNCHRONOUS[durability]}, so a power cut ` +
          'could lose what was acknowledged; keep it on a local file system',
      );
    }
    return database;
  } catch (error) {
    closeQuietly(database);
    throw error;
  }
}

/**
 * Throws SQLite's `SQLITE_BUSY` if another process has the file open, without touching anything of
 * it: to be asked before its log is judged or its files are moved.
 */
export function refuseInUse(path: string, nativeBinding?: NativeBinding): void {
  // Opening a fifo would wait for ever.
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return;
  let database: Sqlite | undefined;
  try {
    database = connect(path, { readonly: true, fileMustExist: true }, nativeBinding);
    database.pragma('locking_mode = EXCLUSIVE');
    database.pragma('user_version', { simple: true });
  } catch (error) {
    // Anything else comes after the question was answered: a lock that takes write access, damage.
    if (/^SQLITE_BUSY/.test(errnoOf(error) ?? '')) throw error;
  } finally {
    if (database !== undefined) closeQuietly(database);
  }
}

/** Opens a file that only this process knows (a backup, a copy), to read it. */
export function openToRead(path: string, nativeBinding?: NativeBinding): Sqlite {
  const database = connect(path, { fileMustExist: true }, nativeBinding);
  try {
    database.pragma('locking_mode = EXCLUSIVE');
    database.pragma(`cache_size = -${CACHE_KIB}`);
    database.pragma('mmap_size = 0');
    database.pragma('trusted_schema = OFF');
    return database;
  } catch (error) {
    closeQuietly(database);
    throw error;
  }
}

function connect(
  path: string,
  options: { fileMustExist?: boolean; readonly?: boolean },
  nativeBinding: NativeBinding | undefined,
): Sqlite {
  return new Database(path, {
    ...options,
    timeout: BUSY_TIMEOUT_MS,
    // The types know only the path; the addon itself is as good.
    ...(nativeBinding === undefined ? {} : { nativeBinding: nativeBinding as string }),
  });
}

export function closeQuietly(database: Sqlite): void {
  try {
    database.close();
  } catch {
    // It is given up; there is nobody to tell.
  }
}

/** Throws `Damage` unless the pages, the tables and their indexes are sound. */
export function checkIntegrity(database: Sqlite): void {
  const found = database.pragma('integrity_check(3)', { simple: true });
  if (found !== 'ok') throw new Damage(`integrity check: ${String(found).slice(0, 300)}`);
}

/** True if the error says that the file is at fault, and not the moment or the machine. */
export function isDamage(error: unknown): boolean {
  if (error instanceof Damage) return true;
  const code = errnoOf(error);
  return code !== undefined && DAMAGE.test(code);
}
const DAMAGE =
  /^SQLITE_(CORRUPT|NOTADB|IOERR|ERROR|SCHEMA|FORMAT|CANTOPEN|READONLY|MISMATCH|CONSTRAINT|RANGE|TOOBIG)/;

/** The `Failure` for an error of SQLite or of the file system; `what` as in "cannot <what>". */
export function storeFailure(error: unknown, what: string, path: string): Failure {
  if (error instanceof Failure) return error;
  const foreign = errnoOf(error) ?? '';
  const code = FOREIGN.find(([pattern]) => pattern.test(foreign))?.[1] ?? 'Unknown';
  const said = error instanceof Error ? error.message : String(error);
  const detail = foreign === '' || said.includes(foreign) ? said : `${said} (${foreign})`;
  return new Failure(code, `cannot ${what}: ${path}: ${detail}${REMEDY[code] ?? ''}`, {
    cause: error,
  });
}

const FOREIGN: readonly (readonly [RegExp, FailureCode])[] = [
  [/^(SQLITE_FULL|ENOSPC|EDQUOT)/, 'NoSpace'],
  [/^(SQLITE_BUSY|SQLITE_LOCKED)/, 'Unavailable'],
  [/^(SQLITE_READONLY|SQLITE_PERM|SQLITE_AUTH|EROFS|EACCES|EPERM)/, 'PermissionDenied'],
  [/^(SQLITE_NOMEM|EMFILE|ENFILE|ENOMEM)/, 'ResourceExhausted'],
];

const REMEDY: { readonly [C in FailureCode]?: string } = {
  NoSpace: '; free some space on this file system',
  Unavailable: '; another limpet has it open: stop that one first',
  PermissionDenied:
    '; make the directory writable, and look with `dmesg` whether the kernel has made the file ' +
    'system read-only after an error of the disk',
};
