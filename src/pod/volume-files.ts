/**
 * The files of the volumes that the agent fills: config maps, secrets, the downward API, tokens.
 * Source: MakePayload and CollectData in pkg/volume/{configmap,secret,downwardapi,projected}, v1.36.
 */
import type { Fault } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { configMapKeyProblem } from '../kube/names.ts';
import {
  DEFAULT_SERVICE_ACCOUNT,
  decodeBase64,
  notFound,
  notHeard,
  type Objects,
  type Token,
  type TokenRequest,
} from '../kube/objects.ts';
import type {
  DownwardAPIVolumeFile,
  ObjectFiles,
  Pod,
  ServiceAccountTokenProjection,
  Volume,
  VolumeProjection,
} from '../kube/pod.ts';
import { containerNamed, containerResource, podField } from './downward.ts';
import type { Result } from './mounts.ts';
import type { Allocatable } from './resources.ts';

export type FilledVolume = Extract<
  Volume,
  { readonly kind: 'configMap' | 'secret' | 'downwardAPI' | 'projected' }
>;

export type VolumeFile = {
  readonly data: Uint8Array;
  /** Permission bits. */
  readonly mode: number;
  /** Root when absent. */
  readonly uid?: number;
};

export type VolumeFilesFacts = {
  readonly objects: Objects;
  readonly allocatable: Allocatable;
  /** One for each token that `tokenRequestsOf` lists. */
  readonly tokens: ReadonlyMap<ServiceAccountTokenProjection, Token>;
};

/** The tokens that a volume needs. */
export function tokenRequestsOf(
  pod: Pod,
  volume: FilledVolume,
): ReadonlyMap<ServiceAccountTokenProjection, TokenRequest> {
  const { name, namespace, uid } = pod.metadata;
  const sources = volume.kind === 'projected' ? volume.sources : [];
  return new Map(
    sources.flatMap((source) => {
      if (source.kind !== 'serviceAccountToken') return [];
      const request: TokenRequest = {
        namespace,
        serviceAccountName: pod.spec.serviceAccountName ?? DEFAULT_SERVICE_ACCOUNT,
        audiences: source.audience === '' ? [] : [source.audience],
        expirationSeconds: source.expirationSeconds,
        boundPod: { name, uid },
      };
      return [[source, request] as const];
    }),
  );
}

/**
 * The files of a volume by their paths in it; of two with the same path the later one counts.
 * A fault when an object or a key is missing that is not optional, or an object is too large.
 */
export function volumeFiles(
  pod: Pod,
  volume: FilledVolume,
  facts: VolumeFilesFacts,
): Result<ReadonlyMap<string, VolumeFile>> {
  const collected: Collected = {
    pod,
    facts,
    mode: volume.defaultMode,
    files: new Map(),
    faults: [],
  };
  const sources: readonly VolumeProjection[] =
    volume.kind === 'projected' ? volume.sources : [volume];
  for (const source of sources) addSource(collected, source);
  const { files, faults } = collected;
  if (files.size > LIMITS.volumeFiles) {
    const message = `has ${files.size} files, more than the ${LIMITS.volumeFiles} that it may have`;
    faults.push({ code: 'Unknown', message });
  }
  const [first] = faults;
  if (first === undefined) return { ok: true, value: files };
  const messages = faults.map(({ message }) => message);
  const message = messages.length === 1 ? first.message : `[${messages.join(', ')}]`;
  return { ok: false, fault: { code: first.code, message } };
}

type Collected = {
  readonly pod: Pod;
  readonly facts: VolumeFilesFacts;
  /** Of files without one of their own. */
  readonly mode: number;
  readonly files: Map<string, VolumeFile>;
  readonly faults: Fault[];
};

function addSource(collected: Collected, source: VolumeProjection): void {
  switch (source.kind) {
    case 'configMap':
      return addObject(collected, 'ConfigMap', source);
    case 'secret':
      return addObject(collected, 'Secret', source);
    case 'downwardAPI':
      for (const file of source.items) addDownward(collected, file);
      return;
    case 'serviceAccountToken':
      return addToken(collected, source);
  }
}

function addObject(
  { pod, facts, mode, files, faults }: Collected,
  kind: 'ConfigMap' | 'Secret',
  { objectName, items, optional }: ObjectFiles,
): void {
  const found = facts.objects.get(kind, pod.metadata.namespace, objectName);
  if (found.state === 'unknown') {
    const message = notHeard(kind, objectName, found.why);
    return void faults.push({ code: 'Unavailable', message });
  }
  if (found.state === 'absent' && !optional) {
    return void faults.push({ code: 'NotFound', message: notFound(kind, objectName) });
  }
  const values =
    found.state === 'present' ? valuesOf(kind, found.object) : new Map<string, never>();
  if (typeof values === 'string') {
    const name = `${kind.toLowerCase()} ${JSON.stringify(objectName)}`;
    return void faults.push({ code: 'Unknown', message: `${name} ${values}` });
  }
  if (items.length === 0) for (const [key, data] of values) files.set(key, { data, mode });
  for (const item of items) {
    const data = values.get(item.key);
    if (data !== undefined) files.set(item.path, { data, mode: item.mode ?? mode });
    else if (!optional) {
      const what = kind === 'Secret' ? 'references non-existent secret key' : MISSING_CONFIG_KEY;
      faults.push({ code: 'NotFound', message: `${what}: ${item.key}` });
    }
  }
}

const MISSING_CONFIG_KEY = 'configmap references non-existent config key';

type Data = Readonly<Record<string, string>>;

/** The values of an object by key, or what is wrong with them. */
function valuesOf(
  kind: 'ConfigMap' | 'Secret',
  object: { readonly data?: Data; readonly binaryData?: Data },
): ReadonlyMap<string, Uint8Array> | string {
  const values = new Map<string, Uint8Array>();
  const utf8 = new TextEncoder();
  const binary = kind === 'Secret' ? object.data : object.binaryData;
  for (const [key, text] of Object.entries(binary ?? {})) {
    const bytes = decodeBase64(text);
    if (bytes === undefined) return `has no base64 under the key ${JSON.stringify(key)}`;
    values.set(key, bytes);
  }
  // Where a key stands in both, the text counts.
  const texts = kind === 'Secret' ? {} : (object.data ?? {});
  for (const [key, text] of Object.entries(texts)) values.set(key, utf8.encode(text));
  let bytes = 0;
  for (const [key, value] of values) {
    const problem = configMapKeyProblem(key);
    if (problem !== undefined) return `has the key ${JSON.stringify(key.slice(0, 80))}: ${problem}`;
    bytes += value.length;
  }
  return bytes > LIMITS.objectBytes
    ? `has ${bytes} bytes, more than the ${LIMITS.objectBytes} that it may have`
    : values;
}

function addDownward(
  { pod, facts, mode, files, faults }: Collected,
  { path, mode: own, from }: DownwardAPIVolumeFile,
): void {
  let text: string | undefined;
  let message = '';
  if (from.kind === 'fieldRef') {
    text = podField(pod, from.fieldPath);
    message = `unsupported fieldPath: ${from.fieldPath}`;
  } else {
    const name = from.containerName ?? '';
    const container = containerNamed(pod, name);
    if (container !== undefined) text = containerResource(container, from, facts.allocatable);
    message = `container ${name} not found`;
  }
  if (text === undefined) faults.push({ code: 'Unknown', message });
  else files.set(path, { data: new TextEncoder().encode(text), mode: own ?? mode });
}

/** Only the pod's one user, or its group, may read a token; else everybody in the container. */
function addToken(
  { pod, facts, mode, files, faults }: Collected,
  source: ServiceAccountTokenProjection,
): void {
  const token = facts.tokens.get(source);
  if (token === undefined) {
    return void faults.push({ code: 'Unavailable', message: 'there is no token yet' });
  }
  const uid = onlyUser(pod);
  const shared = uid === undefined && pod.spec.securityContext.fsGroup === undefined;
  files.set(source.path, {
    data: new TextEncoder().encode(token.token),
    mode: shared ? mode : 0o600,
    ...(uid !== undefined && { uid }),
  });
}

/** The user that all containers of a pod are made to run as, if there is one. */
function onlyUser({ spec }: Pod): number | undefined {
  const users = [...spec.initContainers, ...spec.containers].map(
    ({ securityContext }) => securityContext.runAsUser ?? spec.securityContext.runAsUser,
  );
  return users.every((user) => user === users[0]) ? users[0] : undefined;
}
