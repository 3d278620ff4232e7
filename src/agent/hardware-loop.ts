/**
 * Looks at the board, each source at its own slow interval, and tells of each turn. One source
 * after another: file access shares few threads. Nothing is written to the disk: what has to outlive
 * the agent lies in the run directory, in memory, until the next boot.
 */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { faultOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { NewEvent } from '../kube/event.ts';
import { filesBelow } from '../hardware/files.ts';
import { SOURCES } from '../hardware/index.ts';
import type { DriveLogs } from '../hardware/nvme.ts';
import type { HardwareSource, Reading, Sample, Sight } from '../hardware/source.ts';
import { readCapped, writeDurable } from '../linux/files.ts';
import { clockSetter } from '../linux/clock-setter.ts';
import {
  eventOfTurn,
  turned,
  type BoardCondition,
  type BoardHealth,
  type Turn,
} from '../node/board.ts';

export type HardwareOptions = {
  readonly clock: Clock;
  readonly log: Log;
  /** Before every path; empty on the real machine. */
  readonly root: string;
  readonly rootDirectory: string;
  readonly runDirectory: string;
  readonly earliestWallMs: number;
  readonly isSynchronized: () => boolean | undefined;
  readonly driveLogs: () => DriveLogs;
  readonly onEvent: (event: Omit<NewEvent, 'object'>) => void;
  readonly sources?: readonly HardwareSource[];
};

export type Hardware = BoardHealth & {
  /** Until the signal is aborted. */
  run(signal: AbortSignal): Promise<void>;
};

/** Pods come first after a start, and a board that boots is still loading what it has drivers for. */
const FIRST_MS = 10_000;
/** Sources whose time comes within this are looked at together, so that the board may sleep. */
const TOGETHER_MS = 5_000;
/** A board that has no such thing hardly ever gets one. */
const ABSENT_MS = 10 * 60_000;
const KEPT = 'board.json';

type Looked = {
  readonly source: HardwareSource;
  readonly sight: Sight;
  samples: readonly Sample[];
  dueMs: number;
};

export function createHardware(options: HardwareOptions): Hardware {
  const { clock, log, root, onEvent, sources = SOURCES } = options;
  const { rootDirectory, earliestWallMs, isSynchronized, driveLogs } = options;
  const filesOfOne = filesBelow(root, clock);
  const firstMs = clock.now().monoMs + FIRST_MS;
  const all: readonly Looked[] = sources.map((source) => ({
    source,
    sight: {
      ...{ rootDirectory, earliestWallMs, isSynchronized, driveLogs },
      files: filesOfOne(),
      clockSetter: () => clockSetter(root),
    },
    samples: [],
    dueMs: firstMs,
  }));
  const kept = keptConditions(options);
  const listeners = new Set<(turn: Turn) => void>();
  let conditions: readonly BoardCondition[] = [];

  const look = async (of: Looked): Promise<readonly Turn[]> => {
    const { source } = of;
    const reading = await readSafely(source, of.sight);
    const now = clock.now();
    of.samples = [...of.samples, { ...reading, at: now }].slice(-source.keep);
    const isAbsent = reading.figures.length === 0 && reading.troubles.length === 0;
    of.dueMs = now.monoMs + untilNext(source.everyMs, isAbsent, reading.troubles.length > 0);
    const before = conditions.filter(({ type }) => source.types.includes(type));
    const verdicts = source.judge({ samples: of.samples, before }, now);
    const result = turned(conditions, verdicts, now.wallMs);
    conditions = result.conditions;
    return result.turns;
  };
  const tell = (turn: Turn) => {
    const event = eventOfTurn(turn);
    if (event !== undefined) onEvent(event);
    for (const listener of listeners) listener(turn);
  };
  const newest = () => all.flatMap(({ samples }) => samples.at(-1) ?? []);

  return {
    conditions: () => conditions,
    figures: () => {
      // Two sources may need the same one.
      const found = newest().flatMap(({ figures }) => figures);
      return [...new Map(found.map((one) => [`${one.name} ${one.of ?? ''}`, one])).values()];
    },
    troubles: () => [...new Set(newest().flatMap(({ troubles }) => troubles))],
    facts: () => Object.assign({}, ...newest().map(({ facts }) => facts)) as Record<string, string>,
    onTurn: (listener) => {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    run: async (signal) => {
      conditions = await kept.load();
      while (!signal.aborted) {
        const dueMs = Math.min(...all.map((of) => of.dueMs));
        await clock.sleep(Math.max(0, dueMs - clock.now().monoMs), signal).catch(() => undefined);
        const turns: Turn[] = [];
        for (const of of all) {
          if (signal.aborted) return;
          if (of.dueMs <= dueMs + TOGETHER_MS) turns.push(...(await look(of)));
        }
        for (const turn of turns) tell(turn);
        if (turns.length === 0) continue;
        log.debug('the board', {
          turns: turns.map(({ condition: c }) => `${c.type}=${c.status}`).join(' '),
        });
        await kept.save(conditions);
      }
    },
  };
}

/** What can't be read is tried again soon, though it is looked at once a day. */
function untilNext(everyMs: number, isAbsent: boolean, isTroubled: boolean): number {
  if (isTroubled) return Math.min(everyMs, ABSENT_MS);
  return Math.max(everyMs, isAbsent ? ABSENT_MS : 0);
}

/** A source that breaks its promise not to fail is as one that could not read. */
async function readSafely(source: HardwareSource, sight: Sight): Promise<Reading> {
  try {
    return await source.read(sight);
  } catch (error) {
    const trouble = `the source ${source.name} failed: ${faultOf(error).message}`;
    return { figures: [], facts: {}, troubles: [trouble] };
  }
}

type Kept = { readonly boot: string; readonly conditions: readonly BoardCondition[] };

function areConditions(value: unknown): value is readonly BoardCondition[] {
  const texts = ['type', 'status', 'reason', 'message', 'since'];
  return (
    Array.isArray(value) &&
    value.every(
      (one: Record<string, unknown> | null) =>
        texts.every((field) => typeof one?.[field] === 'string') &&
        (one?.['subjects'] === undefined || Array.isArray(one['subjects'])),
    )
  );
}

/** The conditions of this boot, over a restart of the agent. */
function keptConditions({ clock, log, runDirectory }: HardwareOptions) {
  const path = join(runDirectory, KEPT);
  return {
    load: async (): Promise<readonly BoardCondition[]> => {
      try {
        const text = (await readCapped(path, LIMITS.hardwareFileBytes)).toString('utf8');
        const kept = JSON.parse(text) as Partial<Kept> | null;
        return kept?.boot === clock.now().boot && areConditions(kept.conditions)
          ? kept.conditions
          : [];
      } catch (error) {
        log.debug('the board starts anew', { reason: faultOf(error).message });
        return [];
      }
    },
    save: async (conditions: readonly BoardCondition[]): Promise<void> => {
      const kept: Kept = { boot: clock.now().boot, conditions };
      try {
        await writeDurable(path, JSON.stringify(kept), 0o600);
      } catch (error) {
        log.warn('the conditions of the board are not kept', { reason: faultOf(error).message });
      }
    },
  };
}
