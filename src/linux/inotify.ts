/** Watches one directory, also while it does not exist, or waits for one file. */
import { existsSync, statSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';

import type { Clock, Timer } from '../base/clock.ts';

/** How often a directory that is not there is looked for. */
const MISSING_MS = 2000;

export type DirectoryWatch = { [Symbol.dispose](): void };

/**
 * Calls `onChange` after something may have changed in `path` (not below it): at the first look, on
 * each event, and when the directory goes or comes. Many calls for one change are normal, and the
 * kernel may lose some under load: debounce them, and rescan now and then.
 *
 * @param onTrouble Told once per reason why the directory can't be watched (there are too many
 *   watches, …). It is tried again all the same.
 */
export function watchDirectory(
  path: string,
  clock: Clock,
  onChange: () => void,
  onTrouble: (error: Error) => void,
): DirectoryWatch {
  let watcher: FSWatcher | undefined;
  let watched: bigint | undefined;
  let retry: Timer | undefined;
  let trouble: string | undefined;
  let closed = false;

  const inode = () => statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
  const report = (error: Error) => {
    if (error.message === trouble) return;
    trouble = error.message;
    onTrouble(error);
  };
  const drop = () => {
    watcher?.close();
    watcher = undefined;
    watched = undefined;
  };
  const later = () => {
    if (closed) return;
    retry?.cancel();
    retry = clock.at(clock.now().monoMs + MISSING_MS, look);
  };
  const look = () => {
    if (closed) return;
    try {
      const found = inode();
      if (found === undefined) return later();
      watcher = watch(path, { persistent: true }, changed);
      watcher.on('error', (error) => {
        drop();
        report(error);
        later();
      });
      // It may have been made anew between the two calls; the next event shows it.
      watched = found;
      trouble = undefined;
    } catch (error) {
      report(error as Error);
      later();
    }
    onChange();
  };
  const changed = () => {
    if (closed) return;
    let found: bigint | undefined;
    try {
      found = inode();
    } catch (error) {
      report(error as Error);
    }
    if (found === watched) return onChange();
    drop();
    if (found !== undefined) return look();
    later();
    onChange();
  };

  look();
  return {
    [Symbol.dispose]() {
      closed = true;
      retry?.cancel();
      drop();
    },
  };
}

/**
 * Resolves when a file, or the directory that it will lie in, was made or removed. Never rejects: when
 * it can't be watched, and after the signal, it stays as it is. So it only shortens another wait.
 */
export function comesOrGoes(path: string, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const directory = dirname(path);
  const entry = existsSync(directory) ? path : directory;
  try {
    const watcher = watch(dirname(entry), { signal }, (_, name) => {
      if (name === basename(entry)) resolve(undefined);
    });
    watcher.on('error', () => watcher.close());
    // It may have come between the look and the watch.
    if (entry === directory && existsSync(directory)) resolve(undefined);
  } catch {
    // There is another wait beside this one.
  }
  return promise;
}
