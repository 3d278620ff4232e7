/**
 * Events for people, in `events.db`. They may be lost: they are kept in memory for a few seconds
 * and written in one go, without waiting for the card, and no failure here disturbs anybody.
 */
import { crc32 } from '../base/crc32.ts';
import type { Clock, Now, Timer } from '../base/clock.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { Delivered, Delivery, EventObject, EventRecord, NewEvent } from '../kube/event.ts';
import { closeQuietly, type Sqlite } from './database.ts';
import { migrate } from './schema.ts';

export type EventFilter = {
  readonly kind?: EventObject['kind'];
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
};

/** Longest time that an event is only in memory. */
const FLUSH_AFTER_MS = 5000;
const MAX_MESSAGE_LENGTH = 1024;

export const EVENT_MIGRATIONS: readonly string[] = [
  `CREATE TABLE events (
     id INTEGER PRIMARY KEY,
     identity INTEGER NOT NULL,
     kind TEXT NOT NULL,
     namespace TEXT NOT NULL,
     name TEXT NOT NULL,
     uid TEXT NOT NULL,
     field_path TEXT NOT NULL,
     type TEXT NOT NULL,
     reason TEXT NOT NULL,
     message TEXT NOT NULL,
     first_ms INTEGER NOT NULL,
     last_ms INTEGER NOT NULL,
     count INTEGER NOT NULL
   ) STRICT;
   CREATE INDEX events_identity ON events (identity);`,
  // What was recorded before stays where it is.
  `ALTER TABLE events ADD COLUMN in_api INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE events ADD COLUMN delivered INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE events ADD COLUMN combined INTEGER NOT NULL DEFAULT 0;`,
];

type Row = {
  readonly id: number;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly field_path: string;
  readonly type: string;
  readonly reason: string;
  readonly message: string;
  readonly first_ms: number;
  readonly last_ms: number;
  readonly count: number;
  /** Of `count`, what the API server has been told. */
  readonly delivered: number;
  readonly combined: number;
  readonly in_api: number;
};

type Pending = {
  /** With the count of what is not written yet. */
  readonly record: EventRecord;
  readonly delivered?: Delivered;
};

export class Recorder {
  readonly #database: Sqlite;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #statements: Statements;
  /** Not written yet, by identity. */
  readonly #pending = new Map<string, Pending>();
  #timer: Timer | undefined;
  #failing = false;

  /** Takes over `database`, which may be new. Throws the error of SQLite. */
  constructor(database: Sqlite, clock: Clock, log: Log) {
    migrate(database, EVENT_MIGRATIONS);
    this.#database = database;
    this.#clock = clock;
    this.#log = log;
    this.#statements = prepare(database);
  }

  record(event: NewEvent, now: Now): void {
    const cut = { ...event, message: shorten(event.message) };
    const identity = identityOf(cut);
    const old = this.#pending.get(identity);
    this.#pending.delete(identity);
    const isFirst = old === undefined || old.record.count === 0;
    const record = {
      ...cut,
      firstWallMs: isFirst ? now.wallMs : old.record.firstWallMs,
      lastWallMs: now.wallMs,
      count: (old?.record.count ?? 0) + 1,
    };
    this.#put(identity, { ...old, record }, now);
  }

  /** Notes what the API server has been told of an event; it is written with the next batch. */
  setDelivered({ key, record }: Delivery, delivered: Delivered, now: Now): void {
    const old = this.#pending.get(key) ?? { record: { ...record, count: 0 } };
    this.#put(key, { ...old, delivered }, now);
  }

  #put(identity: string, pending: Pending, now: Now): void {
    this.#pending.set(identity, pending);
    if (this.#pending.size > LIMITS.events) {
      this.#pending.delete(this.#pending.keys().next().value!);
    }
    this.#timer ??= this.#clock.at(now.monoMs + FLUSH_AFTER_MS, () => {
      this.#timer = undefined;
      this.flush();
    });
  }

  /** The events of an object or of all, the one that happened last at the end. */
  events(filter: EventFilter = {}): readonly EventRecord[] {
    const found = new Map<string, EventRecord>();
    try {
      for (const row of this.#statements.all.iterate()) {
        const record = recordOf(row);
        if (matches(record.object, filter)) found.set(identityOf(record), record);
      }
    } catch (error) {
      this.#failed('read events', error);
    }
    for (const [identity, { record }] of this.#pending) {
      if (record.count > 0 && matches(record.object, filter)) {
        const old = found.get(identity);
        found.delete(identity);
        found.set(identity, merged(old, record));
      }
    }
    return [...found.values()];
  }

  /**
   * The events of objects that the API server knows, or those of them that it has to be told of, in
   * the order in which they happened last.
   */
  deliveries(which: 'all' | 'due'): readonly Delivery[] {
    const { inApi, due, find } = this.#statements;
    const found = new Map<string, Delivery>();
    const add = (delivery: Delivery) => void found.set(delivery.key, delivery);
    try {
      for (const row of (which === 'all' ? inApi : due).iterate()) add(deliveryOf(row));
      for (const [key, pending] of this.#pending) {
        if (pending.record.object.inApi !== true) continue;
        let old = found.get(key);
        if (old === undefined) {
          const row = find.get(keyOf(pending.record));
          old = row === undefined ? undefined : deliveryOf(row);
        }
        const { count } = pending.record;
        if (count > 0) found.delete(key);
        if (old === undefined && count === 0) continue;
        add({
          key,
          record: count > 0 ? merged(old?.record, pending.record) : old!.record,
          delivered: pending.delivered ?? old?.delivered ?? NOTHING_DELIVERED,
        });
      }
    } catch (error) {
      this.#failed('read events', error);
    }
    const all = [...found.values()];
    return which === 'all' ? all : all.filter((of) => of.delivered.count < of.record.count);
  }

  /** Writes what is pending; on a failure it stays pending and goes with the next batch. */
  flush(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#pending.size === 0) return;
    try {
      this.#database.transaction(() => this.#write([...this.#pending.values()])).immediate();
      this.#pending.clear();
      this.#failing = false;
    } catch (error) {
      this.#failed('write events', error);
    }
  }

  [Symbol.dispose](): void {
    this.flush();
    closeQuietly(this.#database);
  }

  #write(all: readonly Pending[]): void {
    const { find, again, mark, insert, trimPod, trim } = this.#statements;
    for (const { record, delivered } of all) {
      const key = keyOf(record);
      const old = find.get(key);
      const { count, combined } = delivered ?? NOTHING_DELIVERED;
      if (old === undefined) {
        if (record.count === 0) continue;
        insert.run({ ...key, ...valuesOf(record), delivered: count, combined });
        continue;
      }
      if (delivered !== undefined) mark.run(count, combined, old.id);
      const { last_ms, in_api } = valuesOf(record);
      if (record.count > 0) again.run(last_ms, record.count, in_api, old.id);
    }
    for (const uid of new Set(all.map(({ record }) => record.object.uid ?? ''))) {
      if (uid !== '') trimPod.run(uid, LIMITS.eventsPerPod);
    }
    trim.run(LIMITS.events);
  }

  /** Says so once, not every few seconds. */
  #failed(what: string, error: unknown): void {
    if (!this.#failing) this.#log.warn(`cannot ${what}`, { error: String(error) });
    this.#failing = true;
  }
}

type Statements = ReturnType<typeof prepare>;
/** What tells one event from another. */
type RowKey = Pick<
  Row,
  'kind' | 'namespace' | 'name' | 'uid' | 'field_path' | 'type' | 'reason' | 'message'
> & { readonly identity: number };
type NewRow = Omit<Row, 'id'> & RowKey;

function prepare(database: Sqlite) {
  return {
    // In the order in which they happened last. Times can't tell: the clock may have been set.
    all: database.prepare<[], Row>('SELECT * FROM events ORDER BY id'),
    inApi: database.prepare<[], Row>('SELECT * FROM events WHERE in_api = 1 ORDER BY id'),
    due: database.prepare<[], Row>(
      'SELECT * FROM events WHERE in_api = 1 AND delivered < count ORDER BY id',
    ),
    find: database.prepare<[RowKey], Row>(
      `SELECT * FROM events WHERE identity = @identity AND kind = @kind AND name = @name
         AND namespace = @namespace AND uid = @uid AND field_path = @field_path
         AND type = @type AND reason = @reason AND message = @message`,
    ),
    again: database.prepare<[number, number, number, number]>(
      `UPDATE events SET id = (SELECT max(id) + 1 FROM events), last_ms = ?, count = count + ?,
         in_api = ? WHERE id = ?`,
    ),
    mark: database.prepare<[number, number, number]>(
      'UPDATE events SET delivered = ?, combined = ? WHERE id = ?',
    ),
    insert: database.prepare<[NewRow]>(
      `INSERT INTO events (identity, kind, namespace, name, uid, field_path, type, reason,
         message, first_ms, last_ms, count, in_api, delivered, combined)
       VALUES (@identity, @kind, @namespace, @name, @uid, @field_path, @type, @reason,
         @message, @first_ms, @last_ms, @count, @in_api, @delivered, @combined)`,
    ),
    trimPod: database.prepare<[string, number]>(
      `DELETE FROM events WHERE id IN
         (SELECT id FROM events WHERE uid = ? ORDER BY id DESC LIMIT -1 OFFSET ?)`,
    ),
    trim: database.prepare<[number]>(
      `DELETE FROM events WHERE id IN
         (SELECT id FROM events ORDER BY id DESC LIMIT -1 OFFSET ?)`,
    ),
  };
}

function identityOf({ type, reason, message, object }: NewEvent): string {
  const { kind, namespace, name, uid, fieldPath } = object;
  return [kind, namespace, name, uid, fieldPath, type, reason, message].join('\0');
}

function keyOf(record: EventRecord): RowKey {
  const { object, type, reason, message } = record;
  return {
    identity: crc32(identityOf(record)),
    kind: object.kind,
    namespace: object.namespace ?? '',
    name: object.name,
    uid: object.uid ?? '',
    field_path: object.fieldPath ?? '',
    type,
    reason,
    message,
  };
}

function valuesOf({ firstWallMs, lastWallMs, count, object }: EventRecord) {
  const in_api = object.inApi === true ? 1 : 0;
  return { first_ms: firstWallMs, last_ms: lastWallMs, count, in_api };
}

const NOTHING_DELIVERED: Delivered = { count: 0, combined: 0 };

function deliveryOf(row: Row): Delivery {
  const record = recordOf(row);
  const delivered = { count: row.delivered, combined: row.combined };
  return { key: identityOf(record), record, delivered };
}

/** What is empty in a row was absent in the event. */
function recordOf(row: Row): EventRecord {
  return {
    type: row.type === 'Warning' ? 'Warning' : 'Normal',
    reason: row.reason,
    message: row.message,
    object: {
      kind: row.kind as EventObject['kind'],
      name: row.name,
      ...(row.namespace === '' ? {} : { namespace: row.namespace }),
      ...(row.uid === '' ? {} : { uid: row.uid }),
      ...(row.field_path === '' ? {} : { fieldPath: row.field_path }),
      ...(row.in_api === 0 ? {} : { inApi: true as const }),
    },
    firstWallMs: row.first_ms,
    lastWallMs: row.last_ms,
    count: row.count,
  };
}

function matches(object: EventObject, filter: EventFilter): boolean {
  const { kind, namespace, name, uid } = filter;
  return (
    (kind === undefined || object.kind === kind) &&
    (namespace === undefined || object.namespace === namespace) &&
    (name === undefined || object.name === name) &&
    (uid === undefined || object.uid === uid)
  );
}

function merged(old: EventRecord | undefined, newer: EventRecord): EventRecord {
  if (old === undefined) return newer;
  return { ...newer, firstWallMs: old.firstWallMs, count: old.count + newer.count };
}

function shorten(message: string): string {
  const { length } = message;
  return length > MAX_MESSAGE_LENGTH ? `${message.slice(0, MAX_MESSAGE_LENGTH)}…` : message;
}
