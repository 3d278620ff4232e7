/**
 * What pods of the API server take from it: config maps, secrets, services and tokens. It is stored,
 * so that a pod starts again offline, followed while a pod uses it, and removed when none does.
 */
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import {
  objectsOf,
  type ConfigMap,
  type Lookup,
  type Objects,
  type Secret,
  type Service,
  type TokenRequest,
} from '../kube/objects.ts';
import type { Pod } from '../kube/pod.ts';
import { tokenRequestsOf } from '../pod/volume-files.ts';
import type { Store } from '../store/store.ts';
import type { VolumeContext } from '../volume/plugin.ts';
import type { Session } from './cluster.ts';
import { BOOTSTRAP_KIND } from './kept-bootstrap.ts';
import { createObjectRecords, keyOf, MASTER, type RecordId } from './object-records.ts';
import { ObjectWatches } from './object-watches.ts';
import { TOKEN_KIND, tokenKey, Tokens } from './tokens.ts';

export type ClusterObjects = {
  readonly objects: Objects;
  readonly token: VolumeContext['token'];
  /**
   * Waits, while there is a connection, for the API server to have told of all that the pod uses; but
   * not for long. Resolves when there is nothing to wait for.
   */
  heard(pod: Pod, signal: AbortSignal): Promise<void>;
  /** The pods of the API server that this node has, each time there are others. */
  follow(pods: readonly Pod[]): void;
  /** `namespace/name` of pods of which a token has expired. */
  expiredTokens(): readonly string[];
  /** The API server is in reach again. */
  reached(): void;
  /** Until the signal is aborted. */
  work(session: Session, signal: AbortSignal): Promise<void>;
};

export type ClusterObjectsOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: Pick<Store, 'objects' | 'putObject' | 'removeObjects'>;
  /** Objects or tokens of the pod, or its labels, are others than before. */
  readonly onChange: (podUid: string) => void;
};

const HEARD_MS = 3_000;
const SAVE_AGAIN_MS = 300_000;

/** Takes up what is stored. Nothing is asked for before there are pods and a session. */
export function createClusterObjects(options: ClusterObjectsOptions): ClusterObjects {
  const { clock, random, log, store, onChange } = options;
  const isOfPods = ({ kind }: { readonly kind: string }) => kind !== BOOTSTRAP_KIND;
  const stored = read(store, log);
  const sound = stored.sound.filter(isOfPods);
  const damaged = stored.damaged.filter(isOfPods);
  const isToken = ({ kind }: { readonly kind: string }) => kind === TOKEN_KIND;
  const records = createObjectRecords({
    ...{ store, log },
    stored: sound.filter((row) => !isToken(row)),
    damaged: damaged.filter((row) => !isToken(row)) as readonly RecordId[],
  });
  const tokens = new Tokens({
    ...{ clock, random, log, store, onChange },
    stored: sound.filter(isToken),
    damaged: damaged.filter(isToken),
  });
  let uses: Uses = { pods: [], ids: new Map(), users: new Map(), tokens: new Map() };
  const waiters = new Set<() => void>();
  const watches = new ObjectWatches({
    ...{ clock, random, records },
    onChange: (id) => {
      for (const waiter of waiters) waiter();
      for (const uid of uses.users.get(keyOf(id)) ?? []) onChange(uid);
    },
  });
  const look = <T>(id: RecordId): Lookup<T> => {
    const found = records.get(id) as Lookup<T>;
    if (found.state !== 'unknown') return found;
    const why = [found.why, watches.problem(id)].filter((part) => part !== undefined).join('; ');
    return why === '' ? found : { state: 'unknown', why };
  };
  return {
    objects: {
      get: (kind, namespace, name) => look<ConfigMap & Secret>({ kind, namespace, name }),
      services: (namespace) => {
        const all: RecordId = { kind: 'Services', namespace, name: '' };
        const ids = [MASTER, all].filter((id) => uses.ids.has(keyOf(id)));
        return together(ids.map((id) => look<readonly Service[]>(id)));
      },
    },
    token: (request, signal) => tokens.token(request, signal),
    heard: (pod, signal) => {
      const ids = idsOf(pod).filter((id) => uses.ids.has(keyOf(id)));
      const isWaited = (id: RecordId) =>
        records.get(id).state === 'unknown' && watches.problem(id) === undefined;
      return changesUntil(() => !ids.some(isWaited), waiters, signal);
    },
    follow: (pods) => {
      const before = uses.pods;
      uses = usesOf(pods);
      records.retain(new Set(uses.ids.keys()));
      tokens.follow(uses.tokens);
      watches.follow(uses.ids);
      for (const pod of pods) {
        const old = before.find(({ metadata }) => metadata.uid === pod.metadata.uid);
        if (old !== undefined && textOf(old) !== textOf(pod)) onChange(pod.metadata.uid);
      }
    },
    expiredTokens: () => {
      const expired = tokens.expired();
      return uses.pods
        .filter(({ metadata }) => expired.has(metadata.uid))
        .map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
    },
    reached: () => tokens.reached(),
    work: async (session, signal) => {
      const saving = async () => {
        while (!signal.aborted) {
          await clock.sleep(SAVE_AGAIN_MS, signal).catch(() => undefined);
          records.saveAgain();
          tokens.saveAgain();
        }
      };
      await Promise.all([watches.run(session, signal), tokens.run(session, signal), saving()]);
    },
  };
}

/** Waits for changes until something is so, but not for long. */
async function changesUntil(
  holds: () => boolean,
  waiters: Set<() => void>,
  signal: AbortSignal,
): Promise<void> {
  const over = AbortSignal.any([signal, AbortSignal.timeout(HEARD_MS)]);
  while (!holds() && !over.aborted) {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiters.add(resolve);
    await abortable(promise, over).catch(() => undefined);
    waiters.delete(resolve);
  }
}

/** What all pods use together. */
type Uses = {
  readonly pods: readonly Pod[];
  readonly ids: ReadonlyMap<string, RecordId>;
  /** UIDs of the pods that use it. */
  readonly users: ReadonlyMap<string, readonly string[]>;
  readonly tokens: ReadonlyMap<string, TokenRequest>;
};

function usesOf(pods: readonly Pod[]): Uses {
  const ids = new Map<string, RecordId>();
  const users = new Map<string, string[]>();
  const tokens = new Map<string, TokenRequest>();
  for (const pod of pods) {
    for (const id of idsOf(pod)) {
      const key = keyOf(id);
      ids.set(key, id);
      const of = users.get(key) ?? [];
      if (!of.includes(pod.metadata.uid)) users.set(key, [...of, pod.metadata.uid]);
    }
    for (const volume of pod.spec.volumes) {
      if (volume.kind !== 'projected') continue;
      for (const request of tokenRequestsOf(pod, volume).values()) {
        tokens.set(tokenKey(request), request);
      }
    }
  }
  return { pods, ids, users, tokens };
}

function idsOf(pod: Pod): readonly RecordId[] {
  const { namespace } = pod.metadata;
  const named = objectsOf(pod).flatMap(({ kind, name }) =>
    kind === 'ServiceAccount' ? [] : [{ kind, namespace, name }],
  );
  const services: RecordId = { kind: 'Services', namespace, name: '' };
  return [...named, MASTER, ...(pod.spec.enableServiceLinks === false ? [] : [services])];
}

/** Known when all are. */
function together(lookups: readonly Lookup<readonly Service[]>[]): Lookup<readonly Service[]> {
  const unknown = lookups.find(({ state }) => state === 'unknown');
  if (unknown !== undefined) return unknown;
  const all = lookups.flatMap((lookup) => (lookup.state === 'present' ? lookup.object : []));
  return { state: 'present', object: all };
}

/** What the downward API may show of a pod that changes while it runs. */
function textOf({ metadata: { labels, annotations } }: Pod): string {
  return JSON.stringify([labels, annotations]);
}

function read(store: ClusterObjectsOptions['store'], log: Log): ReturnType<Store['objects']> {
  try {
    return store.objects();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    log.error('what is stored of the API server can not be read; pods wait for it', {
      problem: error.message,
    });
    return { sound: [], damaged: [] };
  }
}
