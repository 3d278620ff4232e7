/**
 * What the machine is made of, as far as the kernel's files do not say it: the vendor's names of
 * processor, memory modules, disks and USB devices. It comes from a library that forks a shell for
 * each question, so a child of our own executable asks, once a boot, and its answer is kept in the
 * run directory.
 */
import { spawn } from 'node:child_process';
import { isSea } from 'node:sea';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import { readCapped, writeDurable } from '../linux/files.ts';

export type InventoryOptions = {
  readonly clock: Clock;
  readonly log: Log;
  readonly runDirectory: string;
  /** What prints it; our own executable unless told. */
  readonly argv?: readonly [program: string, ...args: string[]];
};

export type Inventory = Readonly<Record<string, unknown>>;

/** The board has other things to do first. */
const FIRST_MS = 3 * 60_000;
const DEADLINE_MS = 60_000;
const KEPT = 'inventory.json';
/** The command that prints it; not in the help. */
export const INVENTORY_COMMAND = 'inventory';

/**
 * The inventory of this boot: kept, or asked for after a while. Undefined when the child did not
 * answer; it is not asked again in this run.
 */
export async function takeInventory(
  options: InventoryOptions,
  signal: AbortSignal,
): Promise<Inventory | undefined> {
  const { clock, log, runDirectory } = options;
  const path = join(runDirectory, KEPT);
  const { boot } = clock.now();
  const kept = await readCapped(path, LIMITS.inventoryBytes).catch(() => undefined);
  const known = kept === undefined ? undefined : parsed(kept.toString('utf8'));
  if (known?.['boot'] === boot) return known;
  try {
    await clock.sleep(FIRST_MS, signal);
    const found = parsed(await askChild(options, signal));
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

function parsed(text: string): Inventory | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Inventory)
      : undefined;
  } catch {
    return undefined;
  }
}

function ownCommand(): readonly [string, ...string[]] {
  if (isSea()) return [process.execPath, INVENTORY_COMMAND];
  return [process.execPath, ...process.execArgv, process.argv[1] ?? '', INVENTORY_COMMAND];
}

/** @throws Failure when it ends badly, says too much, or takes too long */
function askChild(options: InventoryOptions, signal: AbortSignal): Promise<string> {
  const { clock, argv = ownCommand() } = options;
  const [program, ...args] = argv;
  return new Promise((resolve, reject) => {
    // A group of its own, so that its shells end with it.
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    const end = (why: Failure | undefined) => {
      timer.cancel();
      signal.removeEventListener('abort', onAbort);
      if (why === undefined) return resolve(Buffer.concat(chunks).toString('utf8'));
      child.stdout.destroy();
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has ended already.
      }
      reject(why);
    };
    const onAbort = () => end(new Failure('Cancelled', 'the inventory was cancelled'));
    const timer = clock.at(clock.now().monoMs + DEADLINE_MS, () =>
      end(new Failure('DeadlineExceeded', `it took longer than ${DEADLINE_MS / 1000} s`)),
    );
    signal.addEventListener('abort', onAbort, { once: true });
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      // Room for the id of the boot.
      if (bytes <= LIMITS.inventoryBytes - 1024) chunks.push(chunk);
      else
        end(new Failure('ResourceExhausted', `it is larger than ${LIMITS.inventoryBytes} bytes`));
    });
    child.on('error', (cause) => end(new Failure('Unknown', cause.message, { cause })));
    child.on('close', (status, killedBy) => {
      if (status === 0) end(undefined);
      else end(new Failure('Unknown', `it ended with ${killedBy ?? String(status)}`));
    });
  });
}
