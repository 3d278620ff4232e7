/**
 * A container's environment and the `$(NAME)` references in it, in its command and its arguments.
 * Source: third_party/forked/golang/expansion, pkg/kubelet/kubelet_pods.go.
 */
import { decodeBase64, notFound, notHeard, type Objects } from '../kube/objects.ts';
import type { Container, EnvFromSource, EnvVarSource, Pod, Source } from '../kube/pod.ts';
import { containerNamed, containerResource, podField, type Addresses } from './downward.ts';
import { configError, type Result } from './mounts.ts';
import type { Allocatable } from './resources.ts';
import { serviceEnvironment } from './service-environment.ts';

export type Variable = { readonly key: string; readonly value: string };
export type Variables = ReadonlyMap<string, string>;

export type EnvironmentFacts = Addresses & {
  readonly source: Source;
  readonly allocatable: Allocatable;
};

/**
 * The environment of a container, each name once. `envFrom` comes first and later sources override
 * earlier ones; `env` overrides them in the order of its declaration, and a value may refer to
 * variables that stand before it; variables of services only fill in what nobody has set.
 * A fault when an object or a key is missing that the container can't do without.
 */
export function resolveEnvironment(
  pod: Pod,
  container: Container,
  objects: Objects,
  facts: EnvironmentFacts,
): Result<readonly Variable[]> {
  const { namespace } = pod.metadata;
  const found = objects.services(namespace);
  if (found.state === 'unknown' && facts.source === 'api') {
    return configError('services have not yet been read at least once, cannot construct envvars');
  }
  const service = serviceEnvironment(pod, found.state === 'present' ? found.object : []);
  const variables = new Map<string, string>();
  for (const source of container.envFrom ?? []) {
    const problem = addAll(variables, source, namespace, objects);
    if (problem !== undefined) return configError(problem);
  }
  const lookUp = (name: string) => variables.get(name) ?? service.get(name);
  for (const { name, value, valueFrom } of container.env) {
    if (value !== '' || valueFrom === undefined) {
      variables.set(name, expand(value, lookUp));
      continue;
    }
    const picked = pick({ pod, container, objects, facts }, valueFrom);
    if (!picked.ok) return picked;
    if (picked.value !== undefined) variables.set(name, picked.value);
  }
  for (const [name, value] of service) if (!variables.has(name)) variables.set(name, value);
  return { ok: true, value: [...variables].map(([key, value]) => ({ key, value })) };
}

/** Adds all keys of an object; what is wrong with it, if anything is. */
function addAll(
  variables: Map<string, string>,
  { kind, name, optional, prefix }: EnvFromSource,
  namespace: string,
  objects: Objects,
): string | undefined {
  const object = kind === 'secretRef' ? 'Secret' : 'ConfigMap';
  const texts = textsOf(objects, object, namespace, name);
  if (typeof texts === 'string') return texts;
  if (texts === undefined) return optional ? undefined : notFound(object, name);
  for (const [key, text] of texts) {
    const value = text();
    if (value === undefined) return noText(object, namespace, name, key);
    variables.set(prefix + key, value);
  }
  return undefined;
}

type Asking = {
  readonly pod: Pod;
  readonly container: Container;
  readonly objects: Objects;
  readonly facts: EnvironmentFacts;
};

/** The value that a source has; undefined where an optional one has none. */
function pick(
  { pod, container, objects, facts }: Asking,
  source: EnvVarSource,
): Result<string | undefined> {
  if (source.kind === 'fieldRef') {
    const value = podField(pod, source.fieldPath, facts);
    return value === undefined
      ? configError(`unsupported fieldPath: ${source.fieldPath}`)
      : { ok: true, value };
  }
  if (source.kind === 'resourceFieldRef') {
    const name = source.containerName;
    const other = name === undefined ? container : containerNamed(pod, name);
    return other === undefined
      ? configError(`container ${name ?? ''} not found`)
      : { ok: true, value: containerResource(other, source, facts.allocatable) };
  }
  const { name, key, optional } = source;
  const { namespace } = pod.metadata;
  const kind = source.kind === 'secretKeyRef' ? 'Secret' : 'ConfigMap';
  const texts = textsOf(objects, kind, namespace, name);
  if (typeof texts === 'string') return configError(texts);
  const text = texts?.get(key);
  if (text !== undefined) {
    const value = text();
    return value === undefined
      ? configError(noText(kind, namespace, name, key))
      : { ok: true, value };
  }
  if (optional) return { ok: true, value: undefined };
  return configError(
    texts === undefined
      ? notFound(kind, name)
      : `couldn't find key ${key} in ${kind} ${namespace}/${name}`,
  );
}

/**
 * The values of an object by key, each decoded when it is asked for; undefined of an object that is
 * not there, and a message where nobody knows. The value of a key is undefined when it is no text.
 */
function textsOf(
  objects: Objects,
  kind: 'ConfigMap' | 'Secret',
  namespace: string,
  name: string,
): ReadonlyMap<string, () => string | undefined> | string | undefined {
  const found = objects.get(kind, namespace, name);
  if (found.state === 'absent') return undefined;
  if (found.state === 'unknown') return notHeard(kind, name, found.why);
  const text = kind === 'Secret' ? decodedText : plainText;
  const entries = Object.entries(found.object.data ?? {});
  return new Map(entries.map(([key, value]) => [key, () => text(value)]));
}

/** A variable can't hold a NUL, and the runtime takes none that is not UTF-8. */
function plainText(value: string): string | undefined {
  return value.includes('\0') ? undefined : value;
}

function decodedText(base64: string): string | undefined {
  const bytes = decodeBase64(base64);
  if (bytes === undefined) return undefined;
  try {
    return plainText(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function noText(kind: string, namespace: string, name: string, key: string): string {
  return (
    `the value of key ${key} in ${kind} ${namespace}/${name} is no text without NUL characters, ` +
    'which is all that a variable can hold: mount it as a file'
  );
}

/** Command and arguments with their references replaced. */
export function commandAndArgs(
  container: Pick<Container, 'command' | 'args'>,
  environment: readonly Variable[],
): { readonly command: readonly string[]; readonly args: readonly string[] } {
  const variables = new Map(environment.map(({ key, value }) => [key, value]));
  const expanded = (words: readonly string[] = []) =>
    words.map((word) => expand(word, (name) => variables.get(name)));
  return { command: expanded(container.command), args: expanded(container.args) };
}

/**
 * Replaces `$(NAME)`. `$$` stands for one `$`; a reference to nothing known and a `$(` without its
 * end stay as they are.
 */
export function expand(input: string, lookUp: (name: string) => string | undefined): string {
  let output = '';
  let at = 0;
  while (at < input.length) {
    const dollar = input.indexOf('$', at);
    if (dollar === -1 || dollar === input.length - 1) return output + input.slice(at);
    output += input.slice(at, dollar);
    const next = input[dollar + 1];
    const end = next === '(' ? input.indexOf(')', dollar + 2) : -1;
    if (end !== -1) {
      const name = input.slice(dollar + 2, end);
      output += lookUp(name) ?? `$(${name})`;
      at = end + 1;
    } else {
      output += next === '$' ? '$' : `$${next}`;
      at = dollar + 2;
    }
  }
  return output;
}
