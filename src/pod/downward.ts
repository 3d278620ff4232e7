/**
 * What a pod may be told of itself: fields of its object and resources of its containers, as text.
 * Source: pkg/kubelet/kubelet_pods.go (podFieldSelectorRuntimeValue), pkg/fieldpath,
 * pkg/api/v1/resource/helpers.go, v1.36.
 */
import { subscript } from '../kube/parse-selector.ts';
import type { Container, Pod, ResourceFieldSelector } from '../kube/pod.ts';
import { parseQuantity } from '../kube/quantity.ts';
import type { Allocatable } from './resources.ts';

export type Addresses = {
  /** Of the pod; the first is the one of the node's first family. */
  readonly podIPs: readonly string[];
  /** Of the node. */
  readonly hostIPs: readonly string[];
};

/** The value of a field of the pod; undefined of a path that limpet does not know. */
export function podField(pod: Pod, fieldPath: string, addresses?: Addresses): string | undefined {
  const { metadata, spec } = pod;
  const part = subscript(fieldPath);
  if (part?.map === 'metadata.labels') return own(metadata.labels, part.key);
  if (part?.map === 'metadata.annotations') return own(metadata.annotations, part.key);
  switch (fieldPath) {
    case 'metadata.name':
      return metadata.name;
    case 'metadata.namespace':
      return metadata.namespace;
    case 'metadata.uid':
      return metadata.uid;
    case 'metadata.labels':
      return lines(metadata.labels);
    case 'metadata.annotations':
      return lines(metadata.annotations);
    case 'spec.nodeName':
      return spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return spec.serviceAccountName ?? '';
    default:
      return addresses === undefined ? undefined : address(pod, fieldPath, addresses);
  }
}

/** With the node's network a pod has the node's addresses. */
function address(pod: Pod, fieldPath: string, { podIPs, hostIPs }: Addresses): string | undefined {
  const ofPod = pod.spec.hostNetwork ? hostIPs : podIPs;
  switch (fieldPath) {
    case 'status.hostIP':
      return hostIPs[0] ?? '';
    case 'status.hostIPs':
      return hostIPs.join(',');
    case 'status.podIP':
      return ofPod[0] ?? '';
    case 'status.podIPs':
      return ofPod.join(',');
    default:
      return undefined;
  }
}

function own(map: Readonly<Record<string, string>> | undefined, key: string): string {
  return map !== undefined && Object.hasOwn(map, key) ? (map[key] ?? '') : '';
}

/** One `key="value"` a line, in the order of the keys. */
function lines(map: Readonly<Record<string, string>> = {}): string {
  const keys = Object.keys(map).sort();
  return keys.map((key) => `${key}=${quoted(map[key] ?? '')}`).join('\n');
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

/** As Go quotes a string (strconv.Quote): programs that read these files undo exactly that. */
function quoted(text: string): string {
  let output = '"';
  for (const character of text) {
    const escape = ESCAPES[character];
    const code = character.codePointAt(0) ?? 0;
    if (escape !== undefined) output += escape;
    else if (/[\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.test(character)) output += character;
    else if (code < 0x80) output += `\\x${hex(code, 2)}`;
    else output += code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
  }
  return `${output}"`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, '0');
}

/**
 * A request or a limit of a container in units of the divisor, rounded up. A limit that is not set
 * is what the node has for pods.
 */
export function containerResource(
  container: Container,
  { resource, divisor }: ResourceFieldSelector,
  allocatable: Allocatable,
): string {
  const [list, name] = resource.split('.') as ['limits' | 'requests', 'cpu' | 'memory'];
  let nanos = parseQuantity(container.resources[list][name] ?? '0') ?? 0n;
  if (list === 'limits' && nanos === 0n) {
    nanos =
      name === 'cpu'
        ? BigInt(allocatable.cpuMilli) * 10n ** 6n
        : BigInt(allocatable.memoryBytes) * 10n ** 9n;
  }
  const unit = parseQuantity(divisor) ?? 10n ** 9n;
  return String((nanos + unit - 1n) / unit);
}

/** The container of a pod that bears this name. */
export function containerNamed(pod: Pod, name: string): Container | undefined {
  const { containers, initContainers } = pod.spec;
  return [...containers, ...initContainers].find((container) => container.name === name);
}
