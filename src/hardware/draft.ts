/** A reading while it is made: what is out of range or rubbish becomes a trouble of it. */
import type { Figure } from '../node/board.ts';
import type { Files } from './files.ts';
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
  /** The bytes of a file. */
  bytes(path: string): Promise<Buffer | undefined>;
  /** The number in a file, scaled. */
  number(path: string, range: Range): Promise<number | undefined>;
  /** The number in a text that came from `path`. */
  numberIn(text: string, path: string, range: Range): number | undefined;
  add(name: string, value: number | undefined, of?: string): void;
  fact(name: string, value: string | undefined): void;
  trouble(text: string): void;
  done(): Reading;
};

const MAX_FACT = 128;
const MAX_TROUBLES = 8;
const MAX_SHOWN = 24;

export function draftReading(files: Files): Draft {
  const figures: Figure[] = [];
  const facts: Record<string, string> = {};
  const troubles: string[] = [];
  const trouble = (text: string) => {
    if (troubles.length < MAX_TROUBLES) troubles.push(text);
  };
  const text = async (path: string): Promise<string | undefined> => {
    const found = await files.text(path);
    if (found.ok) return found.value;
    if (!found.missing) trouble(found.why);
    return undefined;
  };
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
  return {
    text,
    trouble,
    numberIn,
    bytes: async (path) => {
      const found = await files.bytes(path);
      if (found.ok) return found.value;
      if (!found.missing) trouble(found.why);
      return undefined;
    },
    number: async (path, range) => {
      const found = await text(path);
      return found === undefined ? undefined : numberIn(found, path, range);
    },
    add: (name, value, of) => {
      if (value !== undefined) figures.push({ name, value, ...(of !== undefined && { of }) });
    },
    fact: (name, value) => {
      const shown = value === undefined ? '' : plain(value).slice(0, MAX_FACT).trim();
      if (shown !== '') facts[name] = shown;
    },
    done: () => ({ figures, facts, troubles }),
  };
}

/** Without what would disturb a terminal or a table. */
function plain(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ');
}
