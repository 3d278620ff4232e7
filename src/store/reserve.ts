/**
 * A file of zeros that is given up when the disk is full, so that the end of a pod and its ledger
 * can still be written. It is filled again once there is plenty of space.
 */
import { rmSync, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { writeFileDurably } from '../base/durable-file.ts';
import type { Log } from '../base/log.ts';

const RESERVE_BYTES = 256 * 1024;
const PLENTY_BYTES = 16 * RESERVE_BYTES;

export class Reserve {
  readonly #path: string;
  readonly #log: Log;
  #held: boolean;

  constructor(path: string, log: Log) {
    this.#path = path;
    this.#log = log;
    this.#held = statSync(path, { throwIfNoEntry: false })?.size === RESERVE_BYTES;
  }

  /** True if there was something to give up. */
  release(): boolean {
    if (!this.#held) return false;
    this.#held = false;
    rmSync(this.#path, { force: true });
    this.#log.warn('the disk is full: gave up the reserve to store what must not be lost');
    return true;
  }

  /** Sets the space aside again if there is plenty. Does nothing if it is held. */
  fill(): void {
    if (this.#held) return;
    try {
      const { bavail, bsize } = statfsSync(dirname(this.#path));
      if (bavail * bsize < PLENTY_BYTES) return;
      writeFileDurably(this.#path, new Uint8Array(RESERVE_BYTES));
      this.#held = true;
    } catch (error) {
      this.#log.debug('cannot fill the reserve', { error: String(error) });
    }
  }
}
