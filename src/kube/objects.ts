/**
 * The objects of the API server that pods make use of, as plain data, and how they are looked up.
 * Their types are the parts of the Kubernetes v1 API that a node needs, as its JSON has them.
 * Source: k8s.io/api core/v1.
 */
import type { Path } from './manifest-node.ts';
import type { Container, Pod, Protocol, VolumeProjection } from './pod.ts';

export type NamedObject = {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
};

/** Annotation of a config map or secret: with `never` it is kept in the memory of the node alone. */
export const PERSIST_ANNOTATION = 'limpet.dev/persist';

export type ConfigMap = NamedObject & {
  readonly data?: Readonly<Record<string, string>>;
  /** Base64. */
  readonly binaryData?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
};

export type Secret = NamedObject & {
  readonly type?: string;
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
  readonly immutable?: boolean;
};

export type Service = NamedObject & {
  readonly spec: {
    /** `None` for a headless one; empty or absent for one without an address. */
    readonly clusterIP?: string;
    readonly ports?: readonly ServicePort[];
  };
};

export type ServicePort = {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: Protocol;
};

/** Kinds that are looked up by name. */
export type ObjectKinds = { readonly ConfigMap: ConfigMap; readonly Secret: Secret };

/**
 * What is known of an object. `unknown`: the API server has not told yet whether there is one, and
 * none is stored. `absent`: it has told that there is none.
 */
export type Lookup<T> =
  | { readonly state: 'present'; readonly object: T }
  | { readonly state: 'absent' }
  /** `why`: for people, as far as it is known. */
  | { readonly state: 'unknown'; readonly why?: string };

/** The objects as they are known at this moment; asking costs no round trip. */
export type Objects = {
  get<K extends keyof ObjectKinds>(
    kind: K,
    namespace: string,
    name: string,
  ): Lookup<ObjectKinds[K]>;
  /** All services that pods of this namespace may see; those of other namespaces do no harm. */
  services(namespace: string): Lookup<readonly Service[]>;
};

/** A node without an API server: there is nothing. */
export const NO_OBJECTS: Objects = {
  get: () => ({ state: 'absent' }),
  services: () => ({ state: 'absent' }),
};

/** What the kubelet says of an object that is not there. */
export function notFound(kind: keyof ObjectKinds, name: string): string {
  return `${kind.toLowerCase()} ${JSON.stringify(name)} not found`;
}

/** Of an object that nobody has told of yet. */
export function notHeard(kind: keyof ObjectKinds, name: string, why?: string): string {
  return (
    `${kind.toLowerCase()} ${JSON.stringify(name)} is neither stored on this node nor known from ` +
    `the API server yet${why === undefined ? '' : `: ${why}`}`
  );
}

/** The bytes of a value in base64; undefined of what is none. */
export function decodeBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.fromBase64(text);
  } catch {
    return undefined;
  }
}

/** A token of a service account that only counts while its pod lives. Source: TokenRequest. */
export type TokenRequest = {
  readonly namespace: string;
  readonly serviceAccountName: string;
  /** None: the API server's own. */
  readonly audiences: readonly string[];
  readonly expirationSeconds: number;
  readonly boundPod: { readonly name: string; readonly uid: string };
};

export type Token = {
  readonly token: string;
  /** Milliseconds since 1970. */
  readonly expiresAtMs: number;
};

/** One place in a pod that names an object of its namespace. */
export type ObjectReference = {
  readonly kind: keyof ObjectKinds | 'ServiceAccount';
  readonly namespace: string;
  readonly name: string;
  /** The pod can do without the object. */
  readonly optional: boolean;
  /** Where it stands: `['spec', 'containers', 0, 'env', 2, 'valueFrom', 'secretKeyRef']`. */
  readonly path: Path;
};

/**
 * Every place in a pod that names an object, in the order of the manifest. One object may be named
 * in several. Services are not named: a pod sees all of its namespace.
 */
export function objectsOf(pod: Pod): readonly ObjectReference[] {
  const { namespace } = pod.metadata;
  const { spec } = pod;
  const references: ObjectReference[] = [];
  const add: Add = (kind, name, optional, path) => {
    references.push({ kind, namespace, name, optional, path: ['spec', ...path] });
  };
  for (const list of ['initContainers', 'containers'] as const) {
    spec[list].forEach((container, index) => addContainer(container, [list, index], add));
  }
  spec.volumes.forEach((volume, index) => {
    const path = ['volumes', index, volume.kind];
    if (volume.kind === 'configMap' || volume.kind === 'secret') {
      add(kindOf(volume.kind), volume.objectName, volume.optional, path);
    } else if (volume.kind === 'projected') {
      volume.sources.forEach((source, at) => {
        addProjection(spec, source, [...path, 'sources', at, source.kind], add);
      });
    }
  });
  spec.imagePullSecrets?.forEach((name, index) => {
    // The kubelet pulls without those that are not there.
    add('Secret', name, true, ['imagePullSecrets', index]);
  });
  const { serviceAccountName } = spec;
  if (serviceAccountName !== undefined) {
    add('ServiceAccount', serviceAccountName, false, ['serviceAccountName']);
  }
  return references;
}

type Add = (kind: ObjectReference['kind'], name: string, optional: boolean, path: Path) => void;

function addContainer({ env, envFrom = [] }: Container, path: Path, add: Add): void {
  envFrom.forEach(({ kind, name, optional }, index) => {
    add(kindOf(kind), name, optional, [...path, 'envFrom', index, kind]);
  });
  env.forEach(({ valueFrom }, index) => {
    if (valueFrom === undefined || !('key' in valueFrom)) return;
    const { kind, name, optional } = valueFrom;
    add(kindOf(kind), name, optional, [...path, 'env', index, 'valueFrom', kind]);
  });
}

function addProjection(spec: Pod['spec'], source: VolumeProjection, path: Path, add: Add): void {
  if (source.kind === 'configMap' || source.kind === 'secret') {
    add(kindOf(source.kind), source.objectName, source.optional, path);
  } else if (source.kind === 'serviceAccountToken') {
    add('ServiceAccount', spec.serviceAccountName ?? DEFAULT_SERVICE_ACCOUNT, false, path);
  }
}

/** The service account of a pod that names none. */
export const DEFAULT_SERVICE_ACCOUNT = 'default';

function kindOf(field: `configMap${string}` | `secret${string}`): keyof ObjectKinds {
  return field.startsWith('secret') ? 'Secret' : 'ConfigMap';
}
