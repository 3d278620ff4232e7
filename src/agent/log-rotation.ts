/**
 * Keeps the logs of running containers small, as the kubelet does.
 *
 *   3.log                        the runtime writes here, until it has maxBytes
 *   3.log.20260117-101500        the one before, left as it is for collectors that still read it
 *   3.log.20260117-093000.gz     older ones
 *
 * Together there are never more than `maxFiles`. A check costs one lstat per container and writes
 * nothing. All files are named through their open directory and no link is followed, because a pod
 * may have /var/log mounted.
 * Source: pkg/kubelet/logs/container_log_manager.go.
 */
import { constants, lstatSync } from 'node:fs';
import { lstat, open, readdir, rename, unlink, type FileHandle } from 'node:fs/promises';
import { createGzip, type Gzip } from 'node:zlib';

import type { Clock } from '../base/clock.ts';
import { Failure, errnoOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { fileFailure } from '../linux/files.ts';
import { containerLogPath, podLogFolder } from '../pod/names.ts';
import { inside, withDirectoryBelow } from '../volume/below.ts';
import type { PodMeta } from './pod-files.ts';

const GZIP_SUFFIX = '.gz';
const UNFINISHED_SUFFIX = '.tmp';
const READ_BYTES = 64 * 1024;

export type RotationPolicy = {
  readonly maxBytes: number;
  /** At least 2. */
  readonly maxFiles: number;
  readonly intervalMs: number;
};

/** The kubelet's `containerLogMaxSize`, `containerLogMaxFiles`, `containerLogMonitorInterval`. */
export const ROTATION: RotationPolicy = {
  maxBytes: 10 * 1024 * 1024,
  maxFiles: 5,
  intervalMs: 10_000,
};

export type RunningContainer = {
  readonly id: string;
  readonly pod: PodMeta;
  readonly name: string;
  readonly attempt: number;
};

export type Rotation = {
  /** `/var/log/pods` */
  readonly logRoot: string;
  readonly policy: RotationPolicy;
  readonly clock: Clock;
  readonly log: Log;
  /** Those that run now. */
  readonly running: () => Iterable<RunningContainer>;
  /** CRI ReopenContainerLog. */
  readonly reopen: (id: string, signal: AbortSignal) => Promise<void>;
};

/** Checks all logs, again and again. Rejects only when `signal` is aborted. */
export async function keepLogsSmall(rotation: Rotation, signal: AbortSignal): Promise<never> {
  for (;;) {
    await rotation.clock.sleep(rotation.policy.intervalMs, signal);
    await rotateLogs(rotation, signal);
  }
}

/**
 * Checks all logs once, one after the other. What goes wrong with one is logged, and tried again the
 * next time. Returns how many were rotated.
 */
export async function rotateLogs(rotation: Rotation, signal: AbortSignal): Promise<number> {
  let rotated = 0;
  for (const container of rotation.running()) {
    signal.throwIfAborted();
    try {
      if (await rotateIfLarge(rotation, container, signal)) rotated++;
    } catch (error) {
      if (signal.aborted) throw error;
      warn(rotation, container, 'cannot rotate the log of a container', error);
    }
  }
  return rotated;
}

function warn(
  rotation: Rotation,
  container: RunningContainer,
  message: string,
  error: unknown,
): void {
  rotation.log.warn(message, {
    pod: container.pod.metadata.name,
    container: container.name,
    error: error instanceof Error ? error.message : String(error),
  });
}

async function rotateIfLarge(
  rotation: Rotation,
  container: RunningContainer,
  signal: AbortSignal,
): Promise<boolean> {
  const { logRoot, policy } = rotation;
  const relative = `${podLogFolder(container.pod)}/${logFile(container)}`;
  // In the usual case this is all that happens.
  const found = lstatSync(`${logRoot}/${relative}`, { throwIfNoEntry: false });
  if (found === undefined) {
    // Somebody removed it: the runtime still writes to what nobody can read.
    await rotation.reopen(container.id, signal);
    return false;
  }
  if (!found.isFile()) {
    throw new Failure('InvalidArgument', `${logRoot}/${relative} is no plain file; remove it`);
  }
  if (found.size < policy.maxBytes) return false;
  const parts = relative.split('/');
  const file = parts.pop()!;
  await withDirectoryBelow(logRoot, parts, async (directory) => {
    try {
      await rotate(rotation, container, directory, file, signal);
    } catch (error) {
      throw fileFailure('rotate', `${logRoot}/${relative}`, error);
    }
  });
  return true;
}

function logFile({ name, attempt }: RunningContainer): string {
  return containerLogPath(name, attempt);
}

async function rotate(
  rotation: Rotation,
  container: RunningContainer,
  directory: FileHandle,
  file: string,
  signal: AbortSignal,
): Promise<void> {
  const kept = await removeExcess(directory, file, rotation.policy.maxFiles);
  for (const name of kept) {
    if (name.endsWith(GZIP_SUFFIX)) continue;
    await compress(directory, name, signal).catch((error: unknown) => {
      if (signal.aborted) throw error;
      // On a full disk it is all the more important to go on: the number of files is limited.
      warn(rotation, container, 'cannot pack a rotated log', fileFailure('pack', name, error));
    });
  }
  const old = `${file}.${timestamp(rotation.clock.now().wallMs, kept.at(-1))}`;
  await rename(inside(directory, file), inside(directory, old));
  try {
    await rotation.reopen(container.id, signal);
  } catch (error) {
    await putBack(directory, old, file);
    throw error;
  }
}

/**
 * Takes the rotated log back, so that it is rotated again the next time. Not when there is a new one:
 * then the runtime did reopen it and only its answer was lost.
 */
async function putBack(directory: FileHandle, old: string, file: string): Promise<void> {
  const isNew = await lstat(inside(directory, file)).then(
    () => true,
    () => false,
  );
  if (!isNew) await rename(inside(directory, old), inside(directory, file));
}

/**
 * Removes what earlier rotations left unfinished, and the oldest logs, so that with the one that is
 * about to be rotated and the new one there are at most `maxFiles`. Returns the others, oldest first.
 */
async function removeExcess(
  directory: FileHandle,
  file: string,
  maxFiles: number,
): Promise<readonly string[]> {
  const all = await readdir(inside(directory, '.'));
  const rotated = all.filter((name) => name.startsWith(`${file}.`)).sort();
  const isUnused = (name: string) =>
    name.endsWith(UNFINISHED_SUFFIX) || rotated.includes(name + GZIP_SUFFIX);
  const inUse = rotated.filter((name) => !isUnused(name));
  const kept = maxFiles <= 2 ? [] : inUse.slice(-(maxFiles - 2));
  for (const name of rotated) {
    if (!kept.includes(name)) await removeFile(directory, name);
  }
  return kept;
}

async function compress(directory: FileHandle, name: string, signal: AbortSignal): Promise<void> {
  const temporary = inside(directory, name + UNFINISHED_SUFFIX);
  const toRead = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const toWrite = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  await using from = await open(inside(directory, name), toRead);
  const { mode } = await from.stat();
  await using to = await open(temporary, toWrite, mode & 0o777);
  const gzip = createGzip();
  try {
    await Promise.all([feed(from, gzip, signal), drain(gzip, to)]);
    // Without this a power cut can leave an empty file, after the original was removed.
    await to.sync();
    await rename(temporary, inside(directory, name + GZIP_SUFFIX));
  } catch (error) {
    gzip.destroy();
    await removeFile(directory, name + UNFINISHED_SUFFIX);
    throw error;
  }
  await removeFile(directory, name);
}

/** One buffer for all of the file: with a stream of them 10 MiB of log cost 8 MB of memory. */
async function feed(from: FileHandle, gzip: Gzip, signal: AbortSignal): Promise<void> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for (;;) {
    signal.throwIfAborted();
    const { bytesRead } = await from.read(buffer, 0, READ_BYTES, null);
    if (bytesRead === 0) break;
    await new Promise<void>((resolve, reject) => {
      gzip.write(buffer.subarray(0, bytesRead), (error) => (error ? reject(error) : resolve()));
    });
  }
  gzip.end();
}

async function drain(gzip: Gzip, to: FileHandle): Promise<void> {
  for await (const chunk of gzip as AsyncIterable<Buffer>) await to.writeFile(chunk);
}

/**
 * `YYYYMMDD-HHMMSS`, in UTC. Names are in the order of their making even if the clock went back:
 * then it is a second after `newest`, the last rotated log there is.
 */
export function timestamp(wallMs: number, newest: string | undefined): string {
  const now = stamp(wallMs);
  const last = /\.(\d{8}-\d{6})(\.gz)?$/.exec(newest ?? '')?.[1];
  if (last === undefined || last < now) return now;
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)$/
    .exec(last)!
    .map(Number);
  return stamp(Date.UTC(year!, month! - 1, day, hour, minute, second! + 1));
}

function stamp(wallMs: number): string {
  const [day, time] = new Date(wallMs).toISOString().split(/[T.]/);
  return `${day!.replaceAll('-', '')}-${time!.replaceAll(':', '')}`;
}

async function removeFile(directory: FileHandle, name: string): Promise<void> {
  await unlink(inside(directory, name)).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
  });
}
