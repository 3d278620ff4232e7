/**
 * A pod as the v1 API has it: the way back from what `parse-pod.ts` reads.
 * Source: k8s.io/api core/v1.
 */
import type {
  Container,
  EnvFromSource,
  EnvVarSource,
  KeyToPath,
  Lifecycle,
  LifecycleHandler,
  ObjectFiles,
  Pod,
  Probe,
  ProbeHandler,
  Volume,
  VolumeProjection,
} from './pod.ts';

type Json = Readonly<Record<string, unknown>>;

/** What Kubernetes leaves out of its JSON when it is false, as it is filled in here. */
const ABSENT_WHEN_FALSE: ReadonlySet<string> = new Set([
  'hostNetwork',
  'hostPID',
  'hostIPC',
  'shareProcessNamespace',
  'readOnly',
  'stdin',
  'stdinOnce',
  'tty',
  'optional',
]);

/** Maps that Kubernetes leaves out of its JSON when they are empty. */
const ABSENT_WHEN_EMPTY: ReadonlySet<string> = new Set([
  'requests',
  'limits',
  'labels',
  'annotations',
]);

/** `metadata` and `spec` of the v1 API, without `kind`, as an item of a list is. */
export function v1Pod({ metadata, spec }: Pod): { readonly metadata: Json; readonly spec: Json } {
  const { volumes, containers, initContainers, imagePullSecrets, ...rest } = spec;
  return {
    metadata: compact(metadata),
    spec: compact({
      ...rest,
      containers: containers.map(v1Container),
      initContainers: initContainers.map(v1Container),
      volumes: volumes.map(v1Volume),
      imagePullSecrets: imagePullSecrets?.map((name) => ({ name })),
    }),
  };
}

function v1Container(container: Container): Json {
  const { env, envFrom, startupProbe, livenessProbe, readinessProbe, lifecycle, ...rest } =
    container;
  return {
    ...rest,
    env: env.map(({ name, value, valueFrom }) =>
      valueFrom === undefined
        ? { name, ...(value !== '' && { value }) }
        : { name, ...(value !== '' && { value }), valueFrom: v1EnvSource(valueFrom) },
    ),
    envFrom: envFrom?.map(v1EnvFrom),
    startupProbe: startupProbe && v1Probe(startupProbe),
    livenessProbe: livenessProbe && v1Probe(livenessProbe),
    readinessProbe: readinessProbe && v1Probe(readinessProbe),
    lifecycle: lifecycle && v1Lifecycle(lifecycle),
  };
}

/** Where Kubernetes has a key for each kind, limpet has `kind`. */
function keyed<T extends { readonly kind: string }>({ kind, ...rest }: T): Json {
  return { [kind]: rest };
}

function v1EnvSource(source: EnvVarSource): Json {
  return keyed(source);
}

function v1EnvFrom({ kind, name, optional, prefix }: EnvFromSource): Json {
  return { ...(prefix !== '' && { prefix }), [kind]: { name, optional } };
}

function v1Handler(handler: ProbeHandler | LifecycleHandler): Json {
  return keyed(handler);
}

function v1Probe({ handler, ...rest }: Probe): Json {
  return { ...v1Handler(handler), ...rest };
}

function v1Lifecycle({ postStart, preStop }: Lifecycle): Json {
  return {
    postStart: postStart && v1Handler(postStart),
    preStop: preStop && v1Handler(preStop),
  };
}

function v1Volume(volume: Volume): Json {
  const { name } = volume;
  switch (volume.kind) {
    case 'emptyDir': {
      const { medium, sizeLimit } = volume;
      return { name, emptyDir: { ...(medium !== '' && { medium }), sizeLimit } };
    }
    case 'hostPath':
      return { name, hostPath: { path: volume.path, type: volume.type } };
    case 'configMap':
      return { name, configMap: { name: volume.objectName, ...v1Files(volume) } };
    case 'secret':
      return { name, secret: { secretName: volume.objectName, ...v1Files(volume) } };
    case 'downwardAPI': {
      const { items, defaultMode } = volume;
      return { name, downwardAPI: { items: items.map(v1DownwardFile), defaultMode } };
    }
    case 'projected': {
      const { sources, defaultMode } = volume;
      return { name, projected: { sources: sources.map(v1Projection), defaultMode } };
    }
  }
}

type FilesOf = ObjectFiles & { readonly defaultMode?: number };

function v1Files({ items, optional, defaultMode }: FilesOf): Json {
  return { items: items.map((item: KeyToPath) => ({ ...item })), optional, defaultMode };
}

type DownwardItem = Extract<Volume, { kind: 'downwardAPI' }>['items'][number];

function v1DownwardFile({ from, ...rest }: DownwardItem): Json {
  return { ...rest, ...keyed(from) };
}

function v1Projection(source: VolumeProjection): Json {
  switch (source.kind) {
    case 'configMap':
    case 'secret':
      return { [source.kind]: { name: source.objectName, ...v1Files(source) } };
    case 'downwardAPI':
      return { downwardAPI: { items: source.items.map(v1DownwardFile) } };
    case 'serviceAccountToken': {
      const { audience, expirationSeconds, path } = source;
      const token = { ...(audience !== '' && { audience }), expirationSeconds, path };
      return { serviceAccountToken: token };
    }
  }
}

/** Leaves out undefined and empty lists, and what else an absent field means. */
export function compact(value: unknown): Json {
  return compacted(value) as Json;
}

function compacted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(compacted);
  if (typeof value !== 'object' || value === null) return value;
  const kept = Object.entries(value).filter(
    ([key, item]) =>
      item !== undefined &&
      !(Array.isArray(item) && item.length === 0) &&
      !(item === false && ABSENT_WHEN_FALSE.has(key)) &&
      !(ABSENT_WHEN_EMPTY.has(key) && Object.keys(item as object).length === 0),
  );
  return Object.fromEntries(kept.map(([key, item]) => [key, compacted(item)]));
}
