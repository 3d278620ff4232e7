/** A reading while it is made: what is out of range or rubbish becomes a trouble of it. */
import type { Figure } from '../node/board.ts';
import type { Files, Found } from './files.ts';
import type { Reading } from './source.ts';

export type Range = {
  readonly min: number;
  readonly max: number;
  /** What the file counts in, in units of the figure: 0.001 for millidegrees. */
  readonly scale?: number;
  /** 10 by default; 16 also without `0x`. */
  readonly base?: 10 | 16;
};

export type Draft = {
  /** The text of a file; undefined when it is missing or can't be used. */
  text(path: string): Promise<string | undefined>;
  /**
   * A name for people, as `fact` shows it. That a file of names is empty is no trouble: many boards
   * have no serial number.
   */
  label(path: string): Promise<string | undefined>;
  /** The names in a directory; none when it is missing or can't be used. */
  names(path: string): Promise<readonly string[]>;
  /** The bytes of a file. */
  bytes(path: string): Promise<Buffer | undefined>;
  /** The number in a file, scaled. */
  number(path: string, range: Range): Promise<number | undefined>;
  /** The number in a text that came from `path`. */
  numberIn(text: string, path: string, range: Range): number | undefined;
  add(name: string, value: number | undefined, of?: string): void;
  fact(name: string, value: string | undefined): void;
  /** The fact that is the label in a file; an earlier one stays where there is none. */
  factIn(name: string, path: string): Promise<void>;
  trouble(text: string): void;
  done(): Reading;
};

const MAX_FACT = 128;
/** Of a figure; all names are shorter, but for some mount points. */
const MAX_OF = 256;
const MAX_TROUBLES = 8;
const MAX_SHOWN = 24;

export function draftReading(files: Files): Draft {
  const figures: Figure[] = [];
  const facts: Record<string, string> = {};
  const troubles: string[] = [];
  const trouble = (text: string) => {
    if (troubles.length < MAX_TROUBLES) troubles.push(text);
  };
  const valueOf = <T>(found: Found<T>): T | undefined => {
    if (found.ok) return found.value;
    if (!found.missing) trouble(found.why);
    return undefined;
  };
  const text = async (path: string) => valueOf(await files.text(path));
  const numberIn = (found: string, path: string, range: Range): number | undefined => {
    const { min, max, scale = 1, base = 10 } = range;
    const isNumber = base === 16 ? /^(0x)?[\da-f]{1,16}$/i : /^-?\d{1,20}$/;
    const shown = plain(found).slice(0, MAX_SHOWN);
    if (!isNumber.test(found)) {
      trouble(`${path} is no number: ${shown}`);
      return undefined;
    }
    const value = parseInt(found, base) * scale;
    if (value >= min && value <= max) return value;
    trouble(`${path} can't be: ${value} is not within ${min} to ${max}`);
    return undefined;
  };
  const label = async (path: string): Promise<string | undefined> => {
    const found = valueOf(await files.bytes(path))
      ?.toString('utf8')
      .replaceAll('\0', '');
    const shown = shownOf(found ?? '', MAX_FACT);
    return shown === '' ? undefined : shown;
  };
  const fact = (name: string, value: string | undefined) => {
    const shown = shownOf(value ?? '', MAX_FACT);
    if (shown !== '') facts[name] = shown;
  };
  return {
    text,
    trouble,
    numberIn,
    label,
    fact,
    factIn: async (name, path) => fact(name, await label(path)),
    names: async (path) => valueOf(await files.names(path)) ?? [],
    bytes: async (path) => valueOf(await files.bytes(path)),
    number: async (path, range) => {
      const found = await text(path);
      return found === undefined ? undefined : numberIn(found, path, range);
    },
    add: (name, value, of) => {
      if (value === undefined) return;
      figures.push({ name, value, ...(of !== undefined && { of: shownOf(of, MAX_OF) }) });
    },
    done: () => ({ figures, facts, troubles }),
  };
}

function shownOf(text: string, maxChars: number): string {
  return plain(text).trim().slice(0, maxChars).trim();
}

/** Without what would disturb a terminal or a table. */
function plain(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ');
}
