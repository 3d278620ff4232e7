/** Two rolling copies of `limpet.db` in `<directory>/backup`, `limpet-1.db` being the newer one. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { syncDirectory, syncFile } from '../base/durable-file.ts';
import type { Log } from '../base/log.ts';
import {
  checkIntegrity,
  closeQuietly,
  openToRead,
  type NativeBinding,
  type Sqlite,
} from './database.ts';

const DIRECTORY_NAME = 'backup';
const NAMES = ['limpet-1.db', 'limpet-2.db'] as const;
const TEMPORARY = 'limpet.tmp';

/**
 * Writes a backup, checks it, and only then lets it take the place of an older one. Throws the
 * error of SQLite or of the file system; the older backups are then still there.
 */
export function writeBackup(
  database: Sqlite,
  directory: string,
  nativeBinding?: NativeBinding,
): void {
  const folder = join(directory, DIRECTORY_NAME);
  if (mkdirSync(folder, { recursive: true, mode: 0o700 }) !== undefined) syncDirectory(directory);
  const temporary = join(folder, TEMPORARY);
  const [newer, older] = NAMES.map((name) => join(folder, name)) as [string, string];
  rmSync(temporary, { force: true });
  try {
    // What the log holds goes into the file too, so that the file alone is no older than a backup.
    database.pragma('wal_checkpoint(PASSIVE)');
    database.prepare('VACUUM INTO ?').run(temporary);
    syncFile(temporary);
    checkFile(temporary, nativeBinding);
    if (existsSync(newer)) renameSync(newer, older);
    renameSync(temporary, newer);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncDirectory(folder);
}

/** The backups that are there, newest first. */
export function listBackups(directory: string): readonly string[] {
  return NAMES.map((name) => join(directory, DIRECTORY_NAME, name)).filter((path) =>
    existsSync(path),
  );
}

/** The newest backup that passes the check. */
export function soundBackup(
  directory: string,
  log: Log,
  nativeBinding?: NativeBinding,
): string | undefined {
  return listBackups(directory).find((path) => {
    try {
      checkFile(path, nativeBinding);
      return true;
    } catch (error) {
      log.error('a backup is damaged', { path, error: String(error) });
      return false;
    }
  });
}

function checkFile(path: string, nativeBinding: NativeBinding | undefined): void {
  const database = openToRead(path, nativeBinding);
  try {
    checkIntegrity(database);
    // A file of no length passes every check.
    database.prepare('SELECT count(*) FROM pods').get();
  } finally {
    closeQuietly(database);
  }
}
