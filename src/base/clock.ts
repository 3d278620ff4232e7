/**
 * Time. Decisions run on the monotonic clock, people are shown wall time, and a moment that has to
 * be compared across a reboot is a `Stamp`, which carries both and the boot it belongs to.
 */

/** One reading of the clocks. `monoMs` counts from boot and is shared by all processes of it. */
export type Now = {
  readonly monoMs: number;
  /** Milliseconds since 1970, never below the stored time floor. */
  readonly wallMs: number;
  /** The kernel's boot id: tells whether `monoMs` of a stored stamp still means anything. */
  readonly boot: string;
};

/** A stored moment. */
export type Stamp = Now;

export type Timer = { cancel(): void };

export type Clock = {
  now(): Now;
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** Calls `run` once at or after `monoMs`. */
  at(monoMs: number, run: () => void): Timer;
  /** Calls `run` once, after the events that are already waiting. */
  soon(run: () => void): void;
};

/**
 * Milliseconds from `stamp` to `now`, never negative. Within one boot it is exact. Across boots it
 * is at least the time since `now`'s boot; what was before that only the wall clock could tell, and
 * a board without a battery may have lost it: a clock that went back counts as no time at all.
 */
export function sinceMs(stamp: Stamp, now: Now): number {
  if (stamp.boot === now.boot) return Math.max(0, now.monoMs - stamp.monoMs);
  return Math.max(0, now.monoMs, now.wallMs - stamp.wallMs);
}

/**
 * The real clocks. `floorMs` is a wall time that had passed when the process began (see the time
 * floor). While the real clock is behind it, wall time goes on from there: if it stood still, so
 * would all that is measured across a reboot.
 */
export function systemClock(boot: string, floorMs: () => number): Clock {
  const startMonoMs = monotonicMs();
  return {
    now: () => {
      const monoMs = monotonicMs();
      return { monoMs, wallMs: Math.max(Date.now(), floorMs() + monoMs - startMonoMs), boot };
    },
    sleep: (ms, signal) =>
      new Promise<void>((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason as Error);
        const onAbort = () => {
          clearTimeout(timer);
          reject(signal.reason as Error);
        };
        const timer = setTimeout(() => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        }, ms);
        signal.addEventListener('abort', onAbort, { once: true });
      }),
    at: (monoMs, run) => {
      // setTimeout takes 31 bits of milliseconds; what is farther away is asked for again.
      const delay = () => Math.max(0, monoMs - monotonicMs());
      let timer: NodeJS.Timeout;
      const arm = () => {
        const left = delay();
        timer = setTimeout(left > MAX_TIMEOUT_MS ? arm : run, Math.min(left, MAX_TIMEOUT_MS));
      };
      arm();
      return { cancel: () => clearTimeout(timer) };
    },
    soon: (run) => void setImmediate(run),
  };
}

const MAX_TIMEOUT_MS = 2 ** 31 - 1;

function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
