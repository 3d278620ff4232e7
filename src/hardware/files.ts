/**
 * Files of the kernel, read so that none can do harm: little of each, not for long, and never one
 * that is no plain file. A read can't be called back: one that hangs keeps one of the four threads
 * that all file access of the process shares. So a source with a hanging read is not read again
 * until that ends, and while `MAX_HANGING` of them hang nothing is read at all.
 */
import { readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { errnoOf, Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { readCapped } from '../linux/files.ts';
import type { Space } from '../node/space.ts';

/** `missing` is an answer: this board has no such thing. */
export type Missing = { readonly ok: false; readonly missing: true };
export type Unusable = { readonly ok: false; readonly missing: false; readonly why: string };
export type Found<T> = { readonly ok: true; readonly value: T } | Missing | Unusable;

/** Paths are absolute, and taken below the root. None of these fails. */
export type Files = {
  text(path: string): Promise<Found<string>>;
  bytes(path: string): Promise<Found<Buffer>>;
  /** The names in a directory, sorted. */
  names(path: string): Promise<Found<readonly string[]>>;
  space(path: string): Promise<Found<Space>>;
};

const MISSING: Missing = { ok: false, missing: true };
/** A device that was pulled out (ENODEV, ENXIO) or tells nothing is as missing as one that never was. */
const GONE = ['ENOENT', 'ENOTDIR', 'ENODEV', 'ENXIO', 'ENODATA', 'EOPNOTSUPP', 'ENOTSUP'];
const READ_MS = 2000;
const MAX_HANGING = 2;
const MAX_NAMES = 1024;

/** Makes `Files` for one source after another, which share what may hang. */
export function filesBelow(root: string, clock: Clock): () => Files {
  const hanging = new Set<object>();
  return () => filesOfOne(root, clock, hanging);
}

function filesOfOne(root: string, clock: Clock, hanging: Set<object>): Files {
  const self = {};
  const bounded = async <T>(path: string, work: () => Promise<T>): Promise<Found<T>> => {
    if (hanging.has(self) || hanging.size >= MAX_HANGING) {
      return unusable(path, 'an earlier read still hangs');
    }
    const done = new AbortController();
    const working = work().then(
      (value): Found<T> => ({ ok: true, value }),
      (error: unknown): Found<T> => whyNot(path, error),
    );
    // In two parts: where this thread was busy for long, the answer may lie there unheard.
    const half = () => clock.sleep(READ_MS / 2, done.signal);
    const late = half()
      .then(half)
      .then(
        () => 'late' as const,
        () => 'late' as const,
      );
    const first = await Promise.race([working, late]);
    done.abort();
    if (first !== 'late') return first;
    hanging.add(self);
    void working.then(() => hanging.delete(self));
    return unusable(path, `no answer in ${READ_MS / 1000} s`);
  };
  const bytes = (path: string) =>
    bounded(path, () => readCapped(join(root, path), LIMITS.hardwareFileBytes));
  return {
    bytes,
    text: async (path) => {
      const found = await bytes(path);
      if (!found.ok) return found;
      const value = found.value.toString('utf8').replaceAll('\0', '').trim();
      return value === '' ? unusable(path, 'it is empty') : { ok: true, value };
    },
    names: (path) =>
      bounded(path, async () => (await readdir(join(root, path))).sort().slice(0, MAX_NAMES)),
    space: (path) =>
      bounded(path, async () => {
        const { bsize, bavail, blocks, ffree, files } = await statfs(join(root, path));
        const [freeBytes, totalBytes] = [bavail * bsize, blocks * bsize];
        return { freeBytes, totalBytes, freeInodes: ffree, inodes: files };
      }),
  };
}

function unusable(path: string, why: string): Unusable {
  return { ok: false, missing: false, why: `can't read ${path}: ${why}` };
}

function whyNot(path: string, error: unknown): Missing | Unusable {
  const cause = error instanceof Failure ? error.cause : error;
  const errno = errnoOf(cause);
  if (GONE.includes(errno ?? '')) return MISSING;
  // It says what and why.
  if (error instanceof Failure && errno === undefined) {
    return { ok: false, missing: false, why: error.message };
  }
  return unusable(path, errno ?? (error instanceof Error ? error.message : String(error)));
}
