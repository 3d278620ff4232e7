/**
 * Transparent huge pages. Where the kernel hands them out to everybody (`always`), and most of all
 * with 16 KiB pages, where one is 32 MiB, a single one doubles the memory of this process. They can
 * only be refused before the memory is mapped, so the process refuses them and starts itself anew.
 */
import { accessSync, constants, readFileSync } from 'node:fs';

import type { Libc } from './libc.ts';

const ENABLED = '/sys/kernel/mm/transparent_hugepage/enabled';
/** Set in the environment of the second start, so that there is no third. */
const MARKER = 'LIMPET_HUGE_PAGES_OFF';

export type HugePages = 'always' | 'madvise' | 'never' | 'absent';

/** The setting in the text of `/sys/kernel/mm/transparent_hugepage/enabled`. */
export function parseHugePages(text: string): HugePages {
  const word = /\[(\w+)\]/.exec(text)?.[1];
  return word === 'always' || word === 'madvise' || word === 'never' ? word : 'absent';
}

/** The kernel's setting. */
export function hugePages(): HugePages {
  try {
    return parseHugePages(readFileSync(ENABLED, 'latin1'));
  } catch {
    return 'absent';
  }
}

export type Invocation = {
  readonly execPath: string;
  readonly argv: readonly string[];
  readonly execArgv: readonly string[];
  /** True when node and the program are one file. */
  readonly singleBinary: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
};

/** How to start anew without huge pages; undefined where that is not needed or was done. */
export function restartWithout(
  setting: HugePages,
  self: Invocation,
):
  { readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> } | undefined {
  if (setting !== 'always' || self.env[MARKER] !== undefined) return undefined;
  const env: Record<string, string> = { [MARKER]: '1' };
  for (const [key, value] of Object.entries(self.env)) if (value !== undefined) env[key] = value;
  // A single binary has its own path where a script would stand, and its flags are baked in.
  const rest = self.singleBinary ? self.argv.slice(2) : [...self.execArgv, ...self.argv.slice(1)];
  return { args: [self.argv[0] ?? self.execPath, ...rest], env };
}

/**
 * Starts this process anew, under the same pid, if it would get huge pages unasked. Call it first
 * of all: whatever was opened before is lost. Returns where there is nothing to do or no way.
 */
export function refuseHugePages(self: Invocation, openLibc: () => Libc | undefined): void {
  const restart = restartWithout(hugePages(), self);
  if (restart === undefined || process.execve === undefined) return;
  if (openLibc()?.disableHugePages() !== true) return;
  try {
    // A failed execve would end the process.
    accessSync(self.execPath, constants.X_OK);
  } catch {
    return;
  }
  process.execve(self.execPath, restart.args, restart.env);
}
