/** What a plan is gathered in: actions to begin and to give up, and when to ask again. */
import type { Action, Now, Seen, Want } from './model.ts';

export type Draft = {
  readonly want: Want;
  readonly seen: Seen;
  readonly now: Now;
  readonly start: Action[];
  readonly cancel: string[];
  wakeAtMonoMs: number;
  done: boolean;
};

/** Starts an action unless its key is busy or it failed so lately that it has to wait. */
export function propose(draft: Draft, action: Action): boolean {
  if (draft.seen.inFlight[action.key] !== undefined) return false;
  if (draft.start.some(({ key }) => key === action.key)) return false;
  const retry = draft.seen.retries[action.key];
  if (retry !== undefined && retry.untilMonoMs > draft.now.monoMs) {
    wakeAt(draft, retry.untilMonoMs);
    return false;
  }
  draft.start.push(action);
  return true;
}

export function wakeAt(draft: Draft, monoMs: number): void {
  draft.wakeAtMonoMs = Math.min(draft.wakeAtMonoMs, monoMs);
}

export function isBusy(draft: Draft, ...types: readonly Action['type'][]): boolean {
  return Object.values(draft.seen.inFlight).some(({ action }) => types.includes(action.type));
}
