/**
 * What is to be told over the relay and was not acknowledged yet, in `outbox.db`, and the counter
 * of its sequence numbers.
 *
 * Invariants
 * - A row goes when the other side has acknowledged it, or when it is dropped: then it is counted.
 * - What `flush` has written survives a power cut. What is acknowledged within the time of one
 *   batch never touches the card, and nothing is written at rest.
 * - No number is given out twice, whatever is lost: numbers are reserved in blocks before use.
 *   A lost file begins anew beyond all that the lost one can have given.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Timer } from '../base/clock.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import {
  checkIntegrity,
  closeQuietly,
  isDamage,
  openDatabase,
  storeFailure,
  type NativeBinding,
  type Sqlite,
} from './database.ts';
import { migrate, refuseNewer } from './schema.ts';

/** The most important first. `status`: only the last of each key. */
export const OUTBOX_CLASSES = ['warning', 'normal', 'status'] as const;
export type OutboxClass = (typeof OUTBOX_CLASSES)[number];

export type OutboxRow = {
  /** Its sequence number and place. */
  readonly q: number;
  readonly class: OutboxClass;
  /** Rows of one key are folded. */
  readonly key: string;
  /** When it happened, in seconds since 1970. */
  readonly t: number;
  /** How often. */
  readonly count: number;
  /** JSON, as the writer wants it. */
  readonly body: string;
};

export const OUTBOX_MIGRATIONS: readonly string[] = [
  `CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE rows (
     q INTEGER PRIMARY KEY,
     class TEXT NOT NULL,
     key TEXT NOT NULL,
     t INTEGER NOT NULL,
     count INTEGER NOT NULL,
     body TEXT NOT NULL
   ) STRICT;`,
];

/** Longest time that a row is only in memory. */
const FLUSH_AFTER_MS = 10_000;
const BLOCK = 1000;
/** Numbers that one second can use up, for the beginning of a new file. */
const NUMBERS_PER_SECOND = 1000;
const DATABASE = 'outbox.db';

export type OutboxOptions = {
  readonly clock: Clock;
  readonly log: Log;
  readonly nativeBinding?: NativeBinding;
};

/** Opens or makes the outbox in `directory`. A damaged one is thrown away, and this is logged. */
export function openOutbox(directory: string, options: OutboxOptions): Outbox {
  const path = join(directory, DATABASE);
  try {
    return new Outbox(openSound(path, options.nativeBinding), path, options);
  } catch (error) {
    if (!isDamage(error)) throw storeFailure(error, 'open the outbox', path);
    options.log.error('the outbox is damaged; what was in it is lost', {
      path,
      error: String(error),
    });
    return anew(path, options);
  }
}

function anew(path: string, options: OutboxOptions): Outbox {
  try {
    // Recursive: a folder in its place is damage too.
    for (const end of ['', '-wal', '-shm']) rmSync(path + end, { force: true, recursive: true });
    return new Outbox(openSound(path, options.nativeBinding), path, options);
  } catch (error) {
    throw storeFailure(error, 'make the outbox anew', path);
  }
}

function openSound(path: string, nativeBinding: NativeBinding | undefined): Sqlite {
  const database = openDatabase(path, 'full', nativeBinding);
  try {
    refuseNewer(database, path, OUTBOX_MIGRATIONS.length);
    checkIntegrity(database);
    migrate(database, OUTBOX_MIGRATIONS);
    return database;
  } catch (error) {
    closeQuietly(database);
    throw error;
  }
}

export class Outbox {
  readonly #database: Sqlite;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #statements: Statements;
  /** All rows, in the order of their numbers. */
  readonly #rows = new Map<number, OutboxRow>();
  /** The newest row of a key. */
  readonly #byKey = new Map<string, number>();
  /** Under way: not to be folded any more. */
  readonly #taken = new Set<number>();
  readonly #stored = new Set<number>();
  readonly #dirty = new Set<number>();
  readonly #gone = new Set<number>();
  #bytes = 0;
  #next: number;
  #reserved: number;
  #dropped: number;
  #droppedStored: number;
  #timer: Timer | undefined;
  #failing = false;

  /** Use `openOutbox`. Takes over `database`. */
  constructor(database: Sqlite, path: string, { clock, log }: OutboxOptions) {
    this.#database = database;
    this.#path = path;
    this.#clock = clock;
    this.#log = log;
    this.#statements = prepare(database);
    const counter = (name: string) => this.#statements.counter.get(name)?.value;
    const begin = Math.floor(clock.now().wallMs / 1000) * NUMBERS_PER_SECOND;
    this.#reserved = counter('reserved') ?? begin;
    this.#next = this.#reserved;
    this.#dropped = this.#droppedStored = counter('dropped') ?? 0;
    for (const row of this.#statements.all.iterate()) {
      this.#insert(row);
      this.#stored.add(row.q);
    }
  }

  /**
   * A number that was never given before and is higher than all that were. Throws a `Failure` when
   * the next block can't be reserved.
   */
  number(): number {
    if (this.#next >= this.#reserved) {
      const reserved = this.#next + BLOCK;
      try {
        this.#statements.setCounter.run('reserved', reserved);
      } catch (error) {
        throw storeFailure(error, 'reserve sequence numbers', this.#path);
      }
      this.#reserved = reserved;
    }
    return this.#next++;
  }

  /**
   * Takes a row up, to be written with the next batch. One of the same key that is not under way is
   * counted up; a status takes its place, with a number of its own. What is too much is dropped.
   */
  add(row: Omit<OutboxRow, 'q' | 'count'>): void {
    const found = this.#rows.get(this.#byKey.get(row.key) ?? -1);
    const old = found === undefined || this.#taken.has(found.q) ? undefined : found;
    if (old !== undefined && row.class !== 'status') {
      this.#replace({ ...old, count: old.count + 1 });
    } else {
      const q = this.#numberOrDrop();
      if (q === undefined) return;
      // A new number: the old one may have been told, and after a power cut may be told again.
      if (old !== undefined) this.#remove(old.q);
      this.#insert({ ...row, q, count: 1 });
      this.#dirty.add(q);
    }
    this.#trim();
    this.#wantFlush();
  }

  /** Whoever has something to tell is not to be disturbed by a full disk. */
  #numberOrDrop(): number | undefined {
    try {
      return this.number();
    } catch (error) {
      if (!this.#failing) this.#log.warn(String(error));
      this.#failing = true;
      this.#dropped += 1;
      return undefined;
    }
  }

  /** The next rows of the most important class that has any; they are under way from then on. */
  take(limit: number): readonly OutboxRow[] {
    for (const wanted of OUTBOX_CLASSES) {
      const found: OutboxRow[] = [];
      for (const row of this.#rows.values()) {
        if (found.length >= limit) break;
        if (row.class === wanted && !this.#taken.has(row.q)) found.push(row);
      }
      if (found.length === 0) continue;
      for (const { q } of found) this.#taken.add(q);
      return found;
    }
    return [];
  }

  /** The other side has it. */
  acknowledge(q: number): void {
    if (this.#rows.has(q)) this.#remove(q);
    this.#wantFlush();
  }

  /** What is under way has to be sent again. */
  release(): void {
    this.#taken.clear();
  }

  get waiting(): number {
    return this.#rows.size;
  }

  /** Rows that were dropped for lack of space, since the outbox was made. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Writes what has changed, durably. On a failure it stays in memory for the next time. */
  flush(): boolean {
    this.#timer?.cancel();
    this.#timer = undefined;
    const isNews =
      this.#dirty.size > 0 || this.#gone.size > 0 || this.#dropped !== this.#droppedStored;
    if (!isNews) return true;
    const { put, remove, setCounter } = this.#statements;
    try {
      this.#database
        .transaction(() => {
          for (const q of this.#gone) remove.run(q);
          for (const q of this.#dirty) put.run(this.#rows.get(q)!);
          if (this.#dropped !== this.#droppedStored) setCounter.run('dropped', this.#dropped);
        })
        .immediate();
    } catch (error) {
      const { message } = storeFailure(error, 'write the outbox', this.#path);
      if (!this.#failing) this.#log.warn(message);
      this.#failing = true;
      this.#wantFlush();
      return false;
    }
    this.#failing = false;
    for (const q of this.#gone) this.#stored.delete(q);
    for (const q of this.#dirty) this.#stored.add(q);
    this.#gone.clear();
    this.#dirty.clear();
    this.#droppedStored = this.#dropped;
    return true;
  }

  [Symbol.dispose](): void {
    this.flush();
    this.#timer?.cancel();
    closeQuietly(this.#database);
  }

  #insert(row: OutboxRow): void {
    this.#rows.set(row.q, row);
    this.#byKey.set(row.key, row.q);
    this.#bytes += row.body.length;
  }

  #replace(row: OutboxRow): void {
    this.#rows.set(row.q, row);
    this.#dirty.add(row.q);
  }

  #remove(q: number): void {
    const row = this.#rows.get(q)!;
    this.#rows.delete(q);
    this.#bytes -= row.body.length;
    if (this.#byKey.get(row.key) === q) this.#byKey.delete(row.key);
    this.#taken.delete(q);
    this.#dirty.delete(q);
    if (this.#stored.has(q)) this.#gone.add(q);
  }

  /** Drops the oldest of the least important that is not under way. */
  #trim(): void {
    while (this.#rows.size > LIMITS.outboxRows || this.#bytes > LIMITS.outboxBytes) {
      const victim = OUTBOX_CLASSES.toReversed()
        .values()
        .map((name) => this.#oldest(name))
        .find((q) => q !== undefined);
      if (victim === undefined) return;
      this.#dropped += this.#rows.get(victim)!.count;
      this.#remove(victim);
    }
  }

  #oldest(wanted: OutboxClass): number | undefined {
    for (const row of this.#rows.values()) {
      if (row.class === wanted && !this.#taken.has(row.q)) return row.q;
    }
    return undefined;
  }

  #wantFlush(): void {
    if (this.#dirty.size === 0 && this.#gone.size === 0) {
      // It came and was acknowledged in time: there is nothing to write.
      if (this.#dropped !== this.#droppedStored) return;
      this.#timer?.cancel();
      this.#timer = undefined;
      return;
    }
    this.#timer ??= this.#clock.at(this.#clock.now().monoMs + FLUSH_AFTER_MS, () => {
      this.#timer = undefined;
      this.flush();
    });
  }
}

type Statements = ReturnType<typeof prepare>;

function prepare(database: Sqlite) {
  return {
    all: database.prepare<[], OutboxRow>('SELECT * FROM rows ORDER BY q'),
    put: database.prepare<[OutboxRow]>(
      'INSERT OR REPLACE INTO rows (q, class, key, t, count, body) ' +
        'VALUES (@q, @class, @key, @t, @count, @body)',
    ),
    remove: database.prepare<[number]>('DELETE FROM rows WHERE q = ?'),
    counter: database.prepare<[string], { value: number }>(
      'SELECT value FROM counters WHERE name = ?',
    ),
    setCounter: database.prepare<[string, number]>(
      'INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)',
    ),
  };
}
