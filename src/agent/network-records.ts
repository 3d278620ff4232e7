/**
 * What the network plugins keep of each sandbox is written without a sync: after a power cut there
 * are files with nothing in them. An empty result makes the runtime fail for ever to take the
 * sandbox's network down, and so to remove the sandbox; an empty lease keeps its address for ever.
 * So does the lease of a sandbox that the runtime itself has lost.
 *
 *   /var/lib/cni/results/<network>-<sandbox>-<interface>   libcni: JSON
 *   /var/lib/cni/networks/<network>/<address>              host-local: the sandbox and the interface
 */
import type { BigIntStats } from 'node:fs';
import { readdir, readFile, stat, unlink } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

/** What plugins write at this moment is whole after this. */
const SETTLE_MS = 3000;
const MAX_RESULT_BYTES = 1024 * 1024;
/** Longer than the runtime may take to make a sandbox, which has its lease long before it is listed. */
const LONGEST_START_MS = 5 * 60_000;

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

/**
 * Removes what is kept of sandboxes that the runtime does not know. Only in networks in which the
 * runtime has a sandbox, for other programs keep records there too. Returns the paths.
 *
 * @param known Asks the runtime for the ids of all its sandboxes.
 * @param mayBeNew Sandboxes may be being made, which have records long before they are listed: then
 *   what is not known is looked at again after the longest time that this can take.
 */
export async function removeLostRecords(
  directory: string,
  known: () => Promise<ReadonlySet<string>>,
  mayBeNew: boolean,
  { clock, log }: { readonly clock: Clock; readonly log: Log },
  signal: AbortSignal,
): Promise<readonly string[]> {
  const lost = await lostRecords(directory, await known());
  if (lost.size > 0 && mayBeNew) {
    await clock.sleep(LONGEST_START_MS, signal);
    const still = await lostRecords(directory, await known());
    for (const [path, mark] of lost) if (still.get(path) !== mark) lost.delete(path);
  }
  for (const path of lost.keys()) {
    await unlink(path).catch(() => undefined);
    log.warn('removed what the network kept of a sandbox that the runtime has lost', { path });
  }
  return [...lost.keys()];
}

/** Marks by path, to tell a file from one that was written anew. */
async function lostRecords(
  directory: string,
  known: ReadonlySet<string>,
): Promise<Map<string, string>> {
  const byNetwork = Map.groupBy(await ownRecords(directory), ({ network }) => network);
  const lost = new Map<string, string>();
  for (const group of byNetwork.values()) {
    if (!group.some(({ id }) => known.has(id))) continue;
    for (const { path, id, mark } of group) if (!known.has(id)) lost.set(path, mark);
  }
  return lost;
}

type SandboxRecord = {
  readonly path: string;
  readonly network: string;
  readonly id: string;
  readonly mark: string;
};

/** The leases and results that may be of sandboxes of the CRI, by the form of their ids. */
async function ownRecords(directory: string): Promise<readonly SandboxRecord[]> {
  const found: SandboxRecord[] = [];
  for (const path of await records(directory)) {
    const [, network, id] = /\/results\/(.+)-([0-9a-f]{64})-[^-/]+$/.exec(path) ?? [];
    const stats = await stat(path, { bigint: true }).catch(() => undefined);
    if (stats?.isFile() !== true) continue;
    const mark = identity(stats);
    if (network !== undefined && id !== undefined) found.push({ path, network, id, mark });
    const lease = stats.size > MAX_LEASE_BYTES ? undefined : await leaseOf(path);
    if (lease !== undefined) found.push({ path, ...lease, mark });
  }
  return found;
}

async function leaseOf(path: string): Promise<{ network: string; id: string } | undefined> {
  const network = /\/networks\/([^/]+)\/[^/]+$/.exec(path)?.[1];
  if (network === undefined) return undefined;
  const text = await readFile(path, 'utf8').catch(() => '');
  const [id = ''] = text.split(/[\r\n]/, 1);
  return /^[0-9a-f]{64}$/.test(id) ? { network, id } : undefined;
}

const MAX_LEASE_BYTES = 4096n;

function identity({ ino, size, mtimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs].join(':');
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
  const mark = identity(found);
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
