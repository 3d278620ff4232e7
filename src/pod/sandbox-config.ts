/**
 * What the runtime is told of a pod's sandbox.
 * Source: pkg/kubelet/kuberuntime/kuberuntime_sandbox.go, labels.go.
 */
import type { PodSandboxConfig, PortMapping } from '../kube/cri.ts';
import type { Container, Pod } from '../kube/pod.ts';
import { type DnsFacts, type Note, podDns } from './dns.ts';
import type { Source } from './model.ts';
import {
  POD_NAMESPACE_LABEL,
  POD_NAME_LABEL,
  POD_UID_LABEL,
  podHostname,
  podLogDirectory,
} from './names.ts';
import { sandboxSecurity } from './security.ts';

export const CONFIG_SOURCE_ANNOTATION = 'kubernetes.io/config.source';

export type SandboxFacts = {
  readonly pod: Pod;
  readonly source: Source;
  readonly attempt: number;
  /** The pod's cgroup, as the runtime's cgroup driver writes it. */
  readonly cgroupParent: string;
  /** `/var/log/pods`. */
  readonly logRoot: string;
  readonly dns: DnsFacts;
};

export type SandboxPlan = {
  readonly config: PodSandboxConfig;
  /** To be told as events of the pod. */
  readonly notes: readonly Note[];
};

/** The configuration of a pod's sandbox, and what a person should know of it. */
export function sandboxConfig(facts: SandboxFacts): SandboxPlan {
  const { pod, attempt } = facts;
  const { name, namespace, uid, labels, annotations } = pod.metadata;
  const dns = podDns(pod, facts.dns);
  const config: PodSandboxConfig = {
    metadata: { name, namespace, uid, attempt },
    // With the node's network it has the node's host name, and the runtime knows that one itself.
    hostname: pod.spec.hostNetwork ? '' : podHostname(pod),
    logDirectory: podLogDirectory(facts.logRoot, pod),
    dnsConfig: dns.config,
    portMappings: pod.spec.hostNetwork ? [] : pod.spec.containers.flatMap(portMappings),
    labels: {
      ...labels,
      [POD_NAME_LABEL]: name,
      [POD_NAMESPACE_LABEL]: namespace,
      [POD_UID_LABEL]: uid,
    },
    annotations: { ...annotations, [CONFIG_SOURCE_ANNOTATION]: facts.source },
    linux: {
      cgroupParent: facts.cgroupParent,
      securityContext: sandboxSecurity(pod),
      sysctls: {},
    },
  };
  return { config, notes: dns.notes };
}

/** Only what asks for a port of the node: the rest is for people to read. */
function portMappings({ ports }: Container): readonly PortMapping[] {
  return ports.flatMap(({ protocol, containerPort, hostPort, hostIP }) => {
    if (hostPort === undefined || hostPort === 0) return [];
    const mapping = { protocol, containerPort, hostPort };
    return [hostIP === undefined || hostIP === '' ? mapping : { ...mapping, hostIp: hostIP }];
  });
}
