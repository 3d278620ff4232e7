/**
 * A look at the write-ahead log before SQLite opens it. SQLite ends its reading at the first frame
 * with a wrong check sum and takes the rest for an unfinished commit. That is right after a power
 * cut, but it also drops, without a word, commits that were acknowledged when the card has damaged
 * what was written long ago. A commit begins only after the one before it was synced, so a frame
 * of this log behind the end of a broken commit proves that.
 * Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 */
import { readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { errnoOf } from '../base/failure.ts';

const WORD_BYTES = 4;
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
  const words = wordsOf(wal, magic);
  const start: Sum = [0, 0];
  const header =
    (magic === MAGIC_LITTLE_ENDIAN || magic === MAGIC_BIG_ENDIAN) &&
    pageBytes >= 512 &&
    pageBytes <= 65536 &&
    addUp(start, words, 0, 24) &&
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
      addUp(next, words, at, 8);
      addUp(next, words, at + FRAME_HEADER_BYTES, pageBytes);
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

/** The words that the sums are made of. An array of words is read much faster than a buffer. */
function wordsOf(wal: Buffer, magic: number): Uint32Array {
  const count = Math.floor(wal.length / WORD_BYTES);
  const bytes = new Uint8Array(count * WORD_BYTES);
  bytes.set(wal.subarray(0, bytes.length));
  const isOwnOrder = (magic === MAGIC_LITTLE_ENDIAN) === (endianness() === 'LE');
  if (!isOwnOrder) Buffer.from(bytes.buffer).swap32();
  return new Uint32Array(bytes.buffer);
}

/** `at` and `bytes` are multiples of eight: all parts of a log are. */
function addUp(sum: Sum, words: Uint32Array, at: number, bytes: number): true {
  let [a, b] = sum;
  const end = (at + bytes) / WORD_BYTES;
  for (let i = at / WORD_BYTES; i < end; i += 2) {
    a = (a + words[i]! + b) >>> 0;
    b = (b + words[i + 1]! + a) >>> 0;
  }
  sum[0] = a;
  sum[1] = b;
  return true;
}

function matches(sum: Sum, wal: Buffer, at: number): boolean {
  return sum[0] === wal.readUInt32BE(at) && sum[1] === wal.readUInt32BE(at + 4);
}
