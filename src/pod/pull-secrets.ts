/**
 * The credentials that a pod's `imagePullSecrets` hold for an image, in the order in which they are
 * tried. Source: k8s.io/kubernetes pkg/credentialprovider (keyring.go, config.go), v1.36.
 */
import type { AuthConfig } from '../kube/cri.ts';
import { decodeBase64, notHeard, type Objects, type Secret } from '../kube/objects.ts';
import type { Pod } from '../kube/pod.ts';
import type { Result } from './mounts.ts';

export type PullCredentials = {
  readonly auths: readonly AuthConfig[];
  /** Names of secrets that are not there: the image may be free to all. */
  readonly missing: readonly string[];
};

/** A fault when a secret is not known yet, or can't be read. */
export function pullCredentials(
  pod: Pod,
  image: string,
  objects: Objects,
): Result<PullCredentials> {
  const entries: Entry[] = [];
  const missing: string[] = [];
  for (const name of pod.spec.imagePullSecrets ?? []) {
    const found = objects.get('Secret', pod.metadata.namespace, name);
    if (found.state === 'unknown') {
      return {
        ok: false,
        fault: { code: 'Unavailable', message: notHeard('Secret', name, found.why) },
      };
    }
    if (found.state === 'absent') missing.push(name);
    else {
      const of = entriesOf(found.object);
      if (of === undefined) {
        const message = `secret ${JSON.stringify(name)} holds no docker configuration that can be read`;
        return { ok: false, fault: { code: 'InvalidArgument', message } };
      }
      entries.push(...of);
    }
  }
  const repository = repositoryOf(image);
  // The most specific first: `a.io/team` stands before `a.io`.
  const matching = entries
    .filter(({ location }) => covers(location, repository))
    .sort((a, b) => (a.location < b.location ? 1 : a.location > b.location ? -1 : 0));
  const isHub = repository.startsWith(`${HUB}/`);
  const chosen =
    matching.length > 0 || !isHub
      ? matching
      : entries.filter(({ location }) => location === HUB_ALIAS);
  return { ok: true, value: { auths: chosen.map(({ auth }) => auth), missing } };
}

type Entry = {
  /** `host[:port][/path]`; parts of the host may have `*` and `?`. */
  readonly location: string;
  readonly auth: AuthConfig;
};

const HUB = 'docker.io';
/** As `docker login` writes it. */
const HUB_ALIAS = 'index.docker.io';

/** None of a secret of another type; undefined when it can't be read. */
function entriesOf({ type, data = {} }: Secret): readonly Entry[] | undefined {
  const isNew = type === 'kubernetes.io/dockerconfigjson';
  if (!isNew && type !== 'kubernetes.io/dockercfg') return [];
  const parsed = parse(data[isNew ? '.dockerconfigjson' : '.dockercfg'] ?? '');
  if (!isRecord(parsed)) return undefined;
  const auths = isNew ? (parsed['auths'] ?? {}) : parsed;
  if (!isRecord(auths)) return undefined;
  return Object.entries(auths).flatMap(([server, entry]) => {
    const auth = isRecord(entry) ? authOf(entry) : undefined;
    return auth === undefined ? [] : [{ location: locationOf(server), auth }];
  });
}

function authOf({ username, password, auth }: Record<string, unknown>): AuthConfig | undefined {
  if (typeof auth === 'string' && auth !== '') {
    const text = textOf(auth);
    const colon = text?.indexOf(':') ?? -1;
    if (text === undefined || colon === -1) return undefined;
    return { username: text.slice(0, colon), password: text.slice(colon + 1) };
  }
  if (typeof username !== 'string' || typeof password !== 'string') return undefined;
  return { username, password };
}

/** `https://index.docker.io/v1/` is `index.docker.io`. */
function locationOf(server: string): string {
  const plain = server.replace(/^https?:\/\//, '');
  const [host = '', ...path] = plain.split('/');
  if (path[0] === 'v1' || path[0] === 'v2') path.shift();
  const rest = path.join('/').replace(/\/+$/, '');
  return rest === '' ? host : `${host}/${rest}`;
}

/** `nginx:1` is `docker.io/library/nginx`. */
function repositoryOf(image: string): string {
  const name = image.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
  const slash = name.indexOf('/');
  if (slash === -1) return `${HUB}/library/${name}`;
  const first = name.slice(0, slash);
  return /[.:]/.test(first) || first === 'localhost' ? name : `${HUB}/${name}`;
}

function covers(location: string, repository: string): boolean {
  const [glob, target] = [split(location), split(repository)];
  return (
    glob.port === target.port &&
    glob.labels.length === target.labels.length &&
    glob.labels.every((label, index) => matches(label, target.labels[index] ?? '')) &&
    target.path.startsWith(glob.path)
  );
}

function split(location: string) {
  const slash = location.indexOf('/');
  const host = slash === -1 ? location : location.slice(0, slash);
  const [name = '', port = ''] = host.split(':');
  return { labels: name.split('.'), port, path: slash === -1 ? '' : location.slice(slash) };
}

/** One part of a host. The stars are matched without going back more than one of them. */
function matches(glob: string, label: string): boolean {
  let [g, l, star, from] = [0, 0, -1, 0];
  while (l < label.length) {
    if (glob[g] === '*') [star, from] = [g++, l];
    else if (glob[g] === '?' || glob[g] === label[l]) [g, l] = [g + 1, l + 1];
    else if (star === -1) return false;
    else [g, l] = [star + 1, ++from];
  }
  return [...glob.slice(g)].every((character) => character === '*');
}

function parse(base64: string): unknown {
  try {
    return JSON.parse(textOf(base64) ?? '') as unknown;
  } catch {
    return undefined;
  }
}

function textOf(base64: string): string | undefined {
  const bytes = decodeBase64(base64);
  return bytes && new TextDecoder().decode(bytes);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
