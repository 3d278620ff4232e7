/**
 * What a source of facts about the board is: `read` looks, `judge` decides. `read` never fails and
 * never waits long: what a file does not tell is a trouble of its reading, or nothing at all where
 * the board has no such thing. `judge` is pure.
 */
import type { Now } from '../base/clock.ts';
import type { Figure, Verdict } from '../node/board.ts';
import type { Files } from './files.ts';
import type { DriveLogs } from './nvme.ts';

/** What a source may look at. */
export type Sight = {
  /** Below the root; one for each source, so that a file that hangs is the source's own trouble. */
  readonly files: Files;
  /** Whether an NTP client keeps the kernel's clock right; undefined where that can't be asked. */
  readonly isSynchronized: () => boolean | undefined;
  /** Who sets the clock, if anybody is seen. */
  readonly clockSetter: () => string | undefined;
  /** What NVMe drives said of themselves when they were asked last, which is seldom. */
  readonly driveLogs: () => DriveLogs;
  /** Where limpet keeps its state: the disk that matters. */
  readonly rootDirectory: string;
  /** No clock that is right shows less, in milliseconds since 1970. */
  readonly earliestWallMs: number;
};

export type Reading = {
  readonly figures: readonly Figure[];
  readonly facts: Readonly<Record<string, string>>;
  /** Files that are there and can't be used, each with its path. */
  readonly troubles: readonly string[];
};

export type Sample = Reading & { readonly at: Now };

export type History = {
  /** Oldest first, never empty, at most `keep` of them. */
  readonly samples: readonly Sample[];
  /** What this source said the last time. */
  readonly before: readonly Verdict[];
};

export type HardwareSource = {
  readonly name: string;
  /** Between two looks. */
  readonly everyMs: number;
  /** How many samples `judge` gets. */
  readonly keep: number;
  /** The types that it may say something of. */
  readonly types: readonly string[];
  read(sight: Sight): Promise<Reading>;
  /** Nothing for what this board does not have. */
  judge(history: History, now: Now): readonly Verdict[];
};

/** So many readings in a row must fail before what they said is taken back. */
const UNREADABLE = 3;

/** The newest value of a figure. */
export function figureOf(
  sample: Reading | undefined,
  name: string,
  of?: string,
): number | undefined {
  return sample?.figures.find((one) => one.name === name && one.of === of)?.value;
}

/** All that the newest sample says under this name. */
export function figuresOf({ samples }: History, name: string): readonly Figure[] {
  return samples.at(-1)?.figures.filter((one) => one.name === name) ?? [];
}

export function beforeOf({ before }: History, type: string): Verdict | undefined {
  return before.find((one) => one.type === type);
}

export function wasTrue(history: History, type: string): boolean {
  return beforeOf(history, type)?.status === 'True';
}

/**
 * What to say of `type` when the newest sample has no value for it: that it can't be read, once
 * that has been so for a while; nothing where there is no such thing on this board.
 */
export function withoutValue(history: History, type: string): readonly Verdict[] {
  const { samples } = history;
  const old = beforeOf(history, type);
  const last = samples.at(-1);
  const trouble = last?.troubles[0];
  if (trouble === undefined && old === undefined) return [];
  const failing = samples.slice(-UNREADABLE).every(({ troubles }) => troubles.length > 0);
  if (trouble !== undefined && old !== undefined && old.status !== 'Unknown' && !failing) {
    return [old];
  }
  const message = trouble ?? 'the kernel does not tell any more';
  const reason = trouble === undefined ? SILENT : 'Unreadable';
  // What was bad stays known, see `unlessBlind`.
  const subjects = trouble === undefined ? undefined : old?.subjects;
  return [{ type, status: 'Unknown', reason, message, ...(subjects && { subjects }) }];
}

/**
 * A verdict that all is well again, unless what was bad can't be seen any more: then as
 * `withoutValue`. `names`: of the figures that tell of the subjects.
 */
export function unlessBlind(
  history: History,
  well: Verdict,
  names: readonly string[],
): readonly Verdict[] {
  const { samples } = history;
  const last = samples.at(-1);
  const old = beforeOf(history, well.type);
  const tells = (sample: Sample | undefined, name: string, of: string) =>
    figureOf(sample, name, of) !== undefined;
  const isHidden = (of: string) =>
    !names.some((name) => tells(last, name, of)) ||
    names.some((name) => !tells(last, name, of) && samples.some((one) => tells(one, name, of)));
  const subjects = old?.subjects ?? [];
  const isBlind = subjects.length > 0 && (old?.status === 'Unknown' || subjects.some(isHidden));
  return isBlind && last?.troubles.length !== 0 ? withoutValue(history, well.type) : [well];
}

/** The newest value of a figure that many samples have, without the wild ones among the last `count`. */
export function middleOf(
  { samples }: History,
  name: string,
  of: string | undefined,
  count: number,
): number | undefined {
  return median(samples.slice(-count).flatMap((sample) => figureOf(sample, name, of) ?? []));
}

/** Whether the look-back is too short to say that something has been calm throughout. */
export function isYoung({ samples }: History, keep: number): boolean {
  return samples.length < keep;
}

/** The reason where a board has it, and its kernel or firmware does not say. */
export const SILENT = 'KernelDoesNotTell';

/** One decimal place. */
export function tenths(value: number): string {
  return (Math.round(value * 10) / 10).toString();
}

/** The middle one: a single wild value changes nothing. */
export function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
}
