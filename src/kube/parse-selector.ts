/** Reads what picks one value: a key of an object, a field of the pod, a resource of a container. */
import { FIELDS } from './field-tables.ts';
import { configMapKeyProblem, dnsSubdomainProblem, qualifiedNameProblem } from './names.ts';
import {
  field,
  notCarriedOut,
  present,
  readBoolean,
  readMap,
  readText,
  type Fields,
} from './parse-fields.ts';
import { readQuantity, readRequired } from './parse-text.ts';
import type {
  ContainerResource,
  KeySelector,
  ObjectFieldSelector,
  ResourceFieldSelector,
} from './pod.ts';
import { parseQuantity } from './quantity.ts';

/** Who asks for a field of the pod: a file outlives an address, so it may not ask for one. */
export type Asker = 'env' | 'volume';

const FIELD_PATHS: Readonly<Record<Asker, readonly string[]>> = {
  env: [
    'metadata.name',
    'metadata.namespace',
    'metadata.uid',
    'spec.nodeName',
    'spec.serviceAccountName',
    'status.hostIP',
    'status.hostIPs',
    'status.podIP',
    'status.podIPs',
  ],
  volume: [
    'metadata.name',
    'metadata.namespace',
    'metadata.labels',
    'metadata.annotations',
    'metadata.uid',
  ],
};

/** `metadata.labels['app']` as its two parts; undefined of a path without such an end. */
export function subscript(fieldPath: string): { readonly map: string; key: string } | undefined {
  const [, map, key] = /^([^[]+)\['(.*)'\]$/s.exec(fieldPath) ?? [];
  return map === undefined || key === undefined ? undefined : { map, key };
}

export function readFieldRef(parent: Fields, asker: Asker): ObjectFieldSelector | undefined {
  const fields = readMap(parent, 'fieldRef', FIELDS.ObjectFieldSelector);
  if (fields === undefined) return undefined;
  const { report } = fields;
  const version = readText(fields, 'apiVersion') ?? '';
  if (version !== '' && version !== 'v1') {
    report.add([...fields.path, 'apiVersion'], 'must be "v1"', { value: version });
  }
  const written = readRequired(fields, 'fieldPath');
  // What old manifests say.
  const fieldPath = written === 'spec.host' ? 'spec.nodeName' : written;
  const at = [...fields.path, 'fieldPath'];
  const part = subscript(fieldPath);
  if (part !== undefined) {
    const { map, key } = part;
    if (map !== 'metadata.annotations' && map !== 'metadata.labels') {
      report.add(at, `${map} does not support subscript`, { value: fieldPath });
    } else {
      const name = map === 'metadata.annotations' ? key.toLowerCase() : key;
      const problem = qualifiedNameProblem(name);
      if (problem !== undefined) report.add(at, problem, { value: key });
    }
  } else if (fieldPath !== '' && !FIELD_PATHS[asker].includes(fieldPath)) {
    const known = FIELD_PATHS[asker].map((path) => `"${path}"`).join(', ');
    report.add(at, `must be one of ${known}, or a label or annotation`, {
      value: fieldPath,
      remedy: `write one of these as "metadata.labels['key']"`,
    });
  }
  return { fieldPath };
}

const RESOURCES: readonly ContainerResource[] = [
  'limits.cpu',
  'limits.memory',
  'requests.cpu',
  'requests.memory',
];
const BYTE_DIVISORS =
  '1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource';

export function readResourceFieldRef(
  parent: Fields,
  asker: Asker,
): ResourceFieldSelector | undefined {
  const fields = readMap(parent, 'resourceFieldRef', FIELDS.ResourceFieldSelector);
  if (fields === undefined) return undefined;
  const containerName =
    asker === 'volume'
      ? readRequired(fields, 'containerName')
      : readText(fields, 'containerName') || undefined;
  const written = readRequired(fields, 'resource');
  const resource = RESOURCES.find((one) => one === written);
  if (resource === undefined && written !== '') {
    const at = [...fields.path, 'resource'];
    if (/^(limits|requests)\.(ephemeral-storage$|hugepages-)/.test(written)) {
      notCarriedOut(fields.report, at, 'resource', written);
    } else {
      const known = RESOURCES.map((one) => `"${one}"`).join(', ');
      fields.report.add(at, `must be one of ${known}`, { value: written });
    }
  }
  return {
    ...present({ containerName }),
    resource: resource ?? 'limits.cpu',
    divisor: readDivisor(fields, written.endsWith('.cpu')),
  };
}

/** Zero is how Kubernetes writes "none", and that is 1. */
function readDivisor(fields: Fields, cpu: boolean): string {
  const divisor = readQuantity(fields, 'divisor') ?? '1';
  const nanos = parseQuantity(divisor) ?? 0n;
  if (nanos === 0n) return '1';
  const allowed = cpu ? nanos === 10n ** 9n || nanos === 10n ** 6n : isByteUnit(nanos);
  if (!allowed) {
    const values = cpu ? '1m and 1 are supported with the cpu resource' : BYTE_DIVISORS;
    fields.report.add([...fields.path, 'divisor'], `only divisor's values ${values}`, {
      value: divisor,
    });
  }
  return divisor;
}

function isByteUnit(nanos: bigint): boolean {
  const ones = nanos / 10n ** 9n;
  if (ones * 10n ** 9n !== nanos) return false;
  return [1000n, 1024n].some((base) => {
    let unit = 1n;
    for (let power = 0; power <= 6; power += 1, unit *= base) if (unit === ones) return true;
    return false;
  });
}

/** A key of a config map or of a secret. */
export function readKeySelector(
  parent: Fields,
  name: 'configMapKeyRef' | 'secretKeyRef',
): KeySelector | undefined {
  const table = name === 'secretKeyRef' ? FIELDS.SecretKeySelector : FIELDS.ConfigMapKeySelector;
  const fields = readMap(parent, name, table);
  if (fields === undefined) return undefined;
  return {
    name: readRequired(fields, 'name', dnsSubdomainProblem),
    key: readRequired(fields, 'key', configMapKeyProblem),
    optional: readBoolean(fields, 'optional') ?? false,
  };
}

/** The fields of `names` that are there; Kubernetes takes an empty one for there. */
export function given(fields: Fields, names: readonly string[]): readonly string[] {
  return names.filter((name) => field(fields, name) !== undefined);
}
