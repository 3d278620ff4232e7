/** SQLite's addon out of the single executable: the loader wants a file, and there is none beside it. */
import {
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRawAsset, isSea } from 'node:sea';
import { crc32 } from '../base/crc32.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';

const ASSET = 'better_sqlite3.node';
const PREFIX = 'better_sqlite3-';

/**
 * The loaded addon for `openStore`, or undefined when node_modules has it. The file is kept under a
 * name with its checksum in `<rootDirectory>/native`, so that it is written once for each version. Where
 * that is impossible (a full or read-only disk), an unnamed file in memory does for this run.
 * @throws Failure when the addon can be loaded from nowhere.
 */
export function loadNativeBinding(rootDirectory: string, log: Log): object | undefined {
  if (!isSea()) return undefined;
  const addon = Buffer.from(getRawAsset(ASSET));
  try {
    return load(keptFile(join(rootDirectory, 'native'), addon));
  } catch (error) {
    const { message } = faultOf(error);
    log.warn('cannot keep the database addon on disk, it goes into memory', { error: message });
  }
  for (const directory of ['/dev/shm', tmpdir()]) {
    try {
      const descriptor = unnamedFile(directory, addon);
      try {
        return load(`/proc/self/fd/${descriptor}`);
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      log.warn('cannot load the database addon', { directory, error: faultOf(error).message });
    }
  }
  throw new Failure(
    'Unavailable',
    `the database addon can be loaded from none of ${rootDirectory}, /dev/shm and ${tmpdir()}: ` +
      'is there space left, and is one of them mounted without noexec?',
  );
}

function keptFile(directory: string, addon: Buffer): string {
  const name = `${PREFIX}${crc32(addon).toString(16).padStart(8, '0')}.node`;
  const path = join(directory, name);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (!holds(path, addon)) writeDurable(directory, path, addon);
  for (const other of readdirSync(directory)) {
    if (other !== name && other.startsWith(PREFIX)) rmSync(join(directory, other), { force: true });
  }
  return path;
}

/** The whole file is compared: a card may have lost a part of it, and it will run as root. */
function holds(path: string, addon: Buffer): boolean {
  try {
    return readFileSync(path).equals(addon);
  } catch {
    return false;
  }
}

function writeDurable(directory: string, path: string, addon: Buffer): void {
  const part = `${path}.part`;
  rmSync(part, { force: true });
  const descriptor = openSync(part, 'wx', 0o600);
  try {
    writeAll(descriptor, addon);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(part, path);
  const folder = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** O_TMPFILE, which Node has no name for: `__O_TMPFILE | O_DIRECTORY`. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

function unnamedFile(directory: string, addon: Buffer): number {
  const descriptor = openSync(directory, constants.O_RDWR | O_TMPFILE, 0o600);
  try {
    writeAll(descriptor, addon);
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

function writeAll(descriptor: number, data: Buffer): void {
  for (let at = 0; at < data.length;) at += writeSync(descriptor, data, at);
}

function load(path: string): object {
  const module = { exports: {} };
  process.dlopen(module, path);
  return module.exports;
}
