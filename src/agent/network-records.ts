/**
 * What the network plugins keep of each sandbox is written without a sync: after a power cut there
 * are files with nothing in them. An empty result makes the runtime fail for ever to take the
 * sandbox's network down, and so to remove the sandbox; an empty lease keeps its address for ever.
 *
 *   /var/lib/cni/results/<network>-<sandbox>-<interface>   libcni: JSON
 *   /var/lib/cni/networks/<network>/<address>              host-local: the sandbox and the interface
 */
import { readdir, readFile, stat, unlink } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

/** What plugins write at this moment is whole after this. */
const SETTLE_MS = 3000;
const MAX_RESULT_BYTES = 1024 * 1024;

/**
 * Removes the records below `directory` that a power cut has torn: without them the runtime takes
 * the network down from its configuration. Returns their paths. A folder that is not there has none.
 */
export async function removeTornNetworkRecords(
  directory: string,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const torn = new Map<string, string>();
  for (const path of await records(directory)) {
    const mark = await markOfTorn(path);
    if (mark !== undefined) torn.set(path, mark);
  }
  if (torn.size === 0) return [];
  await clock.sleep(SETTLE_MS, signal);
  const removed: string[] = [];
  for (const [path, mark] of torn) {
    if ((await markOfTorn(path)) !== mark) continue;
    await unlink(path).catch(() => undefined);
    log.warn('removed a record of the network that a power cut has torn', { path });
    removed.push(path);
  }
  return removed;
}

async function records(directory: string): Promise<readonly string[]> {
  const results = join(directory, 'results');
  const networks = join(directory, 'networks');
  const paths = (await namesIn(results)).map((name) => join(results, name));
  for (const network of await namesIn(networks)) {
    const leases = (await namesIn(join(networks, network))).filter((name) => isIP(name) !== 0);
    paths.push(...leases.map((name) => join(networks, network, name)));
  }
  return paths;
}

async function namesIn(directory: string): Promise<readonly string[]> {
  return await readdir(directory).catch(() => []);
}

/** Tells a torn file from the same file after it was written again; nothing for one that is whole. */
async function markOfTorn(path: string): Promise<string | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  if (found?.isFile() !== true) return undefined;
  const mark = [found.ino, found.size, found.mtimeNs].join(':');
  if (found.size === 0n) return mark;
  const isLease = isIP(path.slice(path.lastIndexOf('/') + 1)) !== 0;
  if (isLease || found.size > MAX_RESULT_BYTES) return undefined;
  const text = await readFile(path, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  try {
    JSON.parse(text);
    return undefined;
  } catch {
    return mark;
  }
}
