/**
 * What the machine is made of, as far as the kernel's files do not say it: the vendor's names of
 * processor, memory modules, disks and USB devices. It comes from a library that forks a shell for
 * each question, so a child of our own executable asks, once a boot, and its answer is kept in the
 * run directory.
 */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { writeDurable } from '../linux/files.ts';
import { keptInBoot, ownCommand, parsedObject, startChild, type Argv } from './own-child.ts';

export type InventoryOptions = {
  readonly clock: Clock;
  readonly log: Log;
  readonly runDirectory: string;
  /** What prints it; our own executable unless told. */
  readonly argv?: Argv;
};

export type Inventory = Readonly<Record<string, unknown>>;

/** The board has other things to do first. */
const FIRST_MS = 3 * 60_000;
const KEPT = 'inventory.json';

/**
 * The inventory of this boot: kept, or asked for after a while. Undefined when the child did not
 * answer; it is not asked again in this run.
 */
export async function takeInventory(
  options: InventoryOptions,
  signal: AbortSignal,
): Promise<Inventory | undefined> {
  const { clock, log, runDirectory, argv = ownCommand('inventory') } = options;
  const path = join(runDirectory, KEPT);
  const { boot } = clock.now();
  const kept = await keptInBoot(path, boot);
  if (kept !== undefined) return kept;
  try {
    await clock.sleep(FIRST_MS, signal);
    const found = parsedObject(await startChild(argv, clock, signal).output);
    if (found === undefined) throw new Failure('Unknown', 'what it printed is no JSON object');
    const inventory = { boot, ...found };
    await writeDurable(path, JSON.stringify(inventory), 0o600);
    return inventory;
  } catch (error) {
    if (!signal.aborted)
      log.warn('no inventory of the machine', { reason: faultOf(error).message });
    return undefined;
  }
}
