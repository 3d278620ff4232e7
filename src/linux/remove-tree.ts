/**
 * Removes a tree of files that strangers wrote.
 *
 * Each directory is opened without following links and everything in it is named through that open
 * directory (`/proc/self/fd/N/name`), as openat(2) would. So a name that turns into a link in the
 * middle of it leads nowhere, and the id of the mount an open directory lies on shows that the walk
 * has not left the file system, bind mounts included.
 */
import { constants, readFileSync } from 'node:fs';
import { lstat, open, opendir, rename, rmdir, unlink, type FileHandle } from 'node:fs/promises';
import { isAbsolute, normalize, relative, sep } from 'node:path';

import { Failure, errnoOf } from '../base/failure.ts';
import { fileFailure } from './files.ts';
import { mountsBelow } from './proc.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Directories held open at a time; what lies deeper is moved up first. */
const MAX_DEPTH = 64;

/**
 * Removes `path` and all that is below it. `path` must lie strictly below `root`; no part between
 * them may be a symbolic link. Not there is success.
 *
 * @throws Failure `InvalidArgument` when `path` is not below `root`; `Unavailable` when something
 *   is still mounted at or below `path` (nothing was removed from there); `Cancelled`.
 */
export async function removeTree(root: string, path: string, signal: AbortSignal): Promise<void> {
  const parts = partsBelow(root, path);
  const mounted = mountsBelow(path)[0];
  if (mounted !== undefined) {
    throw new Failure(
      'Unavailable',
      `won't remove ${path}: ${mounted.source} is still mounted at ${mounted.mountPoint}`,
    );
  }
  const name = parts.pop()!;
  const opened: FileHandle[] = [];
  try {
    let parent = await open(root, DIRECTORY);
    opened.push(parent);
    const mountId = mountIdOf(parent);
    for (const part of parts) {
      parent = await open(at(parent, part), DIRECTORY);
      opened.push(parent);
    }
    const walk = { mountId, signal, path, moved: 0 };
    await removeEntry(walk, parent, name, parent, 0);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' && !(error instanceof Failure)) return;
    throw fileFailure('remove', path, error);
  } finally {
    for (const directory of opened.reverse()) await directory.close();
  }
}

type Walk = {
  readonly mountId: string;
  readonly signal: AbortSignal;
  readonly path: string;
  /** Directories that were moved up so far. */
  moved: number;
};

/** Removes `name` in `parent`; a directory that lies too deep is moved into `top` instead. */
async function removeEntry(
  walk: Walk,
  parent: FileHandle,
  name: string | Buffer,
  top: FileHandle,
  depth: number,
): Promise<void> {
  if (walk.signal.aborted) throw new Failure('Cancelled', `removing ${walk.path} was cancelled`);
  const entry = at(parent, name);
  const isDirectory = await lstat(entry).then(
    (stat) => stat.isDirectory(),
    (error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    },
  );
  if (isDirectory === undefined) return;
  if (!isDirectory) return unlink(entry);
  if (depth >= MAX_DEPTH) return moveUp(walk, entry, top);
  const directory = await open(entry, DIRECTORY);
  try {
    if (mountIdOf(directory) !== walk.mountId) {
      throw new Failure('Unavailable', `won't remove ${walk.path}: something is mounted below it`);
    }
    if (depth > 0) await emptyOut(walk, directory, top, depth);
    else await emptyTop(walk, directory);
  } finally {
    await directory.close();
  }
  await rmdir(entry);
}

/** Empties the top directory, until nothing was moved up into it any more. */
async function emptyTop(walk: Walk, directory: FileHandle): Promise<void> {
  let before: number;
  do {
    before = walk.moved;
    await emptyOut(walk, directory, directory, 0);
  } while (walk.moved > before);
}

/** Moves a directory that lies too deep into `top`, under a name that nothing there has. */
async function moveUp(walk: Walk, entry: string | Buffer, top: FileHandle): Promise<void> {
  for (;;) {
    const name = `.limpet-deep-${walk.moved++}`;
    try {
      return await rename(entry, at(top, name));
    } catch (error) {
      const errno = errnoOf(error);
      if (errno !== 'ENOTEMPTY' && errno !== 'EEXIST' && errno !== 'ENOTDIR') throw error;
    }
  }
}

async function emptyOut(
  walk: Walk,
  directory: FileHandle,
  top: FileHandle,
  depth: number,
): Promise<void> {
  // Names are bytes: one that is not UTF-8 could not be named again as a string.
  const listing = await opendir(at(directory, '.'), { encoding: 'buffer' as BufferEncoding });
  for await (const entry of listing) {
    await removeEntry(walk, directory, entry.name, top, depth + 1);
  }
}

function at(directory: FileHandle, name: string | Buffer): string | Buffer {
  const prefix = `/proc/self/fd/${directory.fd}/`;
  return typeof name === 'string' ? prefix + name : Buffer.concat([Buffer.from(prefix), name]);
}

function mountIdOf(directory: FileHandle): string {
  const info = readFileSync(`/proc/self/fdinfo/${directory.fd}`, 'latin1');
  return /^mnt_id:\s*(\d+)$/m.exec(info)?.[1] ?? '';
}

function partsBelow(root: string, path: string): string[] {
  const below = relative(root, path);
  const normal = isAbsolute(root) && isAbsolute(path) && normalize(path) === path;
  if (!normal || below === '' || below.split(sep)[0] === '..' || path.includes('\0')) {
    throw new Failure('InvalidArgument', `won't remove ${JSON.stringify(path)}: not below ${root}`);
  }
  return below.split(sep);
}
