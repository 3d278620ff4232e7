/**
 * A log page "SMART / Health Information", written down from the NVM Express Base Specification 2.0,
 * 5.16.1.3: critical warning 0, temperature in kelvin 1-2, available spare 3, its threshold 4,
 * percentage used 5, and from 32 on numbers of 16 bytes: data units read 32 and written 48, …,
 * unsafe shutdowns 144, media errors 160.
 */
import type { DriveLog } from '../../src/hardware/nvme.ts';

export type PageFields = {
  readonly warningBits?: number;
  readonly spare?: number;
  readonly threshold?: number;
  readonly used?: number;
  readonly unitsWritten?: bigint;
  readonly mediaErrors?: bigint;
};

/** A drive of middle age, unless told. */
export function healthPage(fields: PageFields = {}): DriveLog {
  const page = Buffer.alloc(512);
  page.writeUInt8(fields.warningBits ?? 0, 0);
  page.writeUInt16LE(311, 1);
  page.writeUInt8(fields.spare ?? 100, 3);
  page.writeUInt8(fields.threshold ?? 10, 4);
  page.writeUInt8(fields.used ?? 37, 5);
  count(page, 32, 11_111n);
  count(page, 48, fields.unitsWritten ?? 20_000_000n);
  count(page, 144, 12n);
  count(page, 160, fields.mediaErrors ?? 0n);
  return { page: page.toString('base64') };
}

function count(page: Buffer, at: number, value: bigint): void {
  page.writeBigUInt64LE(BigInt.asUintN(64, value), at);
  page.writeBigUInt64LE(value >> 64n, at + 8);
}
