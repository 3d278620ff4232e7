/**
 * Reads a kubeconfig. What is in it is resolved by the `KubeConfig` of the Kubernetes project; the
 * text is read here first, because its reader shows the lines around an error, secrets and all.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';

import type { Cluster, User } from '@kubernetes/client-node/dist/config_types.js';

import { errnoOf, Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { createBudget, ManifestSyntaxError, type ManifestNode } from '../kube/manifest-node.ts';
import { parseJson } from '../kube/parse-json.ts';
import { parseYaml } from '../kube/parse-yaml.ts';
import { decodeManifest, needsYaml } from '../kube/parse.ts';

/** A thing that is in the kubeconfig itself or in a file beside it. */
export type Source = { readonly text: string } | { readonly file: string };

/** The plugin that gives the credentials. Source: client.authentication.k8s.io/v1 ExecCredential */
export type ExecPlugin = {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly installHint: string | undefined;
  readonly provideClusterInfo: boolean;
};

/** What one context of a kubeconfig says. */
export type Kubeconfig = {
  readonly path: string;
  readonly context: string;
  readonly server: URL;
  /** The name that the server's certificate must have, when it is not the host in `server`. */
  readonly serverName: string | undefined;
  readonly ca: Source;
  readonly certificate: Source | undefined;
  readonly key: Source | undefined;
  readonly token: Source | undefined;
  readonly exec: ExecPlugin | undefined;
};

type Plain =
  null | string | number | boolean | readonly Plain[] | { readonly [key: string]: Plain };

/**
 * Reads the kubeconfig at `path`; files that it names are not opened yet.
 *
 * @param context The context to use instead of `current-context`.
 * @throws Failure `NotFound` without such a file, `PermissionDenied`; `InvalidArgument` for what is
 *   cut short or malformed, for an unknown context, cluster or user, and for what is not carried out
 */
export async function readKubeconfig(path: string, context?: string): Promise<Kubeconfig> {
  const plain = await readPlain(path);
  const { KubeConfig } = await import('@kubernetes/client-node/dist/config.js');
  const config = new KubeConfig();
  try {
    config.loadFromString(JSON.stringify(plain));
    config.makePathsAbsolute(dirname(path));
  } catch (error) {
    throw bad(path, error instanceof Error ? error.message : String(error), REMEDY);
  }
  const name = context ?? config.getCurrentContext();
  if (typeof name !== 'string' || name === '') throw bad(path, 'has no current-context', REMEDY);
  const found = config.contexts.find((one) => one.name === name);
  const names = config.contexts.map((one) => one.name).join(', ') || 'none';
  if (found === undefined) throw bad(path, `has no context "${name}"`, `it has: ${names}`);
  const cluster = config.clusters.find((one) => one.name === found.cluster);
  const user = config.users.find((one) => one.name === found.user);
  const where = `of the context "${name}"`;
  if (cluster === undefined) throw bad(path, `has no cluster "${found.cluster}" ${where}`, REMEDY);
  if (user === undefined) throw bad(path, `has no user "${found.user}" ${where}`, REMEDY);
  return {
    path,
    context: name,
    ...clusterOf(path, cluster),
    ...userOf(path, user, tokenFileOf(plain, user.name)),
  };
}

const REMEDY = 'it may have been cut short: write it again, e.g. with kubeadm join';

function bad(path: string, why: string, remedy: string): Failure {
  return new Failure('InvalidArgument', `the kubeconfig ${path} ${why}: ${remedy}`);
}

function clusterOf(
  path: string,
  cluster: Cluster,
): Pick<Kubeconfig, 'server' | 'serverName' | 'ca'> {
  const where = `in its cluster "${cluster.name}"`;
  if (!URL.canParse(cluster.server)) {
    throw bad(path, `has no URL as server ${where}`, 'write it as https://HOST:6443');
  }
  const server = new URL(cluster.server);
  if (server.protocol !== 'https:') {
    throw bad(path, `has the server ${server.origin} ${where}`, 'only https is taken');
  }
  const refuse = (field: string, remedy: string) =>
    bad(path, `has ${field} ${where}, which limpet does not carry out`, remedy);
  if (cluster.skipTLSVerify) {
    const remedy = 'give certificate-authority-data: without it anybody could give orders';
    throw refuse('insecure-skip-tls-verify', remedy);
  }
  if (cluster.proxyUrl) throw refuse('proxy-url', 'remove it, and route without a proxy');
  const ca = sourceOf(path, 'certificate-authority', cluster.caFile, cluster.caData);
  if (ca === undefined) {
    throw bad(path, `has no certificate-authority ${where}`, 'add certificate-authority-data');
  }
  return { server, serverName: textOr(cluster.tlsServerName), ca };
}

function userOf(
  path: string,
  user: User,
  tokenFile: string | undefined,
): Pick<Kubeconfig, 'certificate' | 'key' | 'token' | 'exec'> {
  const refuse = (field: string, remedy: string) =>
    bad(path, `has ${field} in its user "${user.name}", which limpet does not carry out`, remedy);
  if (user.authProvider) throw refuse('auth-provider', 'use an exec plugin');
  if (user.username || user.password) throw refuse('username', 'use a certificate or a token');
  if (user.impersonateUser) throw refuse('as', 'give the user itself');
  const certificate = sourceOf(path, 'client-certificate', user.certFile, user.certData);
  const key = sourceOf(path, 'client-key', user.keyFile, user.keyData);
  if ((certificate === undefined) !== (key === undefined)) {
    const missing = key === undefined ? 'client-key' : 'client-certificate';
    throw bad(path, `has no ${missing} for its user "${user.name}"`, REMEDY);
  }
  const token = textOr(user.token);
  const exec = user.exec ? execOf(path, user.exec as Record<string, unknown>) : undefined;
  if (certificate === undefined && !token && !tokenFile && exec === undefined) {
    throw bad(path, `has no credentials for its user "${user.name}"`, REMEDY);
  }
  return {
    certificate,
    key,
    // A file wins over what was written at the time: it is the one that gets renewed.
    token: tokenFile ? { file: beside(path, tokenFile) } : token ? { text: token } : undefined,
    exec,
  };
}

/** Data wins over a file, as in client-go. */
function sourceOf(
  path: string,
  field: string,
  file: string | undefined,
  data: string | undefined,
): Source | undefined {
  if (data) {
    const base64 = String(data).replace(/\s+/g, '');
    const pem = Buffer.from(base64, 'base64');
    if (pem.length === 0 || pem.toString('base64').length !== base64.length) {
      throw bad(path, `has a ${field}-data that is no base64`, REMEDY);
    }
    return { text: pem.toString('utf8') };
  }
  return file ? { file } : undefined;
}

function execOf(path: string, exec: Record<string, unknown>): ExecPlugin {
  const text = (name: string) => textOr(exec[name]);
  const command = text('command');
  if (command === undefined) throw bad(path, 'has an exec plugin without a command', REMEDY);
  const apiVersion = text('apiVersion') ?? '';
  if (!/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(apiVersion)) {
    const remedy = 'limpet speaks client.authentication.k8s.io/v1 and v1beta1';
    throw bad(path, `has an exec plugin with apiVersion "${apiVersion}"`, remedy);
  }
  if (exec['interactiveMode'] === 'Always') {
    const remedy = 'an agent has no terminal: use one with interactiveMode Never';
    throw bad(path, 'has an exec plugin that must have a terminal', remedy);
  }
  const list = (name: string) => (Array.isArray(exec[name]) ? (exec[name] as unknown[]) : []);
  return {
    apiVersion,
    // A bare name is looked for in PATH, a relative path beside the kubeconfig.
    command: command.includes('/') ? beside(path, command) : command,
    args: list('args').map(String),
    env: list('env').map((item) => {
      const { name, value } = (item ?? {}) as { name?: unknown; value?: unknown };
      return { name: textOr(name) ?? '', value: textOr(value) ?? '' };
    }),
    installHint: text('installHint'),
    provideClusterInfo: exec['provideClusterInfo'] === true,
  };
}

/** `tokenFile`, which `KubeConfig` does not read. */
function tokenFileOf(plain: Plain, userName: string): string | undefined {
  const users = (plain as { users?: unknown }).users;
  if (!Array.isArray(users)) return undefined;
  const found = (users as { name?: unknown; user?: { tokenFile?: unknown } }[]).find(
    ({ name }) => name === userName,
  );
  return textOr(found?.user?.tokenFile);
}

function beside(path: string, file: string): string {
  return isAbsolute(file) ? file : join(dirname(path), file);
}

function textOr(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

async function readPlain(path: string): Promise<Plain> {
  const bytes = readCredential(path, 'the kubeconfig');
  try {
    const text = decodeManifest(bytes);
    const budget = createBudget();
    const documents = needsYaml(text)
      ? parseYaml(text, await import('yaml'), budget)
      : [parseJson(text, budget)];
    const [document] = documents;
    if (document === undefined) throw bad(path, 'is empty', REMEDY);
    if (!(document.value instanceof Map)) throw bad(path, 'has no fields', REMEDY);
    return plainOf(document);
  } catch (error) {
    if (!(error instanceof ManifestSyntaxError)) throw error;
    const line = error.line === undefined ? '' : ` in line ${error.line}`;
    throw bad(path, `${error.message}${line}`, error.remedy ?? REMEDY);
  }
}

function plainOf(node: ManifestNode): Plain {
  const { value } = node;
  if (value === null || typeof value !== 'object') return value;
  if (value instanceof Map) {
    const entries = value as ReadonlyMap<string, ManifestNode>;
    return Object.fromEntries([...entries].map(([key, item]) => [key, plainOf(item)]));
  }
  return (value as readonly ManifestNode[]).map(plainOf);
}

/**
 * The bytes of a file with credentials; links are followed, since that is how they are renewed.
 *
 * @param what For people: `the client certificate`.
 * @throws Failure `NotFound`, `PermissionDenied`, `InvalidArgument` for what is no plain file or
 *   too large
 */
export function readCredential(path: string, what: string): Buffer {
  const can = `can't read ${what} ${path}`;
  let fd: number | undefined;
  try {
    // Without waiting, should it be a FIFO.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Failure('InvalidArgument', `${can}: it is not a plain file`);
    if (stat.size > LIMITS.credentialBytes) {
      const sizes = `${stat.size} bytes, allowed are ${LIMITS.credentialBytes}`;
      throw new Failure('InvalidArgument', `${can}: it has ${sizes}`);
    }
    const bytes = Buffer.alloc(stat.size);
    let length = 0;
    while (length < bytes.length) {
      const count = readSync(fd, bytes, length, bytes.length - length, length);
      if (count === 0) break;
      length += count;
    }
    return bytes.subarray(0, length);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const errno = errnoOf(cause);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') {
      const remedy = 'join the node to a cluster (kubeadm join), or correct the path';
      throw new Failure('NotFound', `${can}: there is no such file: ${remedy}`, { cause });
    }
    const code = errno === 'EACCES' || errno === 'EPERM' ? 'PermissionDenied' : 'Unknown';
    throw new Failure(code, `${can}: ${errno ?? String(cause)}`, { cause });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
