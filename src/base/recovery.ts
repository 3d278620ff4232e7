/**
 * Word that a server answers again after a time in which it did not: who waits to try it once more
 * need not wait any longer.
 */
import type { Clock } from './clock.ts';

export type Recovery = {
  /** Aborted when the server next answers again. Taken before a request it tells of the time since. */
  next(): AbortSignal;
  /** The server answers again. */
  tell(): void;
};

export function createRecovery(): Recovery {
  let next = new AbortController();
  return {
    next: () => next.signal,
    tell: () => {
      const told = next;
      next = new AbortController();
      told.abort();
    },
  };
}

/** How long to wait before the next try; `leastMs`: what the server has asked for. */
export type Pause = { readonly ms: number; readonly leastMs: number };

/** Resolves after the pause, after the least of it if `recovered` is aborted, or with the signal. */
export async function takePause(
  clock: Clock,
  { ms, leastMs }: Pause,
  recovered: AbortSignal | undefined,
  signal: AbortSignal,
): Promise<void> {
  const notBeforeMs = clock.now().monoMs + leastMs;
  const ends = recovered === undefined ? signal : AbortSignal.any([signal, recovered]);
  await clock.sleep(ms, ends).catch(() => undefined);
  const leftMs = notBeforeMs - clock.now().monoMs;
  if (leftMs > 0) await clock.sleep(leftMs, signal).catch(() => undefined);
}
