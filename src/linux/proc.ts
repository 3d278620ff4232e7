/** Facts of the machine, from /proc and /sys. */
import { readFileSync } from 'node:fs';
import os from 'node:os';
import { resolve } from 'node:path';

import { Failure } from '../base/failure.ts';

/** The kernel's id of this boot. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** `6.12.47`, as `uname -r` says. */
export function kernelVersion(): string {
  return os.release();
}

/** All memory that the kernel manages, in bytes. */
export function memTotalBytes(): number {
  return parseMemTotal(readFileSync('/proc/meminfo', 'latin1'));
}

/** MemTotal in the text of `/proc/meminfo`, in bytes. @throws Failure when there is none. */
export function parseMemTotal(text: string): number {
  const kibibytes = /^MemTotal:\s+(\d+) kB$/m.exec(text)?.[1];
  if (kibibytes === undefined) throw new Failure('Unknown', '/proc/meminfo has no MemTotal');
  return Number(kibibytes) * 1024;
}

/** Processors that are online. */
export function cpuCount(): number {
  return parseCpuList(readFileSync('/sys/devices/system/cpu/online', 'latin1'));
}

/** How many processors a list such as `0-3,5` names. */
export function parseCpuList(text: string): number {
  let count = 0;
  for (const part of text.trim().split(',')) {
    const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(part) ?? [];
    if (first !== undefined) count += Number(last ?? first) - Number(first) + 1;
  }
  return count;
}

const AT_PAGESZ = 6n;

/**
 * Bytes of a page, in the bytes of `/proc/self/auxv` of a 64-bit process; undefined when they are
 * none. Source: getauxval(3).
 */
export function pageBytesOf(auxv: Uint8Array | undefined): number | undefined {
  if (auxv === undefined) return undefined;
  const view = new DataView(auxv.buffer, auxv.byteOffset, auxv.byteLength);
  for (let at = 0; at + 16 <= auxv.byteLength; at += 16) {
    if (view.getBigUint64(at, true) !== AT_PAGESZ) continue;
    const bytes = Number(view.getBigUint64(at + 8, true));
    return bytes >= 4096 && bytes <= 1024 * 1024 && Number.isInteger(Math.log2(bytes))
      ? bytes
      : undefined;
  }
  return undefined;
}

export type MountEntry = {
  readonly mountId: number;
  readonly parentId: number;
  /** `major:minor`. */
  readonly device: string;
  /** What of its file system is mounted: `/`, or a path for a bind mount. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  readonly fsType: string;
  readonly source: string;
  readonly superOptions: readonly string[];
};

/**
 * The mounts in the text of `/proc/self/mountinfo`, oldest first. A line that is none is left out.
 * Source: proc(5).
 */
export function parseMountInfo(text: string): readonly MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [head, tail] = line.split(' - ', 2);
    const fields = head?.split(' ') ?? [];
    const [mountId, parentId, device, root, mountPoint, options] = fields;
    const [fsType, source, superOptions] = tail?.split(' ') ?? [];
    if (mountPoint === undefined || options === undefined || fsType === undefined) continue;
    entries.push({
      mountId: Number(mountId),
      parentId: Number(parentId),
      device: device ?? '',
      root: unescaped(root ?? ''),
      mountPoint: unescaped(mountPoint),
      options: options.split(','),
      fsType,
      source: unescaped(source ?? ''),
      superOptions: (superOptions ?? '').split(','),
    });
  }
  return entries;
}

/** Space, tab, newline and backslash stand there as three octal digits. */
function unescaped(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
}

/** The mounts that this process sees. */
export function mounts(): readonly MountEntry[] {
  return parseMountInfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** True when something is mounted exactly at `path` (an absolute path without symbolic links). */
export function isMountPoint(path: string): boolean {
  const wanted = resolve(path);
  return mounts().some(({ mountPoint }) => mountPoint === wanted);
}

/** What is mounted at `path` or below it, in the order to unmount: innermost, then last first. */
export function mountsBelow(path: string): readonly MountEntry[] {
  const wanted = resolve(path);
  const prefix = wanted === '/' ? '/' : `${wanted}/`;
  return mounts()
    .filter(({ mountPoint }) => mountPoint === wanted || mountPoint.startsWith(prefix))
    .reverse()
    .sort((a, b) => b.mountPoint.length - a.mountPoint.length);
}
