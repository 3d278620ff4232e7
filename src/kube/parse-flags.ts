/**
 * Reads a command line as the kubelet does: `--name=value`, `--name value`, `-v4`, "_" for "-",
 * booleans without a value. Words of the errors are the kubelet's.
 * Source: github.com/spf13/pflag v1.0 flag.go; k8s.io/component-base cli/flag; k8s.io/kubernetes
 * pkg/util/flag and pkg/util/taints, v1.36.3.
 */
import { formatDuration, parseDuration } from './go-duration.ts';
import type { Shape } from './config-fields.ts';
import type { Settings } from './config-settings.ts';
import { CADVISOR_FLAGS, FLAGS, GONE_FLAGS, type Flag, type FlagTable } from './kubelet-flags.ts';
import { ipProblem } from './names.ts';
import { nearest, plainRecord } from './parse-fields.ts';
import { parseQuantity } from './quantity.ts';
import { absolutePath } from './read-config.ts';

/** A command line that can't be read. */
export class FlagError extends Error {
  /** What to do about it. */
  readonly remedy: string | undefined;

  constructor(message: string, remedy?: string) {
    super(message);
    this.name = 'FlagError';
    this.remedy = remedy;
  }
}

export type ParsedFlags = Readonly<Record<FlagTable, Settings>> & {
  /** Flags that are not in the table of flags, see `OwnFlags`. */
  readonly own: Readonly<Record<string, string>>;
  /** Flags that were given and have no effect. */
  readonly idle: readonly string[];
  /** What is no flag. */
  readonly words: readonly string[];
};

/** Flags that are not in the table of flags: whether they take a value. */
export type OwnFlags = Readonly<Record<string, 'boolean' | 'text'>>;

export const RUN_FLAGS: OwnFlags = { help: 'boolean', version: 'boolean', 'limpet-config': 'text' };

/**
 * Reads the flags. Relative paths begin at `directory`.
 * @throws FlagError
 */
export function parseFlags(
  argv: readonly string[],
  directory: string,
  ownFlags: OwnFlags = RUN_FLAGS,
): ParsedFlags {
  const settings = { kubelet: new Map(), flags: new Map(), limpet: new Map() };
  const own: Record<string, string> = {};
  const idle: string[] = [];
  const words: string[] = [];
  for (const given of splitFlags(argv, ownFlags)) {
    if (typeof given === 'string') words.push(given);
    else if (given.flag === undefined) {
      own[given.name] = given.value;
      if (CADVISOR_FLAGS.has(given.name)) idle.push(`--${given.name}`);
    } else takeFlag(settings, given.name, given.flag, given.value, directory);
  }
  return { ...settings, own, idle, words };
}

type GivenFlag = { readonly name: string; readonly flag: Flag | undefined; readonly value: string };

const SHORTS: Readonly<Record<string, string>> = { v: 'v', h: 'help', o: 'output' };

function* splitFlags(argv: readonly string[], ownFlags: OwnFlags): Generator<GivenFlag | string> {
  for (let at = 0; at < argv.length; at += 1) {
    const arg = argv[at]!;
    if (arg === '--') {
      yield* argv.slice(at + 1);
      return;
    }
    if (!arg.startsWith('-') || arg === '-') {
      yield arg;
      continue;
    }
    const head = arg.startsWith('--') ? longFlag(arg, ownFlags) : shortFlag(arg, ownFlags);
    const { name, attached, isText, shown } = head;
    let value = attached ?? (isText ? undefined : 'true');
    if (value === undefined) {
      at += 1;
      value = argv[at];
    }
    if (value === undefined) throw new FlagError(`flag needs an argument: ${shown}`);
    yield { name, flag: FLAGS.get(name), value };
  }
}

type Head = {
  readonly name: string;
  readonly attached: string | undefined;
  readonly isText: boolean;
  /** As errors name it. */
  readonly shown: string;
};

function longFlag(arg: string, ownFlags: OwnFlags): Head {
  const [, written = '', attached] = /^--([^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
  if (written === '' || written.startsWith('-')) throw new FlagError(`bad flag syntax: ${arg}`);
  const name = written.replaceAll('_', '-');
  const isText = takesText(name, ownFlags);
  if (isText === undefined) throw unknownFlag(name, ownFlags);
  return { name, attached, isText, shown: `--${name}` };
}

function shortFlag(arg: string, ownFlags: OwnFlags): Head {
  const letter = arg[1]!;
  const name = Object.hasOwn(SHORTS, letter) ? SHORTS[letter]! : '';
  const isText = takesText(name, ownFlags);
  if (isText === undefined) {
    throw new FlagError(`unknown shorthand flag: '${letter}' in ${arg}`, `see --help`);
  }
  const rest = arg.slice(2);
  const attached = rest === '' ? undefined : rest.replace(/^=/, '');
  return { name, attached, isText, shown: `'${letter}' in ${arg}` };
}

/** Whether a flag takes a value; undefined when there is no such flag. */
function takesText(name: string, ownFlags: OwnFlags): boolean | undefined {
  const flag = FLAGS.get(name);
  if (flag !== undefined) return flag.field.shape.type !== 'boolean';
  const type = Object.hasOwn(ownFlags, name) ? ownFlags[name] : CADVISOR_FLAGS.get(name);
  return type === undefined ? undefined : type === 'text';
}

function unknownFlag(name: string, ownFlags: OwnFlags): FlagError {
  const gone = Object.hasOwn(GONE_FLAGS, name) ? GONE_FLAGS[name] : undefined;
  const near = nearest(name, [...FLAGS.keys(), ...Object.keys(ownFlags)]);
  const remedy = gone ?? (near === undefined ? 'see --help' : `did you mean --${near}?`);
  return new FlagError(`unknown flag: --${name}`, remedy);
}

/** Lays the value of a flag over those before it: maps and lists grow, the rest is replaced. */
function takeFlag(
  settings: Readonly<Record<FlagTable, Settings>>,
  name: string,
  { table, path, field }: Flag,
  text: string,
  directory: string,
): void {
  const before = settings[table].get(path)?.value;
  const special = Object.hasOwn(SPECIAL, name) ? SPECIAL[name] : undefined;
  try {
    const value =
      special === undefined ? valueOf(field.shape, text, before, directory) : special(text, before);
    if (value === undefined) return;
    settings[table].set(path, { value, source: { from: 'flag', flag: name } });
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    const shown = name === 'v' ? '-v, --v' : `--${name}`;
    const given = field.secret ? '"…"' : JSON.stringify(text.slice(0, 200));
    throw new FlagError(`invalid argument ${given} for "${shown}" flag: ${error.message}`);
  }
}

function valueOf(shape: Shape, text: string, before: unknown, directory: string): unknown {
  switch (shape.type) {
    case 'boolean':
      return boolean(text);
    case 'integer':
      return integer(text, shape.min, shape.max);
    case 'duration':
      return duration(text);
    case 'quantity':
      if (text === '' || parseQuantity(text) !== undefined) return text;
      throw new FlagError('quantities must be written as in "500m", "64Mi" or "2G"');
    case 'text':
      return word(shape, text, directory);
    case 'list': {
      const items = text === '' ? [] : text.split(',');
      const form = shape.items.type === 'text' ? shape.items : { type: 'text' as const };
      const checked = items.map((item) => word(form, item, directory) ?? '');
      return [...((before as string[] | undefined) ?? []), ...checked];
    }
    case 'map':
      return pairs(text, before, '=', shape.values.type === 'boolean');
    case 'number':
    case 'object':
      throw new FlagError('is for a configuration file');
  }
}

function boolean(text: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw new FlagError(`strconv.ParseBool: parsing ${JSON.stringify(text)}: invalid syntax`);
}

function integer(text: string, min: number, max: number): number {
  const plain = /^[+-]?(\d+|0[xX][0-9a-fA-F]+)$/.test(text);
  const size = plain ? Number(text.replace(/^[+-]/, '')) : Number.NaN;
  const value = text.startsWith('-') ? 0 - size : size;
  if (value >= min && value <= max) return value;
  const why = plain ? `must be between ${min} and ${max}, inclusive` : 'invalid syntax';
  throw new FlagError(`strconv.ParseInt: parsing ${JSON.stringify(text)}: ${why}`);
}

function duration(text: string): number {
  const ms = parseDuration(text);
  if (ms !== undefined) return ms;
  const example = formatDuration(90_000);
  throw new FlagError(`time: invalid duration ${JSON.stringify(text)}, write it as in ${example}`);
}

/** A text; undefined when it is empty where the kubelet keeps what it had. */
function word(
  { choices, form }: Extract<Shape, { type: 'text' }>,
  text: string,
  directory: string,
): string | undefined {
  if (form === 'path') return text === '' ? '' : absolutePath(directory, text);
  if (form === 'ip') {
    if (text === '') return undefined;
    if (ipProblem(text) === undefined) return text;
    throw new FlagError(`${JSON.stringify(text)} is not a valid IP address`);
  }
  if (choices?.includes(text) !== false) return text;
  throw new FlagError(`must be one of ${choices.filter((one) => one !== '').join(', ')}`);
}

/** `a=1,b=2`, over what earlier flags of the name gave. */
function pairs(text: string, before: unknown, separator: string, booleans: boolean): object {
  const entries = Object.entries((before as object | undefined) ?? {}) as [string, unknown][];
  for (const pair of text.split(',')) {
    if (pair === '') continue;
    const at = pair.indexOf(separator);
    const kind = booleans ? 'bool' : 'string';
    if (at < 0) throw new FlagError(`malformed pair, expect string${separator}${kind}`);
    const [key, value] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    entries.push([key, booleans ? boolean(value) : value]);
  }
  return plainRecord(entries);
}

type Special = (text: string, before: unknown) => unknown;

/** Flags whose values have a form of their own. */
const SPECIAL: Readonly<Record<string, Special>> = {
  'eviction-hard': (text, before) => pairs(text, before, '<', false),
  'eviction-soft': (text, before) => pairs(text, before, '<', false),
  // A label may be without a value.
  'node-labels': (text, before) =>
    pairs(text.replace(/(^|,)([^=,]+)(?=,|$)/g, '$1$2='), before, '=', false),
  'register-with-taints': (text) => (text === '' ? [] : text.split(',').map(taint)),
  'manifest-url-header': (text, before) => headers(text, before),
  'reserved-memory': (text, before) => [
    ...((before as object[] | undefined) ?? []),
    ...text.split(';').filter(Boolean).map(reservation),
  ],
  vmodule: (text) => text.split(',').filter(Boolean).map(verbosityOfFile),
};

/** `key=value:Effect` or `key:Effect`. */
function taint(text: string): object {
  const [, key, value, effect] = /^([^:=]+)(?:=([^:=]*))?:([^:=]+)$/.exec(text) ?? [];
  if (key === undefined || effect === undefined) {
    throw new FlagError(`invalid taint spec: ${text}, write key=value:Effect`);
  }
  if (!/^(NoSchedule|PreferNoSchedule|NoExecute)$/.test(effect)) {
    throw new FlagError(`invalid taint effect: ${effect}, unsupported taint effect`);
  }
  return { key, ...(value ? { value } : {}), effect };
}

function headers(text: string, before: unknown): object {
  const lists = new Map(Object.entries((before as Record<string, string[]> | undefined) ?? {}));
  for (const pair of text.split(',').filter(Boolean)) {
    const at = pair.indexOf(':');
    if (at < 0) throw new FlagError('malformed pair, expect string:string');
    const key = pair.slice(0, at).trim();
    lists.set(key, [...(lists.get(key) ?? []), pair.slice(at + 1).trim()]);
  }
  return plainRecord(lists);
}

/** `0:memory=1Gi,hugepages-2Mi=4Mi` */
function reservation(text: string): object {
  const [, numaNode, rest] = /^(\d{1,9}):([^:]+)$/.exec(text) ?? [];
  const limits = rest === undefined ? {} : pairs(rest, undefined, '=', false);
  const amounts: readonly unknown[] = Object.values(limits);
  const bad = amounts.find((amount) => parseQuantity(String(amount)) === undefined);
  if (numaNode === undefined || bad !== undefined) {
    const form = 'numaNodeID:type=quantity[,type=quantity...]';
    throw new FlagError(`the reserved memory has incorrect format, expected ${form}, got ${text}`);
  }
  return { numaNode: Number(numaNode), limits };
}

function verbosityOfFile(text: string): object {
  const [, filePattern, verbosity] = /^([^=]+)=(\d{1,9})$/.exec(text) ?? [];
  if (filePattern !== undefined) return { filePattern, verbosity: Number(verbosity) };
  throw new FlagError(`${JSON.stringify(text)} does not have the pattern=N format`);
}
