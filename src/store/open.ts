/**
 * Opens the store, whatever state its files are in.
 *
 *   limpet.db   sound ───────────────────────────────────────────> clean | unclean
 *               none, and never was ─────────────────────────────> new
 *               none, empty, damaged ─ set aside ─┬─ backup ─────> restored
 *                                                 └─ empty one ──> rebuilt
 *   then in all cases: compare with pod files and tombstones, take back what is missing.
 */
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  statSync,
  type Stats,
} from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { writeFileDurably } from '../base/durable-file.ts';
import { errnoOf, Failure, faultOf, type Fault } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { listBackups } from './backup.ts';
import {
  checkIntegrity,
  closeQuietly,
  Damage,
  isDamage,
  openDatabase,
  refuseInUse,
  storeFailure,
  type NativeBinding,
  type Sqlite,
} from './database.ts';
import { listPodFiles } from './pod-file.ts';
import { completeCopies, reconcile, type Reconciled, type SecondCopies } from './reconcile.ts';
import { Recorder } from './recorder.ts';
import { Reserve } from './reserve.ts';
import { databaseFiles, listSetAside, makeReplacement, setAside } from './restore.ts';
import { migrate, refuseNewer, schemaVersion } from './schema.ts';
import { createSeal, keyFile, type KeySource } from './sealed.ts';
import { Store, type Opening } from './store.ts';
import { prepareTables } from './tables.ts';
import { Tombstones } from './tombstones.ts';
import { lookAtWal } from './wal.ts';

export type StoreOptions = {
  readonly clock: Clock;
  readonly log: Log;
  /** Where each pod has its directory; without it there are no pod files. */
  readonly podsDirectory?: string;
  /** In the single executable, where the addon can't be looked up. */
  readonly nativeBinding?: NativeBinding;
  /** What objects of the API server are encrypted with; a file beside the database unless told. */
  readonly deviceKey?: KeySource;
};

type Opened = {
  readonly database: Sqlite;
  readonly state: Opening['state'];
  readonly message: string;
  readonly setAside?: string;
};

const DATABASE = 'limpet.db';
const EVENTS = 'events.db';
const DEVICE_KEY = 'device.key';
/** Tells a database that was lost from one that never was. */
const INITIALIZED = 'initialized';

/**
 * Opens the store in `directory`, which is made if need be. Throws a `Failure` only where nothing
 * can be done about it here: another limpet runs on it (`Unavailable`), a newer limpet wrote it
 * (`InvalidArgument`), or the disk can't be written at all.
 */
export function openStore(directory: string, options: StoreOptions): Store {
  const path = join(directory, DATABASE);
  const { clock, log, podsDirectory, nativeBinding } = options;
  let database: Sqlite | undefined;
  let store: Store | undefined;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const tombstones = new Tombstones(directory, log);
    const copies: SecondCopies = { podsDirectory, tombstones };
    const used = wasUsed(directory, copies);
    const opened = openOrRestore(directory, path, used, options);
    database = opened.database;
    const tables = prepareTables(database);
    const wallMs = Math.max(tables.timeFloor(), clock.now().wallMs);
    const reserve = new Reserve(join(directory, 'reserve'), log);
    let fault: Fault | undefined;
    let reconciled = NOTHING;
    let uncertain = tables.uncertain();
    try {
      const mend = (): Reconciled => {
        const result = reconcile(opened.database, tables, copies, {
          ...{ replaced: REPLACED.includes(opened.state), wallMs, log },
        });
        uncertain = [...new Set([...uncertain, ...result.withoutLedger])];
        tables.setUncertain(uncertain);
        tables.setOpen(true);
        return result;
      };
      reconciled = database.transaction(mend).immediate();
    } catch (error) {
      // A full disk must not keep the pods from running; nothing new starts until it has space.
      const failure = storeFailure(error, 'write when opening', path);
      if (failure.code !== 'NoSpace') throw failure;
      fault = faultOf(failure);
      log.error(failure.message);
    }
    store = new Store({
      ...{ path, directory, database, tables, copies, reserve, clock, log, nativeBinding, fault },
      recorder: openRecorder(directory, options),
      seal: createSeal(options.deviceKey ?? keyFile(join(directory, DEVICE_KEY), log)),
      opening: openingOf(opened, reconciled, uncertain),
    });
    completeCopies(store.pods(), copies, log);
    if (fault === undefined) settle(directory, reserve);
    tell(store.opening, directory, log);
    return store;
  } catch (error) {
    if (store !== undefined) store[Symbol.dispose]();
    else if (database !== undefined) closeQuietly(database);
    throw storeFailure(error, 'open the store', path);
  }
}

function openOrRestore(
  directory: string,
  path: string,
  used: boolean,
  options: StoreOptions,
): Opened {
  const { clock, log, nativeBinding } = options;
  const found = openFound(path, used, nativeBinding);
  if ('database' in found) return found;
  log.error('the database can not be used', { path, problem: found.problem });
  const { wallMs } = clock.now();
  let aside: string | undefined;
  if (databaseFiles(path).length > 0) {
    if (found.open === undefined) refuseInUse(path, nativeBinding);
    aside = setAside(directory, path, wallMs, found.open);
  }
  const { backup, salvaged } = makeReplacement(directory, path, {
    ...{ stale: found.stale, wallMs, log, nativeBinding },
  });
  const origins = [
    backup === undefined ? 'no backup was there' : `taken from the backup ${backup}`,
    `${salvaged.pods.length} pods and ${salvaged.ledgers.length} ledgers could be read from the ` +
      'old one',
  ];
  return {
    database: openDatabase(path, 'full', nativeBinding),
    state: backup === undefined ? 'rebuilt' : 'restored',
    message: `${path}: ${found.problem}; ${origins.join(', ')}`,
    ...(aside === undefined ? {} : { setAside: aside }),
  };
}

type Unusable = {
  readonly problem: string;
  /** What can still be read of it may be older than what was acknowledged. */
  readonly stale: boolean;
  /** The damaged database, open. */
  readonly open?: Sqlite;
};

/** The database that is there, or a new one on a first start, or what is wrong with it. */
function openFound(
  path: string,
  used: boolean,
  nativeBinding: NativeBinding | undefined,
): Opened | Unusable {
  const problem = problemOfFile(path, used);
  if (problem !== undefined) return { problem, stale: true };
  closeSync(openSync(path, 'a', 0o600));
  let database: Sqlite | undefined;
  try {
    refuseInUse(path, nativeBinding);
    if (lookAtWal(path) === 'lost') return { problem: 'its log is damaged', stale: true };
    database = openDatabase(path, 'full', nativeBinding);
    refuseNewer(database, path);
    const isNew = schemaVersion(database) === 0;
    if (isNew && used) throw new Damage('it has no tables');
    checkIntegrity(database);
    bringUpToDate(database, path);
    const clean = !prepareTables(database).isOpen();
    return { database, ...stateOf(path, isNew, clean) };
  } catch (error) {
    if (isDamage(error)) {
      const open = database === undefined ? {} : { open: database };
      return { problem: (error as Error).message, stale: false, ...open };
    }
    if (database !== undefined) closeQuietly(database);
    throw error;
  }
}

function stateOf(path: string, isNew: boolean, clean: boolean): Pick<Opened, 'state' | 'message'> {
  if (isNew) return { state: 'new', message: `made ${path}` };
  if (clean) return { state: 'clean', message: 'stopped properly the last time' };
  return {
    state: 'unclean',
    message: 'not stopped properly the last time; the database passed its check',
  };
}

/** What can be seen of the file from outside. Throws the system error if that says nothing of it. */
function problemOfFile(path: string, used: boolean): string | undefined {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) {
    return used || databaseFiles(path).length > 0 ? 'it is missing' : undefined;
  }
  const stat: Stats | undefined = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) return 'it is not a regular file';
  if (stat.size === 0 && used) return 'it is empty';
  try {
    closeSync(openSync(path, 'r+'));
    return undefined;
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'EIO' || code === 'EACCES' || code === 'EPERM') return (error as Error).message;
    throw error; // too many open files, a read-only file system: not the fault of this file
  }
}

/** A step that fails on sound data is a mistake of ours and no reason to set anything aside. */
function bringUpToDate(database: Sqlite, path: string): void {
  const from = schemaVersion(database);
  try {
    migrate(database);
  } catch (error) {
    if (/^SQLITE_(CORRUPT|NOTADB|IOERR|FULL)/.test(errnoOf(error) ?? '')) throw error;
    throw new Failure(
      'Unknown',
      `cannot bring ${path} from format ${from} to that of this limpet: ${String(error)}; it was ` +
        'left as it is. Install the limpet that ran before, and report this',
      { cause: error },
    );
  }
}

/** Whether there has ever been a database here. */
function wasUsed(directory: string, { podsDirectory, tombstones }: SecondCopies): boolean {
  return (
    existsSync(join(directory, INITIALIZED)) ||
    listBackups(directory).length > 0 ||
    tombstones.uids.length > 0 ||
    (podsDirectory !== undefined && listPodFiles(podsDirectory).length > 0)
  );
}

function settle(directory: string, reserve: Reserve): void {
  const mark = join(directory, INITIALIZED);
  if (!existsSync(mark)) {
    writeFileDurably(mark, 'A database was made here. If it is missing, it was lost.\n');
  }
  reserve.fill();
}

/** Events may be lost: if their file is damaged or can't be made, they begin anew. */
function openRecorder(directory: string, { clock, log, nativeBinding }: StoreOptions): Recorder {
  const path = join(directory, EVENTS);
  const open = (file: string): Recorder => {
    const database = openDatabase(file, 'normal', nativeBinding);
    try {
      checkIntegrity(database);
      return new Recorder(database, clock, log);
    } catch (error) {
      closeQuietly(database);
      throw error;
    }
  };
  for (const _ of ['as it is', 'anew']) {
    try {
      return open(path);
    } catch (error) {
      log.warn('cannot open the events', { path, error: String(error) });
      if (!isDamage(error)) break;
      try {
        setAside(directory, path, clock.now().wallMs);
      } catch {
        break;
      }
    }
  }
  log.warn('events are kept in memory only', { path });
  return open(':memory:');
}

function openingOf(opened: Opened, reconciled: Reconciled, uncertain: readonly string[]): Opening {
  const { state, message } = opened;
  const { pods, deletions, quarantined } = reconciled;
  const said = [
    message,
    pods.length > 0 ? `${pods.length} pods were taken back from their files` : '',
    deletions.length > 0 ? `${deletions.length} deletions were taken back` : '',
    quarantined.length > 0 ? `damaged rows are kept in quarantine: ${quarantined.join(' ')}` : '',
  ].filter((part) => part !== '');
  const lost = pods.length + deletions.length + quarantined.length > 0;
  return {
    state: lost && (state === 'clean' || state === 'unclean') ? 'restored' : state,
    message: said.join('; '),
    ...(opened.setAside === undefined ? {} : { setAside: opened.setAside }),
    uncertain,
  };
}

const REPLACED: readonly Opening['state'][] = ['restored', 'rebuilt'];
const NOTHING: Reconciled = { pods: [], deletions: [], quarantined: [], withoutLedger: [] };

function tell(opening: Opening, directory: string, log: Log): void {
  const { state, message } = opening;
  if (state === 'restored' || state === 'rebuilt') log.error(`store ${state}: ${message}`);
  else log.info(`store opened, ${state}: ${message}`);
  const count = listSetAside(directory).length;
  if (count > 0) {
    log.warn('damaged databases are kept; remove them when nobody needs them any more', {
      path: join(directory, 'set-aside'),
      count,
    });
  }
}
