/**
 * One file of the manifest directory: whether it is a manifest at all, and what is in it. A file
 * that is a trap (a fifo, a device, a gigabyte) is refused before it is read.
 */
import { constants, type BigIntStats } from 'node:fs';
import { lstat, open, stat, type FileHandle } from 'node:fs/promises';
import { errnoOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { formatProblem } from '../kube/manifest-node.ts';
import type { Pod } from '../kube/pod.ts';
import { staticPod } from '../kube/static-uid.ts';
import { readManifest } from './read-manifest.ts';

/** How a file looks from outside: it changes when its content may have changed. */
export type Look =
  | { readonly kind: 'file'; readonly mark: string; readonly changedWallMs: number }
  /** It is there, but no manifest: `message` says why. */
  | { readonly kind: 'bad'; readonly mark: string; readonly message: string }
  | { readonly kind: 'gone' };

/** Looks at a file without opening it; links are followed. Never rejects. */
export async function lookAt(path: string): Promise<Look> {
  try {
    const stats = await stat(path, { bigint: true });
    const message = whyNot(stats);
    if (message !== undefined) return bad(message);
    return { kind: 'file', mark: markOf(stats), changedWallMs: Number(stats.ctimeMs) };
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      const link = await lstat(path).catch(() => undefined);
      if (link === undefined) return { kind: 'gone' };
      return bad('is a link to something that is not there; repair or remove it');
    }
    if (code === 'ELOOP') return bad('is a link that leads to itself; repair or remove it');
    return bad(reading(error));
  }
}

function bad(message: string): Look {
  return { kind: 'bad', mark: message, message };
}

function markOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

function whyNot(stats: BigIntStats): string | undefined {
  if (stats.isFile()) {
    if (stats.size <= LIMITS.manifestBytes) return undefined;
    return `has ${stats.size} bytes, more than the ${LIMITS.manifestBytes} that a manifest may have; split it`;
  }
  if (stats.isDirectory()) {
    return 'is a directory, and manifests are not looked for in it; move them up, or remove it';
  }
  const kind = stats.isFIFO() ? 'fifo' : stats.isSocket() ? 'socket' : 'device';
  return `is a ${kind} and not a file; remove it`;
}

function reading(error: unknown): string {
  const code = errnoOf(error);
  if (code === 'EACCES' || code === 'EPERM') {
    return `can't be read (${code}); let the user that runs limpet read it`;
  }
  return `can't be read: ${error instanceof Error ? error.message : String(error)}`;
}

/** What a manifest holds. `mark` tells what was read: it may be newer than what was looked at. */
export type Reading =
  | { readonly kind: 'pods'; readonly mark: string; readonly pods: readonly Pod[] }
  | { readonly kind: 'bad'; readonly mark: string; readonly messages: readonly string[] }
  /** It changed while it was read: look again. */
  | { readonly kind: 'changing' };

/** Reads the static pods of a file. Never rejects. */
export async function readStaticPods(path: string, nodeName: string): Promise<Reading> {
  let content: { bytes: Buffer; mark: string } | string | undefined;
  try {
    content = await readContent(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { kind: 'changing' };
    content = reading(error);
  }
  if (content === undefined) return { kind: 'changing' };
  if (typeof content === 'string') return { kind: 'bad', mark: content, messages: [content] };
  const { bytes, mark } = content;
  const { pods, problems } = await readManifest(bytes, 'file');
  const messages = problems.map((problem) => formatProblem(undefined, problem));
  const named = pods.map((pod) => staticPod(pod, nodeName, path));
  for (const pod of named) {
    const { name, namespace } = pod.metadata;
    if (name.length + namespace.length <= MAX_FULL_NAME_LENGTH) continue;
    messages.push(`metadata.name: "${name}", the name on this node, is too long; shorten it`);
  }
  return messages.length === 0
    ? { kind: 'pods', mark, pods: named }
    : { kind: 'bad', mark, messages };
}

/** `<namespace>_<name>_<uid>` is the name of a directory, which has at most 255 characters. */
const MAX_FULL_NAME_LENGTH = 255 - 36 - 2;

/** The bytes of a file, what is wrong with it, or undefined when it changed meanwhile. */
export async function readContent(
  path: string,
): Promise<{ bytes: Buffer; mark: string } | string | undefined> {
  // O_NONBLOCK: what was a file a moment ago may be a fifo now, and opening one would hang.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const before = await file.stat({ bigint: true });
    const problem = whyNot(before);
    if (problem !== undefined) return problem;
    const bytes = await readAll(file, Number(before.size));
    const after = await file.stat({ bigint: true });
    const mark = markOf(after);
    return bytes !== undefined && mark === markOf(before) ? { bytes, mark } : undefined;
  } finally {
    await file.close();
  }
}

/** Exactly `size` bytes; undefined when the file has become shorter. */
async function readAll(file: FileHandle, size: number): Promise<Buffer | undefined> {
  const bytes = Buffer.alloc(size);
  let filled = 0;
  while (filled < size) {
    const { bytesRead } = await file.read(bytes, filled, size - filled, filled);
    if (bytesRead === 0) return undefined;
    filled += bytesRead;
  }
  return bytes;
}
