/**
 * The pods that the API server has bound to this node: watched, stored, and handed to the workers.
 * Mirror pods are what the API server shows of this node's own pods; they go to `mirror-pods.ts`.
 */
import type { Stored } from '../apiserver/resource.ts';
import { PODS } from '../apiserver/resource.ts';
import { watchObjects, type WatchState } from '../apiserver/watch.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { readApiPod } from '../kube/parse-api.ts';
import type { Store } from '../store/store.ts';
import type { Session } from './cluster.ts';
import type { Desired } from './desired.ts';
import { createForgotten } from './forgotten.ts';
import { MIRROR_ANNOTATION, type ApiPod, type MirrorPods } from './mirror-pods.ts';
import type { PodStatuses } from './pod-statuses.ts';

export type ApiPodsOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly nodeName: string;
  readonly store: Store;
  readonly desired: Desired;
  readonly statuses: PodStatuses;
  readonly mirrors: MirrorPods;
  /** All that there is has been told of. */
  readonly onSynced: () => void;
  /** Nothing that the API server had to tell is outstanding. */
  readonly onCaughtUp: () => void;
};

/** Follows the pods until the signal is aborted. */
export async function followApiPods(
  options: ApiPodsOptions,
  session: Session,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, log, nodeName, desired, statuses, mirrors } = options;
  const { client, verify, recovery } = session;
  /** What was taken of each pod: a change of its status alone asks for nothing. */
  const taken = new Map<string, string>();
  const forgotten = createForgotten(options.store);
  let phase: WatchState['phase'] | undefined;
  const put = (object: Stored<ApiPod>): void => {
    const { metadata } = object;
    if (metadata.annotations?.[MIRROR_ANNOTATION] !== undefined) return mirrors.put(object);
    const { uid } = metadata;
    const version = versionOf(object);
    if (taken.get(uid) === version) {
      const worker = desired.apiPod(uid);
      return worker && statuses.heard(worker, object.status);
    }
    const read = readApiPod(object, { ...metadata, namespace: metadata.namespace ?? '' });
    const graceSeconds =
      metadata.deletionTimestamp === undefined
        ? undefined
        : (metadata.deletionGracePeriodSeconds ?? read.pod.spec.terminationGracePeriodSeconds);
    // Before it is stored: what a restored cluster does not have must not look deleted.
    if (desired.apiPod(uid) === undefined) session.reached(metadata.resourceVersion);
    const worker = desired.setApiPod(read, graceSeconds);
    taken.set(uid, version);
    if (worker !== undefined) statuses.heard(worker, object.status);
  };
  const known = desired.apiPods().map(({ uid, want }) => {
    const { namespace, name } = want.pod.metadata;
    return { uid, namespace, name, resourceVersion: '' };
  });
  await watchObjects<ApiPod>(
    {
      ...{ client, clock, random, signal, verify, recovery },
      resource: PODS,
      fieldSelector: `spec.nodeName=${nodeName}`,
      resume: { resourceVersion: undefined, known: [...known, ...mirrors.known()] },
    },
    {
      put,
      gone: ({ uid }, why) => {
        taken.delete(uid);
        if (mirrors.gone(uid)) return;
        if (why === 'absent' && forgotten.isKept(uid)) return;
        desired.endApiPod(uid);
        statuses.forget(uid);
      },
      synced: (listed) => {
        // A restored cluster has lost what it was told since, and may show a version that is known.
        for (const object of listed) put(object);
        mirrors.listed();
        forgotten.settle(desired.apiPods().map(({ uid }) => uid));
        options.onSynced();
      },
      bookmark: () => undefined,
      caughtUp: () => options.onCaughtUp(),
      state: (state) => {
        if (state.phase === phase) return;
        phase = state.phase;
        const problem = state.phase === 'watching' ? undefined : state.why?.message;
        log.debug('the watch of the pods', { phase, problem: problem ?? '' });
      },
    },
  );
}

/** Differs when something is wanted of the pod that was not before. */
function versionOf({ metadata }: Stored<ApiPod>): string {
  const { generation, deletionTimestamp, deletionGracePeriodSeconds, labels, annotations } =
    metadata;
  const rest = [generation, deletionTimestamp, deletionGracePeriodSeconds, labels, annotations];
  return JSON.stringify(rest);
}
