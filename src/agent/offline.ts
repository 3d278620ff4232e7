/**
 * Stops pods that must not run while their node is cut off for longer than they allow
 * (`limpet.dev/offline-policy`), and starts them again when the API server is back and has them
 * still. So a member of a StatefulSet is down before its replacement may be up.
 *
 * - The time without the API server is measured on the monotonic clock, from the last lease that was
 *   renewed on. It outlives the agent in a file that does not outlive the boot.
 * - After a boot nobody knows how long the board was without power: such pods wait for the API
 *   server.
 * - They start only when all is told that the API server has to tell, not when it first answers.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Clock, Timer } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { formatDuration } from '../kube/go-duration.ts';
import { offlinePolicy } from '../kube/offline-policy.ts';
import { REASON } from '../kube/reason.ts';
import type { Hold } from '../pod/model.ts';
import { reborn } from '../pod/reborn.ts';
import type { Turns, Worker } from './turns.ts';

export type OfflinePodsOptions = {
  readonly clock: Clock;
  readonly log: Log;
  /** A folder that is empty after a boot. */
  readonly directory: string;
  readonly turns: () => Turns;
};

const FILE = 'last-heard';

const UNKNOWN: Hold = {
  reason: REASON.nodeOffline,
  message:
    'waits for the API server: it may be stopped offline only so long, and how long the board was ' +
    'off is not known',
};

export class OfflinePods {
  readonly #options: OfflinePodsOptions;
  /** On the monotonic clock; undefined when it was not in this boot. */
  #heardMonoMs: number | undefined;
  /** All that the API server had to tell was told since the last time that it was away. */
  #isUpToDate = false;
  #timer: Timer | undefined;

  constructor(options: OfflinePodsOptions) {
    this.#options = options;
    this.#heardMonoMs = readHeard(options);
  }

  /** These had a turn: they may be new, or have ended. */
  attend(workers: readonly Worker[]): void {
    let isConcerned = false;
    for (const worker of workers) {
      if (stopAfterMs(worker) === undefined) continue;
      isConcerned = true;
      this.#attend(worker);
    }
    if (isConcerned) this.#wake();
  }

  #attend(worker: Worker): void {
    const { uid, want, seen } = worker;
    const turns = this.#options.turns();
    if (!this.#isUpToDate) {
      const isUnknown = this.#heardMonoMs === undefined;
      if (isUnknown && seen.fence === undefined && seen.ledger.ending === undefined) {
        turns.post(uid, { type: 'Fenced', fence: UNKNOWN });
      }
      return;
    }
    if (seen.fence !== undefined) turns.post(uid, { type: 'Fenced', fence: undefined });
    const ledger = reborn(want, seen.ledger);
    if (ledger !== undefined) turns.restart(worker, ledger);
  }

  /** The lease was renewed. */
  heard(): void {
    const { clock, log, directory } = this.#options;
    const { monoMs, boot } = clock.now();
    this.#heardMonoMs = monoMs;
    const path = `${directory}/${FILE}`;
    try {
      // It is memory: nothing is worn out, and nothing has to be synced.
      writeFileSync(`${path}.part`, JSON.stringify({ monoMs, boot }), { mode: 0o600 });
      renameSync(`${path}.part`, path);
    } catch (error) {
      log.debug('cannot note when the API server was heard', { problem: String(error) });
    }
    this.#wake();
  }

  /** The lease could not be renewed. */
  missed(): void {
    this.#isUpToDate = false;
    this.#wake();
  }

  /** All that there was has been told. */
  caughtUp(): void {
    if (this.#isUpToDate) return;
    this.#isUpToDate = true;
    this.attend([...this.#options.turns().workers.values()]);
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
  }

  /** Ends what has been cut off for too long, and asks again when the next one is due. */
  #wake(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const heardMs = this.#heardMonoMs;
    if (heardMs === undefined) return;
    const { clock } = this.#options;
    const turns = this.#options.turns();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const worker of turns.workers.values()) {
      const afterMs = stopAfterMs(worker);
      if (afterMs === undefined || worker.seen.ledger.ending !== undefined) continue;
      const dueMs = heardMs + afterMs;
      if (dueMs <= clock.now().monoMs) {
        const message = `the API server was not heard for ${formatDuration(afterMs)}`;
        turns.post(worker.uid, { type: 'OfflineTooLong', message });
      } else nextMs = Math.min(nextMs, dueMs);
    }
    if (nextMs < Number.POSITIVE_INFINITY) this.#timer = clock.at(nextMs, () => this.#wake());
  }
}

function stopAfterMs({ want }: Worker): number | undefined {
  if (want.source !== 'api' || want.deletion !== undefined) return undefined;
  return offlinePolicy(want.pod.metadata.annotations).stopAfterMs;
}

function readHeard({ clock, directory }: OfflinePodsOptions): number | undefined {
  try {
    const text = readFileSync(`${directory}/${FILE}`, 'utf8');
    const { monoMs, boot } = JSON.parse(text) as { monoMs?: unknown; boot?: unknown };
    return boot === clock.now().boot && typeof monoMs === 'number' ? monoMs : undefined;
  } catch {
    return undefined;
  }
}
