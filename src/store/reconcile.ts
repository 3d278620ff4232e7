/**
 * Compares the database with the second copies (pod files and tombstones) when the store is opened.
 * Both are written after the database, so whatever they know and the database does not, the
 * database has lost: it is taken back in. In the other direction, copies that are missing are made.
 */
import type { Log } from '../base/log.ts';
import type { Sqlite } from './database.ts';
import {
  listPodFiles,
  readPodFile,
  removePodFile,
  writePodFiles,
  type FiledPod,
} from './pod-file.ts';
import { decodeLedger, decodePod, type LedgerRow, type PodRow, type StoredPod } from './rows.ts';
import { podRowOf, type Tables } from './tables.ts';
import type { Tombstones } from './tombstones.ts';

export type SecondCopies = {
  readonly podsDirectory: string | undefined;
  readonly tombstones: Tombstones;
};

/** What was wrong, as UIDs. */
export type Reconciled = {
  /** Pods that the database had lost, from their files. */
  readonly pods: readonly string[];
  readonly deletions: readonly string[];
  /** Rows that could not be trusted, `<table>/<uid>`. */
  readonly quarantined: readonly string[];
  /** Pods whose ledger is lost. */
  readonly withoutLedger: readonly string[];
};

type Bad<R> = { readonly row: R; readonly problem: string };

/** Throws the error of SQLite. Writes nothing when there is nothing to mend. */
export function reconcile(
  database: Sqlite,
  tables: Tables,
  copies: SecondCopies,
  options: {
    /** The database is not the one that the copies were made of, so it may lack ended pods too. */
    readonly replaced: boolean;
    readonly wallMs: number;
    readonly log: Log;
  },
): Reconciled {
  const { replaced, wallMs, log } = options;
  const podRows = tables.podRows();
  const badPods = badOf(podRows, decodePod);
  const badLedgers = badOf(tables.ledgerRows(), decodeLedger);
  const known = new Set(podRows.map(({ uid }) => uid));
  const lost = lostPods(copies, known, replaced, log);
  const deletions = podRows.filter(
    ({ uid, deletion }) => deletion === null && copies.tombstones.get(uid) !== undefined,
  );
  const bad = [...badPods, ...badLedgers];
  if (bad.length + lost.length + deletions.length > 0) {
    database
      .transaction(() => {
        for (const { row, problem } of badLedgers) {
          tables.quarantine('ledgers', row, problem, wallMs);
          tables.deleteLedger(row.uid);
        }
        for (const { row, problem } of badPods) mendPod(row, problem);
        for (const filed of lost) insert(filed);
        for (const { uid } of deletions) {
          tables.setDeletion(uid, copies.tombstones.get(uid)!, wallMs);
        }
      })
      .immediate();
  }
  const ledgers = new Set(tables.ledgerRows().map(({ uid }) => uid));
  const touched = [...lost.map(({ pod }) => pod.metadata.uid), ...bad.map(({ row }) => row.uid)];
  return {
    pods: lost.map(({ pod }) => pod.metadata.uid),
    deletions: deletions.map(({ uid }) => uid),
    quarantined: [
      ...badPods.map(({ row }) => `pods/${row.uid}`),
      ...badLedgers.map(({ row }) => `ledgers/${row.uid}`),
    ],
    withoutLedger: [...new Set(touched)].filter((uid) => !ledgers.has(uid)),
  };

  /** Keeps the row, and with it the ledger, if the pod's file can take the place of its text. */
  function mendPod(row: PodRow, problem: string): void {
    tables.quarantine('pods', row, problem, wallMs);
    const filed = tryRead(copies.podsDirectory, row.uid, log);
    if (filed === undefined) tables.deletePod(row.uid);
    else tables.updatePod(podRowOf({ ...filed, order: row.ord }, wallMs));
  }

  function insert(filed: FiledPod): void {
    const taken = tables.podRows().some(({ ord }) => ord === filed.order);
    const order = taken ? tables.lastOrder() + 1 : filed.order;
    const deletion = copies.tombstones.get(filed.pod.metadata.uid);
    const ended = deletion === undefined ? {} : { deletion };
    tables.insertPod(podRowOf({ ...filed, order, ...ended }, wallMs));
  }
}

/**
 * Makes the second copies that are missing and removes those that are left over, while a tombstone
 * still tells them from pods that the database has lost. A failure is only logged: the database has
 * it all.
 */
export function completeCopies(pods: readonly StoredPod[], copies: SecondCopies, log: Log): void {
  const { podsDirectory, tombstones } = copies;
  try {
    tombstones.add(
      pods.flatMap(({ pod, deletion }) => {
        const { uid } = pod.metadata;
        return deletion === undefined || tombstones.get(uid) ? [] : [{ uid, deletion }];
      }),
    );
    if (podsDirectory === undefined) return;
    const filed = new Set(listPodFiles(podsDirectory));
    const known = new Set(pods.map(({ pod }) => pod.metadata.uid));
    for (const uid of filed) {
      if (!known.has(uid) && tombstones.get(uid)) removePodFile(podsDirectory, uid);
    }
    // The directory of a pod that is being deleted may just have been removed.
    const missing = pods.filter(
      (stored) => stored.deletion === undefined && !isFiled(podsDirectory, stored, filed),
    );
    writePodFiles(podsDirectory, missing);
  } catch (error) {
    log.warn('cannot write the second copies of the pods', { error: String(error) });
  }
}

/** Whether the file is there, sound, and not of an older state of the pod. */
function isFiled(
  podsDirectory: string,
  { pod, source, order, specHash }: StoredPod,
  filed: ReadonlySet<string>,
): boolean {
  const { uid } = pod.metadata;
  if (!filed.has(uid)) return false;
  try {
    const found = readPodFile(podsDirectory, uid);
    return JSON.stringify(found) === JSON.stringify({ pod, source, order, specHash });
  } catch {
    return false;
  }
}

function badOf<R extends PodRow | LedgerRow>(
  rows: readonly R[],
  decode: (row: R) => { readonly ok: true } | { readonly ok: false; readonly problem: string },
): readonly Bad<R>[] {
  return rows.flatMap((row) => {
    const decoded = decode(row);
    return decoded.ok ? [] : [{ row, problem: decoded.problem }];
  });
}

/**
 * Pods that have a file but no row. One with a tombstone was being ended: in a replaced database it
 * has to be, so that it is ended properly; else the file has merely outlived it by a moment.
 */
function lostPods(
  copies: SecondCopies,
  known: ReadonlySet<string>,
  replaced: boolean,
  log: Log,
): FiledPod[] {
  const { podsDirectory, tombstones } = copies;
  if (podsDirectory === undefined) return [];
  let uids: readonly string[];
  try {
    uids = listPodFiles(podsDirectory);
  } catch (error) {
    log.error('cannot read the pod files', { path: podsDirectory, error: String(error) });
    return [];
  }
  return uids
    .filter((uid) => !known.has(uid) && (replaced || tombstones.get(uid) === undefined))
    .flatMap((uid) => tryRead(podsDirectory, uid, log) ?? [])
    .sort((a, b) => a.order - b.order);
}

function tryRead(podsDirectory: string | undefined, uid: string, log: Log): FiledPod | undefined {
  if (podsDirectory === undefined) return undefined;
  try {
    return readPodFile(podsDirectory, uid);
  } catch (error) {
    log.error('cannot use a pod file', { uid, error: String(error) });
    return undefined;
  }
}
