/**
 * What Kubernetes fills in where a manifest says nothing.
 * Source: k8s.io/kubernetes pkg/apis/core/v1/defaults.go, v1.36.
 */
import type { Container, ContainerPort, PullPolicy, ResourceRequirements } from './pod.ts';

export const DEFAULT_NAMESPACE = 'default';
export const DEFAULT_GRACE_SECONDS = 30;
export const DEFAULT_TERMINATION_MESSAGE_PATH = '/dev/termination-log';

/** Always for `latest` or neither tag nor digest, else IfNotPresent. */
export function defaultPullPolicy(image: string): PullPolicy {
  const [name = '', digest] = image.split('@', 2);
  const last = name.slice(name.lastIndexOf('/') + 1);
  const colon = last.indexOf(':');
  const tag = colon < 0 ? undefined : last.slice(colon + 1);
  const latest = tag === 'latest' || (tag === undefined && digest === undefined);
  return latest ? 'Always' : 'IfNotPresent';
}

/** A limit without a request is a request too. */
export function withDefaultRequests(resources: ResourceRequirements): ResourceRequirements {
  const { requests, limits } = resources;
  return { requests: { ...limits, ...requests }, limits };
}

/** With the host's network every port is a port of the host. */
export function withHostPorts(container: Container): Container {
  const ports = container.ports.map((port): ContainerPort => {
    return port.hostPort === undefined ? { ...port, hostPort: port.containerPort } : port;
  });
  return { ...container, ports };
}
