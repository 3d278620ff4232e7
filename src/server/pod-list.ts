/**
 * Pods as `/pods` and `/runningpods/` show them: a PodList of the v1 API.
 * Source: k8s.io/api core/v1; pkg/kubelet/server encodePods, pkg/kubelet/container ToAPIPod.
 */
import type { ContainerSummary, PodSandbox } from '../kube/cri.ts';
import { compact, v1Pod } from '../kube/v1-pod.ts';
import type { PodReport } from './api.ts';

export type V1PodList = {
  readonly kind: 'PodList';
  readonly apiVersion: 'v1';
  readonly metadata: object;
  readonly items: readonly object[];
};

/** All pods of this node with their status. */
export function podListOf(reports: readonly PodReport[]): V1PodList {
  return listOf(reports.map(podOf));
}

function podOf(report: PodReport): object {
  const { pod, status, deletionTimestamp, deletionGracePeriodSeconds } = report;
  const { metadata, spec } = v1Pod(pod);
  const ending = compact({ deletionTimestamp, deletionGracePeriodSeconds });
  return { metadata: { ...metadata, ...ending }, spec, status: compact(status) };
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
