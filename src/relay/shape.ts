/**
 * What a message may hold, as a table: from it come the JSON form, the CBOR form, the checks of
 * what comes in, and the JSON Schema. Reading is strict and bounded and never throws; of a record
 * it takes the fields it knows and ignores the others, which a newer minor version may have added.
 */

export type Shape =
  /** A whole number from `min` to `max`. */
  | { readonly kind: 'int'; readonly min: number; readonly max: number; readonly doc?: string }
  | { readonly kind: 'number'; readonly min: number; readonly max: number; readonly doc?: string }
  /** At most `max` UTF-16 units. */
  | { readonly kind: 'text'; readonly max: number; readonly doc?: string }
  /** The uid of an object: in CBOR 16 bytes for a UUID, 17 for the kubelet's 32 hex digits. */
  | { readonly kind: 'uid'; readonly doc?: string }
  /** One of some words; in CBOR its place in the list. */
  | { readonly kind: 'word'; readonly words: readonly string[]; readonly doc?: string }
  /** A text that is mostly one of some words; in CBOR a word is its place in the list. */
  | {
      readonly kind: 'term';
      readonly words: readonly string[];
      readonly max: number;
      readonly doc?: string;
    }
  /** Absent, or 1. */
  | { readonly kind: 'flag'; readonly doc?: string }
  | { readonly kind: 'list'; readonly of: Shape; readonly max: number; readonly doc?: string }
  | RecordShape;

/**
 * A JSON object by name. In CBOR the number of a field is its place in the table, so a new field
 * goes to the end: as a `map` from numbers to values, or as a `row` of values in order, with null
 * for what is absent and without its absent end.
 */
export type RecordShape = {
  readonly kind: 'map' | 'row';
  readonly fields: readonly Field[];
  readonly doc?: string;
};

export type Field = {
  readonly name: string;
  readonly shape: Shape;
  readonly optional: boolean;
};

/** A record whose table has exactly the fields of `T`, in the order in which they are written. */
export function record<T>(
  kind: 'map' | 'row',
  fields: { readonly [K in keyof T & string]-?: Shape & Optional<T, K> },
): RecordShape {
  return {
    kind,
    fields: Object.entries<Shape & { readonly optional?: true }>(fields).map(([name, shape]) => ({
      name,
      shape,
      optional: shape.optional === true,
    })),
  };
}

type Optional<T, K extends keyof T> = undefined extends T[K]
  ? { readonly optional: true }
  : { readonly optional?: never };

/** What can't be read, with the place in the message. Never leaves this room. */
export class Misshapen extends Error {
  constructor(path: string, said: string) {
    super(path === '' ? said : `${path}: ${said}`);
    this.name = 'Misshapen';
  }
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const HEX = /^[0-9a-f]{32}$/;
const UID_CHARS = 64;

/**
 * A value as JSON has it. Total: texts and lists are cut and numbers brought into their range, so
 * that what is written can always be read.
 */
export function toJson(shape: Shape, value: unknown): unknown {
  switch (shape.kind) {
    case 'list': {
      const items = (value as readonly unknown[]).slice(0, shape.max);
      return items.map((item) => toJson(shape.of, item));
    }
    case 'map':
    case 'row': {
      const given = value as Readonly<Record<string, unknown>>;
      const present = shape.fields.filter(({ name }) => given[name] !== undefined);
      return Object.fromEntries(present.map((f) => [f.name, toJson(f.shape, given[f.name])]));
    }
    default:
      return bounded(shape, value);
  }
}

/** A value as CBOR has it: what toJson gives, with numbers for names. */
export function toCompact(shape: Shape, value: unknown): unknown {
  switch (shape.kind) {
    case 'list': {
      const items = (value as readonly unknown[]).slice(0, shape.max);
      return items.map((item) => toCompact(shape.of, item));
    }
    case 'map':
    case 'row':
      return compactRecord(shape, value as Readonly<Record<string, unknown>>);
    case 'word':
      return shape.words.indexOf(value as string);
    case 'term': {
      const text = bounded(shape, value) as string;
      const place = shape.words.indexOf(text);
      return place < 0 ? text : place;
    }
    case 'uid':
      return compactUid(bounded(shape, value) as string);
    default:
      return bounded(shape, value);
  }
}

function compactRecord(shape: RecordShape, given: Readonly<Record<string, unknown>>): unknown {
  const values = shape.fields.map(({ name, shape: of }) =>
    given[name] === undefined ? null : toCompact(of, given[name]),
  );
  if (shape.kind === 'row') return values.slice(0, values.findLastIndex((v) => v !== null) + 1);
  return new Map([...values.entries()].filter(([, value]) => value !== null));
}

function compactUid(uid: string): string | Uint8Array {
  if (UUID.test(uid)) return Uint8Array.fromHex(uid.replaceAll('-', ''));
  if (HEX.test(uid)) return Uint8Array.fromHex(`00${uid}`);
  return uid;
}

type Plain = Exclude<Shape, RecordShape | { readonly kind: 'list' }>;

function bounded(shape: Plain, value: unknown): unknown {
  switch (shape.kind) {
    case 'int':
    case 'number': {
      const number = Math.min(shape.max, Math.max(shape.min, value as number));
      const real = Number.isNaN(number) ? shape.min : number;
      return shape.kind === 'int' ? Math.round(real) : real;
    }
    case 'text':
    case 'term':
      return cut(value as string, shape.max);
    case 'uid':
      return cut(value as string, UID_CHARS);
    case 'word':
    case 'flag':
      return value;
  }
}

/** Never through the middle of a character, which would be no text any more. */
function cut(text: string, max: number): string {
  return text.toWellFormed().slice(0, max).toWellFormed();
}

/**
 * Reads a value from JSON or CBOR.
 * @throws Misshapen
 */
export function read(shape: Shape, given: unknown, path = ''): unknown {
  switch (shape.kind) {
    case 'int':
    case 'number':
      return readNumber(shape, given, path);
    case 'text':
      return readText(shape.max, given, path);
    case 'uid':
      return given instanceof Uint8Array ? readUid(given, path) : readText(UID_CHARS, given, path);
    case 'word': {
      const word = typeof given === 'number' ? shape.words[given] : given;
      if (typeof word === 'string' && shape.words.includes(word)) return word;
      throw new Misshapen(path, `is none of ${shape.words.join(', ')}`);
    }
    case 'term': {
      const word = typeof given === 'number' ? shape.words[given] : given;
      if (word === undefined) throw new Misshapen(path, 'is a word that is not known');
      return readText(shape.max, word, path);
    }
    case 'flag':
      if (given === 1) return 1;
      throw new Misshapen(path, 'is not 1');
    case 'list':
      if (!Array.isArray(given)) throw new Misshapen(path, 'is no list');
      if (given.length > shape.max) {
        throw new Misshapen(path, `has ${given.length} items, more than ${shape.max}`);
      }
      return given.map((item, index) => read(shape.of, item, `${path}[${index}]`));
    case 'map':
    case 'row':
      return readRecord(shape, given, path);
  }
}

function readNumber(
  { kind, min, max }: { kind: 'int' | 'number'; min: number; max: number },
  given: unknown,
  path: string,
): number {
  if (typeof given !== 'number' || !Number.isFinite(given)) {
    throw new Misshapen(path, 'is no number');
  }
  if (kind === 'int' && !Number.isInteger(given)) throw new Misshapen(path, 'is no whole number');
  if (given < min || given > max) throw new Misshapen(path, `is not between ${min} and ${max}`);
  return given;
}

function readText(max: number, given: unknown, path: string): string {
  if (typeof given !== 'string') throw new Misshapen(path, 'is no text');
  if (given.length > max) throw new Misshapen(path, `is longer than ${max} characters`);
  return given;
}

function readUid(bytes: Uint8Array, path: string): string {
  const hex = bytes.toHex();
  if (bytes.length === 16) return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  if (bytes.length === 17 && bytes[0] === 0) return hex.slice(2);
  throw new Misshapen(path, 'is no uid');
}

function readRecord(shape: RecordShape, given: unknown, path: string): unknown {
  const at = fieldsOf(shape, given, path);
  const out: Record<string, unknown> = {};
  for (const [index, field] of shape.fields.entries()) {
    const inside = path === '' ? field.name : `${path}.${field.name}`;
    const value = at(field.name, index);
    if (value !== undefined && value !== null) out[field.name] = read(field.shape, value, inside);
    else if (!field.optional) throw new Misshapen(inside, 'is missing');
  }
  return out;
}

type Lookup = (name: string, index: number) => unknown;

function fieldsOf(shape: RecordShape, given: unknown, path: string): Lookup {
  if (given instanceof Map) {
    const map: ReadonlyMap<unknown, unknown> = given;
    return (_name, index) => map.get(index);
  }
  if (Array.isArray(given) && shape.kind === 'row') {
    const row: readonly unknown[] = given;
    return (_name, index) => row[index];
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new Misshapen(path, 'is no record');
  }
  const object = given as Readonly<Record<string, unknown>>;
  return (name) => (Object.hasOwn(object, name) ? object[name] : undefined);
}
