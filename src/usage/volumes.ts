/**
 * How full the volumes of pods are. One that is a file system of its own says so itself; the files
 * of others have to be counted, which is why it is done for those who ask, and not for each look.
 */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { VolumeUsage } from '../node/usage.ts';
import { fsUsage } from './node.ts';

/** A container can make more than anyone wants to count. */
const MOST_FILES = 20_000;
/** Of `st_blocks`, whatever the blocks of the file system are. */
const BLOCK_BYTES = 512;

/** Of one pod. @param directory Its `volumes`: below it a folder for each kind, then the volumes */
export async function volumeUsage(directory: string): Promise<readonly VolumeUsage[]> {
  const root = await statOf(directory);
  if (root === undefined) return [];
  const found: VolumeUsage[] = [];
  for (const kind of await namesIn(directory)) {
    for (const name of await namesIn(join(directory, kind))) {
      const path = join(directory, kind, name);
      const stat = await statOf(path);
      if (stat?.isDirectory() !== true) continue;
      const own = stat.dev === root.dev ? undefined : fsUsage(path);
      found.push({ name, ...(own ?? (await counted(path, stat.dev))) });
    }
  }
  return found;
}

/** What the files below a directory take, without following a link or leaving its file system. */
async function counted(
  directory: string,
  dev: number,
): Promise<Pick<VolumeUsage, 'usedBytes' | 'inodesUsed' | 'isPartial'>> {
  const linked = new Set<number>();
  const ahead = [directory];
  let [usedBytes, inodesUsed] = [0, 0];
  for (let path = ahead.pop(); path !== undefined; path = ahead.pop()) {
    const stat = await statOf(path);
    if (stat === undefined || stat.dev !== dev) continue;
    if (stat.nlink > 1 && !stat.isDirectory()) {
      if (linked.has(stat.ino)) continue;
      linked.add(stat.ino);
    }
    if (inodesUsed === MOST_FILES) return { usedBytes, inodesUsed, isPartial: true };
    usedBytes += stat.blocks * BLOCK_BYTES;
    inodesUsed += 1;
    if (!stat.isDirectory()) continue;
    for (const name of await namesIn(path)) ahead.push(join(path, name));
  }
  return { usedBytes, inodesUsed };
}

/** Undefined for what went away meanwhile, or lies too deep. */
async function statOf(path: string) {
  return await lstat(path).catch(() => undefined);
}

async function namesIn(path: string): Promise<readonly string[]> {
  return await readdir(path).catch(() => []);
}
