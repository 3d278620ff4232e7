/** The statements on `limpet.db`, each prepared once. They run inside the caller's transaction. */
import type { Pod } from '../kube/pod.ts';
import type { Deletion, Ledger, Source } from '../pod/model.ts';
import type { Sqlite } from './database.ts';
import {
  ledgerCheckSum,
  parseObject,
  podCheckSum,
  type LedgerRow,
  type ObjectRow,
  type PodRow,
} from './rows.ts';

export type NewPod = { readonly pod: Pod; readonly source: Source; readonly specHash: string };

export type Tables = ReturnType<typeof prepareTables>;

const TIME_FLOOR = 'store.timeFloorMs';
/** Stands while the store is open, to tell an unclean stop. */
const OPEN = 'store.open';
/** UIDs of pods whose ledger can't be relied on, as JSON. */
const UNCERTAIN = 'store.uncertain';

export function prepareTables(database: Sqlite) {
  const sql = <P extends unknown[], R = unknown>(text: string) => database.prepare<P, R>(text);
  const podRows = sql<[], PodRow>('SELECT * FROM pods ORDER BY ord');
  const podRow = sql<[string], PodRow>('SELECT * FROM pods WHERE uid = ?');
  const ledgerRows = sql<[], LedgerRow>('SELECT * FROM ledgers');
  const lastOrder = sql<[], { last: number }>(
    `SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'pods'), 0),
                coalesce((SELECT max(ord) FROM pods), 0)) AS last`,
  );
  const insertPod = sql<[PodRow]>(
    `INSERT INTO pods (ord, uid, source, spec_hash, pod, check_sum, deletion, wall_ms)
     VALUES (@ord, @uid, @source, @spec_hash, @pod, @check_sum, @deletion, @wall_ms)`,
  );
  const updatePod = sql<[PodRow]>(
    `UPDATE pods SET source = @source, spec_hash = @spec_hash, pod = @pod,
       check_sum = @check_sum, wall_ms = @wall_ms WHERE uid = @uid`,
  );
  const setDeletion = sql<[string, number, string]>(
    'UPDATE pods SET deletion = ?, wall_ms = ? WHERE uid = ?',
  );
  const putLedger = sql<[LedgerRow]>(
    `INSERT INTO ledgers (uid, ledger, check_sum, wall_ms)
     SELECT @uid, @ledger, @check_sum, @wall_ms FROM pods WHERE uid = @uid
     ON CONFLICT (uid) DO UPDATE
       SET ledger = excluded.ledger, check_sum = excluded.check_sum, wall_ms = excluded.wall_ms`,
  );
  const deletePod = sql<[string]>('DELETE FROM pods WHERE uid = ?');
  const deleteLedger = sql<[string]>('DELETE FROM ledgers WHERE uid = ?');
  const quarantine = sql<[string, string | null, string, string, number]>(
    'INSERT INTO quarantine (origin, uid, problem, raw, wall_ms) VALUES (?, ?, ?, ?, ?)',
  );
  const newest = sql<[], { newest: number }>(
    `SELECT max(coalesce((SELECT max(wall_ms) FROM pods), 0),
                coalesce((SELECT max(wall_ms) FROM ledgers), 0),
                coalesce((SELECT max(wall_ms) FROM objects), 0)) AS newest`,
  );

  const lowerPods = sql<[number, number]>('UPDATE pods SET wall_ms = ? WHERE wall_ms > ?');
  const lowerLedgers = sql<[number, number]>('UPDATE ledgers SET wall_ms = ? WHERE wall_ms > ?');
  const lowerObjects = sql<[number, number]>('UPDATE objects SET wall_ms = ? WHERE wall_ms > ?');

  const meta = prepareMeta(database);
  return {
    podRows: () => podRows.all(),
    podRow: (uid: string) => podRow.get(uid),
    ledgerRows: () => ledgerRows.all(),
    /** The highest order that was ever given. */
    lastOrder: () => lastOrder.get()!.last,
    /** Adds the pod, or replaces the one of this uid, which keeps its order and deletion. */
    putPod: ({ pod, source, specHash }: NewPod, wallMs: number): number => {
      const uid = pod.metadata.uid;
      const old = podRow.get(uid);
      const ord = old?.ord ?? lastOrder.get()!.last + 1;
      const row = podRowOf({ pod, source, specHash, order: ord }, wallMs);
      if (old === undefined) insertPod.run(row);
      else updatePod.run(row);
      return ord;
    },
    insertPod: (row: PodRow) => insertPod.run(row),
    updatePod: (row: PodRow) => updatePod.run(row),
    /** False if there is no such pod. */
    setDeletion: (uid: string, deletion: Deletion, wallMs: number): boolean =>
      setDeletion.run(JSON.stringify(deletion), wallMs, uid).changes > 0,
    /** False if there is no such pod. */
    putLedger: (uid: string, ledger: Ledger, wallMs: number): boolean =>
      putLedger.run(ledgerRowOf(uid, ledger, wallMs)).changes > 0,
    insertLedger: (row: LedgerRow) => putLedger.run(row),
    /** With its ledger. */
    deletePod: (uid: string) => deletePod.run(uid),
    deleteLedger: (uid: string) => deleteLedger.run(uid),
    ...prepareObjects(database),
    ...meta,
    /** Keeps the raw text of a row that can't be trusted. */
    quarantine: (origin: string, row: PodRow | LedgerRow, problem: string, wallMs: number) =>
      quarantine.run(origin, String(row.uid), problem, JSON.stringify(row), wallMs),
    /** The newest wall time that was stored, in ms. */
    timeFloor: () => Math.max(newest.get()!.newest, Number(meta.meta(TIME_FLOOR) ?? 0) || 0),
    /** Needed only where a write leaves no row behind that bears the time. */
    setTimeFloor: (wallMs: number) => meta.setMeta(TIME_FLOOR, String(wallMs)),
    /** Makes `wallMs` the newest time there is: those that are later were of a wrong clock. */
    lowerTimeFloor: (wallMs: number) => {
      lowerPods.run(wallMs, wallMs);
      lowerLedgers.run(wallMs, wallMs);
      lowerObjects.run(wallMs, wallMs);
      meta.setMeta(TIME_FLOOR, String(wallMs));
    },
  };
}

function prepareObjects(database: Sqlite) {
  const rows = database.prepare<[], ObjectRow>('SELECT * FROM objects');
  const put = database.prepare<[ObjectRow]>(
    `INSERT OR REPLACE INTO objects (kind, namespace, name, uid, version, sealed, wall_ms)
     VALUES (@kind, @namespace, @name, @uid, @version, @sealed, @wall_ms)`,
  );
  const remove = database.prepare<[string, string, string]>(
    'DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?',
  );
  return {
    objectRows: () => rows.all(),
    /** Takes the place of the one of this kind and name. */
    putObject: (row: ObjectRow) => put.run(row),
    removeObject: (kind: string, namespace: string, name: string) =>
      remove.run(kind, namespace, name),
  };
}

/** Small texts under a key, and what the store itself keeps there. */
function prepareMeta(database: Sqlite) {
  const meta = database.prepare<[string], { value: string }>(
    'SELECT value FROM meta WHERE key = ?',
  );
  const setMeta = database.prepare<[string, string]>(
    `INSERT INTO meta (key, value) VALUES (?, ?)
     ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
  );
  const removeMeta = database.prepare<[string]>('DELETE FROM meta WHERE key = ?');
  const readMeta = (key: string) => meta.get(key)?.value;
  const writeMeta = (key: string, value: string | undefined): void => {
    if (value === undefined) removeMeta.run(key);
    else if (readMeta(key) !== value) setMeta.run(key, value);
  };
  return {
    meta: readMeta,
    setMeta: writeMeta,
    isOpen: () => readMeta(OPEN) !== undefined,
    setOpen: (value: boolean) => writeMeta(OPEN, value ? 'yes' : undefined),
    uncertain: (): readonly string[] => {
      const value = parseObject(readMeta(UNCERTAIN) ?? '[]');
      return Array.isArray(value) ? value.filter((uid) => typeof uid === 'string') : [];
    },
    setUncertain: (uids: readonly string[]) =>
      writeMeta(UNCERTAIN, uids.length === 0 ? undefined : JSON.stringify(uids)),
  };
}

export function podRowOf(
  stored: NewPod & { readonly order: number; readonly deletion?: Deletion },
  wallMs: number,
): PodRow {
  const row = {
    ord: stored.order,
    uid: stored.pod.metadata.uid,
    source: stored.source,
    spec_hash: stored.specHash,
    pod: JSON.stringify(stored.pod),
  };
  const deletion = stored.deletion === undefined ? null : JSON.stringify(stored.deletion);
  return { ...row, check_sum: podCheckSum(row), deletion, wall_ms: wallMs };
}

function ledgerRowOf(uid: string, ledger: Ledger, wallMs: number): LedgerRow {
  const row = { uid, ledger: JSON.stringify(ledger) };
  return { ...row, check_sum: ledgerCheckSum(row), wall_ms: wallMs };
}
