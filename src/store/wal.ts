/**
 * A look at the write-ahead log before SQLite opens it. SQLite ends its reading at the first frame
 * with a wrong check sum and takes the rest for an unfinished commit. That is right after a power
 * cut, but it also drops, without a word, commits that were acknowledged when the card has damaged
 * what was written long ago. A commit begins only after the one before it was synced, so a frame
 * of this log behind the end of a broken commit proves that.
 * Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 */
import { readFileSync } from 'node:fs';
import { errnoOf } from '../base/failure.ts';

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const MAGIC_LITTLE_ENDIAN = 0x377f0682;
const MAGIC_BIG_ENDIAN = 0x377f0683;

/**
 * `lost`: acknowledged commits can't be read any more. No log at all is `sound`: SQLite brings it
 * into the database and removes it at every orderly close, also by another tool.
 */
export type WalState = 'sound' | 'lost';

/** Throws the system error if something else than the file keeps it from being read. */
export function lookAtWal(databasePath: string): WalState {
  let wal: Buffer;
  try {
    wal = readFileSync(`${databasePath}-wal`);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT') return 'sound';
    if (code === 'EISDIR' || code === 'EIO') return 'lost';
    throw error;
  }
  return judgeWal(wal);
}

export function judgeWal(wal: Buffer): WalState {
  if (wal.length < HEADER_BYTES) return 'sound';
  const magic = wal.readUInt32BE(0);
  const pageBytes = wal.readUInt32BE(8);
  const start: Sum = [0, 0];
  const header =
    (magic === MAGIC_LITTLE_ENDIAN || magic === MAGIC_BIG_ENDIAN) &&
    pageBytes >= 512 &&
    pageBytes <= 65536 &&
    addUp(start, wal, 0, 24, magic) &&
    matches(start, wal, 24);
  // A new log is synced header first, so behind a broken header there can be nothing but loss.
  if (!header) return wal.length > HEADER_BYTES + FRAME_HEADER_BYTES ? 'lost' : 'sound';
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  const count = Math.floor((wal.length - HEADER_BYTES) / frameBytes);
  let sum = start;
  let broken = false;
  let commitBroken = false;
  for (let frame = 0; frame < count; frame++) {
    const at = HEADER_BYTES + frame * frameBytes;
    const ours = wal.readBigUInt64BE(at + 8) === wal.readBigUInt64BE(16);
    if (!broken) {
      const next: Sum = [sum[0], sum[1]];
      addUp(next, wal, at, 8, magic);
      addUp(next, wal, at + FRAME_HEADER_BYTES, pageBytes, magic);
      broken = !ours || !matches(next, wal, at + 16);
      sum = next;
    }
    if (!broken || !ours) continue;
    if (commitBroken) return 'lost';
    // The frame that ends a commit bears the size of the database.
    commitBroken = wal.readUInt32BE(at + 4) !== 0;
  }
  return 'sound';
}

type Sum = [number, number];

function addUp(sum: Sum, wal: Buffer, at: number, bytes: number, magic: number): true {
  const little = magic === MAGIC_LITTLE_ENDIAN;
  let [a, b] = sum;
  for (let i = at; i < at + bytes; i += 8) {
    a = (a + (little ? wal.readUInt32LE(i) : wal.readUInt32BE(i)) + b) >>> 0;
    b = (b + (little ? wal.readUInt32LE(i + 4) : wal.readUInt32BE(i + 4)) + a) >>> 0;
  }
  sum[0] = a;
  sum[1] = b;
  return true;
}

function matches(sum: Sum, wal: Buffer, at: number): boolean {
  return sum[0] === wal.readUInt32BE(at) && sum[1] === wal.readUInt32BE(at + 4);
}
