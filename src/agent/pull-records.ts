/** Remembers in the store which image pulls have begun and are not yet safe on the disk. */
import { existsSync } from 'node:fs';
import { Failure } from '../base/failure.ts';
import { runTool } from '../linux/command.ts';
import type { Store } from '../store/store.ts';
import type { PullRecords } from './images.ts';

const KEY = 'image.pulls';
const SYNC_TIMEOUT_MS = 120_000;
/** Where the known runtimes keep images. */
const IMAGE_STORES = ['/var/lib/containerd', '/var/lib/containers'];

/** Pull records as one row of the store: a JSON list of image names. */
export function pullRecords(store: Store): PullRecords {
  const read = () => parse(store.meta(KEY));
  const write = (names: readonly string[]) =>
    store.setMeta(KEY, names.length === 0 ? undefined : JSON.stringify(names));
  const drop = (name: string) => write(read().filter((other) => other !== name));
  return {
    begin: (name) => write([...new Set([...read(), name])]),
    finish: async (name) => {
      // The runtime syncs what it notes of an image, but not the image's files.
      const where = IMAGE_STORES.filter((path) => existsSync(path));
      const tool = ['sync', ...(where.length > 0 ? ['-f', ...where] : [])] as const;
      await runTool(tool, AbortSignal.timeout(SYNC_TIMEOUT_MS), (stderr) => {
        return new Failure('Unknown', `can't sync the image ${name} to the disk: ${stderr}`);
      });
      drop(name);
    },
    unfinished: read,
    drop,
  };
}

function parse(text: string | undefined): readonly string[] {
  if (text === undefined) return [];
  try {
    const names: unknown = JSON.parse(text);
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
  } catch {
    return [];
  }
}
