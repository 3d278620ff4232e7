/**
 * A bound on what runs at the same time. Who waits longest does not come first: the lowest order
 * does, so that of a batch of pods the first is running before the last is begun.
 */
export type Slots = {
  /** Runs `work` when a slot is free. Fails with the signal's reason if aborted while waiting. */
  run<T>(order: number, signal: AbortSignal, work: () => Promise<T>): Promise<T>;
  /** Lets nothing new begin, and resolves when all that runs has ended. */
  drain(): Promise<void>;
};

type Waiter = { readonly order: number; readonly begin: () => void };

/** `count` slots. */
export function createSlots(count: number): Slots {
  let free = count;
  const waiting: Waiter[] = [];
  let drained: PromiseWithResolvers<void> | undefined;
  const release = () => {
    const next = drained === undefined ? waiting.shift() : undefined;
    if (next === undefined) free += 1;
    else next.begin();
    if (free === count) drained?.resolve();
  };
  const acquire = (order: number, signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason as Error);
      if (free > 0 && drained === undefined) {
        free -= 1;
        return resolve();
      }
      const waiter: Waiter = {
        order,
        begin: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        const index = waiting.indexOf(waiter);
        if (index >= 0) waiting.splice(index, 1);
        reject(signal.reason as Error);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const after = waiting.findIndex((other) => other.order > order);
      waiting.splice(after < 0 ? waiting.length : after, 0, waiter);
    });
  return {
    run: async (order, signal, work) => {
      await acquire(order, signal);
      try {
        return await work();
      } finally {
        release();
      }
    },
    drain: () => {
      drained ??= Promise.withResolvers();
      if (free === count) drained.resolve();
      return drained.promise;
    },
  };
}
