import type { Hold } from '../pod/model.ts';

/** Why the node starts nothing new, by who says so. The first one counts. */
export type HoldOwner = 'runtime' | 'store';

export class Holds {
  readonly #holds = new Map<HoldOwner, Hold>();
  readonly #onChange: (hold: Hold | undefined) => void;
  /** Who waits for a hold to come. */
  readonly #waiters = new Map<HoldOwner, PromiseWithResolvers<void>>();

  constructor(onChange: (hold: Hold | undefined) => void) {
    this.#onChange = onChange;
  }

  get current(): Hold | undefined {
    return this.#holds.values().next().value;
  }

  /** Resolves when this owner has a hold. */
  until(owner: HoldOwner): Promise<void> {
    if (this.#holds.has(owner)) return Promise.resolve();
    const waiter = this.#waiters.get(owner) ?? Promise.withResolvers<void>();
    this.#waiters.set(owner, waiter);
    return waiter.promise;
  }

  set(owner: HoldOwner, hold: Hold | undefined): void {
    const before = this.#holds.get(owner);
    if (hold === before || (hold?.message === before?.message && hold?.reason === before?.reason)) {
      return;
    }
    if (hold === undefined) this.#holds.delete(owner);
    else {
      this.#holds.set(owner, hold);
      this.#waiters.get(owner)?.resolve();
      this.#waiters.delete(owner);
    }
    this.#onChange(this.current);
  }
}
