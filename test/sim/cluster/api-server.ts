/**
 * An API server with the pods of one node: versions, generations, graceful and forced deletion,
 * preconditions, status patches, lists in pages, watches, compaction, backup and restore.
 * Objects are never changed, only replaced, so that a snapshot of them is cheap.
 */

export type Json = Readonly<Record<string, unknown>>;

export type PodObject = {
  readonly apiVersion: 'v1';
  readonly kind: 'Pod';
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation: number;
    readonly creationTimestamp: string;
    readonly deletionTimestamp?: string;
    readonly deletionGracePeriodSeconds?: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Json;
  readonly status: Json;
};

type EventType = 'ADDED' | 'MODIFIED' | 'DELETED';
type Change = { readonly version: number; readonly type: EventType; readonly object: PodObject };

export type Watcher = { changed(type: EventType, object: PodObject): void };

export type Snapshot = {
  readonly objects: ReadonlyMap<string, PodObject>;
  readonly version: number;
};

/** An answer: its HTTP status and its body. */
export type Answer = { readonly code: number; readonly body: Json };

export type ServerPorts = {
  readonly name: string;
  readonly rfc3339: () => string;
  readonly newUid: () => string;
  /** Objects of one page of a list, drawn anew for each list. */
  readonly pageObjects: () => number;
  readonly onChange: (type: EventType, object: PodObject, before: PodObject | undefined) => void;
};

export const MIRROR = 'kubernetes.io/config.mirror';

export class ApiServer {
  readonly nodeUid: string;
  readonly serviceUid: string;
  objects = new Map<string, PodObject>();
  version: number;
  readonly ports: ServerPorts;
  readonly watchers = new Set<Watcher>();
  #history: Change[] = [];
  /** A watch from before this has to begin with a list. */
  #compacted: number;
  /** Versions from before a restore mean something else now, which a list tells. */
  #isRestored = false;

  constructor(ports: ServerPorts, version: number) {
    this.ports = ports;
    this.version = version;
    this.#compacted = version;
    this.nodeUid = ports.newUid();
    this.serviceUid = ports.newUid();
  }

  // ---- what people and controllers do ----

  create(
    name: string,
    spec: Json,
    more: Partial<PodObject['metadata']> = {},
  ): PodObject | undefined {
    const namespace = more.namespace ?? 'default';
    if (this.objects.has(`${namespace}/${name}`)) return undefined;
    const metadata = {
      ...{ namespace, generation: 1, creationTimestamp: this.ports.rfc3339() },
      ...more,
      ...{ name, uid: this.ports.newUid(), resourceVersion: '' },
    };
    const status = { phase: 'Pending' };
    return this.#put({ apiVersion: 'v1', kind: 'Pod', metadata, spec, status }, undefined);
  }

  /** `graceSeconds` 0 removes the object at once, whatever runs. */
  remove(object: PodObject, graceSeconds: number): void {
    const { metadata, status } = object;
    const isOver = status['phase'] === 'Succeeded' || status['phase'] === 'Failed';
    if (graceSeconds === 0 || (isOver && metadata.deletionTimestamp === undefined)) {
      return this.#drop(object);
    }
    if ((metadata.deletionGracePeriodSeconds ?? Infinity) <= graceSeconds) return;
    const deleting = {
      ...metadata,
      generation: metadata.generation + (metadata.deletionTimestamp === undefined ? 1 : 0),
      deletionTimestamp: this.ports.rfc3339(),
      deletionGracePeriodSeconds: graceSeconds,
    };
    this.#put({ ...object, metadata: deleting }, object);
  }

  changeSpec(object: PodObject, spec: Json): void {
    const metadata = { ...object.metadata, generation: object.metadata.generation + 1 };
    this.#put({ ...object, metadata, spec }, object);
  }

  annotate(object: PodObject, annotations: Readonly<Record<string, string>>): void {
    const all = { ...object.metadata.annotations, ...annotations };
    this.#put({ ...object, metadata: { ...object.metadata, annotations: all } }, object);
  }

  setStatus(object: PodObject, status: Json): PodObject {
    if (JSON.stringify(status) === JSON.stringify(object.status)) return object;
    return this.#put({ ...object, status }, object);
  }

  find(uid: string): PodObject | undefined {
    return [...this.objects.values()].find(({ metadata }) => metadata.uid === uid);
  }

  compact(): void {
    this.#compacted = this.version;
    this.#history = [];
  }

  snapshot(): Snapshot {
    return { objects: new Map(this.objects), version: this.version };
  }

  restore({ objects, version }: Snapshot): void {
    this.objects = new Map(objects);
    this.version = version;
    this.compact();
    this.#isRestored = true;
  }

  #put(object: PodObject, before: PodObject | undefined): PodObject {
    this.version += 1;
    const metadata = { ...object.metadata, resourceVersion: String(this.version) };
    const stored = { ...object, metadata };
    this.objects.set(keyOf(stored), stored);
    this.#tell(before === undefined ? 'ADDED' : 'MODIFIED', stored, before);
    return stored;
  }

  #drop(object: PodObject): void {
    this.version += 1;
    this.objects.delete(keyOf(object));
    const metadata = { ...object.metadata, resourceVersion: String(this.version) };
    this.#tell('DELETED', { ...object, metadata }, object);
  }

  #tell(type: EventType, object: PodObject, before: PodObject | undefined): void {
    this.#history.push({ version: this.version, type, object });
    this.ports.onChange(type, object, before);
    for (const watcher of this.watchers) watcher.changed(type, object);
  }

  // ---- what a node asks ----

  list(query: URLSearchParams): Answer {
    const [version, from] = (query.get('continue') ?? `${this.version}:0`).split(':').map(Number);
    if (version !== this.version && version! < this.#compacted) return failure(410, 'Expired');
    // A page of a past version: what was changed since is rare enough to be asked for again.
    if (version !== this.version) return failure(410, 'Expired');
    this.#isRestored = false;
    const all = [...this.objects.values()];
    const end = from! + Math.min(this.ports.pageObjects(), Number(query.get('limit') ?? Infinity));
    const rest = end < all.length ? { continue: `${version}:${end}` } : {};
    const items = all.slice(from, end).map(({ apiVersion: _a, kind: _k, ...item }) => item);
    const metadata = { resourceVersion: String(version), ...rest };
    // Go writes an empty list as null.
    return {
      code: 200,
      body: { kind: 'PodList', metadata, items: items.length > 0 ? items : null },
    };
  }

  /** Tells the watcher what happened since, then what happens. `undefined`: it may watch. */
  watch(from: string, watcher: Watcher): Answer | undefined {
    const since = Number(from);
    if (since < this.#compacted || (this.#isRestored && since <= this.version)) {
      return failure(410, 'Expired');
    }
    if (since > this.version) {
      const causes = [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }];
      return failure(504, 'Timeout', { details: { causes, retryAfterSeconds: 1 } });
    }
    for (const { version, type, object } of this.#history) {
      if (version > since) watcher.changed(type, object);
    }
    this.watchers.add(watcher);
    return undefined;
  }

  patchStatus(key: string, patch: { metadata?: { uid?: string }; status: Json }): Answer {
    const object = this.objects.get(key);
    if (object === undefined) return failure(404, 'NotFound');
    const uid = patch.metadata?.uid;
    if (uid !== undefined && uid !== object.metadata.uid) return failure(409, 'Conflict');
    return { code: 200, body: this.setStatus(object, merged(object.status, patch.status)) };
  }

  delete(
    key: string,
    how: { gracePeriodSeconds?: number; preconditions?: { uid?: string } },
  ): Answer {
    const object = this.objects.get(key);
    if (object === undefined) return failure(404, 'NotFound');
    const uid = how.preconditions?.uid;
    if (uid !== undefined && uid !== object.metadata.uid) return failure(409, 'Conflict');
    this.remove(object, how.gracePeriodSeconds ?? 30);
    return { code: 200, body: object };
  }

  post(namespace: string, object: PodObject): Answer {
    const { labels, annotations, name } = object.metadata;
    const more = { namespace, ...(labels && { labels }), ...(annotations && { annotations }) };
    const created = this.create(name, object.spec, more);
    return created === undefined ? failure(409, 'AlreadyExists') : { code: 201, body: created };
  }
}

export function isMirror({ metadata }: PodObject): boolean {
  return metadata.annotations?.[MIRROR] !== undefined;
}

export function keyOf({ metadata }: PodObject): string {
  return `${metadata.namespace}/${metadata.name}`;
}

export function failure(code: number, reason: string, more: Json = {}): Answer {
  return {
    code,
    body: { kind: 'Status', status: 'Failure', code, reason, message: reason, ...more },
  };
}

/** A strategic merge, as far as a status needs it. */
function merged(status: Json, patch: Json): Json {
  const next: Record<string, unknown> = { ...status };
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete next[field];
    else if (field === 'conditions')
      next[field] = conditions(next[field], value as readonly Json[]);
    else if (Array.isArray(value)) {
      next[field] = (value as readonly Json[]).filter((item) => !('$patch' in item));
    } else next[field] = value;
  }
  return next;
}

function conditions(before: unknown, patch: readonly Json[]): readonly Json[] {
  const all = new Map(((before ?? []) as Json[]).map((one) => [one['type'], one]));
  for (const one of patch) all.set(one['type'], merged(all.get(one['type']) ?? {}, one));
  return [...all.values()];
}
