/**
 * Paths below a directory of ours, walked without following a link that somebody put there.
 *
 * Each part is opened with O_NOFOLLOW through the directory before it (`/proc/self/fd/N/name`), as
 * openat(2) does, so that a name that turns into a link meanwhile leads nowhere.
 */
import { constants } from 'node:fs';
import { chmod, lstat, mkdir, open, realpath, type FileHandle } from 'node:fs/promises';

import { Failure, errnoOf } from '../base/failure.ts';
import { fileFailure } from '../linux/files.ts';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/**
 * Makes the directories `parts` below `root`, each in the one before, with exactly `mode`. Those
 * that are there already keep their content; their mode is put right.
 * Returns the path of the last one.
 *
 * @throws Failure `AlreadyExists` where something else than a directory is in the way.
 */
export async function ensureDirectories(
  root: string,
  parts: readonly string[],
  mode: number,
): Promise<string> {
  let path = root;
  for (const part of parts) {
    path = `${path}/${part}`;
    await ensureDirectory(path, mode);
  }
  return path;
}

/** Where a directory of ours really is: mounts are known by that path. @throws Failure */
export async function realDirectory(path: string): Promise<string> {
  return realpath(path).catch((error: unknown) => {
    throw fileFailure('find the directory', path, error);
  });
}

/** As `ensureDirectories` for the one directory `path`; its parent must be there. */
export async function ensureDirectory(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, mode).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    const found = await lstat(path);
    if (!found.isDirectory()) {
      throw new Failure(
        'AlreadyExists',
        `can't make the directory ${path}: something else is there; move it away`,
      );
    }
    // The umask took bits away, or an earlier attempt ended between the two calls.
    if ((found.mode & 0o7777) !== mode) await chmod(path, mode);
  } catch (error) {
    throw fileFailure('make the directory', path, error);
  }
}

/**
 * Opens `parts` below `root` (the last with `flags`) and runs `use` with it. No part may be a link.
 * A FIFO or a device does not make it wait.
 *
 * @throws Failure `NotFound`, `InvalidArgument` for a link, …; what `use` throws.
 */
export async function withOpenBelow<T>(
  root: string,
  parts: readonly string[],
  flags: number,
  use: (opened: FileHandle) => Promise<T>,
  mode = 0o600,
): Promise<T> {
  const path = [root, ...parts].join('/');
  const opened = await openBelow(root, parts, flags, mode).catch((error: unknown) => {
    throw fileFailure('open', path, error);
  });
  try {
    return await use(opened);
  } finally {
    await opened.close();
  }
}

async function openBelow(
  root: string,
  parts: readonly string[],
  flags: number,
  mode: number,
): Promise<FileHandle> {
  // The root is ours, and may be reached through a link (/var on another disk).
  let current = await open(root, constants.O_RDONLY | constants.O_DIRECTORY);
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    const how = last ? flags | constants.O_NOFOLLOW | constants.O_NONBLOCK : DIRECTORY;
    const directory = current;
    try {
      current = await open(inside(directory, part), how, mode);
    } finally {
      await directory.close();
    }
  }
  return current;
}

/** Opens the directory `parts` below `root`, see `withOpenBelow`. */
export function withDirectoryBelow<T>(
  root: string,
  parts: readonly string[],
  use: (directory: FileHandle) => Promise<T>,
): Promise<T> {
  return withOpenBelow(root, parts, DIRECTORY, use);
}

/** The path of `name` in an open directory: valid as long as it is open. */
export function inside(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}
