// The cache of built things: one directory for each set of inputs, built once, never changed.
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The repository's root. */
export const repository = resolve(import.meta.dirname, '..', '..');

/** Where everything built is kept: LIMPET_CACHE, or `limpet` in the user's cache directory. */
export function cacheDirectory(): string {
  const own = process.env['LIMPET_CACHE'];
  if (own !== undefined && own !== '') return resolve(own);
  const users = process.env['XDG_CACHE_HOME'];
  return join(users !== undefined && users !== '' ? users : join(homedir(), '.cache'), 'limpet');
}

/** A short name for a set of inputs: 16 hexadecimal digits that change when any input does. */
export function keyOf(inputs: unknown): string {
  return createHash('sha256').update(JSON.stringify(inputs)).digest('hex').slice(0, 16);
}

/** The content of all files below some paths, in a stable order, as an input of a key. */
export async function filesOf(paths: readonly string[]): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for (const path of paths) {
    const below = (await stat(path)).isDirectory();
    const names = below ? await readdir(path, { recursive: true, withFileTypes: true }) : [];
    const files = below
      ? names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
      : [path];
    for (const file of files.sort()) {
      const hash = createHash('sha256').update(await readFile(file));
      found.push([file.slice(repository.length + 1), hash.digest('hex')]);
    }
  }
  return found;
}

export async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Returns the cached directory `kind/name`, and has it built first when it is missing.
 * `build` fills an empty directory, which appears under its final name only when it is whole, so
 * a build that was broken off leaves nothing that looks finished. Of several processes that want
 * the same thing one builds and the others wait.
 */
export async function cached(
  kind: string,
  name: string,
  build: (directory: string) => Promise<void>,
  say: (line: string) => void = () => undefined,
): Promise<string> {
  const final = join(cacheDirectory(), kind, name);
  if (await exists(final)) return final;
  await using _held = await lock(`${kind}-${name}`, say);
  if (await exists(final)) return final;
  const part = `${final}.part`;
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true });
  await build(part);
  await rename(part, final);
  return final;
}

/** Waits for a lock that other processes respect, and that dies with its holder. */
export async function lock(
  name: string,
  say: (line: string) => void = () => undefined,
): Promise<AsyncDisposable> {
  const path = join(cacheDirectory(), 'locks', name);
  await mkdir(join(cacheDirectory(), 'locks'), { recursive: true });
  for (let tries = 0; ; tries++) {
    const mine = await writeFile(path, `${process.pid}`, { flag: 'wx' }).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
        return false;
      },
    );
    if (mine) return { [Symbol.asyncDispose]: async () => await rm(path, { force: true }) };
    const holder = Number((await readFile(path, 'utf8').catch(() => '')) || '0');
    if (holder !== 0 && !(await exists(`/proc/${holder}`))) await rm(path, { force: true });
    else if (tries === 0) say(`waiting for process ${holder}, which is building ${name}`);
    await sleep(500);
  }
}
