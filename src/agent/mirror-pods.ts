/**
 * Mirror pods: what the API server shows of the pods that this node has from its manifests and from
 * `limpet apply`. They can be looked at there, and not changed: one that is deleted is made again.
 * Source: pkg/kubelet/pod/mirror_client.go, v1.36.
 */
import type { V1Pod } from '@kubernetes/client-node/dist/gen/models/all.js';
import { ApiFailure } from '../apiserver/errors.ts';
import type { ApiClient } from '../apiserver/client.ts';
import type { Identified } from '../apiserver/known.ts';
import { createObject, deleteObject } from '../apiserver/objects.ts';
import { PODS, type Stored } from '../apiserver/resource.ts';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { takePause } from '../base/recovery.ts';
import type { Pod } from '../kube/pod.ts';
import { CONFIG_HASH_ANNOTATION, CONFIG_SOURCE_ANNOTATION } from '../kube/static-uid.ts';
import { v1Pod } from '../kube/v1-pod.ts';
import type { Wire } from '../kube/wire.ts';
import type { Session } from './cluster.ts';
import { createPoke } from './poke.ts';
import type { Worker } from './turns.ts';

export type ApiPod = Wire<V1Pod>;

export const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror';

export type MirrorPodsOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly nodeName: string;
  readonly workers: () => Iterable<Worker>;
  /** Another object stands for the pod now: all has to be told to it. */
  readonly onMade: (worker: Worker) => void;
  /** What the API server says of the pod that a mirror pod stands for. */
  readonly onHeard: (worker: Worker, status: unknown) => void;
};

/** As the API server has it. */
type Mirror = {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly namespace: string;
  readonly name: string;
  readonly hash: string;
  readonly isEnding: boolean;
};

const DEADLINE_MS = 30_000;
const MIN_BACKOFF_MS = 1000;
/** As that of a watch: after an outage all has to be right within a minute. */
const MAX_BACKOFF_MS = 30_000;
/** Who knows of a change pokes. */
const IDLE_MS = 3_600_000;
export class MirrorPods {
  readonly #options: MirrorPodsOptions;
  readonly #poke: ReturnType<typeof createPoke>;
  /** By namespace and name. */
  readonly #mirrors = new Map<string, Mirror>();

  constructor(options: MirrorPodsOptions) {
    this.#options = options;
    this.#poke = createPoke(options.clock);
  }

  /** The uid of the object that stands for a pod of this node's own; undefined while none does. */
  uidOf(worker: Worker): string | undefined {
    const mirror = this.#mirrors.get(fullName(worker.want.pod));
    return mirror?.hash === worker.uid && !mirror.isEnding ? mirror.uid : undefined;
  }

  /** What was told of the mirror pods, for a watch to go on from. */
  known(): readonly Identified[] {
    return [...this.#mirrors.values()];
  }

  /** The API server has this mirror pod. */
  put({ metadata, status }: Stored<ApiPod>): void {
    const { uid, resourceVersion, name, annotations, deletionTimestamp } = metadata;
    const namespace = metadata.namespace ?? '';
    const hash = annotations?.[MIRROR_ANNOTATION] ?? '';
    const key = `${namespace}/${name}`;
    const before = this.#mirrors.get(key);
    const isEnding = deletionTimestamp !== undefined;
    this.#mirrors.set(key, { uid, resourceVersion, namespace, name, hash, isEnding });
    const { workers, onMade, onHeard } = this.#options;
    for (const worker of workers()) {
      if (worker.uid !== hash) continue;
      if (before?.uid !== uid) onMade(worker);
      onHeard(worker, status);
    }
    if (before?.uid !== uid || before.isEnding !== isEnding) this.#poke.poke();
  }

  /** The API server has it no more. @returns whether it was a mirror pod */
  gone(uid: string): boolean {
    for (const [key, mirror] of this.#mirrors) {
      if (mirror.uid !== uid) continue;
      this.#mirrors.delete(key);
      this.#poke.poke();
      return true;
    }
    return false;
  }

  /** All that there is has been told of: one that was made and deleted unheard is not among it. */
  listed(): void {
    this.#poke.poke();
  }

  /** These had a turn: they may be new, or on their way out. */
  changed(workers: readonly Worker[]): void {
    if (workers.every(({ want }) => want.source === 'api')) return;
    this.#poke.poke();
  }

  /** Keeps the mirror pods as they should be until the signal is aborted; after the first list. */
  async run(
    { client, recovery }: Pick<Session, 'client' | 'recovery'>,
    nodeUid: () => string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock, random, log } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const recovered = recovery.next();
      try {
        await this.#bringAbout(client, nodeUid(), signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof Failure)) throw error;
        const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);
        const leastMs = askedMsOf(error);
        const ms = Math.max(backoffMs * (0.8 + 0.4 * random.next()), leastMs);
        failures += 1;
        log.debug('cannot keep a mirror pod', { problem: error.message });
        await takePause(clock, { ms, leastMs }, recovered, signal);
        if (recovered.aborted) failures = 0;
        continue;
      }
      await this.#poke.wait(IDLE_MS, signal);
    }
  }

  async #bringAbout(
    client: ApiClient,
    nodeUid: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const call = { signal, deadlineMs: DEADLINE_MS };
    const own = new Map<string, Worker>();
    for (const worker of this.#options.workers()) {
      const { source, pod, deletion } = worker.want;
      if (source !== 'api' && deletion === undefined) own.set(fullName(pod), worker);
    }
    const ending = new Set<string>();
    for (const { want } of this.#options.workers()) {
      if (want.source !== 'api' && want.deletion !== undefined) ending.add(fullName(want.pod));
    }
    // Of several the one that asks for the longest wait: all are tried again at once.
    let failure: Failure | undefined;
    const attempt = async (work: () => Promise<unknown>) => {
      await work().catch((error: unknown) => {
        if (!(error instanceof Failure)) throw error;
        if (failure === undefined || askedMsOf(error) > askedMsOf(failure)) failure = error;
      });
    };
    for (const [key, { uid, namespace, name, hash, isEnding }] of this.#mirrors) {
      const worker = own.get(key);
      const isRight = worker?.uid === hash || (worker === undefined && ending.has(key));
      // One that somebody deletes waits for the node to say that it is gone; it is made again then.
      if (isRight && !isEnding) continue;
      const how = { gracePeriodSeconds: 0, preconditions: { uid } };
      await attempt(() => deleteObject(client, PODS, { namespace, name }, how, call));
    }
    for (const [key, worker] of own) {
      if (this.#mirrors.has(key)) continue;
      if (nodeUid === undefined) throw new Failure('Unavailable', 'our Node is not known yet');
      const mirror = mirrorOf(worker, this.#options.nodeName, nodeUid);
      const { namespace } = worker.want.pod.metadata;
      await attempt(() =>
        createObject(client, PODS, { namespace }, mirror, { ...call, metadataOnly: true }),
      );
    }
    // Also what is there, or gone, already: the watch tells of it, or it is of another cluster.
    if (failure !== undefined) throw failure;
  }
}

function mirrorOf({ want, uid }: Worker, nodeName: string, nodeUid: string): ApiPod {
  const { metadata, spec } = v1Pod(want.pod);
  const { name, namespace, labels, annotations } = metadata as Pod['metadata'];
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...{ name, namespace },
      ...(labels !== undefined && { labels }),
      annotations: {
        ...annotations,
        [CONFIG_SOURCE_ANNOTATION]: want.source === 'file' ? 'file' : 'limpet',
        [CONFIG_HASH_ANNOTATION]: uid,
        [MIRROR_ANNOTATION]: uid,
      },
      ownerReferences: [
        { apiVersion: 'v1', kind: 'Node', name: nodeName, uid: nodeUid, controller: true },
      ],
    },
    spec: { ...spec, nodeName, tolerations: [{ operator: 'Exists', effect: 'NoExecute' }] },
  } as unknown as ApiPod;
}

function askedMsOf(failure: Failure): number {
  return failure instanceof ApiFailure ? (failure.retryAfterMs ?? 0) : 0;
}

function fullName({ metadata }: Pod): string {
  return `${metadata.namespace}/${metadata.name}`;
}
