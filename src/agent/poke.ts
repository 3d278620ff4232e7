/** A sleep that somebody else may end: for loops that mostly wait to be told. */
import type { Clock } from '../base/clock.ts';

export type Poke = {
  /** Ends the wait that is going on, or else the next one. */
  poke(): void;
  /** Resolves after `ms`, when poked or when aborted. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
};

export function createPoke(clock: Clock): Poke {
  let wasPoked = false;
  let waiting: AbortController | undefined;
  return {
    poke: () => {
      wasPoked = true;
      waiting?.abort();
    },
    wait: async (ms, signal) => {
      if (!wasPoked) {
        waiting = new AbortController();
        const either = AbortSignal.any([signal, waiting.signal]);
        await clock.sleep(ms, either).catch(() => undefined);
        waiting = undefined;
      }
      wasPoked = false;
    },
  };
}
