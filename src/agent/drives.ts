/**
 * What NVMe drives say of their own health. A sick drive may let the question hang, so a child of our
 * own executable asks all of them, a few times a day, and is left alone where it can't be ended. The
 * answers are kept in the run directory, so that a restart neither forgets them nor asks again.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { DriveLog, DriveLogs } from '../hardware/nvme.ts';
import { writeDurable } from '../linux/files.ts';
import { keptInBoot, ownCommand, parsedObject, startChild, type Argv } from './own-child.ts';

export type DrivesOptions = {
  readonly clock: Clock;
  readonly log: Log;
  /** Before every path; empty on the real machine. */
  readonly root: string;
  readonly runDirectory: string;
  /** What asks these drives; our own executable unless told. */
  readonly argvFor?: (drives: readonly string[]) => Argv;
};

export type Drives = {
  /** What each drive has answered when it was asked last; empty where none was. */
  logs(): DriveLogs;
  /** Asks until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
};

/** The board has other things to do first; the inventory comes a minute later. */
const FIRST_MS = 2 * 60_000;
const EVERY_MS = 6 * 3_600_000;
const MAX_DRIVES = 16;
const KEPT = 'drives.json';

export function createDrives(options: DrivesOptions): Drives {
  const { clock, log, root, runDirectory } = options;
  const argvFor = options.argvFor ?? ((drives) => ownCommand('drives', ...drives));
  const path = join(runDirectory, KEPT);
  let logs: DriveLogs = {};

  const ask = async (drives: readonly string[], signal: AbortSignal) => {
    const child = startChild(argvFor(drives), clock, signal);
    try {
      const found = logsIn(parsedObject(await child.output));
      if (found === undefined) throw new Failure('Unknown', 'what it printed are no health logs');
      logs = found;
    } catch (error) {
      if (signal.aborted) return;
      const reason = faultOf(error).message;
      log.warn('the drives have not told of their health', { reason });
      logs = Object.fromEntries(drives.map((drive) => [drive, { error: reason }]));
    }
    const { boot, monoMs } = clock.now();
    await writeDurable(path, JSON.stringify({ boot, monoMs, logs }), 0o600).catch(
      (error: unknown) =>
        log.warn('the health of the drives is not kept', { reason: faultOf(error).message }),
    );
    // One that the kernel holds costs memory: there may be one.
    await abortable(child.ended, signal).catch(() => undefined);
  };

  return {
    logs: () => logs,
    run: async (signal) => {
      let nextMs = clock.now().monoMs + FIRST_MS;
      const kept = await readKept(path, clock.now().boot);
      if (kept !== undefined) {
        logs = kept.logs;
        nextMs = Math.max(nextMs, kept.monoMs + EVERY_MS);
      }
      for (;;) {
        const waitMs = Math.max(0, nextMs - clock.now().monoMs);
        await clock.sleep(waitMs, signal).catch(() => undefined);
        if (signal.aborted) return;
        nextMs = clock.now().monoMs + EVERY_MS;
        const drives = await drivesOf(root);
        if (drives.length > 0) await ask(drives, signal);
        else logs = {};
      }
    },
  };
}

async function drivesOf(root: string): Promise<readonly string[]> {
  const names = await readdir(join(root, '/sys/class/nvme')).catch(() => []);
  return names.filter((name) => /^nvme\d+$/.test(name)).slice(0, MAX_DRIVES);
}

function logsIn(found: Readonly<Record<string, unknown>> | undefined): DriveLogs | undefined {
  return found !== undefined && Object.values(found).every(isLog)
    ? (found as DriveLogs)
    : undefined;
}

function isLog(value: unknown): value is DriveLog {
  const { page, error } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return typeof page === 'string' || typeof error === 'string';
}

async function readKept(
  path: string,
  boot: string,
): Promise<{ readonly monoMs: number; readonly logs: DriveLogs } | undefined> {
  const { monoMs, logs: found } = (await keptInBoot(path, boot)) ?? {};
  if (typeof monoMs !== 'number') return undefined;
  const logs = logsIn((found ?? undefined) as Readonly<Record<string, unknown>> | undefined);
  return logs === undefined ? undefined : { monoMs, logs };
}
