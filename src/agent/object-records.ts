/**
 * What is known of the API server's objects that pods of this node use: in memory, and as durable
 * rows from which it comes back after a power cut.
 *
 * - An object counts as known only once it is stored, so that what a pod was started with is there
 *   when it starts again. Where it can't be stored (the disk is full) or may not be (annotation
 *   `limpet.dev/persist: never`) it is in memory alone.
 * - That there is no such object is stored as well: a pod may need none.
 * - What has not changed is not written, though its resourceVersion has.
 */
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { PERSIST_ANNOTATION, type ConfigMap, type Lookup, type Secret } from '../kube/objects.ts';
import type { Service } from '../kube/objects.ts';
import type { StoredObject } from '../store/sealed.ts';
import type { Store } from '../store/store.ts';

/** `Services`: those of a namespace, or with a name that one. */
export type RecordKind = 'ConfigMap' | 'Secret' | 'Services';
export type RecordId = {
  readonly kind: RecordKind;
  readonly namespace: string;
  readonly name: string;
};
export type Content = ConfigMap | Secret | readonly Service[];

/** The service of the API server, which every pod is told of. */
export const MASTER: RecordId = { kind: 'Services', namespace: 'default', name: 'kubernetes' };

export function keyOf({ kind, namespace, name }: RecordId): string {
  return `${kind}/${namespace}/${name}`;
}

export type ObjectRecords = {
  get(id: RecordId): Lookup<Content>;
  /** Undefined: there is no such object. @returns whether pods see a difference */
  put(id: RecordId, content: Content | undefined): boolean;
  /** Forgets all others, in memory and on the disk. */
  retain(keys: ReadonlySet<string>): void;
  /** Tries again to store what could not be stored. */
  saveAgain(): void;
};

export type ObjectRecordsOptions = {
  readonly store: Pick<Store, 'putObject' | 'removeObjects'>;
  readonly log: Log;
  readonly stored: readonly StoredObject[];
  /** Rows that can't be read. */
  readonly damaged: readonly RecordId[];
};

type Held = {
  readonly id: RecordId;
  readonly lookup: Lookup<Content>;
  /** The disk has it too, or may not have it. */
  readonly isSaved: boolean;
};

/** What a row holds. */
type Row = { readonly content: Content } | { readonly absent: true } | { readonly withheld: true };

const WITHHELD = `it is never stored (annotation ${PERSIST_ANNOTATION}: never), so the pod waits for the API server`;
const DAMAGED = 'what was stored of it can not be read, so the pod waits for the API server';

export function createObjectRecords(options: ObjectRecordsOptions): ObjectRecords {
  const { store, log } = options;
  const held = new Map<string, Held>();
  const add = (one: Held) => held.set(keyOf(one.id), one);
  for (const one of options.stored) add({ id: idOf(one), lookup: lookupOf(one), isSaved: true });
  for (const id of options.damaged) {
    add({ id: idOf(id), lookup: { state: 'unknown', why: DAMAGED }, isSaved: false });
    log.error('a stored object can not be read; it is fetched anew', { object: keyOf(id) });
  }

  const save = (id: RecordId, lookup: Lookup<Content>): boolean => {
    try {
      store.putObject(rowOf(id, lookup));
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      log.warn('an object can not be stored; it is in memory only until it can', {
        object: keyOf(id),
        problem: error.message,
      });
      return false;
    }
  };

  return {
    get: (id) => held.get(keyOf(id))?.lookup ?? { state: 'unknown' },
    put: (id, content) => {
      const before = held.get(keyOf(id));
      const lookup: Lookup<Content> =
        content === undefined ? { state: 'absent' } : { state: 'present', object: content };
      const isSame = before !== undefined && textOf(before.lookup) === textOf(lookup);
      if (isSame) return false;
      add({ id, lookup, isSaved: save(id, lookup) });
      return true;
    },
    retain: (keys) => {
      const unused = [...held.values()].filter(({ id }) => !keys.has(keyOf(id)));
      for (const { id } of unused) held.delete(keyOf(id));
      try {
        store.removeObjects(unused.map(({ id }) => id));
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        // It is removed after the next start.
        log.warn('objects that no pod uses can not be removed', { problem: error.message });
      }
    },
    saveAgain: () => {
      for (const { id, lookup, isSaved } of held.values()) {
        if (isSaved || lookup.state === 'unknown') continue;
        if (!save(id, lookup)) return;
        add({ id, lookup, isSaved: true });
      }
    },
  };
}

function idOf({ kind, namespace, name }: Omit<RecordId, 'kind'> & { kind: string }): RecordId {
  return { kind: kind as RecordKind, namespace, name };
}

export function mayBeStored(content: Content): boolean {
  return isList(content) || content.metadata.annotations?.[PERSIST_ANNOTATION] !== 'never';
}

/** What tells one from another: the version does not, for it grows without a change as well. */
function textOf(lookup: Lookup<Content>): string {
  if (lookup.state !== 'present') return lookup.state;
  const { object } = lookup;
  if (isList(object)) return JSON.stringify(object);
  const { resourceVersion: _, ...metadata } = object.metadata;
  return JSON.stringify({ ...object, metadata });
}

function rowOf(id: RecordId, lookup: Lookup<Content>): StoredObject {
  const content = lookup.state === 'present' ? lookup.object : undefined;
  const { uid = '', resourceVersion = '' } =
    content === undefined || isList(content) ? {} : content.metadata;
  const row: Row =
    content === undefined
      ? { absent: true }
      : mayBeStored(content)
        ? { content }
        : { withheld: true };
  return { ...id, uid, version: resourceVersion, text: JSON.stringify(row) };
}

function lookupOf({ text }: StoredObject): Lookup<Content> {
  const row = JSON.parse(text) as Row;
  if ('absent' in row) return { state: 'absent' };
  if ('withheld' in row) return { state: 'unknown', why: WITHHELD };
  return { state: 'present', object: row.content };
}

function isList(content: Content): content is readonly Service[] {
  return Array.isArray(content);
}
