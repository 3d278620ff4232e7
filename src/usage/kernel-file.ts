/**
 * Small files of the kernel, read by three system calls into one buffer: what is sampled is read
 * thousands of times. They lie in memory, so a read does not wait.
 */
import { closeSync, openSync, readSync } from 'node:fs';

/** Reads a file of the kernel. Undefined when it is missing or can't be read; it never fails. */
export type ReadKernelFile = (path: string) => string | undefined;

const BUFFER_BYTES = 16 * 1024;
/** The kernel hands out files made of many records in parts of at least so much. */
const PAGE_BYTES = 4096;
/** Nobody needs more of one file: the interfaces of some thousand pods. */
const MOST_BYTES = 1024 * 1024;

/** A reader with a buffer of its own. */
export function kernelFiles(): ReadKernelFile {
  const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  return (path) => {
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch {
      return undefined;
    }
    try {
      let count = readSync(file, buffer, 0, BUFFER_BYTES, null);
      let text = buffer.toString('latin1', 0, count);
      // A part that does not fill half a page is the last one.
      while (count >= PAGE_BYTES / 2 && text.length < MOST_BYTES) {
        count = readSync(file, buffer, 0, BUFFER_BYTES, null);
        text += buffer.toString('latin1', 0, count);
      }
      return text;
    } catch {
      return undefined;
    } finally {
      closeSync(file);
    }
  };
}
