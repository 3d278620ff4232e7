import type { Hold } from '../pod/model.ts';

/** Why the node starts nothing new, by who says so. The first one counts. */
export type HoldOwner = 'runtime' | 'store';

export class Holds {
  readonly #holds = new Map<HoldOwner, Hold>();
  readonly #onChange: (hold: Hold | undefined) => void;

  constructor(onChange: (hold: Hold | undefined) => void) {
    this.#onChange = onChange;
  }

  get current(): Hold | undefined {
    return this.#holds.values().next().value;
  }

  has(owner: HoldOwner): boolean {
    return this.#holds.has(owner);
  }

  set(owner: HoldOwner, hold: Hold | undefined): void {
    const before = this.#holds.get(owner);
    if (hold === before || (hold?.message === before?.message && hold?.reason === before?.reason)) {
      return;
    }
    if (hold === undefined) this.#holds.delete(owner);
    else this.#holds.set(owner, hold);
    this.#onChange(this.current);
  }
}
