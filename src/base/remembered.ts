import type { Clock } from './clock.ts';

/** `read`, but at most once in `forMs`: for what changes seldom and costs a walk through the kernel. */
export function remembered<T>(clock: Clock, forMs: number, read: () => T): () => T {
  let last: { readonly value: T; readonly untilMs: number } | undefined;
  return () => {
    const { monoMs } = clock.now();
    if (last === undefined || monoMs >= last.untilMs) {
      last = { value: read(), untilMs: monoMs + forMs };
    }
    return last.value;
  };
}
