/**
 * What an NVMe drive says of its own health in the log page "SMART / Health Information" (02h).
 * Source: NVM Express Base Specification 2.0, 5.16.1.3.
 */
import { HEALTH_LOG_BYTES } from '../linux/nvme.ts';
import type { Draft } from './draft.ts';

/** What the drive answered when it was asked last: 512 bytes as base64, or why it did not. */
export type DriveLog = { readonly page: string } | { readonly error: string };

/** By the name of the drive, `nvme0`. */
export type DriveLogs = Readonly<Record<string, DriveLog>>;

/** Bits of the critical warning. That of a temperature is left to the sources of temperatures. */
export const SPARE_LOW = 0x01;
export const UNRELIABLE = 0x04;
export const READ_ONLY = 0x08;
export const BACKUP_FAILED = 0x10;

export type DriveHealth = {
  readonly warningBits: number;
  readonly spareRatio: number;
  readonly spareThresholdRatio: number;
  /** Of the life it was made for; up to 2.55. */
  readonly usedRatio: number;
  readonly writtenBytes: number;
  readonly mediaErrors: number;
};

/** Data is counted in thousands of 512 bytes. */
const UNIT_BYTES = 512_000;

/** Undefined for what is no NVMe disk. */
export function driveOf(disk: string): string | undefined {
  return /^(nvme\d+)n\d+$/.exec(disk)?.[1];
}

/** Undefined, and a trouble of the draft, where the drive has not answered or says what can't be. */
export function driveHealth(draft: Draft, drive: string, log: DriveLog): DriveHealth | undefined {
  const unusable = (why: string) => draft.trouble(`the health log of /dev/${drive}: ${why}`);
  if ('error' in log) return void unusable(log.error.slice(0, 160));
  const page = Buffer.from(log.page, 'base64');
  if (page.length !== HEALTH_LOG_BYTES) {
    return void unusable(`it has ${page.length} bytes and not ${HEALTH_LOG_BYTES}`);
  }
  if (page.every((byte) => byte === 0)) return void unusable('it says nothing');
  const [spare, threshold] = [page.readUInt8(3), page.readUInt8(4)];
  if (spare > 100 || threshold > 100) {
    return void unusable(`${spare} % of spare, at least ${threshold} %, can't be`);
  }
  const writtenBytes = countAt(page, 48) * UNIT_BYTES;
  const mediaErrors = countAt(page, 160);
  if (!Number.isSafeInteger(writtenBytes) || !Number.isSafeInteger(mediaErrors)) {
    return void unusable(`${writtenBytes} bytes written and ${mediaErrors} errors can't be`);
  }
  return {
    warningBits: page.readUInt8(0),
    spareRatio: spare / 100,
    spareThresholdRatio: threshold / 100,
    usedRatio: page.readUInt8(5) / 100,
    writtenBytes,
    mediaErrors,
  };
}

/** A number of 16 bytes, the lowest first. */
function countAt(page: Buffer, at: number): number {
  return Number((page.readBigUInt64LE(at + 8) << 64n) | page.readBigUInt64LE(at));
}
