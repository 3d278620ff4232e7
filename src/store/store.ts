/**
 * What this node must not forget: desired pods in their order, deletions, ledgers, the time floor.
 *
 * Invariants
 * - What a write method was given is on the disk when it returns; when it throws, nothing of it is.
 * - Pods and deletions are then also in a second place (pod files, tombstones).
 * - Nothing is written when nothing changes.
 */
import type { Clock, Now, Timer } from '../base/clock.ts';
import { Failure, faultOf, type Fault } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Delivered, Delivery, EventRecord, NewEvent } from '../kube/event.ts';
import type { Deletion, Ledger } from '../pod/model.ts';
import { writeBackup } from './backup.ts';
import { closeQuietly, storeFailure, type NativeBinding, type Sqlite } from './database.ts';
import { checkUid, removePodFile, writePodFiles } from './pod-file.ts';
import type { SecondCopies } from './reconcile.ts';
import type { EventFilter, Recorder } from './recorder.ts';
import type { Reserve } from './reserve.ts';
import { decodeLedger, decodePod, type StoredPod } from './rows.ts';
import type { ObjectId, Seal, StoredObject } from './sealed.ts';
import type { NewPod, Tables } from './tables.ts';

export type Opening = {
  /**
   * `clean`, `unclean`: all is there; the last run ended properly or did not. `restored`: something
   * was lost and came back from a backup or the second copies. `rebuilt`: there was no backup
   * either, only the second copies and what could be read of the old file. `new`: a first start.
   */
  readonly state: 'clean' | 'unclean' | 'restored' | 'rebuilt' | 'new';
  /** For people. */
  readonly message: string;
  /** Folder that the damaged files were moved to. */
  readonly setAside?: string;
  /**
   * UIDs of pods whose ledger is lost or may be out of date: they may have run further than it
   * says. A pod stays among them, also in later runs, until a ledger of it is stored. So the first
   * one has to carry the doubt, where a second start would be wrong.
   */
  readonly uncertain: readonly string[];
};

export type Health = { readonly ok: true } | { readonly ok: false; readonly fault: Fault };

export type DeletionOf = { readonly uid: string; readonly deletion: Deletion };
export type LedgerOf = { readonly uid: string; readonly ledger: Ledger };

export type StoreParts = {
  readonly path: string;
  readonly directory: string;
  readonly database: Sqlite;
  readonly tables: Tables;
  readonly copies: SecondCopies;
  readonly recorder: Recorder;
  readonly seal: Seal;
  readonly reserve: Reserve;
  readonly clock: Clock;
  readonly log: Log;
  readonly nativeBinding: NativeBinding | undefined;
  readonly opening: Opening;
  /** Why the first write failed, if it did. */
  readonly fault: Fault | undefined;
};

/** At most one backup in this time. */
const BACKUP_INTERVAL_MS = 10 * 60_000;
/** Changes come in batches: one backup is enough for all of them. */
const BACKUP_SETTLE_MS = 10_000;

export class Store {
  readonly opening: Opening;
  readonly #parts: StoreParts;
  readonly #listeners = new Set<(event: NewEvent, now: Now) => void>();
  #floorMs: number;
  #uncertain: readonly string[];
  #fault: Fault | undefined;
  #backupDue = false;
  #backupTimer: Timer | undefined;
  #backedUpMonoMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  /** Use `openStore`. */
  constructor(parts: StoreParts) {
    this.#parts = parts;
    this.#floorMs = parts.tables.timeFloor();
    this.#fault = parts.fault;
    this.opening = parts.opening;
    this.#uncertain = parts.opening.uncertain;
    if (!['new', 'clean'].includes(parts.opening.state)) this.#wantBackup();
  }

  /** All desired pods in their order, with their ledgers. Throws a `Failure`. */
  pods(): readonly StoredPod[] {
    const { tables, log } = this.#parts;
    try {
      const ledgers = new Map(tables.ledgerRows().map((row) => [row.uid, row]));
      return tables.podRows().flatMap((row) => {
        const decoded = decodePod(row);
        if (!decoded.ok) {
          log.error('a stored pod is damaged', { uid: row.uid, problem: decoded.problem });
          return [];
        }
        const ledgerRow = ledgers.get(row.uid);
        const ledger = ledgerRow === undefined ? undefined : decodeLedger(ledgerRow);
        return ledger?.ok === true ? { ...decoded.value, ledger: ledger.value } : decoded.value;
      });
    } catch (error) {
      throw this.#failed(error, 'read the pods');
    }
  }

  /**
   * Stores a pod durably and returns its order. A uid that is stored already keeps its order, and
   * its deletion if it has one. Throws a `Failure`; `NoSpace` when the disk is full.
   */
  putPod(pod: NewPod['pod'], source: NewPod['source'], specHash: string): number {
    return this.putPods([{ pod, source, specHash }])[0]!;
  }

  /** All of them or, when it throws, none. */
  putPods(pods: readonly NewPod[]): readonly number[] {
    return this.replacePods({ add: pods, delete: [] });
  }

  /** Stores pods and deletions in one transaction; returns the orders of the pods. */
  replacePods(change: {
    readonly add: readonly NewPod[];
    readonly delete: readonly DeletionOf[];
  }): readonly number[] {
    const { tables, copies } = this.#parts;
    const uids = change.add.map(({ pod }) => checkUid(pod.metadata.uid));
    this.#expectKnown(change.delete);
    const what = `store ${change.add.length} pods and ${change.delete.length} deletions`;
    // Before the database: a tombstone always means that the database has the deletion.
    const again = uids.filter((uid) => tables.podRow(uid) === undefined);
    this.#try(what, () => copies.tombstones.remove(again));
    const orders = this.#write(what, change.add.length === 0, (wallMs) => {
      for (const { uid, deletion } of change.delete) tables.setDeletion(uid, deletion, wallMs);
      return change.add.map((pod) => tables.putPod(pod, wallMs));
    });
    this.#copy('write the second copy of a pod', () => {
      copies.tombstones.add(change.delete);
      const { podsDirectory } = copies;
      if (podsDirectory === undefined) return;
      const filed = change.add.map((pod, index) => ({ ...pod, order: orders[index]! }));
      writePodFiles(podsDirectory, filed);
    });
    this.#wantBackup();
    return orders;
  }

  /** Stores durably that a pod is to be ended and forgotten. Throws `NotFound`, `NoSpace`, …. */
  putDeletion(uid: string, deletion: Deletion): void {
    this.replacePods({ add: [], delete: [{ uid, deletion }] });
  }

  /**
   * Stores ledgers in one transaction with one sync of the disk. Ledgers of pods that are not
   * stored are left out; their UIDs are returned. Throws `NoSpace` when the disk is full.
   */
  putLedgers(ledgers: readonly LedgerOf[]): readonly string[] {
    if (ledgers.length === 0) return [];
    const { tables } = this.#parts;
    const uncertain = this.#uncertain.filter((uid) => !ledgers.some((of) => of.uid === uid));
    const unknown = this.#write(`store ${ledgers.length} ledgers`, true, (wallMs) => {
      if (uncertain.length < this.#uncertain.length) tables.setUncertain(uncertain);
      return ledgers.flatMap(({ uid, ledger }) =>
        tables.putLedger(uid, ledger, wallMs) ? [] : [uid],
      );
    });
    this.#uncertain = uncertain;
    return unknown;
  }

  /** Removes a pod that is gone from the machine, with its ledger. Unknown ones are no error. */
  forget(uid: string): void {
    const { tables, copies, clock } = this.#parts;
    if (copies.tombstones.get(uid) === undefined) {
      const deletion = { graceSeconds: 0, at: clock.now() };
      this.#copy('write a tombstone', () => copies.tombstones.add([{ uid, deletion }]));
    }
    this.#write('forget a pod', true, (wallMs) => {
      tables.deletePod(uid);
      tables.setTimeFloor(wallMs);
    });
    const { podsDirectory } = copies;
    if (podsDirectory !== undefined) {
      this.#copy('remove a pod file', () => removePodFile(podsDirectory, uid));
    }
    this.#wantBackup();
  }

  /**
   * What was stored of the API server's objects; `damaged` can't be read, or not with this node's
   * key. Throws a `Failure`, also when there is no key.
   */
  objects(): { readonly sound: readonly StoredObject[]; readonly damaged: readonly ObjectId[] } {
    const { tables, seal } = this.#parts;
    return this.#try('read the objects of the API server', () => {
      const sound: StoredObject[] = [];
      const damaged: ObjectId[] = [];
      for (const { sealed, wall_ms: _, ...id } of tables.objectRows()) {
        const text = seal.open(id, sealed);
        if (text === undefined) damaged.push(id);
        else sound.push({ ...id, text });
      }
      return { sound, damaged };
    });
  }

  /**
   * Stores an object durably and encrypted, in the place of the one of its kind and name. `isShort`:
   * it is of use for a short time only, so no backup is made for its sake.
   */
  putObject({ text, ...id }: StoredObject, isShort = false): void {
    const { tables, seal } = this.#parts;
    this.#write(`store the ${id.kind} ${id.namespace}/${id.name}`, false, (wallMs) => {
      tables.putObject({ ...id, sealed: seal.seal(id, text), wall_ms: wallMs });
    });
    if (!isShort) this.#wantBackup();
  }

  /** Unknown ones are no error. */
  removeObjects(ids: readonly Pick<ObjectId, 'kind' | 'namespace' | 'name'>[]): void {
    if (ids.length === 0) return;
    const { tables } = this.#parts;
    this.#write(`forget ${ids.length} objects of the API server`, true, (wallMs) => {
      for (const { kind, namespace, name } of ids) tables.removeObject(kind, namespace, name);
      tables.setTimeFloor(wallMs);
    });
    this.#wantBackup();
  }

  /** The newest wall time that is stored, in ms since 1970; 0 if none is. */
  timeFloor(): number {
    return this.#floorMs;
  }

  meta(key: string): string | undefined {
    return this.#try('read a setting', () => this.#parts.tables.meta(key));
  }

  /** Stores a small text durably, or removes it. */
  setMeta(key: string, value: string | undefined): void {
    if (this.meta(key) === value) return;
    this.#write(`store ${key}`, true, () => this.#parts.tables.setMeta(key, value));
  }

  /** How the last write went. */
  health(): Health {
    return this.#fault === undefined ? { ok: true } : { ok: false, fault: this.#fault };
  }

  /** Adds an event, or counts it if the same one is there. Never throws. */
  recordEvent(event: NewEvent, now: Now): void {
    this.#parts.recorder.record(event, now);
    for (const heard of this.#listeners) heard(event, now);
  }

  /** Calls `heard` after each event that is recorded, until the result is disposed of. */
  hearEvents(heard: (event: NewEvent, now: Now) => void): Disposable {
    this.#listeners.add(heard);
    return { [Symbol.dispose]: () => void this.#listeners.delete(heard) };
  }

  /** See `Recorder.deliveries`. Never throws. */
  deliveries(which: 'all' | 'due'): readonly Delivery[] {
    return this.#parts.recorder.deliveries(which);
  }

  /** See `Recorder.setDelivered`. Never throws. */
  setDelivered(delivery: Delivery, delivered: Delivered): void {
    this.#parts.recorder.setDelivered(delivery, delivered, this.#parts.clock.now());
  }

  /** Events, the one that happened last at the end. Never throws. */
  events(filter: EventFilter = {}): readonly EventRecord[] {
    return this.#parts.recorder.events(filter);
  }

  /** Makes a backup now; false if it could not be made, which is logged and tried again later. */
  backup(): boolean {
    const { database, directory, tables, copies, nativeBinding, clock, log } = this.#parts;
    this.#backupTimer?.cancel();
    this.#backupTimer = undefined;
    this.#backedUpMonoMs = clock.now().monoMs;
    try {
      writeBackup(database, directory, nativeBinding);
      copies.tombstones.backedUp((uid) => tables.podRow(uid) !== undefined);
      this.#backupDue = false;
      return true;
    } catch (error) {
      log.warn('cannot make a backup', {
        error: storeFailure(error, 'make a backup', directory).message,
      });
      this.#wantBackup();
      return false;
    }
  }

  /** Closes the store properly; a second time does nothing. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    const { database, tables, recorder, log } = this.#parts;
    if (this.#backupDue) this.backup();
    this.#backupTimer?.cancel();
    recorder[Symbol.dispose]();
    try {
      tables.setOpen(false);
    } catch (error) {
      log.warn('cannot note the proper stop', { error: String(error) });
    }
    closeQuietly(database);
  }

  /** Runs `body` in a transaction. `last`: the reserve may be used up for it. */
  #write<T>(what: string, last: boolean, body: (wallMs: number) => T): T {
    const { database, tables, clock, reserve, path } = this.#parts;
    const { wallMs } = clock.now();
    const commit = database.transaction(() => {
      // The agent's clock holds to the floor, so it is only below when somebody has set it.
      if (wallMs < this.#floorMs) tables.lowerTimeFloor(wallMs);
      return body(wallMs);
    }).immediate;
    return this.#try(what, () => {
      let result: T;
      try {
        result = commit();
      } catch (error) {
        const full = storeFailure(error, what, path).code === 'NoSpace';
        if (!full || !last || !reserve.release()) throw error;
        result = commit();
      }
      this.#floorMs = wallMs;
      this.#fault = undefined;
      reserve.fill();
      return result;
    });
  }

  #try<T>(what: string, body: () => T): T {
    try {
      return body();
    } catch (error) {
      throw this.#failed(error, what);
    }
  }

  #failed(error: unknown, what: string): Failure {
    const failure = storeFailure(error, what, this.#parts.path);
    this.#fault = faultOf(failure);
    return failure;
  }

  /** For second copies: the database has it already, so a failure is only logged. */
  #copy(what: string, body: () => void): void {
    const { reserve, path, log } = this.#parts;
    try {
      try {
        body();
      } catch (error) {
        const full = storeFailure(error, what, path).code === 'NoSpace';
        if (!full || !reserve.release()) throw error;
        body();
      }
    } catch (error) {
      log.warn(`cannot ${what}`, { error: String(error) });
    }
  }

  #expectKnown(deletions: readonly DeletionOf[]): void {
    for (const { uid } of deletions) {
      if (this.#try('read a pod', () => this.#parts.tables.podRow(uid)) !== undefined) continue;
      throw new Failure('NotFound', `cannot delete the pod with uid ${uid}: it is not stored here`);
    }
  }

  #wantBackup(): void {
    this.#backupDue = true;
    if (this.#backupTimer !== undefined || this.#closed) return;
    const { clock } = this.#parts;
    const soonest = clock.now().monoMs + BACKUP_SETTLE_MS;
    const atMonoMs = Math.max(soonest, this.#backedUpMonoMs + BACKUP_INTERVAL_MS);
    this.#backupTimer = clock.at(atMonoMs, () => this.backup());
  }
}
