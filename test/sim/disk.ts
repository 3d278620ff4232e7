/** What the agent has stored: synced when it says so, with an older backup beside it. */
import type { Ledger, Want } from '../../src/pod/model.ts';

export class Disk {
  readonly desired = new Map<string, Want>();
  readonly ledgers = new Map<string, Ledger>();
  #backup = new Map<string, Ledger>();
  isFull = false;
  /** The wall time of the last write; when an agent starts it has passed. */
  floorMs = 0;

  storeLedger(uid: string, ledger: Ledger, wallMs: number): void {
    this.ledgers.set(uid, ledger);
    this.floorMs = Math.max(this.floorMs, wallMs);
  }

  backUp(): void {
    this.#backup = new Map(this.ledgers);
  }

  /** The ledgers are gone; the backup takes their place if it is of any use, now and later. */
  loseLedgers(hasBackup: boolean): void {
    if (!hasBackup) this.#backup.clear();
    this.ledgers.clear();
    for (const [uid, ledger] of this.#backup)
      if (this.desired.has(uid)) this.ledgers.set(uid, ledger);
  }
}
