/**
 * A second copy of each acknowledged deletion, as `<directory>/deleted.json`. It is written after
 * the database and before the acknowledgement, and kept until no backup can hold the pod any more:
 * a pod that was deleted must not come back with an old backup.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from '../base/crc32.ts';
import { writeFileDurably } from '../base/durable-file.ts';
import { errnoOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Deletion } from '../pod/model.ts';
import { isDeletion, isObject, parseObject } from './rows.ts';

/** `backups` counts those that were made since the pod was forgotten. */
type Tombstone = { readonly uid: string; readonly deletion: Deletion; readonly backups: number };

const FILE_NAME = 'deleted.json';
const KEPT_BACKUPS = 2;
const MAX_TOMBSTONES = 1000;

export class Tombstones {
  readonly #path: string;
  #all: ReadonlyMap<string, Tombstone>;

  constructor(directory: string, log: Log) {
    this.#path = join(directory, FILE_NAME);
    this.#all = new Map(read(this.#path, log).map((stone) => [stone.uid, stone]));
  }

  get(uid: string): Deletion | undefined {
    return this.#all.get(uid)?.deletion;
  }

  get uids(): readonly string[] {
    return [...this.#all.keys()];
  }

  /** Durable when it returns. Throws the system error. */
  add(deletions: readonly { readonly uid: string; readonly deletion: Deletion }[]): void {
    if (deletions.length === 0) return;
    const next = new Map(this.#all);
    for (const { uid, deletion } of deletions) {
      next.delete(uid); // to the end: the oldest are dropped first
      next.set(uid, { uid, deletion, backups: 0 });
    }
    this.#write([...next.values()].slice(-MAX_TOMBSTONES));
  }

  /** A uid is used again: that of a static pod is a hash of its manifest. */
  remove(uids: readonly string[]): void {
    if (!uids.some((uid) => this.#all.has(uid))) return;
    this.#write([...this.#all.values()].filter((stone) => !uids.includes(stone.uid)));
  }

  /** A backup was made; `has` tells which pods are still in the database. */
  backedUp(has: (uid: string) => boolean): void {
    if (this.#all.size === 0) return;
    this.#write(
      [...this.#all.values()]
        .map((stone) => (has(stone.uid) ? stone : { ...stone, backups: stone.backups + 1 }))
        .filter((stone) => stone.backups < KEPT_BACKUPS),
    );
  }

  #write(stones: readonly Tombstone[]): void {
    const check = crc32(JSON.stringify(stones));
    writeFileDurably(this.#path, JSON.stringify({ check, deleted: stones }));
    this.#all = new Map(stones.map((stone) => [stone.uid, stone]));
  }
}

function read(path: string, log: Log): readonly Tombstone[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') log.error('cannot read the deletions', { path });
    return [];
  }
  const value = parseObject(text);
  const stones = isObject(value) ? value['deleted'] : undefined;
  if (
    isObject(value) &&
    Array.isArray(stones) &&
    crc32(JSON.stringify(stones)) === value['check']
  ) {
    return stones.filter(isTombstone);
  }
  log.error('damaged list of deletions, it is made anew from the database', { path });
  return [];
}

function isTombstone(value: unknown): value is Tombstone {
  return (
    isObject(value) &&
    typeof value['uid'] === 'string' &&
    isDeletion(value['deletion']) &&
    typeof value['backups'] === 'number'
  );
}
