/**
 * The status of a pod as the API server is told of it: a strategic merge patch, and whether what
 * the server has says the same already. Pure.
 * Source: k8s.io/api core/v1 PodStatus and its merge keys; pkg/util/pod PatchPodStatus.
 */
import type { PodCondition, PodStatus } from '../kube/pod.ts';
import { compact } from '../kube/v1-pod.ts';

type Json = Readonly<Record<string, unknown>>;

export type StatusFacts = {
  /** Of the object: another one of its name is not to be changed. */
  readonly uid: string;
  /** The generation of the object that this status belongs to. */
  readonly generation: number | undefined;
  /** Addresses of the node, the first one is the main one. */
  readonly hostIPs: readonly string[];
};

/** The body of a PATCH of the subresource `status`. */
export function podStatusPatch(status: PodStatus, facts: StatusFacts): Json {
  return { metadata: { uid: facts.uid }, status: reported(status, facts) };
}

/** `null` removes what the server may still have. */
function reported(status: PodStatus, { generation, hostIPs }: StatusFacts): Json {
  const { conditions, podIP, podIPs = [], reason, message, containerStatuses } = status;
  const observed = generation !== undefined && { observedGeneration: generation };
  return {
    ...observed,
    phase: status.phase,
    reason: reason ?? null,
    message: message ?? null,
    ...(status.startTime !== undefined && { startTime: status.startTime }),
    hostIP: hostIPs[0] ?? null,
    // Merged by address by default: what a pod had before a reboot would stay.
    hostIPs: [...hostIPs.map((ip) => ({ ip })), { $patch: 'replace' }],
    podIP: podIP ?? null,
    podIPs: [...podIPs, { $patch: 'replace' }],
    qosClass: status.qosClass,
    conditions: conditions.map((condition) => ({ ...reportedCondition(condition), ...observed })),
    containerStatuses: containerStatuses.map((one) => compact(one)),
    initContainerStatuses: status.initContainerStatuses.map((one) => compact(one)),
  };
}

function reportedCondition({ reason, message, ...rest }: PodCondition): Json {
  return { ...rest, reason: reason ?? null, message: message ?? null };
}

/**
 * The status with the times that the API server has of conditions which have not changed: an agent
 * that has just started does not know since when they are so.
 */
export function withKnownTimes(status: PodStatus, stored: unknown): PodStatus {
  const known = (stored as { readonly conditions?: unknown } | null | undefined)?.conditions;
  if (!Array.isArray(known)) return status;
  const conditions = status.conditions.map((condition) => {
    const before = (known as Partial<PodCondition>[]).find(({ type }) => type === condition.type);
    const since = before?.status === condition.status ? before.lastTransitionTime : undefined;
    return typeof since === 'string' ? { ...condition, lastTransitionTime: since } : condition;
  });
  return { ...status, conditions };
}

/** Whether a status of the API server says already what the patch says. */
export function saysTheSame(stored: unknown, patch: Json): boolean {
  return covers(stored, patch['status']);
}

/** Whether all of `wanted` is so in `found`; conditions of others are nothing to us. */
function covers(found: unknown, wanted: unknown): boolean {
  if (wanted === null || wanted === undefined) return found === null || found === undefined;
  if (Array.isArray(wanted)) return coversList(Array.isArray(found) ? found : [], wanted);
  if (typeof wanted !== 'object') return found === wanted;
  const has = (typeof found === 'object' ? (found ?? {}) : {}) as Json;
  return Object.entries(wanted).every(([key, value]) => covers(has[key], value));
}

function coversList(found: readonly unknown[], wanted: readonly unknown[]): boolean {
  const items = wanted.filter((item) => !isReplace(item));
  const types = items.map(typeOf);
  if (types.every((type) => type !== undefined) && items.length > 0) {
    return items.every((item) => {
      return covers(
        found.find((other) => typeOf(other) === typeOf(item)),
        item,
      );
    });
  }
  return found.length === items.length && items.every((item, index) => covers(found[index], item));
}

function isReplace(item: unknown): boolean {
  return typeof item === 'object' && item !== null && '$patch' in item;
}

/** The key by which conditions are merged. */
function typeOf(item: unknown): unknown {
  return typeof item === 'object' && item !== null ? (item as Json)['type'] : undefined;
}
