/**
 * What a pod's requests and limits make of it: its QoS class, its sums, and the kernel's numbers.
 * Source: k8s.io/kubernetes 1.36 pkg/apis/core/v1/helper/qos, pkg/kubelet/qos,
 * pkg/kubelet/cm/helpers_linux.go, k8s.io/component-helpers resource.
 */
import type { Container, Pod, QOSClass, ResourceList } from './pod.ts';
import { parseQuantity, quantityBytes, quantityMilli } from './quantity.ts';

const GUARANTEED_OOM_SCORE_ADJ = -997;
const BEST_EFFORT_OOM_SCORE_ADJ = 1000;

const MIN_SHARES = 2;
const MAX_SHARES = 262_144;
const SHARES_PER_CPU = 1024;
/** The kernel's least quota, 1 ms. */
const MIN_QUOTA_US = 1000;
/** The kubelet's `cpuCFSQuotaPeriod`. */
export const CPU_PERIOD_US = 100_000;

type QosResource = 'cpu' | 'memory';
const QOS_RESOURCES: readonly QosResource[] = ['cpu', 'memory'];

/**
 * Guaranteed: every container, init containers too, has limits for processor and memory, and all
 * requests equal them. BestEffort: none has a request or a limit. Burstable: all others.
 */
export function qosClass(pod: Pod): QOSClass {
  const containers = [...pod.spec.containers, ...pod.spec.initContainers];
  const requests = { cpu: 0n, memory: 0n };
  const limits = { cpu: 0n, memory: 0n };
  let allLimited = true;
  for (const { resources } of containers) {
    for (const name of QOS_RESOURCES) {
      const limit = nanosOf(resources.limits, name);
      requests[name] += nanosOf(requestsOf(resources), name);
      limits[name] += limit;
      if (limit === 0n) allLimited = false;
    }
  }
  const sums = [requests.cpu, requests.memory, limits.cpu, limits.memory];
  if (sums.every((sum) => sum === 0n)) return 'BestEffort';
  const equal = requests.cpu === limits.cpu && requests.memory === limits.memory;
  return allLimited && equal ? 'Guaranteed' : 'Burstable';
}

/** What is not above zero counts as not said. */
function nanosOf(list: ResourceList, name: QosResource): bigint {
  const nanos = parseQuantity(list[name] ?? '0') ?? 0n;
  return nanos > 0n ? nanos : 0n;
}

/** A limit without a request is a request too. Source: SetDefaults_Pod. */
function requestsOf(resources: Container['resources']): ResourceList {
  return { ...resources.limits, ...resources.requests };
}

export type PodResources = {
  readonly qosClass: QOSClass;
  readonly requests: {
    readonly cpuMilli: number;
    readonly memoryBytes: number;
    readonly ephemeralStorageBytes: number;
  };
  /** Undefined where not every container says its limit: then the pod has none. */
  readonly limits: {
    readonly cpuMilli?: number;
    readonly memoryBytes?: number;
  };
};

/**
 * The sums of a pod. Init containers run one after the other and before the others, so the largest
 * of them counts, together with the sidecars that were started before it; sidecars keep running, so
 * they count with the containers as well.
 *
 * @throws Failure `InvalidArgument` on a quantity that is none; parsing a manifest refuses those.
 */
export function podResources(pod: Pod): PodResources {
  const cpu = (list: ResourceList) => quantityMilli(list['cpu'] ?? '0');
  const memory = (list: ResourceList) => quantityBytes(list['memory'] ?? '0');
  const storage = (list: ResourceList) => quantityBytes(list['ephemeral-storage'] ?? '0');
  const request = (of: (list: ResourceList) => number) =>
    aggregate(pod, (container) => of(requestsOf(container.resources))).total;
  const limit = (of: (list: ResourceList) => number) => {
    const { total, complete } = aggregate(pod, (container) => of(container.resources.limits));
    return complete ? total : undefined;
  };
  const cpuMilli = limit(cpu);
  const memoryBytes = limit(memory);
  return {
    qosClass: qosClass(pod),
    requests: {
      cpuMilli: request(cpu),
      memoryBytes: request(memory),
      ephemeralStorageBytes: request(storage),
    },
    limits: {
      ...(cpuMilli === undefined ? {} : { cpuMilli }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
    },
  };
}

/** `complete`: no container was without an amount; an init container may owe it to a sidecar. */
function aggregate(
  pod: Pod,
  amountOf: (container: Container) => number,
): { readonly total: number; readonly complete: boolean } {
  let running = 0;
  let complete = true;
  for (const container of pod.spec.containers) {
    const amount = amountOf(container);
    running += amount;
    complete &&= amount > 0;
  }
  let sidecars = 0;
  let starting = 0;
  for (const container of pod.spec.initContainers) {
    const amount = amountOf(container);
    if (container.restartPolicy === 'Always') {
      running += amount;
      sidecars += amount;
    }
    const needed = container.restartPolicy === 'Always' ? sidecars : sidecars + amount;
    complete &&= needed > 0;
    starting = Math.max(starting, needed);
  }
  return { total: Math.max(running, starting), complete };
}

/**
 * How willingly the kernel kills a container when memory runs out: from -997, last, to 1000, first.
 *
 * @param memoryCapacityBytes All memory of the machine.
 */
export function oomScoreAdj(pod: Pod, container: Container, memoryCapacityBytes: number): number {
  if (pod.spec.priorityClassName === 'system-node-critical') return GUARANTEED_OOM_SCORE_ADJ;
  const qos = qosClass(pod);
  if (qos === 'Guaranteed') return GUARANTEED_OOM_SCORE_ADJ;
  if (qos === 'BestEffort') return BEST_EFFORT_OOM_SCORE_ADJ;
  const requestBytes = ({ resources }: Container) =>
    quantityBytes(requestsOf(resources)['memory'] ?? '0');
  const score = (bytes: number) => 1000 - Math.floor((1000 * bytes) / memoryCapacityBytes);
  let adjust = score(requestBytes(container));
  if (container.restartPolicy === 'Always' && pod.spec.initContainers.includes(container)) {
    // A sidecar lives at least as long as the containers that it serves.
    adjust = Math.min(adjust, score(Math.min(...pod.spec.containers.map(requestBytes))));
  }
  // Above a Guaranteed pod that uses all memory, and below BestEffort.
  return Math.min(Math.max(adjust, 1000 + GUARANTEED_OOM_SCORE_ADJ), BEST_EFFORT_OOM_SCORE_ADJ - 1);
}

/** The shares (cgroup v1's unit, which the CRI speaks) of so many thousandths of a processor. */
export function cpuShares(milli: number): number {
  const shares = Math.floor((milli * SHARES_PER_CPU) / 1000);
  return Math.min(Math.max(shares, MIN_SHARES), MAX_SHARES);
}

/**
 * The `cpu.weight` of shares, by the kubelet's straight line. Runtimes bend it for containers by
 * now (runc 1.3); pod and QoS cgroups keep the line.
 */
export function cpuWeight(shares: number): number {
  const within = Math.min(Math.max(shares, MIN_SHARES), MAX_SHARES);
  return 1 + Math.floor(((within - 2) * 9999) / 262_142);
}

/** The quota in microseconds in each period; 0: there is none. */
export function cpuQuota(milli: number, periodUs: number): number {
  return milli === 0 ? 0 : Math.max(Math.floor((milli * periodUs) / 1000), MIN_QUOTA_US);
}
