/**
 * Follows the API server's objects that pods use, each by a watch of its own: an API server tells a
 * node of single config maps and secrets only, and only of those that its pods name. It may not know
 * of a new pod yet and refuse; so what it refuses is asked for again, and is no trouble.
 *
 * One that is immutable is not followed once it is known. While the API server is away only one of
 * all watches looks for it, so that a node without a network stays quiet.
 */
import {
  CONFIG_MAPS,
  SECRETS,
  SERVICES,
  type ApiObject,
  type Resource,
  type Stored,
} from '../apiserver/resource.ts';
import { watchObjects } from '../apiserver/watch.ts';
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import type { FailureCode } from '../base/failure.ts';
import type { Random } from '../base/random.ts';
import {
  PERSIST_ANNOTATION,
  type ConfigMap,
  type Secret,
  type Service,
  type ServicePort,
} from '../kube/objects.ts';
import type { Session } from './cluster.ts';
import {
  keyOf,
  MASTER,
  type Content,
  type ObjectRecords,
  type RecordId,
} from './object-records.ts';

export type ObjectWatchesOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly records: ObjectRecords;
  /** Pods see a difference. */
  readonly onChange: (id: RecordId) => void;
};

type Watch = { readonly controller: AbortController; readonly ended: Promise<void> };

export class ObjectWatches {
  readonly #options: ObjectWatchesOptions;
  readonly #watches = new Map<string, Watch>();
  /** Why the watch of an object does not get on. */
  readonly #problems = new Map<string, string>();
  #wanted: ReadonlyMap<string, RecordId> = new Map();
  #session: Session | undefined;
  #failed: ((error: unknown) => void) | undefined;
  /** Resolved when the API server is there again; undefined while it is. */
  #away: PromiseWithResolvers<void> | undefined;

  constructor(options: ObjectWatchesOptions) {
    this.#options = options;
  }

  /** Why nothing was heard of an object so far; undefined while it is being asked for. */
  problem(id: RecordId): string | undefined {
    if (this.#session === undefined) return 'there is no connection to the API server';
    return this.#problems.get(keyOf(id));
  }

  /** Follows these from now on, and no others. */
  follow(wanted: ReadonlyMap<string, RecordId>): void {
    this.#wanted = wanted;
    for (const [key, { controller }] of this.#watches) {
      if (!wanted.has(key)) controller.abort();
    }
    this.#begin();
  }

  /** Until the signal is aborted. @throws what is no Failure */
  async run(session: Session, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (signal.aborted) resolve();
    this.#session = session;
    this.#failed = reject;
    try {
      this.#begin();
      await promise;
    } finally {
      this.#session = undefined;
      this.#setAway(false);
      const ended = [...this.#watches.values()].map((watch) => {
        watch.controller.abort();
        return watch.ended;
      });
      await Promise.all(ended);
      this.#problems.clear();
    }
  }

  #begin(): void {
    const session = this.#session;
    if (session === undefined) return;
    for (const [key, id] of this.#wanted) {
      if (this.#watches.has(key) || this.#isFinal(id)) continue;
      const controller = new AbortController();
      const ended = this.#watch(id, session, controller)
        .catch((error: unknown) => this.#failed?.(error))
        .finally(() => {
          this.#watches.delete(key);
          this.#problems.delete(key);
          // It may be wanted again by now.
          this.#begin();
        });
      this.#watches.set(key, { controller, ended });
    }
  }

  #setAway(isAway: boolean): void {
    if (isAway) this.#away ??= Promise.withResolvers();
    else {
      this.#away?.resolve();
      this.#away = undefined;
    }
  }

  readonly #sleepUntilBack = async (ms: number, signal: AbortSignal): Promise<void> => {
    await this.#options.clock.sleep(ms, signal);
    while (this.#away !== undefined) await abortable(this.#away.promise, signal);
  };

  #isFinal(id: RecordId): boolean {
    const lookup = this.#options.records.get(id);
    return lookup.state === 'present' && 'immutable' in lookup.object;
  }

  async #watch(id: RecordId, session: Session, controller: AbortController): Promise<void> {
    const { clock, random, records, onChange } = this.#options;
    const { kind, namespace, name } = id;
    const { signal } = controller;
    const found = new Map<string, Item>();
    let isSynced = false;
    const tell = () => {
      // What half of a list says may lack the rest of it.
      if (!isSynced || signal.aborted) return;
      this.#problems.delete(keyOf(id));
      if (records.put(id, contentOf(id, [...found.values()]))) onChange(id);
      if (this.#isFinal(id)) controller.abort();
    };
    const isScout = keyOf(id) === keyOf(MASTER);
    const options = {
      ...{ client: session.client, random, signal, namespace },
      clock: isScout ? clock : { ...clock, sleep: this.#sleepUntilBack },
      resource: RESOURCES[kind],
      ...(name !== '' && { fieldSelector: `metadata.name=${name}` }),
      // Not the version of each list: it would be written each time.
      verify: () => session.verify(undefined),
    };
    await watchObjects<ApiObject>(options, {
      put: (object) => {
        found.set(object.metadata.uid, itemOf(id, object));
        tell();
      },
      gone: ({ uid }) => {
        found.delete(uid);
        tell();
      },
      synced: () => {
        isSynced = true;
        tell();
      },
      bookmark: () => undefined,
      state: (state) => {
        if (state.phase === 'waiting') this.#problems.set(keyOf(id), state.why.message);
        if (!isScout || state.phase === 'connecting') return;
        this.#setAway(state.phase === 'waiting' && AWAY.includes(state.why.code));
      },
    });
  }
}

const AWAY: readonly FailureCode[] = ['Unavailable', 'DeadlineExceeded'];

const RESOURCES: Readonly<Record<RecordId['kind'], Resource<ApiObject>>> = {
  ConfigMap: CONFIG_MAPS,
  Secret: SECRETS,
  Services: SERVICES,
};

type Item = ConfigMap | Secret | Service;

/** Undefined when there is no such object. */
function contentOf({ kind }: RecordId, found: readonly Item[]): Content | undefined {
  if (kind !== 'Services') return found[0];
  return (found as readonly Service[]).toSorted((a, b) =>
    a.metadata.name < b.metadata.name ? -1 : 1,
  );
}

/** The part of an object that pods make use of. */
function itemOf({ kind }: RecordId, object: Stored<ApiObject>): Item {
  if (kind === 'Services') return serviceOf(object as Stored<Service>);
  const { type, data, binaryData, immutable } = object as Stored<ConfigMap & Secret>;
  return {
    metadata: metadataOf(object as Stored<ConfigMap>),
    ...(type !== undefined && { type }),
    ...(data !== undefined && { data }),
    ...(binaryData !== undefined && { binaryData }),
    ...(immutable === true && { immutable }),
  };
}

function metadataOf({ metadata }: Stored<ConfigMap>) {
  const { name, namespace, uid, resourceVersion, annotations } = metadata;
  const persist = annotations?.[PERSIST_ANNOTATION];
  return {
    ...{ name, namespace, uid, resourceVersion },
    ...(persist !== undefined && { annotations: { [PERSIST_ANNOTATION]: persist } }),
  };
}

function serviceOf({ metadata, spec }: Stored<Service>): Service {
  const { name, namespace, uid } = metadata;
  const { clusterIP, ports } = spec;
  return {
    metadata: { name, namespace, uid },
    spec: {
      ...(clusterIP !== undefined && { clusterIP }),
      ...(ports !== undefined && { ports: ports.map(portOf) }),
    },
  };
}

function portOf({ name, port, protocol }: ServicePort): ServicePort {
  return { ...(name !== undefined && { name }), port, ...(protocol !== undefined && { protocol }) };
}
