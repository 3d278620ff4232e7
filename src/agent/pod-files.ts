/**
 * The files of a pod on the node, as the kubelet has them:
 *
 *   <root>/pods/<uid>/etc-hosts                        mounted at /etc/hosts
 *   <root>/pods/<uid>/containers/<name>/<8 hex>        its last words, one file per attempt
 *   <root>/pods/<uid>/volumes/<kind>/<name>            see src/volume
 *   /var/log/pods/<ns>_<pod>_<uid>/<name>/<n>.log      written by the runtime
 *   /var/log/containers/<pod>_<ns>_<name>-<id>.log     links to them, for log collectors
 *
 * Containers can write to some of these, and a pod may have mounted the directories around them: no
 * link is followed on the way, and nothing is read without a limit. All may be repeated.
 */
import { constants } from 'node:fs';
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readlink,
  realpath,
  rmdir,
  symlink,
  unlink,
  type FileHandle,
} from 'node:fs/promises';

import { Failure, errnoOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { DNSConfig } from '../kube/cri.ts';
import type { Container, Pod } from '../kube/pod.ts';
import { fileFailure, readCapped } from '../linux/files.ts';
import { removeTree } from '../linux/remove-tree.ts';
import { parseResolvConf } from '../pod/dns.ts';
import { hostNetworkHosts, podHosts } from '../pod/hosts.ts';
import {
  containerLogLinkName,
  containerLogPath,
  etcHostsPath,
  pathSegment,
  podDirectory,
  podDomain,
  podHostname,
  podLogFolder,
  terminationLogPath,
} from '../pod/names.ts';
import {
  ensureDirectories,
  inside,
  realDirectory,
  withDirectoryBelow,
  withOpenBelow,
} from '../volume/below.ts';
import { tearDownLeftovers } from '../volume/index.ts';
import { lastLogOutput } from './log-tail.ts';

const PRIVATE_MODE = 0o750;
const LOG_MODE = 0o755;
const HOSTS_MODE = 0o644;
const TERMINATION_LOG_MODE = 0o666;
/** Attempts of a container whose logs and messages are kept: the last and the one before. */
const KEPT_ATTEMPTS = 2;
const MAX_HOSTS_BYTES = 1024 * 1024;
const MAX_RESOLV_CONF_BYTES = 1024 * 1024;
const SYSTEMD_RESOLV_CONF = '/run/systemd/resolve/resolv.conf';

const READ = constants.O_RDONLY;
const WRITE = constants.O_RDWR | constants.O_CREAT;

export type PodPaths = {
  /** The agent's own, e.g. `/var/lib/kubelet`. */
  readonly rootDirectory: string;
  /** `/var/log/pods` */
  readonly logRoot: string;
  /** `/var/log/containers` */
  readonly linkDirectory: string;
};

/** Enough of a pod to find its files. */
export type PodMeta = Pick<Pod, 'metadata'>;

/** Makes the directories of a pod and of its logs. @throws Failure */
export async function setUpPodFiles(paths: PodPaths, pod: Pod): Promise<void> {
  const root = await shared(paths.rootDirectory, PRIVATE_MODE);
  const names = [...pod.spec.initContainers, ...pod.spec.containers].map(({ name }) =>
    pathSegment(name, 'the container name'),
  );
  const own = ['pods', pathSegment(pod.metadata.uid, 'metadata.uid')];
  await ensureDirectories(root, [...own, 'volumes'], PRIVATE_MODE);
  await ensureDirectories(root, [...own, 'containers'], PRIVATE_MODE);
  const logs = await shared(paths.logRoot, LOG_MODE);
  await shared(paths.linkDirectory, LOG_MODE);
  await ensureDirectories(logs, [podLogFolder(pod)], LOG_MODE);
  for (const name of names) {
    await ensureDirectories(root, [...own, 'containers', name], PRIVATE_MODE);
    await ensureDirectories(logs, [podLogFolder(pod), name], LOG_MODE);
  }
}

/**
 * Writes the pod's hosts file, once its addresses are known, and returns its path. It is written in
 * place, for containers have this very file mounted, and only where it differs. @throws Failure
 */
export async function writeHostsFile(
  paths: PodPaths,
  pod: Pod,
  facts: { readonly ips: readonly string[]; readonly clusterDomain: string },
): Promise<string> {
  const aliases = pod.spec.hostAliases;
  const text = pod.spec.hostNetwork
    ? hostNetworkHosts(await nodeHosts(), aliases)
    : podHosts({
        ips: facts.ips,
        hostname: podHostname(pod),
        domain: podDomain(pod, facts.clusterDomain),
        aliases,
      });
  const wanted = Buffer.from(text);
  const parts = ['pods', pathSegment(pod.metadata.uid, 'metadata.uid'), 'etc-hosts'];
  const path = etcHostsPath(paths.rootDirectory, pod.metadata.uid);
  await withOpenBelow(
    paths.rootDirectory,
    parts,
    WRITE,
    async (file) => {
      try {
        if (await hasContent(file, wanted)) return;
        await file.truncate(0);
        await file.chmod(HOSTS_MODE);
        await file.write(wanted, 0, wanted.length, 0);
      } catch (error) {
        throw fileFailure('write', path, error);
      }
    },
    HOSTS_MODE,
  );
  return path;
}

/**
 * Makes the empty file for a container's termination message, writable by all, and returns its path;
 * files of attempts long ago are removed. Undefined for a container that has no such file.
 * @throws Failure
 */
export async function createTerminationLog(
  paths: PodPaths,
  pod: PodMeta,
  container: Pick<Container, 'name' | 'terminationMessagePath'>,
  attempt: number,
): Promise<string | undefined> {
  if (container.terminationMessagePath === '') return undefined;
  const { uid } = pod.metadata;
  const root = await shared(paths.rootDirectory, PRIVATE_MODE);
  const path = terminationLogPath(paths.rootDirectory, uid, container.name, attempt);
  const parts = path.slice(paths.rootDirectory.length + 1).split('/');
  const file = parts.pop()!;
  await ensureDirectories(root, parts, PRIVATE_MODE);
  await withDirectoryBelow(root, parts, async (directory) => {
    await removeOldMessages(directory, attempt);
  });
  await withOpenBelow(
    root,
    [...parts, file],
    WRITE,
    async (opened) => {
      await opened.truncate(0);
      await opened.chmod(TERMINATION_LOG_MODE);
    },
    TERMINATION_LOG_MODE,
  );
  return path;
}

async function removeOldMessages(directory: FileHandle, attempt: number): Promise<void> {
  for (const name of await readdir(inside(directory, '.'))) {
    const old = /^[0-9a-f]{8,}$/.test(name) && parseInt(name, 16) <= attempt - KEPT_ATTEMPTS;
    if (old) await unlink(inside(directory, name));
  }
}

export type EndedContainer = {
  readonly attempt: number;
  readonly exitCode: number;
  /** The runtime's. */
  readonly reason: string;
};

/**
 * What a container that has ended wanted to be known of it: the end of its termination message file,
 * or the end of its log if it failed, the file is empty and its policy says so. Never fails: what
 * cannot be read is said in the message.
 */
export async function terminationMessage(
  paths: PodPaths,
  pod: PodMeta,
  container: Pick<Container, 'name' | 'terminationMessagePath' | 'terminationMessagePolicy'>,
  ended: EndedContainer,
): Promise<string> {
  const { uid } = pod.metadata;
  if (container.terminationMessagePath !== '') {
    const path = terminationLogPath(paths.rootDirectory, uid, container.name, ended.attempt);
    const parts = path.slice(paths.rootDirectory.length + 1).split('/');
    try {
      const text = await withOpenBelow(paths.rootDirectory, parts, READ, (file) =>
        endOf(file, LIMITS.terminationMessageBytes),
      );
      if (text.length > 0) return text.toString('utf8');
    } catch (error) {
      if (!(error instanceof Failure && error.code === 'NotFound')) {
        return `Error on reading termination log ${path}: ${messageOf(error)}`;
      }
    }
  }
  // One that could not even be started has no log.
  const useLog =
    container.terminationMessagePolicy === 'FallbackToLogsOnError' &&
    ended.exitCode !== 0 &&
    ended.reason !== 'ContainerCannotRun';
  if (!useLog) return '';
  try {
    const log = containerLogPath(container.name, ended.attempt).split('/');
    return await withOpenBelow(paths.logRoot, [podLogFolder(pod), ...log], READ, lastLogOutput);
  } catch (error) {
    return `Error on reading termination message from logs: ${messageOf(error)}`;
  }
}

/** The last bytes of a plain file, from the beginning of a character. */
export async function endOf(file: FileHandle, maxBytes: number): Promise<Buffer> {
  const found = await file.stat();
  if (!found.isFile()) throw new Failure('InvalidArgument', 'it is no plain file');
  const position = Math.max(0, found.size - maxBytes);
  const buffer = Buffer.alloc(Math.min(found.size, maxBytes));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
  let start = 0;
  if (position > 0) while (start < 4 && (buffer[start]! & 0xc0) === 0x80) start++;
  return buffer.subarray(start, bytesRead);
}

/**
 * Links a container's log into the directory for log collectors, if there is a log, and removes the
 * logs of its attempts long ago with their links: those of `attempt` and of the one before stay.
 * @throws Failure
 */
export async function linkContainerLog(
  paths: PodPaths,
  pod: PodMeta,
  container: string,
  attempt: number,
  containerId: string,
): Promise<void> {
  const directory = `${paths.logRoot}/${podLogFolder(pod)}`;
  const target = `${directory}/${containerLogPath(container, attempt)}`;
  const link = `${paths.linkDirectory}/${containerLogLinkName(pod, container, containerId)}`;
  if (await isThere(target)) await ensureLink(link, target);
  if (attempt < KEPT_ATTEMPTS) return;
  await pruneContainerLogs(paths, pod, container, attempt);
}

async function ensureLink(link: string, target: string): Promise<void> {
  if ((await targetOf(link)) === target) return;
  try {
    await unlink(link).catch(unlessMissing);
    await symlink(target, link);
  } catch (error) {
    throw fileFailure('make the link', link, error);
  }
}

async function pruneContainerLogs(
  paths: PodPaths,
  pod: PodMeta,
  container: string,
  attempt: number,
): Promise<void> {
  const folder = `${podLogFolder(pod)}/${pathSegment(container, 'the container name')}`;
  const isOld = (file: string) => {
    const of = /^(\d+)\.log(\.|$)/.exec(file)?.[1];
    return of !== undefined && Number(of) <= attempt - KEPT_ATTEMPTS;
  };
  const prune = async (directory: FileHandle) => {
    for (const file of await readdir(inside(directory, '.'))) {
      if (isOld(file)) await unlink(inside(directory, file)).catch(unlessMissing);
    }
  };
  await withDirectoryBelow(paths.logRoot, folder.split('/'), prune).catch((error: unknown) => {
    if (!isMissing(error)) throw error;
  });
  const prefix = `${paths.logRoot}/${folder}/`;
  await removeLinks(paths, (target) =>
    Promise.resolve(target.startsWith(prefix) && isOld(target.slice(prefix.length))),
  );
}

/** Removes links to logs of pods that are gone. Returns how many. Links of others are let be. */
export async function removeDeadLogLinks(paths: PodPaths): Promise<number> {
  return removeLinks(paths, async (target) => {
    if (!target.startsWith(`${paths.logRoot}/`)) return false;
    return !(await isThere(target));
  });
}

async function removeLinks(
  paths: PodPaths,
  isDead: (target: string) => Promise<boolean>,
): Promise<number> {
  let removed = 0;
  for (const name of await namesIn(paths.linkDirectory)) {
    const link = `${paths.linkDirectory}/${name}`;
    const target = await targetOf(link);
    if (target === undefined || !(await isDead(target))) continue;
    await unlink(link).catch(unlessMissing);
    removed++;
  }
  return removed;
}

/**
 * Removes all files and logs of a pod. Its volumes must have been taken down before.
 *
 * @throws Failure `Unavailable` while there is a volume left, or something is mounted.
 */
export async function tearDownPodFiles(
  paths: PodPaths,
  pod: PodMeta,
  signal: AbortSignal,
): Promise<void> {
  const { uid } = pod.metadata;
  const root = await realDirectory(paths.rootDirectory);
  const directory = podDirectory(root, uid);
  await removeEmptyVolumes(`${directory}/volumes`);
  await removeTree(root, directory, signal);
  await removeLogs(paths, podLogFolder(pod), signal);
}

async function removeLogs(paths: PodPaths, folder: string, signal: AbortSignal): Promise<void> {
  const logs = `${paths.logRoot}/${folder}/`;
  await removeLinks(paths, (target) => Promise.resolve(target.startsWith(logs)));
  const logRoot = await realpath(paths.logRoot).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw fileFailure('look at', paths.logRoot, error);
  });
  if (logRoot !== undefined) await removeTree(logRoot, `${logRoot}/${folder}`, signal);
}

/** Data of a pod is removed by its volume or not at all. */
async function removeEmptyVolumes(volumes: string): Promise<void> {
  for (const kind of await namesIn(volumes)) {
    const path = `${volumes}/${kind}`;
    const left = await namesIn(path);
    if (left.length > 0) {
      throw new Failure(
        'Unavailable',
        `won't remove ${volumes}: the volume ${path}/${left[0]} is still there`,
      );
    }
    await rmdir(path).catch((error: unknown) => {
      throw fileFailure('remove', path, error);
    });
  }
}

/**
 * Removes files, volumes and logs of pods that nobody knows, and returns their uids. Only for an
 * agent that is sure of what it knows: what the store has and what the runtime has.
 *
 * @throws Failure while a volume of such a pod is in use; the others are gone by then.
 */
export async function removeForgottenPods(
  paths: PodPaths,
  isKnown: (uid: string) => boolean,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const root = await shared(paths.rootDirectory, PRIVATE_MODE);
  // Other names (`lost+found`) are not of pods.
  const isForgotten = (uid: string) => /^[\w-]+$/.test(uid) && !isKnown(uid);
  const forgotten = (await namesIn(`${root}/pods`)).filter(isForgotten);
  const failures: unknown[] = [];
  for (const podUid of forgotten) {
    try {
      await tearDownLeftovers({ rootDirectory: root, podUid }, signal);
      await removeEmptyVolumes(`${podDirectory(root, podUid)}/volumes`);
      await removeTree(root, podDirectory(root, podUid), signal);
    } catch (error) {
      failures.push(error);
    }
  }
  for (const folder of await namesIn(paths.logRoot)) {
    const [, , uid, more] = folder.split('_');
    if (uid === undefined || more !== undefined || !isForgotten(uid)) continue;
    await removeLogs(paths, folder, signal);
  }
  if (failures.length > 0) throw failures[0];
  return forgotten;
}

/**
 * The node's resolver settings, for pods that get them. Where the file names nothing but systemd's
 * own stub, which pods cannot reach, the servers `behindStub` are taken. A missing file is an empty
 * one. @throws Failure
 */
export async function nodeDns(path: string, behindStub = SYSTEMD_RESOLV_CONF): Promise<DNSConfig> {
  const config = await resolvConf(path);
  if (config === undefined) return parseResolvConf('');
  const isStub = (server: string) => server === '127.0.0.53' || server === '127.0.0.54';
  const onlyStub = config.servers.length > 0 && config.servers.every(isStub);
  return (onlyStub ? await resolvConf(behindStub) : undefined) ?? config;
}

async function resolvConf(path: string): Promise<DNSConfig | undefined> {
  const text = await readLinked(path, MAX_RESOLV_CONF_BYTES);
  return text === undefined ? undefined : parseResolvConf(text);
}

async function nodeHosts(): Promise<string> {
  return (await readLinked('/etc/hosts', MAX_HOSTS_BYTES)) ?? '';
}

/** A file of the node's own, which may be reached through links; undefined when it is missing. */
async function readLinked(path: string, maxBytes: number): Promise<string | undefined> {
  try {
    return (await readCapped(await realpath(path), maxBytes)).toString('utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    const failure = fileFailure('read', path, error);
    if (failure.code === 'NotFound') return undefined;
    throw failure;
  }
}

async function hasContent(file: FileHandle, wanted: Buffer): Promise<boolean> {
  const found = await file.stat();
  if (!found.isFile()) throw new Failure('InvalidArgument', 'it is no plain file');
  if (found.size !== wanted.length || (found.mode & 0o7777) !== HOSTS_MODE) return false;
  return (await endOf(file, wanted.length)).equals(wanted);
}

/**
 * The real path of a directory that all pods share. It is made if need be, but the mode of what is
 * there already, and of its parents, is none of our business.
 */
async function shared(path: string, mode: number): Promise<string> {
  try {
    const made = await mkdir(path, { recursive: true });
    if (made !== undefined) await chmod(path, mode);
    return await realpath(path);
  } catch (error) {
    throw fileFailure('make the directory', path, error);
  }
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw fileFailure('list', directory, error);
  }
}

/** Where a link points to; undefined when it is none. */
async function targetOf(link: string): Promise<string | undefined> {
  return readlink(link).catch(() => undefined);
}

/** A path that cannot be looked at is there too. */
async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: unknown) => !isMissing(error),
  );
}

function isMissing(error: unknown): boolean {
  const code = error instanceof Failure ? error.code : errnoOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'NotFound';
}

function unlessMissing(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
