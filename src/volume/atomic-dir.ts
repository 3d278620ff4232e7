/**
 * A directory whose files change all at once, laid out as the kubelet does:
 *
 *   app.conf -> ..data/app.conf                    what containers open
 *   ..data -> ..2026_11_22_10_15_30.120            replaced in one step
 *   ..2026_11_22_10_15_30.120/app.conf             one generation, never changed once it is linked
 *
 * A program that holds `..data` open, or watches it, sees either all old files or all new ones.
 * What is there is compared with what is wanted, to the last bit, so an update that was broken off
 * anywhere is finished or undone by the next one. For the same reason nothing is synced: what a
 * power cut leaves is looked at before a container starts, and in memory it leaves nothing.
 *
 * No link is followed but those that bear our own names, and these only after they were read: the
 * directory is opened once, and every name is taken through it (see `below.ts`). One writer at a
 * time.
 */
import { constants } from 'node:fs';
import {
  lstat,
  mkdir,
  open,
  readdir,
  readlink,
  rename,
  symlink,
  unlink,
  type FileHandle,
} from 'node:fs/promises';
import { basename, dirname } from 'node:path';

import { Failure, errnoOf } from '../base/failure.ts';
import { fileFailure } from '../linux/files.ts';
import { removeTree } from '../linux/remove-tree.ts';
import type { VolumeFile } from '../pod/volume-files.ts';
import { inside, withDirectoryBelow } from './below.ts';

const DATA = '..data';
const NEW_DATA = '..data_tmp';
const GENERATION = /^\.\.\d{4}(_\d{2}){5}\.\d+$/;
const DIRECTORY_MODE = 0o755;
/** What a group of its own adds: it may read, and what is made in a directory stays the group's. */
const GROUP_FILE = 0o440;
const GROUP_DIRECTORY = 0o2550;
const MAX_NAME_BYTES = 255;
const MAX_PATH_BYTES = 4096;

export type AtomicDirOptions = {
  /** The group of everything in it, and of the directory itself. */
  readonly gid?: number;
  /** Names the new generation, for people. */
  readonly wallMs: number;
};

/**
 * Makes `files` (by their path in it) the content of `directory`, which must be there; it may hold
 * other things, and they stay. True when something had to be written.
 *
 * @throws Failure when a path can't be one; `NoSpace`, `Unavailable`, `Cancelled`, …
 */
export async function writeAtomicDir(
  directory: string,
  files: ReadonlyMap<string, VolumeFile>,
  options: AtomicDirOptions,
  signal: AbortSignal,
): Promise<boolean> {
  const tree = treeOf(files, options);
  try {
    return await withDirectoryBelow(dirname(directory), [basename(directory)], async (root) => {
      const current = await generationOf(root);
      await sweep(root, directory, current, signal);
      const same = current !== undefined && (await isSame(root, current, tree));
      if (options.gid !== undefined) await giveTo(root, options.gid);
      if (!same) await publish(root, tree, options.wallMs, signal);
      await showFiles(root, tree.entries.keys());
      if (!same) await sweep(root, directory, await generationOf(root), signal);
      return !same;
    });
  } catch (error) {
    throw fileFailure('fill the volume at', directory, error);
  }
}

/** What is wanted: a directory by the names in it, or a file. */
type Owned = { readonly mode: number; readonly uid: number; readonly gid: number };
type Leaf = Owned & { readonly data: Uint8Array };
type Tree = Owned & { readonly entries: Map<string, Tree | Leaf> };

function treeOf(files: ReadonlyMap<string, VolumeFile>, { gid }: AtomicDirOptions): Tree {
  const empty = (): Tree => ({
    entries: new Map(),
    mode: gid === undefined ? DIRECTORY_MODE : DIRECTORY_MODE | GROUP_DIRECTORY,
    uid: 0,
    gid: gid ?? 0,
  });
  const root = empty();
  for (const [path, { data, mode, uid = 0 }] of files) {
    const names = namesOf(path);
    let parent = root;
    for (const name of names.slice(0, -1)) {
      const found = parent.entries.get(name) ?? empty();
      if ('data' in found) throw clash(path);
      parent.entries.set(name, found);
      parent = found;
    }
    const name = names.at(-1)!;
    const before = parent.entries.get(name);
    if (before !== undefined && !('data' in before)) throw clash(path);
    const own = gid === undefined ? mode : mode | GROUP_FILE;
    parent.entries.set(name, { data, mode: own, uid, gid: gid ?? 0 });
  }
  return root;
}

/** The names on the way to a file. Names of ours, which begin with two dots, are nobody else's. */
function namesOf(path: string): readonly string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const bad =
    names.length === 0 ||
    path.startsWith('/') ||
    path.includes('\0') ||
    names[0]?.startsWith('..') === true ||
    names.includes('..') ||
    Buffer.byteLength(path) > MAX_PATH_BYTES ||
    names.some((name) => Buffer.byteLength(name) > MAX_NAME_BYTES);
  if (!bad) return names;
  throw new Failure(
    'Unknown',
    `invalid path: ${JSON.stringify(path.slice(0, 80))} can't be a file of a volume: it has to be ` +
      "relative, without '..', with names of at most 255 bytes",
  );
}

function clash(path: string): Failure {
  const text = JSON.stringify(path.slice(0, 80));
  return new Failure('Unknown', `the path ${text} would be a file and a directory; change one`);
}

/** The name of the generation that is linked; undefined when none of ours is. */
async function generationOf(root: FileHandle): Promise<string | undefined> {
  const target = await readlink(inside(root, DATA)).catch(unless('ENOENT', 'EINVAL'));
  return target !== undefined && GENERATION.test(target) ? target : undefined;
}

/** Removes what is left of other generations: everything of ours but the one that is linked. */
async function sweep(
  root: FileHandle,
  directory: string,
  current: string | undefined,
  signal: AbortSignal,
): Promise<void> {
  for (const name of await readdir(inside(root, '.'))) {
    if (!name.startsWith('..') || name === current) continue;
    if (name === DATA && current !== undefined) continue;
    await removeTree(directory, `${directory}/${name}`, signal);
  }
}

/** Whether a generation is exactly what is wanted. Never follows a link, never waits for a fifo. */
async function isSame(parent: FileHandle, name: string, wanted: Tree | Leaf): Promise<boolean> {
  const leaf = 'data' in wanted;
  const kind = leaf ? constants.O_NONBLOCK : constants.O_DIRECTORY;
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | kind;
  const opened = await open(inside(parent, name), flags).catch(
    unless('ENOENT', 'ELOOP', 'ENOTDIR', 'ENXIO'),
  );
  if (opened === undefined) return false;
  try {
    const { mode, uid, gid, size, nlink } = await opened.stat();
    const type = leaf ? constants.S_IFREG : constants.S_IFDIR;
    if (mode !== (type | wanted.mode)) return false;
    if (uid !== wanted.uid || gid !== wanted.gid) return false;
    if (leaf) {
      // One that has a second name could be changed by it.
      if (size !== wanted.data.length || nlink !== 1) return false;
      return (await opened.readFile()).equals(wanted.data);
    }
    const names = await readdir(inside(opened, '.'));
    if (names.length !== wanted.entries.size) return false;
    for (const [entry, child] of wanted.entries) {
      if (!(await isSame(opened, entry, child))) return false;
    }
    return true;
  } finally {
    await opened.close();
  }
}

/** Lets a group into the directory itself. */
async function giveTo(root: FileHandle, gid: number): Promise<void> {
  const found = await root.stat();
  const mode = (found.mode & 0o7777) | GROUP_DIRECTORY;
  if (found.gid === gid && (found.mode & 0o7777) === mode) return;
  await root.chown(0, gid);
  await root.chmod(mode);
}

/** Writes a new generation and links it in one step. */
async function publish(
  root: FileHandle,
  tree: Tree,
  wallMs: number,
  signal: AbortSignal,
): Promise<void> {
  const name = await makeGeneration(root, wallMs);
  await fill(root, name, tree, signal);
  await symlink(name, inside(root, NEW_DATA));
  await rename(inside(root, NEW_DATA), inside(root, DATA));
}

/** Makes an empty directory under a name that no generation has, and only the agent may enter. */
async function makeGeneration(root: FileHandle, wallMs: number): Promise<string> {
  const [date, milliseconds] = new Date(wallMs).toISOString().split('.') as [string, string];
  const stem = `..${date.replace(/[-T:]/g, '_')}.`;
  for (let number = parseInt(milliseconds, 10); ; number += 1) {
    const name = `${stem}${number}`;
    const made = await mkdir(inside(root, name), 0o700).then(() => true, unless('EEXIST'));
    if (made === true) return name;
  }
}

/** Fills the directory `name`, which is new and empty; its own mode comes last. */
async function fill(
  parent: FileHandle,
  name: string,
  tree: Tree,
  signal: AbortSignal,
): Promise<void> {
  await withDirectoryBelow(inside(parent, '.'), [name], async (opened) => {
    for (const [entry, child] of tree.entries) {
      if (signal.aborted) throw new Failure('Cancelled', 'filling a volume was cancelled');
      if ('data' in child) await writeFile(opened, entry, child);
      else {
        await mkdir(inside(opened, entry), 0o700);
        await fill(opened, entry, child, signal);
      }
    }
    // In this order: a change of the owner takes the setgid bit away.
    await opened.chown(tree.uid, tree.gid);
    await opened.chmod(tree.mode);
  });
}

async function writeFile(directory: FileHandle, name: string, leaf: Leaf): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const file = await open(inside(directory, name), flags, 0o600);
  try {
    await file.writeFile(leaf.data);
    await file.chown(leaf.uid, leaf.gid);
    await file.chmod(leaf.mode);
  } finally {
    await file.close();
  }
}

/**
 * Makes the links that containers open, and removes those whose file is gone. A directory under the
 * name of a file is where another volume is mounted: it stays, and hides the file.
 */
async function showFiles(root: FileHandle, names: Iterable<string>): Promise<void> {
  const wanted = new Set(names);
  for (const name of wanted) {
    const target = `${DATA}/${name}`;
    const path = inside(root, name);
    const found = await readlink(path).catch(unless('ENOENT', 'EINVAL'));
    if (found === target) continue;
    const other = found === undefined ? await lstat(path).catch(unless('ENOENT')) : undefined;
    if (other?.isDirectory() === true) continue;
    await symlink(target, inside(root, NEW_DATA));
    await rename(inside(root, NEW_DATA), path);
  }
  for (const name of await readdir(inside(root, '.'))) {
    if (wanted.has(name) || name.startsWith('..')) continue;
    const target = await readlink(inside(root, name)).catch(unless('ENOENT', 'EINVAL'));
    if (target === `${DATA}/${name}`) await unlink(inside(root, name));
  }
}

/** Takes some errors for "it is not there". */
function unless(...codes: readonly string[]): (error: unknown) => undefined {
  return (error) => {
    if (!codes.includes(errnoOf(error) ?? '')) throw error;
    return undefined;
  };
}
