/**
 * What must hold between the fields of a pod, as the API server asks it, and what would fail much
 * later and with a worse message on the node.
 * Source: k8s.io/kubernetes pkg/apis/core/validation, v1.36.
 */
import type { Path } from './manifest-node.ts';
import type { Report } from './parse-fields.ts';
import type { Container, ContainerPort, Pod, PodSpec } from './pod.ts';
import { parseQuantity } from './quantity.ts';

/** Adds the problems of a pod that was read at `path`. */
export function validatePod(report: Report, pod: Pod, path: Path): void {
  const { spec } = pod;
  const at = [...path, 'spec'];
  checkPodName(report, pod, path);
  checkVolumes(report, spec, at);
  checkContainerNames(report, spec, at);
  for (const list of ['containers', 'initContainers'] as const) {
    spec[list].forEach((container, index) => {
      checkContainer(report, spec, container, [...at, list, index]);
      const isInit = list === 'initContainers' && container.restartPolicy === undefined;
      if (isInit) checkNoProbes(report, container, [...at, list, index]);
      else checkSleeps(report, spec, container, [...at, list, index]);
    });
  }
  checkHostPorts(report, spec, at);
  checkDNS(report, spec, at);
  if (spec.shareProcessNamespace && spec.hostPID) {
    const message = 'ShareProcessNamespace and HostPID cannot both be enabled';
    report.add([...at, 'shareProcessNamespace'], message, { value: true });
  }
}

/** `<namespace>_<name>_<uid>` is the name of a directory, which has at most 255 characters. */
const MAX_FULL_NAME_LENGTH = 255 - 36 - 2;

function checkPodName(report: Report, pod: Pod, path: Path): void {
  const { name, namespace } = pod.metadata;
  if (name.length > 253 || name.length + namespace.length <= MAX_FULL_NAME_LENGTH) return;
  const message = `must have at most ${MAX_FULL_NAME_LENGTH} characters together with the namespace`;
  report.add([...path, 'metadata', 'name'], message, { value: name });
}

function checkVolumes(report: Report, spec: PodSpec, at: Path): void {
  const names = new Set<string>();
  spec.volumes.forEach(({ name }, index) => {
    if (name !== '' && names.has(name)) {
      report.add([...at, 'volumes', index, 'name'], 'must be unique', { value: name });
    }
    names.add(name);
  });
}

function checkContainerNames(report: Report, spec: PodSpec, at: Path): void {
  const names = new Set<string>();
  for (const list of ['containers', 'initContainers'] as const) {
    spec[list].forEach(({ name }, index) => {
      if (name !== '' && names.has(name)) {
        const remedy = 'each container of a pod has its own name';
        report.add([...at, list, index, 'name'], 'must be unique', { value: name, remedy });
      }
      names.add(name);
    });
  }
}

function checkContainer(report: Report, spec: PodSpec, container: Container, at: Path): void {
  checkPortNames(report, container, at);
  checkMounts(report, spec, container, at);
  checkResources(report, container, at);
  if (!spec.hostNetwork) return;
  container.ports.forEach(({ hostPort, containerPort }, index) => {
    if (hostPort === containerPort) return;
    const message = 'must match `containerPort` when `hostNetwork` is true';
    report.add([...at, 'ports', index, 'hostPort'], message, { value: hostPort });
  });
}

/** An init container ends by itself: nothing waits for it to be ready, nothing stops it. */
function checkNoProbes(report: Report, container: Container, at: Path): void {
  for (const name of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'] as const) {
    if (container[name] === undefined) continue;
    const message = 'may not be set for init containers without restartPolicy=Always';
    report.add([...at, name], message);
  }
}

function checkSleeps(report: Report, spec: PodSpec, container: Container, at: Path): void {
  const { terminationGracePeriodSeconds: grace } = spec;
  for (const name of ['postStart', 'preStop'] as const) {
    const handler = container.lifecycle?.[name];
    if (handler?.kind !== 'sleep' || (handler.seconds >= 0 && handler.seconds <= grace)) continue;
    const message = `must be non-negative and less than terminationGracePeriodSeconds (${grace})`;
    const path = [...at, 'lifecycle', name, 'sleep', 'seconds'];
    report.add(path, message, { value: handler.seconds });
  }
}

function checkPortNames(report: Report, container: Container, at: Path): void {
  const names = new Set<string>();
  container.ports.forEach(({ name }, index) => {
    if (name === undefined) return;
    if (names.has(name)) {
      report.add([...at, 'ports', index, 'name'], 'must be unique', { value: name });
    }
    names.add(name);
  });
}

function checkMounts(report: Report, spec: PodSpec, container: Container, at: Path): void {
  const mounted = new Set<string>();
  const defined = spec.volumes.map(({ name }) => name);
  container.volumeMounts.forEach(({ name, mountPath, mountPropagation }, index) => {
    const path = [...at, 'volumeMounts', index];
    if (name !== '' && !defined.includes(name)) {
      const known = defined.filter((one) => one !== '').map((one) => `"${one}"`);
      const remedy =
        known.length === 0
          ? 'define it in spec.volumes, which has none'
          : `spec.volumes has ${known.slice(0, 8).join(', ')}`;
      report.add([...path, 'name'], 'not found', { value: name, remedy });
    }
    const place = mountPath.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
    if (place !== '' && mounted.has(place)) {
      report.add([...path, 'mountPath'], 'must be unique', { value: mountPath });
    }
    mounted.add(place);
    if (mountPropagation === 'Bidirectional' && container.securityContext.privileged !== true) {
      const message = 'Bidirectional mount propagation is available only to privileged containers';
      report.add([...path, 'mountPropagation'], message);
    }
  });
}

function checkResources(report: Report, container: Container, at: Path): void {
  const { requests, limits } = container.resources;
  for (const [resource, request] of Object.entries(requests)) {
    const limit = limits[resource];
    if (limit === undefined) continue;
    const [asked, allowed] = [parseQuantity(request), parseQuantity(limit)];
    if (asked === undefined || allowed === undefined || asked <= allowed) continue;
    const message = `must be less than or equal to ${resource} limit of ${limit}`;
    report.add([...at, 'resources', 'requests', resource], message, { value: request });
  }
}

/**
 * Ports of the host that one pod asks for twice. Init containers run one by one and are looked at
 * alone, but sidecars run beside the others.
 */
function checkHostPorts(report: Report, spec: PodSpec, at: Path): void {
  const beside: ContainerPort[] = [];
  const lists = ['containers', 'initContainers'] as const;
  for (const list of lists) {
    spec[list].forEach((container, index) => {
      const alone = list === 'initContainers' && container.restartPolicy !== 'Always';
      const taken = alone ? [] : beside;
      container.ports.forEach((port, portIndex) => {
        if (port.hostPort === undefined) return;
        if (taken.some((other) => samePort(other, port))) {
          const path = [...at, list, index, 'ports', portIndex, 'hostPort'];
          const message = `is taken by another port of this pod (${port.protocol})`;
          report.add(path, message, { value: port.hostPort });
        }
        taken.push(port);
      });
    });
  }
}

function samePort(a: ContainerPort, b: ContainerPort): boolean {
  return (
    a.hostPort === b.hostPort && a.protocol === b.protocol && (a.hostIP ?? '') === (b.hostIP ?? '')
  );
}

function checkDNS(report: Report, spec: PodSpec, at: Path): void {
  if (spec.dnsPolicy !== 'None') return;
  if (spec.dnsConfig === undefined) {
    const message = 'must provide `dnsConfig` when `dnsPolicy` is None';
    return report.add([...at, 'dnsConfig'], message);
  }
  if ((spec.dnsConfig.nameservers ?? []).length > 0) return;
  const message = 'must provide at least one DNS nameserver when `dnsPolicy` is None';
  report.add([...at, 'dnsConfig', 'nameservers'], message);
}
