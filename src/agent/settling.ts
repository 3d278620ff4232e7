/**
 * A start, until all is quiet: what can wait lets the pods go first, since they want the same
 * processor; then what was compiled is kept for the next start, and memory is given back.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { compiledCode } from '../base/compiled-code.ts';
import { faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Hold } from '../pod/model.ts';
import { createMemoryRelease } from './memory.ts';
import type { Execute, Worker } from './turns.ts';

export type Settling = {
  /** Resolves once nothing is being done for any pod, or after a while. */
  readonly podsFirst: Promise<void>;
  /** Call it after each turn, and when the runtime has come. */
  turned(hold: Hold | undefined, workers: Iterable<Worker>): void;
  /** The same, noticed. */
  noticed(execute: Execute): Execute;
  [Symbol.dispose](): void;
};

/** Pods may wait for their images; the slowest boards take 20 s for a few that have theirs. */
const LONGEST_MS = 30_000;
/** Compiled code is kept soon: the power may go. */
const CALM_MS = 3000;

export function createSettling(clock: Clock, log: Log, trimHeap: () => void): Settling {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  // By then all has been compiled that a start with pods takes.
  let hasStarted = false;
  let isSettled = false;
  const settle = () => {
    isSettled = hasStarted;
    keepCompiledCode(hasStarted, log);
  };
  const memory = createMemoryRelease(clock, trimHeap, settle);
  let isOver = false;
  let calm: Timer | undefined;
  const end = () => {
    isOver = true;
    longest.cancel();
    compiledCode?.works();
    resolve(undefined);
  };
  const longest = clock.at(clock.now().monoMs + LONGEST_MS, end);
  return {
    podsFirst: promise,
    turned: (hold, workers) => {
      memory.worked();
      calm?.cancel();
      calm = undefined;
      // With a hold nothing has begun yet.
      if (hold !== undefined) return;
      for (const { aborts } of workers) if (aborts.size > 0) return;
      if (!isOver) end();
      if (!hasStarted || isSettled) return;
      calm = clock.at(clock.now().monoMs + CALM_MS, settle);
    },
    noticed: (execute) => async (worker, action, signal) => {
      const result = await execute(worker, action, signal);
      hasStarted ||= action.type === 'StartContainer';
      return result;
    },
    [Symbol.dispose]: () => {
      if (!isOver) end();
      calm?.cancel();
      memory[Symbol.dispose]();
    },
  };
}

function keepCompiledCode(hasStarted: boolean, log: Log): void {
  try {
    const bytes = compiledCode?.settled(hasStarted) ?? 0;
    if (bytes > 0) log.info('compiled code is kept for the next start', { bytes });
  } catch (error) {
    log.warn('cannot keep compiled code', { message: faultOf(error).message });
  }
}
