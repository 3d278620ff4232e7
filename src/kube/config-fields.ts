/**
 * How the fields of a configuration file are described. One table of fields drives all that is done
 * with a configuration: reading it, its defaults, its flags, what is said of fields without effect,
 * and the JSON Schema.
 *
 * Durations are milliseconds, quantities are the text that was written.
 */

/** How a value is written. */
export type Shape =
  | { readonly type: 'boolean' }
  | { readonly type: 'integer'; readonly min: number; readonly max: number }
  | { readonly type: 'number' }
  | {
      readonly type: 'text';
      /** The words it can be; "" is always allowed, it means "not given". */
      readonly choices?: readonly string[];
      readonly form?: TextForm;
    }
  | { readonly type: 'duration'; readonly numbersAreNanos?: true }
  | { readonly type: 'quantity' }
  | { readonly type: 'list'; readonly items: Shape }
  | { readonly type: 'map'; readonly values: Shape }
  /** An item of a list; `required` are names of members. */
  | {
      readonly type: 'object';
      readonly members: Readonly<Record<string, Shape>>;
      readonly required: readonly string[];
    };

/**
 * - `path`: of a file; a relative one begins at the directory of the file that has it.
 * - `ip`: an address, IPv4 or IPv6.
 */
export type TextForm = 'path' | 'ip';

/** What limpet does with a field. */
export type Effect =
  | { readonly kind: 'carried' }
  /** It is accepted, and there is nothing to do. */
  | { readonly kind: 'notNeeded'; readonly why: string }
  /**
   * limpet has no code for it yet. `refused`: to go on without it would be unsafe or give pods
   * something else than was asked for. `warned`: it only tunes, or concerns what is not there yet.
   * The default, what is empty, and `harmless` values ask for nothing.
   */
  | {
      readonly kind: 'refused' | 'warned';
      readonly why: string;
      readonly harmless: readonly unknown[];
    };

export type Field<T> = {
  readonly shape: Shape;
  /** What holds when nothing is given. */
  readonly fallback: T;
  /** What holds when nothing is given and there is no configuration file, where it differs. */
  readonly withoutFile?: T;
  /**
   * Whether zero is a value like others. Mostly Go's zero value means "not given": kubeadm writes
   * `0s` and "" for all that it leaves to the default.
   */
  readonly zeroCounts: boolean;
  readonly effect: Effect;
  /** May hold a secret: it is not shown. */
  readonly secret: boolean;
  /** One sentence for people. */
  readonly help: string;
};

export type Fields = { readonly [name: string]: Field<unknown> | Group };
export type Group = { readonly fields: Fields };

/** The configuration that a table describes. */
export type ConfigOf<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T>
    ? T
    : F[K] extends { readonly fields: infer G extends Fields }
      ? ConfigOf<G>
      : never;
};

export function isGroup(entry: Field<unknown> | Group): entry is Group {
  return 'fields' in entry;
}

export function group<const F extends Fields>(fields: F): { readonly fields: F } {
  return { fields };
}

/** Every field with its path: `authentication.x509.clientCAFile`. */
export function* leaves(fields: Fields, prefix = ''): Generator<[string, Field<unknown>]> {
  for (const [name, entry] of Object.entries(fields)) {
    if (isGroup(entry)) yield* leaves(entry.fields, `${prefix}${name}.`);
    else yield [prefix + name, entry];
  }
}

export const carried: Effect = { kind: 'carried' };
export const notNeeded = (why: string): Effect => ({ kind: 'notNeeded', why });
export const refused = (why: string, ...harmless: readonly unknown[]): Effect => ({
  kind: 'refused',
  why,
  harmless,
});
export const warned = (why: string, ...harmless: readonly unknown[]): Effect => ({
  kind: 'warned',
  why,
  harmless,
});

type More<T> = {
  readonly zeroCounts?: true;
  readonly withoutFile?: T;
  readonly secret?: true;
  readonly help?: string;
};

function make<T>(shape: Shape, fallback: T, effect: Effect, more: More<T> = {}): Field<T> {
  return {
    shape,
    fallback,
    effect,
    zeroCounts: more.zeroCounts === true,
    secret: more.secret === true,
    help: more.help ?? '',
    ...(more.withoutFile === undefined ? {} : { withoutFile: more.withoutFile }),
  };
}

export function boolean<T extends boolean | undefined>(
  fallback: T,
  effect: Effect,
  more?: More<boolean>,
): Field<boolean | T> {
  return make<boolean | T>({ type: 'boolean' }, fallback, effect, { ...more, zeroCounts: true });
}

const INT32 = { min: -(2 ** 31), max: 2 ** 31 - 1 };

export function integer<T extends number | undefined>(
  fallback: T,
  effect: Effect,
  more: More<number> & { readonly min?: number; readonly max?: number } = {},
): Field<number | T> {
  const { min = INT32.min, max = INT32.max, ...rest } = more;
  return make<number | T>({ type: 'integer', min, max }, fallback, effect, rest);
}

export function number(fallback: number, effect: Effect, more?: More<number>): Field<number> {
  return make({ type: 'number' }, fallback, effect, more);
}

/** A text; "" when it is not given and has no default. */
export function text(
  fallback: string,
  effect: Effect,
  more: More<string> & { readonly form?: TextForm } = {},
): Field<string> {
  const { form, ...rest } = more;
  return make({ type: 'text', ...(form && { form }) }, fallback, effect, rest);
}

export function choice<const C extends string>(
  choices: readonly C[],
  fallback: NoInfer<C>,
  effect: Effect,
  more?: More<NoInfer<C>>,
): Field<C> {
  return make<C>({ type: 'text', choices }, fallback, effect, more);
}

export function quantity(fallback: string, effect: Effect, more?: More<string>): Field<string> {
  return make({ type: 'quantity' }, fallback, effect, more);
}

/** Milliseconds. `fallback` as well. */
export function duration<T extends number | undefined>(
  fallback: T,
  effect: Effect,
  more: More<number> & { readonly numbersAreNanos?: true } = {},
): Field<number | T> {
  const { numbersAreNanos, ...rest } = more;
  const shape: Shape = { type: 'duration', ...(numbersAreNanos && { numbersAreNanos }) };
  return make<number | T>(shape, fallback, effect, rest);
}

export function texts(
  fallback: readonly string[],
  effect: Effect,
  more: More<readonly string[]> & { readonly form?: TextForm } = {},
): Field<readonly string[]> {
  const { form, ...rest } = more;
  const items: Shape = { type: 'text', ...(form && { form }) };
  return make({ type: 'list', items }, fallback, effect, rest);
}

export function list<T>(items: Shape, effect: Effect): Field<readonly T[]> {
  return make<readonly T[]>({ type: 'list', items }, [], effect);
}

export function map<T = string>(
  effect: Effect,
  values: Shape = { type: 'text' },
  more?: More<Readonly<Record<string, T>>>,
): Field<Readonly<Record<string, T>>> {
  return make<Readonly<Record<string, T>>>({ type: 'map', values }, {}, effect, more);
}
