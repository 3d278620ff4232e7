/** What a command is: its words, its options, its examples, and what it does. */
import type { Clock } from '../base/clock.ts';
import { parseOptions } from './arguments.ts';

/** The world as a command sees it, so that a test can be one. */
export type Io = {
  /** Writes to standard output; resolves when the reader can take more. */
  out(text: string | Uint8Array): Promise<void>;
  /** Writes to standard error. */
  err(text: string): void;
  /** Everything on standard input, at most `maxBytes`; fails with a CommandFailed above it. */
  input(maxBytes: number): Promise<Uint8Array>;
  readonly clock: Clock;
  /** Ends whatever waits. */
  readonly signal: AbortSignal;
};

export type OptionSpec = {
  readonly type: 'string' | 'boolean';
  readonly short?: string;
  /** May be given several times. */
  readonly multiple?: true;
  readonly default?: string;
  /** What stands for the value in the help. */
  readonly value?: string;
  readonly help: string;
};

export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

type ValueOf<S extends OptionSpec> = S['type'] extends 'boolean'
  ? boolean
  : S extends { readonly multiple: true }
    ? readonly string[]
    : S extends { readonly default: string }
      ? string
      : string | undefined;

export type OptionValues<S extends OptionSpecs> = { readonly [K in keyof S]: ValueOf<S[K]> };

export type Arguments<S extends OptionSpecs> = {
  readonly options: OptionValues<S>;
  /** What is no option, in order. */
  readonly words: readonly string[];
};

export type Definition<S extends OptionSpecs> = {
  readonly name: string;
  /** What follows the name on the command line: `POD [--follow]`. */
  readonly usage: string;
  readonly summary: string;
  /** More text for `--help`. */
  readonly details?: string;
  readonly options: S;
  readonly examples: readonly (readonly [command: string, meaning: string])[];
  run(args: Arguments<S>, io: Io): Promise<number>;
};

export type Command = Omit<Definition<OptionSpecs>, 'run'> & {
  /** Parses the arguments and does the work. Returns the exit code; throws CommandFailed. */
  start(argv: readonly string[], io: Io): Promise<number>;
};

/** Binds the options of a command to the types of their values. */
export function defineCommand<const S extends OptionSpecs>(definition: Definition<S>): Command {
  const { run, ...rest } = definition;
  return {
    ...rest,
    start: async (argv, io) =>
      await run(parseOptions(definition.name, argv, definition.options), io),
  };
}
