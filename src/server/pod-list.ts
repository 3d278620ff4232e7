/**
 * Pods as `/pods` and `/runningpods/` show them: a PodList of the v1 API.
 * Source: k8s.io/api core/v1; pkg/kubelet/server encodePods, pkg/kubelet/container ToAPIPod.
 */
import type { ContainerSummary, PodSandbox } from '../kube/cri.ts';
import type { Volume } from '../kube/pod.ts';
import type { PodReport } from './api.ts';

export type V1PodList = {
  readonly kind: 'PodList';
  readonly apiVersion: 'v1';
  readonly metadata: object;
  readonly items: readonly object[];
};

/** What Kubernetes leaves out of its JSON when it is false, as it is filled in here. */
const ABSENT_WHEN_FALSE: ReadonlySet<string> = new Set([
  'hostNetwork',
  'hostPID',
  'hostIPC',
  'shareProcessNamespace',
  'readOnly',
  'stdin',
  'stdinOnce',
  'tty',
]);

/** Maps that Kubernetes leaves out of its JSON when they are empty. */
const ABSENT_WHEN_EMPTY: ReadonlySet<string> = new Set([
  'requests',
  'limits',
  'labels',
  'annotations',
]);

/** All pods of this node with their status. */
export function podListOf(reports: readonly PodReport[]): V1PodList {
  return listOf(reports.map(v1Pod));
}

/** One pod of the v1 API, without `kind`, as an item of a list is. */
export function v1Pod({ pod, status }: PodReport): object {
  const { volumes, ...spec } = pod.spec;
  return compact({
    metadata: pod.metadata,
    spec: { ...spec, volumes: volumes?.map(v1Volume) },
    status,
  });
}

/** Where Kubernetes has a key for each kind of volume, limpet has `kind`. */
function v1Volume(volume: Volume): object {
  const { name, kind, ...source } = volume;
  const filled = Object.entries(source).filter(([, value]) => value !== '');
  // Only a hostPath says that it has no type.
  return { name, [kind]: kind === 'hostPath' ? source : Object.fromEntries(filled) };
}

/** Leaves out undefined and empty lists, and what else an absent field means. */
function compact(value: unknown): object {
  return compacted(value) as object;
}

function compacted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(compacted);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(
    ([key, item]) =>
      item !== undefined &&
      !(Array.isArray(item) && item.length === 0) &&
      !(item === false && ABSENT_WHEN_FALSE.has(key)) &&
      !(ABSENT_WHEN_EMPTY.has(key) && Object.keys(item as object).length === 0),
  );
  return Object.fromEntries(kept.map(([key, item]) => [key, compacted(item)]));
}

/** What runs on this node by the runtime's word: names, images, nothing more. */
export function runningPodListOf(
  sandboxes: readonly PodSandbox[],
  containers: readonly ContainerSummary[],
): V1PodList {
  const running = containers.filter(({ state }) => state === 'CONTAINER_RUNNING');
  const pods = new Map<string, { readonly metadata: object; readonly containers: object[] }>();
  for (const { id, state, metadata } of sandboxes) {
    const own = running.filter(({ podSandboxId }) => podSandboxId === id);
    if (state !== 'SANDBOX_READY' && own.length === 0) continue;
    const { name, namespace, uid } = metadata;
    const pod = pods.get(uid) ?? { metadata: { name, namespace, uid }, containers: [] };
    pod.containers.push(...own.map((c) => ({ name: c.name, image: c.imageRef, resources: {} })));
    pods.set(uid, pod);
  }
  return listOf(
    [...pods.values()].map(({ metadata, containers: list }) => ({
      metadata,
      spec: list.length === 0 ? { containers: null } : { containers: list },
      status: {},
    })),
  );
}

function listOf(items: readonly object[]): V1PodList {
  return { kind: 'PodList', apiVersion: 'v1', metadata: {}, items };
}
