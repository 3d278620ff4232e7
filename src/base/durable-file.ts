/** Files that are there, whole, after a power cut: old content or new content, never half of it. */
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';

/**
 * Replaces `path` in one step and returns when both content and name are durable: a temporary file
 * beside it is written and synced, renamed over it, and the directory is synced. Throws the system
 * error (`ENOSPC`, `EROFS`, …); the old file is then still there.
 */
export function writeFileDurably(path: string, data: string | Uint8Array, mode = 0o600): void {
  const temporary = `${path}.tmp`;
  try {
    const fd = openSync(temporary, 'w', mode);
    try {
      fchmodSync(fd, mode); // one left over from a crash keeps its old mode, and umask interferes
      writeFileSync(fd, data);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncDirectory(dirname(path));
}

/** Makes the content of a file durable that something else has written. */
export function syncFile(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Makes what was created, renamed or removed in a directory durable. */
export const syncDirectory: (path: string) => void = syncFile;
