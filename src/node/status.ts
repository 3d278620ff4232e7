/**
 * What the Node object says of this machine, from facts that are given.
 * Words and order are the kubelet's. Source: k8s.io/kubernetes pkg/kubelet/nodestatus/setters.go,
 * v1.36.
 */
import type { V1NodeCondition, V1NodeStatus } from '@kubernetes/client-node/dist/gen/models/all.js';

import type { Image, RuntimeHandler, RuntimeStatus, RuntimeVersion } from '../kube/cri.ts';
import type { Wire } from '../kube/wire.ts';
import type { BoardCondition } from './board.ts';

export type NodeStatus = Wire<V1NodeStatus>;
export type NodeCondition = Wire<V1NodeCondition>;

/** What stays as it is for as long as the machine runs. */
export type MachineFacts = {
  /** `/etc/machine-id` */
  readonly machineId: string;
  /** Of the firmware; boards without one have the machine's id. */
  readonly systemUuid: string;
  readonly bootId: string;
  readonly kernelVersion: string;
  /** `Debian GNU/Linux 12 (bookworm)` */
  readonly osImage: string;
  /** As Go calls it: `arm64`, `amd64`, `arm`. */
  readonly architecture: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly swapBytes: number;
  /** Bytes of each size of huge pages (`2Mi`) that the kernel has set aside. */
  readonly hugepages: Readonly<Record<string, number>>;
};

/** What may change. */
export type NodeFacts = {
  readonly hostname: string;
  /** Addresses of the node, the main one first. */
  readonly addresses: readonly string[];
  /** Size of the file system of the pods' directories; undefined when it could not be read. */
  readonly storageBytes: number | undefined;
  readonly runtime: {
    readonly connected: boolean;
    readonly version: RuntimeVersion | undefined;
    readonly status: RuntimeStatus | undefined;
    /** Why it does not answer. */
    readonly message: string | undefined;
  };
  /** Why nothing can be stored; undefined when all is well. */
  readonly storeProblem: string | undefined;
  /** Conditions of the board: a Node may have any beside its own. */
  readonly board: readonly BoardCondition[];
  /** Undefined when the runtime could not be asked. */
  readonly images: readonly Image[] | undefined;
};

export type NodeSettings = {
  readonly kubeletVersion: string;
  readonly maxPods: number;
  /** The port of the kubelet's API. */
  readonly port: number;
};

const MAX_IMAGES = 50;
const MAX_IMAGE_NAMES = 5;
const KIB = 1024;

/**
 * The status of now. A condition that is as in `before` keeps the time of its last change.
 *
 * @param now RFC 3339
 */
export function nodeStatus(
  machine: MachineFacts,
  facts: NodeFacts,
  settings: NodeSettings,
  before: NodeStatus | undefined,
  now: string,
): NodeStatus {
  const { runtime, images } = facts;
  const { version } = runtime;
  const resources = resourcesOf(machine, facts, settings);
  const listed = images === undefined ? before?.images : imagesOf(images);
  const capacity = facts.storageBytes === undefined ? keptStorage(before) : {};
  return {
    capacity: { ...resources.capacity, ...capacity },
    allocatable: { ...resources.allocatable, ...capacity },
    conditions: conditionsOf(facts, before?.conditions ?? [], now),
    addresses: [
      ...facts.addresses.map((address) => ({ type: 'InternalIP', address })),
      { type: 'Hostname', address: facts.hostname },
    ],
    daemonEndpoints: { kubeletEndpoint: { Port: settings.port } },
    nodeInfo: {
      machineID: machine.machineId,
      systemUUID: machine.systemUuid,
      bootID: machine.bootId,
      kernelVersion: machine.kernelVersion,
      osImage: machine.osImage,
      containerRuntimeVersion:
        version === undefined
          ? (before?.nodeInfo?.containerRuntimeVersion ?? '')
          : `${version.runtimeName}://${version.runtimeVersion}`,
      kubeletVersion: settings.kubeletVersion,
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: machine.architecture,
      ...(machine.swapBytes > 0 && { swap: { capacity: machine.swapBytes } }),
    },
    ...(listed !== undefined && { images: listed }),
    ...handlersOf(runtime.status?.handlers ?? []),
    ...(runtime.status?.features !== undefined && {
      features: { supplementalGroupsPolicy: runtime.status.features.supplementalGroupsPolicy },
    }),
  };
}

type Quantities = Readonly<Record<string, string>>;

/** All of it may be used by pods: nothing is reserved, and nothing is evicted. */
function resourcesOf(
  { cpus, memoryBytes, hugepages }: MachineFacts,
  { storageBytes }: NodeFacts,
  { maxPods }: NodeSettings,
): { readonly capacity: Quantities; readonly allocatable: Quantities } {
  const kibi = (bytes: number) => `${Math.floor(bytes / KIB)}Ki`;
  const pages = Object.entries(hugepages);
  const inPages = pages.reduce((sum, [, bytes]) => sum + bytes, 0);
  const common: Quantities = {
    cpu: String(cpus),
    pods: String(maxPods),
    ...Object.fromEntries(
      pages.map(([size, bytes]) => [`hugepages-${size}`, bytes === 0 ? '0' : kibi(bytes)]),
    ),
    ...(storageBytes !== undefined && { 'ephemeral-storage': kibi(storageBytes) }),
  };
  return {
    capacity: { ...common, memory: kibi(memoryBytes) },
    allocatable: { ...common, memory: kibi(Math.max(0, memoryBytes - inPages)) },
  };
}

function keptStorage(before: NodeStatus | undefined): Quantities {
  const kept = before?.capacity?.['ephemeral-storage'];
  return kept === undefined ? {} : { 'ephemeral-storage': kept };
}

/** The largest, each with what it is called; names by digest come first. */
function imagesOf(images: readonly Image[]): NodeStatus['images'] {
  return images
    .toSorted((a, b) => b.size - a.size || (a.id < b.id ? -1 : 1))
    .slice(0, MAX_IMAGES)
    .map(({ repoDigests, repoTags, size }) => ({
      names: [...repoDigests, ...repoTags].slice(0, MAX_IMAGE_NAMES),
      sizeBytes: size,
    }));
}

function handlersOf(handlers: readonly RuntimeHandler[]): Pick<NodeStatus, 'runtimeHandlers'> {
  if (handlers.length === 0) return {};
  return {
    runtimeHandlers: handlers
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map(({ name, features }) => ({ name, ...(features !== undefined && { features }) })),
  };
}

function conditionsOf(
  facts: NodeFacts,
  before: readonly NodeCondition[],
  now: string,
): readonly NodeCondition[] {
  const problem = whyNotReady(facts);
  const ready =
    problem === undefined
      ? (['True', 'KubeletReady', 'kubelet is posting ready status'] as const)
      : (['False', 'KubeletNotReady', problem] as const);
  const conditions = { ...NO_PRESSURE, Ready: ready };
  const own = Object.entries(conditions).map(([type, [status, reason, message]]) => {
    const old = before.find((condition) => condition.type === type);
    const since = old?.status === status ? old.lastTransitionTime : undefined;
    return {
      type,
      status,
      reason,
      message,
      lastHeartbeatTime: now,
      lastTransitionTime: since ?? now,
    };
  });
  return [...facts.board.map((condition) => boardCondition(condition, before)), ...own];
}

/** Without the time of a heartbeat: it is told when it turns, and not again. */
function boardCondition(
  { type, status, reason, message, since }: BoardCondition,
  before: readonly NodeCondition[],
): NodeCondition {
  const old = before.find((condition) => condition.type === type);
  const kept = old?.status === status ? old.lastTransitionTime : undefined;
  return { type, status, reason, message, lastTransitionTime: kept ?? since };
}

/** Nothing is evicted here, and so nothing is ever under pressure in the sense of these. */
const NO_PRESSURE = {
  MemoryPressure: [
    'False',
    'KubeletHasSufficientMemory',
    'kubelet has sufficient memory available',
  ],
  DiskPressure: ['False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'],
  PIDPressure: ['False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'],
} as const;

function whyNotReady({ runtime, storeProblem }: NodeFacts): string | undefined {
  const problems: string[] = [];
  if (!runtime.connected) {
    const why = runtime.message === undefined ? '' : `: ${runtime.message}`;
    problems.push(`container runtime is down${why}`);
  } else {
    for (const { type, status, reason, message } of runtime.status?.conditions ?? []) {
      if (status || (type !== 'RuntimeReady' && type !== 'NetworkReady')) continue;
      const what = type === 'NetworkReady' ? 'container runtime network' : 'container runtime';
      problems.push(`${what} not ready: ${type}=false reason:${reason} message:${message}`);
    }
  }
  if (storeProblem !== undefined) problems.push(`nothing can be stored: ${storeProblem}`);
  if (problems.length === 0) return undefined;
  return problems.length === 1 ? problems[0] : `[${problems.join(', ')}]`;
}

/** Whether this status says that the node is ready for pods. */
export function isReady(status: NodeStatus | undefined): boolean {
  return status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') === true;
}
