/**
 * The variables by which containers find services: `DB_SERVICE_HOST`, `DB_PORT_5432_TCP_ADDR`, …
 * Source: pkg/kubelet/envvars, pkg/kubelet/kubelet_pods.go (getServiceEnvVarMap), v1.36.
 */
import type { Service } from '../kube/objects.ts';
import type { Pod } from '../kube/pod.ts';
import type { Variables } from './environment.ts';

/** Every pod is told of it, even one that wants no service links: it is the API server. */
const MASTER = { namespace: 'default', name: 'kubernetes' };

/** The variables of the services that a pod sees. */
export function serviceEnvironment(pod: Pod, services: readonly Service[]): Variables {
  const { namespace } = pod.metadata;
  const links = pod.spec.enableServiceLinks ?? true;
  // A service of the pod's own namespace that is named like the API server's stands for it there.
  const visible = new Map<string, Service>();
  for (const service of services) {
    const { metadata, spec } = service;
    const { clusterIP = '' } = spec;
    if (clusterIP === '' || clusterIP === 'None' || (spec.ports ?? []).length === 0) continue;
    const isMaster = metadata.namespace === MASTER.namespace && metadata.name === MASTER.name;
    if (isMaster) {
      if (!visible.has(metadata.name)) visible.set(metadata.name, service);
    } else if (links && metadata.namespace === namespace) {
      visible.set(metadata.name, service);
    }
  }
  const variables = new Map<string, string>();
  for (const name of [...visible.keys()].sort()) addVariables(variables, visible.get(name)!);
  return variables;
}

function addVariables(variables: Map<string, string>, { metadata, spec }: Service): void {
  const { clusterIP = '', ports = [] } = spec;
  const prefix = variableName(metadata.name);
  const [first] = ports;
  if (first === undefined) return;
  variables.set(`${prefix}_SERVICE_HOST`, clusterIP);
  variables.set(`${prefix}_SERVICE_PORT`, String(first.port));
  for (const { name = '', port } of ports) {
    if (name === '') continue;
    variables.set(`${prefix}_SERVICE_PORT_${variableName(name)}`, String(port));
  }
  const host = clusterIP.includes(':') ? `[${clusterIP}]` : clusterIP;
  for (const [index, { port, protocol = 'TCP' }] of ports.entries()) {
    const url = `${protocol.toLowerCase()}://${host}:${port}`;
    if (index === 0) variables.set(`${prefix}_PORT`, url);
    const own = `${prefix}_PORT_${port}_${protocol}`;
    variables.set(own, url);
    variables.set(`${own}_PROTO`, protocol.toLowerCase());
    variables.set(`${own}_PORT`, String(port));
    variables.set(`${own}_ADDR`, clusterIP);
  }
}

function variableName(name: string): string {
  return name.replaceAll('-', '_').toUpperCase();
}
