/** Connects the pod workers with the runtime, the store and the node. */
import type { Clock, Now } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { remembered } from '../base/remembered.ts';
import type { CriRuntime } from '../cri/open.ts';
import { open as openRuntime, socketPath } from '../cri/open.ts';
import type { NewEvent } from '../kube/event.ts';
import { NO_OBJECTS } from '../kube/objects.ts';
import { hostIPs } from '../linux/addresses.ts';
import { comesOrGoes } from '../linux/inotify.ts';
import { addressesNow } from '../linux/machine.ts';
import { cpuCount, memTotalBytes } from '../linux/proc.ts';
import type { Store } from '../store/store.ts';
import { createClusterObjects, type ClusterObjects } from './cluster-objects.ts';
import { Desired } from './desired.ts';
import { createExecute, withLastWords, type ExecuteOptions } from './execute.ts';
import { fullHold } from './findings.ts';
import { Holds } from './holds.ts';
import type { Images } from './images.ts';
import { createImages } from './images.ts';
import { Looks } from './looks.ts';
import type { NodeCgroup } from './node-cgroup.ts';
import { createNodeCgroup } from './node-cgroup.ts';
import type { AgentOptions } from './options.ts';
import type { PodPaths } from './pod-files.ts';
import { Probes } from './probes.ts';
import { pullRecords } from './pull-records.ts';
import { MirrorPods } from './mirror-pods.ts';
import { objectUidOf, PodStatuses } from './pod-statuses.ts';
import { OfflinePods } from './offline.ts';
import { bringUpToDate } from './report.ts';
import { createSettling, type Settling } from './settling.ts';
import type { Slots } from './slots.ts';
import { createSlots } from './slots.ts';
import { Turns } from './turns.ts';

/** An address that changes is known after so long: by statuses, probes and new containers. */
const ADDRESSES_MS = 5_000;

/** What there is before there are pods. */
export type Foundation = {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  /** Gives free memory of the C heap back. */
  readonly trimHeap: () => void;
};

export type Core = {
  readonly cri: CriRuntime;
  readonly paths: PodPaths;
  readonly looks: Looks;
  readonly images: Images;
  readonly nodeCgroup: NodeCgroup;
  /** For sandboxes and containers. */
  readonly starts: Slots;
  readonly turns: Turns;
  readonly desired: Desired;
  readonly holds: Holds;
  readonly settling: Settling;
  /** Resolves when the runtime's socket may have come. */
  readonly runtimeComes: (signal: AbortSignal) => Promise<void>;
  /** What the API server is told of pods. */
  readonly statuses: PodStatuses;
  readonly mirrors: MirrorPods;
  readonly offline: OfflinePods;
  /** Of this machine, as they were a few seconds ago; see `addresses.ts`. */
  readonly hostIPs: () => readonly string[];
  /** Undefined when the node belongs to no cluster. */
  readonly clusterObjects: ClusterObjects | undefined;
};

/** What pods are carried out with. Nothing is connected yet. */
function openMeans(
  options: AgentOptions,
  { clock, log, store, trimHeap }: Foundation,
  stack: AsyncDisposableStack,
) {
  const cri = stack.use(openRuntime(options.runtimeEndpoint, { clock, random: systemRandom() }));
  const settling = stack.use(createSettling(clock, log, trimHeap));
  const runtimeComes = (signal: AbortSignal) =>
    comesOrGoes(socketPath(options.runtimeEndpoint), signal);
  const paths: PodPaths = {
    rootDirectory: options.rootDirectory,
    logRoot: options.podLogsDirectory,
    linkDirectory: options.containerLogsDirectory,
  };
  const memoryBytes = memTotalBytes();
  const allocatable = { cpuMilli: cpuCount() * 1000, memoryBytes };
  const nodeCgroup = createNodeCgroup(options, clock, cri.runtime);
  const images = createImages({
    service: cri.images,
    slots: createSlots(LIMITS.parallelPulls),
    clock,
    records: pullRecords(store),
  });
  const starts = createSlots(LIMITS.parallelStarts);
  const own = { cri, nodeCgroup, images, starts, settling, runtimeComes };
  return { ...own, paths, memoryBytes, allocatable };
}

/** Opens nothing that can fail: the runtime is connected by the first call. */
export function createCore(
  options: AgentOptions,
  base: Foundation & { readonly onPods: () => void },
  stack: AsyncDisposableStack,
): Core {
  const { clock, log, store } = base;
  const means = openMeans(options, base, stack);
  const { cri, paths, allocatable, settling } = means;
  const onEvent = (event: NewEvent) => recordEvent(options, store, event, clock.now());
  const holds = new Holds((hold) => turns.hold(hold));
  const looks = new Looks({
    runtime: cri.runtime,
    epoch: () => cri.epoch(),
    onExited: (uid, ended) => withLastWords(paths, turns.workers.get(uid), ended),
    soon: (run) => clock.soon(run),
  });
  const clusterObjects = clusterObjectsOf(options, base, (uid) =>
    turns.post(uid, { type: 'ObjectsChanged' }),
  );
  const nodeAddresses = remembered(clock, ADDRESSES_MS, () => addressesNow(options.nodeIPs));
  const localIPs = remembered(clock, ADDRESSES_MS, hostIPs);
  const hostIP = () => localIPs()[0];
  const execute = createExecute({
    ...{ options, ...means, runtime: cri.runtime, looks, clock, onEvent, log },
    ...(clusterObjects ?? WITHOUT_API),
    hostIPs: localIPs,
    onView: (worker, view) => turns.post(worker.uid, { type: 'Looked', view }),
  });
  const probes = stack.use(
    new Probes({
      ...{ runtime: cri.runtime, clock, random: systemRandom(), hostIP, onEvent },
      post: (uid, event) => turns.post(uid, event),
    }),
  );
  const turns: Turns = new Turns({
    clock,
    store: (ledgers) => void store.putLedgers(ledgers),
    execute: settling.noticed(execute),
    lookSeq: () => looks.seq,
    onEvent,
    onDone: (worker) => desired.forget(worker),
    onTurn: (workers) => {
      settling.turned(holds.current, turns.workers.values());
      probes.follow(workers, (uid) => turns.workers.has(uid));
      // Before their status is taken: who starts again has not failed.
      offline.attend(workers);
      const onHost = workers.some(({ want }) => want.pod.spec.hostNetwork);
      const address = onHost ? nodeAddresses()[0] : undefined;
      // Now, and not when somebody asks: conditions bear the time at which they changed.
      for (const worker of workers) bringUpToDate(worker, clock.now(), address);
      statuses.changed(workers);
      mirrors.changed(workers);
      base.onPods();
    },
    onStored: (fault) => holds.set('store', fault && fullHold(fault)),
  });
  const mirrors = new MirrorPods({
    ...{ clock, log },
    random: systemRandom(),
    nodeName: options.nodeName,
    workers: () => turns.workers.values(),
    onMade: (worker) => statuses.anew(worker),
    onHeard: (worker, status) => statuses.heard(worker, status),
  });
  const statuses = new PodStatuses({
    ...{ clock, log, random: systemRandom() },
    hostIPs: nodeAddresses,
    uidOf: (worker) => objectUidOf(worker, mirrors),
    onDeleted: (uid) => desired.forgetApiPod(uid),
  });
  const offline = stack.use(
    new OfflinePods({ clock, log, directory: options.runDirectory, turns: () => turns }),
  );
  const node = { name: options.nodeName, maxPods: options.maxPods, allocatable };
  const desired = new Desired({
    ...{ store, turns, clock, log, node, onEvent },
    onOver: (worker) => statuses.over(worker),
    onPods: (pods) => clusterObjects?.follow(pods),
  });
  const told = { statuses, mirrors, offline, clusterObjects, hostIPs: localIPs };
  return { ...means, looks, turns, desired, holds, ...told };
}

/** Records an event of a pod: in a cluster each is one of the API server's or has a mirror pod there. */
function recordEvent(options: AgentOptions, store: Store, event: NewEvent, now: Now): void {
  const inApi = options.cluster === undefined ? {} : ({ inApi: true } as const);
  store.recordEvent({ ...event, object: { ...event.object, ...inApi } }, now);
}

function clusterObjectsOf(
  { cluster }: AgentOptions,
  { clock, log, store }: Foundation,
  onChange: (podUid: string) => void,
): ClusterObjects | undefined {
  if (cluster === undefined) return undefined;
  return createClusterObjects({ clock, log, store, random: systemRandom(), onChange });
}

/** What a node has for its pods that no API server stands behind. */
const WITHOUT_API: Pick<ExecuteOptions, 'objects' | 'token' | 'heard'> = {
  objects: NO_OBJECTS,
  heard: () => Promise.resolve(),
  token: () =>
    Promise.reject(
      new Failure(
        'Unavailable',
        'a token of a service account takes an API server, and none is set',
      ),
    ),
};
