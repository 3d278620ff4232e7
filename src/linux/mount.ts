/**
 * Mounts, and the removal of trees that may have mounts in them. What every pod needs, the C
 * library does without a process of its own; mount(8) and umount(8) do what it does not, and say
 * what is wrong where it could not.
 */
import { isAbsolute, normalize } from 'node:path';

import { Failure, type FailureCode } from '../base/failure.ts';
import { runTool } from './command.ts';
import { openLibc, type Libc } from './libc.ts';
import { isMountPoint, kernelVersion } from './proc.ts';

const SAID: readonly (readonly [pattern: RegExp, code: FailureCode])[] = [
  [/no space left/i, 'NoSpace'],
  [/permission denied|operation not permitted|must be superuser/i, 'PermissionDenied'],
  [/does not exist|no such file|mount point does not exist/i, 'NotFound'],
  [/bad option|wrong fs type|invalid argument|unknown filesystem/i, 'InvalidArgument'],
  [/busy/i, 'Unavailable'],
];

const MS_NOSUID = 2;
const MS_NODEV = 4;

export type TmpfsOptions = {
  readonly sizeBytes?: number;
  /** Permission bits of its root. */
  readonly mode: number;
  readonly gid?: number;
};

/**
 * Mounts an empty tmpfs at `path`, which must be a directory. Something mounted there already is
 * taken to be that tmpfs. Where the kernel allows it, its content is never swapped out to a disk.
 *
 * @throws Failure `PermissionDenied`, `NotFound`, `InvalidArgument`, …
 */
export async function mountTmpfs(
  path: string,
  options: TmpfsOptions,
  signal: AbortSignal,
): Promise<void> {
  const target = checked(path);
  if (isMountPoint(target)) return;
  const { sizeBytes, mode, gid } = options;
  const words = [`mode=${mode.toString(8)}`];
  if (sizeBytes !== undefined) words.push(`size=${sizeBytes}`);
  if (gid !== undefined) words.push(`gid=${gid}`);
  const mount = async (options: readonly string[]) => {
    const words = options.join(',');
    if (libc()?.mountTmpfs(target, MS_NOSUID | MS_NODEV, words) === true) return;
    const argv = ['mount', '-n', '-t', 'tmpfs', '-o', `nosuid,nodev,${words}`] as const;
    const explain = explained(`mount a tmpfs at ${target}`);
    await runTool([...argv, '--', 'tmpfs', target], signal, explain);
  };
  if (knowsNoSwap(kernelVersion())) {
    try {
      return await mount([...words, 'noswap']);
    } catch (error) {
      // A user namespace may not ask for it. What else is wrong, the next attempt says as well.
      if (error instanceof Failure && error.code === 'Cancelled') throw error;
    }
  }
  await mount(words);
}

/** Whether a kernel has the tmpfs option `noswap`, which came with 6.3. */
export function knowsNoSwap(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => parseInt(part, 10));
  return major > 6 || (major === 6 && minor >= 3);
}

/** Mounts what is at `source` also at `target`, which must exist. */
export async function bindMount(
  source: string,
  target: string,
  options: { readonly readOnly: boolean },
  signal: AbortSignal,
): Promise<void> {
  const [from, to] = [checked(source), checked(target)];
  if (isMountPoint(to)) return;
  const words = options.readOnly ? 'bind,ro' : 'bind';
  const explain = explained(`mount ${from} at ${to}`);
  await runTool(['mount', '-n', '-o', words, '--', from, to], signal, explain);
}

/**
 * Takes away everything that is mounted at `path`. Nothing there is success.
 *
 * @throws Failure `Unavailable` while it is in use, …
 */
export async function unmount(path: string, signal: AbortSignal): Promise<void> {
  const target = checked(path);
  // Mounts can lie on top of each other.
  while (isMountPoint(target)) {
    if (libc()?.unmount(target) === true) continue;
    try {
      await runTool(['umount', '-n', '--', target], signal, explained(`unmount ${target}`));
    } catch (error) {
      // Somebody else was faster.
      if (isMountPoint(target)) throw error;
    }
  }
}

let opened: { readonly libc: Libc | undefined } | undefined;

/** Opened with the first mount: commands other than the agent have none. */
function libc(): Libc | undefined {
  opened ??= { libc: openLibc() };
  return opened.libc;
}

function explained(action: string): (stderr: string) => Failure {
  return (stderr) => {
    const code = SAID.find(([pattern]) => pattern.test(stderr))?.[1] ?? 'Unknown';
    return new Failure(code, `can't ${action}: ${stderr === '' ? 'no reason given' : stderr}`);
  };
}

function checked(path: string): string {
  if (isAbsolute(path) && !path.includes('\0') && normalize(path) === path) return path;
  throw new Failure('InvalidArgument', `${JSON.stringify(path)} is no normal absolute path`);
}
