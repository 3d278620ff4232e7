/** Simulated time: one queue of what is going to happen, and clocks for those who live on it. */
import type { Clock, Now } from '../../../src/base/clock.ts';
import { callOff, Queue, type Entry } from '../queue.ts';

/** One run of the agent. After its death nothing that it waits for comes any more. */
export type Life = { isDead: boolean };

/** Thrown where the store is written: the agent is gone, and with it all that it was about to do. */
export class Crash extends Error {}

const START_WALL_MS = Date.UTC(2026, 0, 1);

export class Time {
  nowMs = 1_000_000;
  wallOffsetMs = START_WALL_MS;
  boots = 0;
  steps = 0;
  readonly #queue = new Queue();
  #bootMs = 0;

  schedule(inMs: number, run: () => void): Entry {
    return this.#queue.push(this.nowMs + Math.max(0, Math.ceil(inMs)), run);
  }

  every(ms: number, run: () => void): void {
    this.schedule(ms, () => {
      run();
      this.every(ms, run);
    });
  }

  boot(): void {
    this.boots += 1;
    this.#bootMs = this.nowMs - 3000;
  }

  now(): Now {
    const monoMs = this.nowMs - this.#bootMs;
    return { monoMs, wallMs: this.nowMs + this.wallOffsetMs, boot: `boot-${this.boots}` };
  }

  /** Runs what comes next, and all that follows from it at once. */
  async step(): Promise<void> {
    const entry = this.#queue.pop();
    if (entry === undefined) return;
    this.nowMs = Math.max(this.nowMs, entry.atMs);
    this.steps += 1;
    entry.run!();
    await new Promise((resolve) => setImmediate(resolve));
  }

  clock(life: Life): Clock {
    const later = (inMs: number, run: () => void) =>
      this.schedule(inMs, () => {
        if (!life.isDead) run();
      });
    return {
      now: () => this.now(),
      sleep: (ms, signal) =>
        new Promise<void>((resolve, reject) => {
          if (signal.aborted) return reject(signal.reason as Error);
          const onAbort = () => {
            callOff(entry);
            reject(signal.reason as Error);
          };
          const entry = later(ms, () => {
            signal.removeEventListener('abort', onAbort);
            resolve();
          });
          signal.addEventListener('abort', onAbort, { once: true });
        }),
      at: (monoMs, run) => {
        const entry = later(Math.ceil(monoMs - this.now().monoMs), run);
        return { cancel: () => callOff(entry) };
      },
      soon: (run) => void later(0, run),
    };
  }
}
