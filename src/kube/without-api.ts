/**
 * What a pod of this node's own manifests can't have, since only an API server has it: config maps,
 * secrets, service accounts. The kubelet refuses static pods that name them, and so does limpet,
 * for pods of the manifest folder and of `limpet apply` alike.
 * Source: k8s.io/kubernetes pkg/kubelet/config/common.go, pkg/api/pod/util.go
 * (HasAPIObjectReference), v1.36.
 */
import type { Path } from './manifest-node.ts';
import { objectsOf, type ObjectReference } from './objects.ts';
import { OFFLINE_POLICY_ANNOTATION } from './offline-policy.ts';
import type { Report } from './parse-fields.ts';
import type { Pod, Source } from './pod.ts';

const WHO: Readonly<Record<Exclude<Source, 'api'>, string>> = {
  file: 'static pods',
  local: 'pods that are applied on the node',
};

const RESOURCES: Readonly<Record<ObjectReference['kind'], string>> = {
  ConfigMap: 'configmaps',
  Secret: 'secrets',
  ServiceAccount: 'serviceaccounts',
};

/** What to do instead, by the field that makes the reference. */
const INSTEAD: Readonly<Record<string, string>> = {
  env: 'write the text itself as "value"',
  envFrom: 'write the variables themselves under "env"',
  volumes: 'put the files on the node and use a hostPath volume',
  imagePullSecrets: 'remove it and give containerd the credentials of the registry',
  serviceAccountName: 'remove it: a service account needs an API server',
  serviceAccountToken: 'remove it: a token needs an API server',
};

/**
 * Adds the problems of a pod that does not come from an API server, and returns it without what
 * has no meaning there.
 */
export function withoutApi(
  report: Report,
  pod: Pod,
  source: Exclude<Source, 'api'>,
  path: Path,
): Pod {
  for (const reference of objectsOf(pod)) {
    const at = reference.path;
    const field = at.findLast((part) => typeof part === 'string' && part in INSTEAD);
    report.add([...path, ...at], `${WHO[source]} may not reference ${RESOURCES[reference.kind]}`, {
      value: reference.name,
      remedy: INSTEAD[field ?? ''] ?? 'remove it',
    });
  }
  const policy = pod.metadata.annotations?.[OFFLINE_POLICY_ANNOTATION] ?? 'run';
  if (policy !== 'run') {
    report.add(
      [...path, 'metadata', 'annotations', OFFLINE_POLICY_ANNOTATION],
      `${WHO[source]} run whether there is an API server or not`,
      { value: policy, remedy: 'remove it' },
    );
  }
  const { automountServiceAccountToken, enableServiceLinks: _none, ...spec } = pod.spec;
  if (automountServiceAccountToken === true) {
    report.add(
      [...path, 'spec', 'automountServiceAccountToken'],
      `${WHO[source]} may not reference serviceaccounts`,
      { remedy: 'set it to false: a token needs an API server' },
    );
  }
  return { ...pod, spec };
}
