/**
 * Identity of pods that no API server has named: the hash that tells whether a manifest asks for
 * something else than before, and what makes a static pod of a manifest, the way the kubelet does.
 * Source: k8s.io/kubernetes pkg/kubelet/config/common.go, v1.36. The kubelet hashes a dump of Go
 * structs, so its UIDs differ from these: a pod is begun anew when a node changes its agent.
 */
import { fnv1a128 } from './container-hash.ts';
import type { ObjectMeta, Pod } from './pod.ts';

export const CONFIG_SOURCE_ANNOTATION = 'kubernetes.io/config.source';
export const CONFIG_HASH_ANNOTATION = 'kubernetes.io/config.hash';
/** The path of the manifest that a static pod was made of. */
export const MANIFEST_ANNOTATION = 'limpet/manifest';

const OWN_ANNOTATIONS = /^(kubernetes\.io\/config\.|limpet\/manifest$)/;

/**
 * 32 hexadecimal digits that are the same for two pods exactly when they ask for the same, whatever
 * the order of fields in their manifests. Uid, age and the agent's own annotations don't count.
 *
 * It must be the same in every version of limpet, or an update would begin all static pods anew: a
 * field that is added to `Pod` has to be absent, or an empty map or list, in all older manifests.
 */
export function specHash(pod: Pod): string {
  const { name, namespace, labels = {} } = pod.metadata;
  const annotations = ownAnnotationsLeftOut(pod.metadata);
  return fnv1a128(stableJson({ name, namespace, labels, annotations, spec: pod.spec }));
}

function ownAnnotationsLeftOut({ annotations = {} }: ObjectMeta): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(annotations).filter(([key]) => !OWN_ANNOTATIONS.test(key)),
  );
}

/** JSON with the keys of every map in order, without the fields that are an empty map or list. */
export function stableJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => {
    if (typeof part !== 'object' || part === null || Array.isArray(part)) return part;
    const entries = Object.entries(part).filter(([, field]) => !isEmpty(field));
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

function isEmpty(field: unknown): boolean {
  return typeof field === 'object' && field !== null && Object.keys(field).length === 0;
}

/** The uid of the pod that the manifest at `path` asks for on this node: 32 hexadecimal digits. */
export function staticUid(pod: Pod, nodeName: string, path: string): string {
  return fnv1a128(`${specHash(pod)}host:${nodeName}file:${path}`);
}

/**
 * The static pod that runs on `nodeName` because of the manifest at `path`: its name ends with the
 * node's, its uid tells its content.
 */
export function staticPod(pod: Pod, nodeName: string, path: string): Pod {
  const uid = staticUid(pod, nodeName, path);
  return {
    metadata: {
      ...pod.metadata,
      name: `${pod.metadata.name}-${nodeName.toLowerCase()}`,
      uid,
      annotations: {
        ...pod.metadata.annotations,
        [CONFIG_SOURCE_ANNOTATION]: 'file',
        [CONFIG_HASH_ANNOTATION]: uid,
        [MANIFEST_ANNOTATION]: path,
      },
    },
    spec: { ...pod.spec, nodeName },
  };
}
