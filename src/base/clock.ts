/**
 * Time. Decisions run on the monotonic clock, people are shown wall time, and a moment that has to
 * be compared across a reboot is a `Stamp`, which carries both and the boot it belongs to.
 */

/** One reading of the clocks. `monoMs` counts from boot and is shared by all processes of it. */
export type Now = {
  readonly monoMs: number;
  /** Milliseconds since 1970, never below the time floor unless somebody set the clock. */
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
 * The real clocks. `floorMs` is the time floor: the earliest wall time that can be true on a board
 * that has lost its clock. From there time goes on as the monotonic clock does. Once somebody has
 * set the clock (it jumped while we ran, or the kernel says that it `isSynchronized`) it is
 * believed, whatever it says: a clock that was far ahead for a while must not count for ever.
 */
export function systemClock(
  boot: string,
  floorMs: () => number,
  isSynchronized: () => boolean = () => false,
): Clock {
  const start = { monoMs: monotonicMs(), dateMs: Date.now() };
  let isSet = false;
  const wallMs = (monoMs: number): number => {
    const dateMs = Date.now();
    const ranMs = monoMs - start.monoMs;
    const heldMs = floorMs() + ranMs;
    if (dateMs >= heldMs || isSet) return dateMs;
    isSet = Math.abs(dateMs - start.dateMs - ranMs) > JUMP_MS || isSynchronized();
    return isSet ? dateMs : heldMs;
  };
  return {
    now: () => {
      const monoMs = monotonicMs();
      return { monoMs, wallMs: wallMs(monoMs), boot };
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

function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** The clocks do not drift apart: both are slewed alike. */
const JUMP_MS = 2000;

const MAX_TIMEOUT_MS = 2 ** 31 - 1;
