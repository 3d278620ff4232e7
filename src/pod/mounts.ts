/** What is mounted into a container. Source: pkg/kubelet/kubelet_pods.go (makeMounts). */
import type { Fault } from '../base/failure.ts';
import type { Mount } from '../kube/cri.ts';
import type { Container, MountPropagation, Pod, Volume } from '../kube/pod.ts';

export const ETC_HOSTS = '/etc/hosts';

export type MountFacts = {
  /** Where each volume of the pod is on the node, by the volume's name. */
  readonly volumePaths: Readonly<Record<string, string>>;
  /** The pod's hosts file on the node. */
  readonly etcHostsPath: string;
  /** The termination message file of this attempt on the node. */
  readonly terminationLogPath?: string;
  readonly sandboxIPs: readonly string[];
};

export type Result<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fault: Fault };

/** A fault in what the pod asks for, found when its container is made. */
export function configError(message: string): { readonly ok: false; readonly fault: Fault } {
  // `Unknown` and not `InvalidArgument`: an image that is pushed anew can cure it, so it is retried.
  return { ok: false, fault: { code: 'Unknown', reason: 'CreateContainerConfigError', message } };
}

/** Volumes first, in their order, then /etc/hosts, then the termination message file. */
export function containerMounts(
  pod: Pod,
  container: Container,
  facts: MountFacts,
): Result<readonly Mount[]> {
  const mounts: Mount[] = [];
  const managed = new Set(
    pod.spec.volumes.flatMap(({ kind, name }) => (MANAGED[kind] ? [name] : [])),
  );
  for (const wanted of container.volumeMounts) {
    const hostPath = Object.hasOwn(facts.volumePaths, wanted.name)
      ? facts.volumePaths[wanted.name]
      : undefined;
    if (hostPath === undefined) {
      return configError(
        `cannot find volume ${JSON.stringify(wanted.name)} to mount into container ` +
          JSON.stringify(container.name),
      );
    }
    mounts.push({
      containerPath: absolute(wanted.mountPath),
      hostPath,
      readonly: wanted.readOnly || managed.has(wanted.name),
      propagation: PROPAGATION[wanted.mountPropagation ?? 'None'],
    });
  }
  const hasNetwork = facts.sandboxIPs.length > 0 || pod.spec.hostNetwork;
  const mountsHosts = container.volumeMounts.some(({ mountPath }) => mountPath === ETC_HOSTS);
  if (hasNetwork && !mountsHosts) mounts.push(file(ETC_HOSTS, facts.etcHostsPath));
  if (container.terminationMessagePath !== '' && facts.terminationLogPath !== undefined) {
    mounts.push(file(absolute(container.terminationMessagePath), facts.terminationLogPath));
  }
  return { ok: true, value: mounts };
}

/** Whether limpet alone writes into volumes of a kind: containers only read them. */
const MANAGED = {
  emptyDir: false,
  hostPath: false,
  configMap: true,
  secret: true,
  downwardAPI: true,
  projected: true,
} as const satisfies Record<Volume['kind'], boolean>;

const PROPAGATION = {
  None: 'PRIVATE',
  HostToContainer: 'HOST_TO_CONTAINER',
  Bidirectional: 'BIDIRECTIONAL',
} as const satisfies Record<MountPropagation, Mount['propagation']>;

function file(containerPath: string, hostPath: string): Mount {
  return { containerPath, hostPath, readonly: false, propagation: 'PRIVATE' };
}

/** The kubelet takes a relative path from the root of the container. */
function absolute(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}
