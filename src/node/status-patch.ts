/**
 * The strategic merge patch that makes a Node's stored status what it should be, with nothing in
 * it that is so already.
 * Source: Kubernetes "Strategic merge patch"; the merge keys of core/v1 NodeStatus.
 */
import type { NodeCondition, NodeStatus } from './status.ts';

type Json = Readonly<Record<string, unknown>>;

export type StatusPatch = {
  readonly patch: Json;
  /** Whether more than the time of the last heartbeat is told. */
  readonly changed: boolean;
};

/** Lists that are replaced as a whole, and scalars. */
const WHOLE = ['images', 'runtimeHandlers', 'declaredFeatures', 'volumesInUse'] as const;
/** Objects whose fields are merged one by one. */
const MERGED = ['capacity', 'allocatable', 'daemonEndpoints', 'nodeInfo', 'features'] as const;

export function statusPatch(before: NodeStatus, after: NodeStatus): StatusPatch {
  const patch: Record<string, unknown> = {};
  for (const field of MERGED) {
    const changes = mergePatch(asJson(before[field]), asJson(after[field]));
    if (Object.keys(changes).length > 0) patch[field] = changes;
  }
  for (const field of WHOLE) {
    if (!isSame(before[field] ?? [], after[field] ?? [])) patch[field] = after[field] ?? null;
  }
  if (!isSame(before.addresses ?? [], after.addresses ?? [])) {
    // Merged by type by default, but one type may have several.
    patch['addresses'] = [...(after.addresses ?? []), { $patch: 'replace' }];
  }
  const conditions = (after.conditions ?? [])
    .map((condition) => conditionPatch(before.conditions ?? [], condition))
    // Those of the board have no heartbeat: there is nothing to say while they do not turn.
    .filter((condition) => Object.keys(condition).length > 1);
  const changed =
    Object.keys(patch).length > 0 || conditions.some(({ status }) => status !== undefined);
  return { patch: { ...patch, conditions }, changed };
}

/** The whole condition when it says something new, else only that it still holds. */
function conditionPatch(
  before: readonly NodeCondition[],
  after: NodeCondition,
): Partial<NodeCondition> {
  const old = before.find(({ type }) => type === after.type);
  const { type, status, reason, message, lastHeartbeatTime } = after;
  const isOld = old?.status === status && old.reason === reason && old.message === message;
  return isOld ? { type, ...(lastHeartbeatTime && { lastHeartbeatTime }) } : after;
}

/** Source: RFC 7396, for objects of objects and scalars. */
function mergePatch(before: Json, after: Json): Json {
  const changes: Record<string, unknown> = {};
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = [before[key], after[key]];
    if (isSame(old, now)) continue;
    changes[key] = isObject(old) && isObject(now) ? mergePatch(old, now) : (now ?? null);
  }
  return changes;
}

function asJson(value: unknown): Json {
  return isObject(value) ? value : {};
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => isSame(item, b[index]));
  }
  if (!isObject(a) || !isObject(b)) return false;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].every((key) => isSame(a[key], b[key]));
}
