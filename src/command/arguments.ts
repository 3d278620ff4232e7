/** The command line: options before and after words, as kubectl takes them, and good errors. */
import { parseArgs } from 'node:util';
import type { Arguments, OptionSpecs, OptionValues } from './command.ts';
import { usageError } from './exit.ts';

/**
 * Parses `argv` by `specs`. `--name=value`, `--name value`, `-n value`, `-nvalue` and `-n=value`
 * are the same; a boolean may be given as `--follow=false`; after `--` everything is a word.
 * Throws a CommandFailed that names the option nearest to an unknown one.
 */
export function parseOptions<S extends OptionSpecs>(
  command: string,
  argv: readonly string[],
  specs: S,
): Arguments<S> {
  const { values, positionals } = parse(command, spelled(command, argv, specs), specs);
  const options: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(specs)) {
    const given = values[name];
    if (spec.type === 'boolean') options[name] = given === true;
    else if (spec.multiple === true) options[name] = given ?? [];
    else options[name] = given ?? spec.default;
  }
  return { options: options as OptionValues<S>, words: positionals };
}

type Parsed = {
  readonly values: Record<string, string | boolean | (string | boolean)[] | undefined>;
  readonly positionals: string[];
};

function parse(command: string, args: string[], specs: OptionSpecs): Parsed {
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { type, short, multiple }]) => [
      name,
      {
        type,
        ...(short === undefined ? {} : { short }),
        ...(multiple === undefined ? {} : { multiple }),
      },
    ]),
  );
  try {
    return parseArgs({ args, options, allowPositionals: true, strict: true });
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    throw usageError(said.replace(/\n/g, ' '), seeHelp(command));
  }
}

/** Rewrites what parseArgs would not take as kubectl does, and refuses options nobody knows. */
function spelled(command: string, argv: readonly string[], specs: OptionSpecs): string[] {
  const out: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const arg = argv[at] ?? '';
    if (arg === '--') return [...out, ...argv.slice(at)];
    const long = /^--([^=]+)(?:=(.*))?$/s.exec(arg);
    const short = /^-([A-Za-z])(.*)$/s.exec(arg);
    if (long === null && short === null) {
      out.push(arg);
      continue;
    }
    const name = long?.[1] ?? nameOfShort(specs, short?.[1] ?? '');
    const spec = name === undefined ? undefined : specs[name];
    if (name === undefined || spec === undefined) throw unknown(command, arg, specs);
    const value = long !== null ? long[2] : short?.[2] === '' ? undefined : short?.[2];
    if (spec.type === 'boolean') {
      out.push(...booleanOption(name, arg, long !== null, value));
    } else if (value !== undefined) {
      out.push(`--${name}=${long === null ? value.replace(/^=/, '') : value}`);
    } else {
      const next = argv[at + 1];
      if (next === undefined) throw usageError(`${arg} needs a value`, seeHelp(command));
      out.push(`--${name}=${next}`);
      at++;
    }
  }
  return out;
}

function booleanOption(
  name: string,
  arg: string,
  long: boolean,
  value: string | undefined,
): readonly string[] {
  if (value === undefined || (long && value === 'true')) return [`--${name}`];
  if (long && value === 'false') return [];
  // `-Af` is `-A -f`.
  if (!long) return [`--${name}`, `-${value}`];
  throw usageError(`${arg}: --${name} takes true or false`);
}

function nameOfShort(specs: OptionSpecs, short: string): string | undefined {
  return Object.entries(specs).find(([, spec]) => spec.short === short)?.[0];
}

function unknown(command: string, arg: string, specs: OptionSpecs) {
  const name = arg.split('=')[0] ?? arg;
  const near = name.startsWith('--') ? nearest(name.slice(2), Object.keys(specs)) : undefined;
  const hint = near === undefined ? [] : [`did you mean --${near}?`];
  return usageError(`unknown option ${name}`, ...hint, seeHelp(command));
}

function seeHelp(command: string): string {
  return `see: limpet ${command} --help`;
}

/** The candidate that differs least from `word`, if it is near enough to be what was meant. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: { name: string; distance: number } | undefined;
  for (const name of candidates) {
    const distance = name.startsWith(word) && word.length > 2 ? 1 : editDistance(word, name);
    if (best === undefined || distance < best.distance) best = { name, distance };
  }
  return best !== undefined && best.distance <= Math.max(1, word.length / 3)
    ? best.name
    : undefined;
}

/** Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      const above = rows[i - 1] ?? [];
      let cost = Math.min((above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (rows[i - 2]?.[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    rows.push(row);
  }
  return rows[a.length]?.[b.length] ?? 0;
}
