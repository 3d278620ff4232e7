/**
 * What V8 has compiled of the program, kept for the next start: after a power cut the pods wait while
 * it is compiled again.
 */
import { existsSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { crc32 } from './crc32.ts';
import { writeFileDurably } from './durable-file.ts';

export type CompiledCode = {
  /** What became of the code that was kept: `refused` is what is damaged or fits no more. */
  readonly state: 'used' | 'none' | 'refused';
  /**
   * The first rush is over, and the code that was kept has not brought the program down. From now on
   * V8 makes machine code of what runs often.
   */
  works(): void;
  /**
   * All is quiet: what was compiled for the start may be let go. Before that it is kept, if this was a
   * start as the next one will be (`isWhole`), unless that is done or the disk is almost full. Takes
   * some tens of milliseconds, and the size of the file in memory.
   * @returns The bytes that were written.
   * @throws the system error of the disk.
   */
  settled(isWhole: boolean): number;
};

/** What compiles the program: `vm.Script`, as far as it is needed here. */
type Compiled = {
  readonly cachedDataRejected?: boolean | undefined;
  createCachedData(): Buffer;
};

export type Place = {
  /** Outlives reboots. */
  readonly directory: string;
  /** Ends with the boot, and outlives the program. */
  readonly runDirectory: string;
  /** Tells one program from another: V8 itself looks only at the program's length. */
  readonly program: string;
};

const PREFIX = 'compiled-';
const CHECK_BYTES = 4;
/** The rest of a disk is for what must not be lost. */
const LEAVE_BYTES = 64 * 1024 * 1024;
/** In a start little runs often, and machine code of it costs more than it gives. */
const FLAGS_AT_START = ['--no-sparkplug'];
const FLAGS_LATER = ['--sparkplug'];
/** There from the use of kept code until the program works. */
const MARK = 'compiled-code-is-tried';

/**
 * Compiles the program with the code that was kept for it. Without that, or where the last start with
 * it came to nothing, from its source. Never throws for the sake of what was kept.
 */
export function withCompiledCode<C extends Compiled>(
  place: Place,
  compile: (cachedData: Buffer | undefined) => C,
): { readonly script: C; readonly code: CompiledCode } {
  setFlags(FLAGS_AT_START);
  const path = join(place.directory, `${PREFIX}${place.program}`);
  const mark = join(place.runDirectory, MARK);
  const kept = existsSync(mark) ? undefined : read(path);
  if (kept !== undefined) quietly(() => writeFileSync(mark, ''));
  const script = compile(kept);
  const isUsed = kept !== undefined && script.cachedDataRejected !== true;
  let isOver = isUsed;
  if (!isUsed) setFlags(['--no-flush-bytecode']);
  const state = isUsed ? 'used' : existsSync(path) ? 'refused' : 'none';
  return {
    script,
    code: {
      state,
      works: () => {
        setFlags(FLAGS_LATER);
        quietly(() => rmSync(mark, { force: true }));
      },
      settled: (isWhole) => {
        if (isOver) return 0;
        setFlags(['--flush-bytecode']);
        if (!isWhole || bytesFree(place.directory) < LEAVE_BYTES) return 0;
        isOver = true;
        // They are part of what compiled code must fit.
        setFlags(FLAGS_AT_START);
        const data = script.createCachedData();
        setFlags(FLAGS_LATER);
        writeFileDurably(path, Buffer.concat([checkOf(data), data]));
        for (const name of readdirSync(place.directory)) {
          const other = join(place.directory, name);
          if (name.startsWith(PREFIX) && other !== path) rmSync(other, { force: true });
        }
        return data.length;
      },
    },
  };
}

function setFlags(flags: readonly string[]): void {
  for (const flag of flags) setFlagsFromString(flag);
}

function bytesFree(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

/**
 * V8 believes what it is given, and a worn card may give anything. Nobody but root can write there, so
 * a checksum does; a digest would be dear at each start.
 */
function read(path: string): Buffer | undefined {
  try {
    const file = readFileSync(path);
    const data = file.subarray(CHECK_BYTES);
    return checkOf(data).equals(file.subarray(0, CHECK_BYTES)) ? data : undefined;
  } catch {
    return undefined;
  }
}

function checkOf(data: Buffer): Buffer {
  const check = Buffer.alloc(CHECK_BYTES);
  check.writeUInt32LE(crc32(data));
  return check;
}

function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // The mark is a precaution; a start must not fail for it.
  }
}

declare const LIMPET_COMPILED_CODE: CompiledCode | undefined;

/** Of this program; undefined outside of the executable, and where it is not the agent. */
export const compiledCode =
  typeof LIMPET_COMPILED_CODE === 'object' ? LIMPET_COMPILED_CODE : undefined;
