/** Output for machines: JSON and YAML. Tables are in table.ts. */
import type { Io, OptionSpec } from './command.ts';
import { usageError } from './exit.ts';

export type Format = 'table' | 'wide' | 'json' | 'yaml';

export const OUTPUT_OPTION = {
  type: 'string',
  short: 'o',
  value: 'FORMAT',
  help: 'json or yaml instead of text',
} as const satisfies OptionSpec;

/** The format asked for; `table` when none was. Throws a CommandFailed on any other word. */
export function outputFormat(
  given: string | undefined,
  allowed: readonly Exclude<Format, 'table'>[],
): Format {
  if (given === undefined) return 'table';
  const found = allowed.find((format) => format === given);
  if (found === undefined) {
    throw usageError(`--output is one of ${allowed.join(', ')}, not "${given}"`);
  }
  return found;
}

/** Writes one object. Every object has `kind`, so that a reader knows what it holds. */
export async function writeObject<T extends { readonly kind: string }>(
  io: Io,
  format: Format,
  object: T,
): Promise<void> {
  if (format === 'yaml') {
    const { stringify } = await import('yaml');
    await io.out(stringify(object, { lineWidth: 0, aliasDuplicateObjects: false }));
  } else {
    await io.out(`${JSON.stringify(object, undefined, 2)}\n`);
  }
}
