/** The trace of one seed: its hash, its last lines, and what was found at their end. */
import type { Finding } from '../report.ts';
import { Violation } from '../violation.ts';
import type { Time } from './time.ts';

const LINES = 40;

export class Record {
  readonly #seed: number;
  readonly #time: Time;
  readonly #print: ((line: string) => void) | undefined;
  readonly #lines: string[] = [];
  #hash = 0x811c9dc5;

  constructor(seed: number, time: Time, print: ((line: string) => void) | undefined) {
    this.#seed = seed;
    this.#time = time;
    this.#print = print;
  }

  get hash(): number {
    return this.#hash >>> 0;
  }

  line(text: string): void {
    const { nowMs, steps } = this.#time;
    let hash = this.#hash;
    for (let i = 0; i < text.length; i += 1) {
      hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    }
    this.#hash = Math.imul(hash ^ nowMs, 0x01000193);
    const full = `${steps} ${(nowMs / 1000).toFixed(3)}s ${text}`;
    this.#print?.(full);
    this.#lines.push(full);
    if (this.#lines.length > 2 * LINES) this.#lines.splice(0, LINES);
  }

  finding(error: unknown): Finding {
    const seed = this.#seed;
    const invariant = error instanceof Violation ? error.invariant : 'agent';
    const where = error instanceof Violation ? `pod ${error.uid} ` : '';
    const text = error instanceof Violation ? error.message : String((error as Error).stack);
    const lines = this.#lines.slice(-LINES).map((line) => `    ${line}`);
    const at = `cluster seed ${seed}, step ${this.#time.steps}`;
    return {
      seed,
      invariant,
      message: [`${at}: ${invariant} broken: ${where}${text}`, ...lines].join('\n'),
    };
  }
}
