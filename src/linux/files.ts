/** Files that survive a power cut, and files that somebody else may have prepared as a trap. */
import {
  closeSync,
  constants,
  fstatSync,
  open as openCallback,
  read,
  readdirSync,
  readFileSync,
} from 'node:fs';
import { open, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { Failure, errnoOf, type FailureCode } from '../base/failure.ts';

const CODES: Readonly<Record<string, FailureCode>> = {
  ENOENT: 'NotFound',
  ENOTDIR: 'NotFound',
  EEXIST: 'AlreadyExists',
  EACCES: 'PermissionDenied',
  EPERM: 'PermissionDenied',
  EROFS: 'PermissionDenied',
  ENOSPC: 'NoSpace',
  EDQUOT: 'NoSpace',
  ELOOP: 'InvalidArgument',
  EISDIR: 'InvalidArgument',
  EMFILE: 'ResourceExhausted',
  ENFILE: 'ResourceExhausted',
};

/** The one place where an error of the file system becomes a Failure. `action`: "write", … */
export function fileFailure(action: string, path: string, cause: unknown): Failure {
  if (cause instanceof Failure) return cause;
  const errno = errnoOf(cause) ?? '';
  const why =
    errno === 'ELOOP'
      ? 'it is a symbolic link'
      : cause instanceof Error
        ? cause.message.replace(/, \w+ '.*$/s, '')
        : String(cause);
  return new Failure(CODES[errno] ?? 'Unknown', `can't ${action} ${path}: ${why}`, { cause });
}

/**
 * Replaces a file whole: after a power cut there is the old one or the new one. Resolves when the
 * new one is on the disk. One writer at a time for one path.
 *
 * @param mode Permission bits, not touched by the umask.
 * @throws Failure `NoSpace`, `PermissionDenied`, `NotFound` (no such directory), …
 */
export async function writeDurable(
  path: string,
  data: string | Uint8Array,
  mode: number,
): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.new`);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    // What a power cut left of an earlier attempt.
    await unlink(temporary).catch(unlessMissing);
    const file = await open(temporary, flags, mode);
    try {
      await file.chmod(mode);
      await file.writeFile(data);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw fileFailure('write', path, error);
  }
}

/**
 * As `writeDurable`, but leaves the disk alone where the file has this content already. True when
 * it was written.
 */
export async function writeIfChanged(
  path: string,
  data: string | Uint8Array,
  mode: number,
): Promise<boolean> {
  const wanted = Buffer.from(data);
  const found = await readCapped(path, wanted.length).catch((error: unknown) => {
    const { code } = fileFailure('read', path, error);
    if (code === 'NotFound' || code === 'InvalidArgument') return undefined;
    throw error;
  });
  if (found !== undefined && found.equals(wanted)) return false;
  await writeDurable(path, data, mode);
  return true;
}

/**
 * The content of a plain file. The last part of the path may not be a symbolic link, and a FIFO or
 * a device does not make it wait.
 *
 * @throws Failure `InvalidArgument` for what is no plain file or holds more than `maxBytes`;
 *   `NotFound`, …
 */
export async function readCapped(path: string, maxBytes: number): Promise<Buffer> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  try {
    // Only what may hang goes to another thread, for each such call wakes two threads.
    const file = await openFile(path, flags);
    try {
      return await readOpened(file, path, maxBytes);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw fileFailure('read', path, error);
  }
}

const openFile = promisify(openCallback);
const readPart = promisify(read);
const PAGE_BYTES = 4096;
const MOST_AT_ONCE = 64 * 1024;

async function readOpened(file: number, path: string, maxBytes: number): Promise<Buffer> {
  const stat = fstatSync(file);
  if (!stat.isFile()) {
    throw new Failure('InvalidArgument', `can't read ${path}: it is not a plain file`);
  }
  // The size may be wrong (procfs says 0) or change, so more than allowed is asked for.
  const parts: Buffer[] = [];
  let length = 0;
  for (let room = PAGE_BYTES; length <= maxBytes; room = MOST_AT_ONCE) {
    const { bytesRead, buffer } = await readPart(file, Buffer.allocUnsafe(room), 0, room, null);
    parts.push(buffer.subarray(0, bytesRead));
    length += bytesRead;
    // procfs tells no size, and ends a part before a long line.
    const isLast = stat.size > 0 ? bytesRead < PAGE_BYTES : bytesRead === 0;
    if (isLast && length <= maxBytes) return Buffer.concat(parts, length);
  }
  throw new Failure(
    'InvalidArgument',
    `can't read ${path}: it has ${Math.max(stat.size, length)} bytes, allowed are ${maxBytes}`,
  );
}

/** Puts the names in a directory on the disk. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function unlessMissing(error: unknown): void {
  if (errnoOf(error) !== 'ENOENT') throw error;
}

/** The text without spaces around it; empty when it can't be read. For the kernel's own files. */
export function readTrimmed(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

/** The names in a directory; none when it can't be read. For the kernel's own directories. */
export function namesIn(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
