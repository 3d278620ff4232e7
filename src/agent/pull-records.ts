/** Remembers in the store which image pulls have begun and are not yet safe on the disk. */
import { existsSync } from 'node:fs';
import { Failure } from '../base/failure.ts';
import { runTool } from '../linux/command.ts';
import type { Store } from '../store/store.ts';
import type { PullRecord, PullRecords } from './images.ts';

const KEY = 'image.pulls';
const SYNC_TIMEOUT_MS = 120_000;
/** Where the known runtimes keep images. */
const IMAGE_STORES = ['/var/lib/containerd', '/var/lib/containers'];

/** Pull records as one row of the store, in JSON. `sync` brings an image's files to the disk. */
export function pullRecords(
  store: Pick<Store, 'meta' | 'setMeta'>,
  sync: (name: string) => Promise<void> = syncImages,
): PullRecords {
  const read = () => parse(store.meta(KEY));
  const write = (records: readonly PullRecord[]) =>
    store.setMeta(KEY, records.length === 0 ? undefined : JSON.stringify(records));
  const without = (name: string) => read().filter((other) => other.name !== name);
  return {
    begin: (record) => {
      const records = read();
      if (records.every(({ name }) => name !== record.name)) write([...records, record]);
    },
    finish: async (name, id) => {
      await sync(name);
      const others = without(name);
      write(others.map((other) => ({ ...other, before: [...new Set([...other.before, id])] })));
    },
    unfinished: read,
    drop: (name) => write(without(name)),
  };
}

/** The runtime syncs what it notes of an image, but not the image's files. */
async function syncImages(name: string): Promise<void> {
  const where = IMAGE_STORES.filter((path) => existsSync(path));
  const tool = ['sync', ...(where.length > 0 ? ['-f', ...where] : [])] as const;
  await runTool(tool, AbortSignal.timeout(SYNC_TIMEOUT_MS), (stderr) => {
    return new Failure('Unknown', `can't sync the image ${name} to the disk: ${stderr}`);
  });
}

/** What is no record is left out: to remove an image for it could leave pods without theirs. */
function parse(text: string | undefined): readonly PullRecord[] {
  if (text === undefined) return [];
  try {
    const records: unknown = JSON.parse(text);
    return Array.isArray(records) ? records.filter(isRecord) : [];
  } catch {
    return [];
  }
}

function isRecord(value: unknown): value is PullRecord {
  if (typeof value !== 'object' || value === null) return false;
  const { name, boot, before } = value as Readonly<Record<string, unknown>>;
  return typeof name === 'string' && typeof boot === 'string' && Array.isArray(before);
}
