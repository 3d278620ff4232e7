/**
 * The end of a container's log, as its termination message.
 * Format: `<RFC 3339> <stream> <P|F> <text>`, one a line; P is a part of a line that goes on.
 */
import type { FileHandle } from 'node:fs/promises';

import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';

/**
 * Holds the 80 lines or the 2048 bytes that are wanted, whichever is less: a line has at most 60
 * bytes before its text, and the runtime cuts lines at 16 KiB.
 */
const WINDOW_BYTES = 32 * 1024;
const NEWLINE = 0x0a;
const SPACE = 0x20;

/** The last output in a log file, at most 2048 bytes of at most 80 lines. */
export async function lastLogOutput(file: FileHandle): Promise<string> {
  const found = await file.stat();
  if (!found.isFile()) throw new Failure('InvalidArgument', 'the log is no plain file');
  const position = Math.max(0, found.size - WINDOW_BYTES);
  const buffer = Buffer.alloc(Math.min(found.size, WINDOW_BYTES));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
  const whole = buffer.subarray(0, bytesRead);
  // The first line of a window in the middle of the file lacks its beginning.
  const start = position === 0 ? 0 : whole.indexOf(NEWLINE) + 1;
  return logOutput(whole.subarray(start));
}

/** What a container wrote, from lines of its log: the last 2048 bytes of the last 80 lines. */
export function logOutput(log: Buffer): string {
  const parts: Buffer[] = [];
  let bytes = 0;
  let end = log.length;
  for (let lines = 0; end > 0 && lines < LIMITS.terminationLogLines; lines++) {
    // `end` is behind the newline of this line, or at the end of a log whose last line lacks one.
    const before = end >= 2 ? log.lastIndexOf(NEWLINE, end - 2) : -1;
    const text = textOf(log.subarray(before + 1, end));
    parts.push(text);
    bytes += text.length;
    if (bytes >= LIMITS.terminationLogBytes) break;
    end = before + 1;
  }
  const output = Buffer.concat(parts.reverse());
  let cut = Math.max(0, output.length - LIMITS.terminationLogBytes);
  // Not in the middle of a character.
  for (let i = 0; i < 3 && cut > 0 && (output[cut]! & 0xc0) === 0x80; i++) cut++;
  return output.subarray(cut).toString('utf8');
}

/** The text of one line; what is no line of a log is left out. */
function textOf(line: Buffer): Buffer {
  const time = line.indexOf(SPACE);
  const stream = line.indexOf(SPACE, time + 1);
  const tags = line.indexOf(SPACE, stream + 1);
  if (time <= 0 || stream === -1 || tags === -1) return Buffer.alloc(0);
  const isPart = line[stream + 1] === 0x50;
  const hasNewline = line.at(-1) === NEWLINE;
  return line.subarray(tags + 1, isPart && hasNewline ? -1 : undefined);
}
