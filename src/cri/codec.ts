/**
 * Protocol Buffers, as far as the CRI needs them: tables in (see `schema.ts`), plain objects out.
 * Source: protobuf.dev/programming-guides/encoding.
 *
 * - Decoding fills in proto3's defaults, skips what no table names, and copies everything it keeps,
 *   so the bytes may be overwritten as soon as it returns.
 * - 64-bit integers are numbers where a table says `int64` or `uint64` (a value beyond 2^53 fails),
 *   and bigints where it says `bigint`.
 * - Bytes that break the rules of the wire format give a `Failure`, never a half-filled object.
 */
import { Failure, invariant } from '../base/failure.ts';

export type Kind =
  | 'string'
  | 'bytes'
  | 'bool'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  /** An int64 that is a bigint here: nanoseconds. */
  | 'bigint'
  /** The message `Int64Value`, a number or nothing here. */
  | 'int64Value'
  | 'enum'
  | 'message'
  /** map<string, string>. */
  | 'map';

export type Enumeration<N extends string = string> = {
  readonly name: string;
  readonly values: Readonly<Record<N, number>>;
  readonly names: ReadonlyMap<number, N>;
};

export type Field<T = unknown> = {
  readonly number: number;
  readonly kind: Kind;
  readonly repeated: boolean;
  readonly message?: Message;
  readonly enumeration?: Enumeration;
  /** Nothing at run time: carries the type of the value. */
  readonly value?: T;
};

export type Fields = Readonly<Record<string, Field>>;

export type Message<F extends Fields = Fields> = {
  readonly name: string;
  readonly fields: F;
  readonly byNumber: ReadonlyMap<number, readonly [key: string, field: Field]>;
  /** What an empty message decodes to. */
  readonly defaults: Readonly<Record<string, unknown>>;
};

/** What decoding a message gives. */
export type Decoded<M extends Message> = {
  readonly [K in keyof M['fields']]: M['fields'][K] extends Field<infer T> ? T : never;
};

type Sparse<T> = T extends string | number | bigint | boolean | undefined | Uint8Array
  ? T
  : T extends readonly (infer E)[]
    ? readonly Sparse<E>[]
    : { readonly [K in keyof T]?: Sparse<T[K]> | undefined };

/** What encoding a message takes: any field may be left out. */
export type Encodable<M extends Message> = Sparse<Decoded<M>>;

const MAX_DEPTH = 16;
const NO_ITEMS: readonly never[] = Object.freeze([]);
const NO_ENTRIES: Readonly<Record<string, string>> = Object.freeze({});

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Describes a message; `name` is the one in the `.proto`, and so are the fields' in snake case. */
export function message<F extends Fields>(name: string, fields: F): Message<F> {
  const entries = Object.entries(fields);
  return {
    name,
    fields,
    byNumber: new Map(entries.map(([key, field]) => [field.number, [key, field] as const])),
    defaults: Object.fromEntries(entries.map(([key, field]) => [key, defaultOf(field)])),
  };
}

/** Describes an enum; `name` is the one in the `.proto`. */
export function enumeration<const N extends string>(
  name: string,
  values: Readonly<Record<N, number>>,
): Enumeration<N> {
  const entries = Object.entries<number>(values) as [N, number][];
  return { name, values, names: new Map(entries.map(([key, number]) => [number, key])) };
}

function defaultOf(field: Field): unknown {
  if (field.repeated) return NO_ITEMS;
  switch (field.kind) {
    case 'string':
      return '';
    case 'bytes':
      return Buffer.alloc(0);
    case 'bool':
      return false;
    case 'bigint':
      return 0n;
    case 'enum':
      return field.enumeration?.names.get(0);
    case 'map':
      return NO_ENTRIES;
    case 'message':
    case 'int64Value':
      return undefined;
    default:
      return 0;
  }
}

// ---- Encoding ----

/**
 * The bytes of a message. Fields that are left out or hold proto3's default are not written.
 *
 * @throws InvariantBroken when a value is not of the type its table names.
 */
export function encode<M extends Message>(type: M, value: Encodable<M>): Buffer {
  const out: Uint8Array[] = [];
  const values = value as Readonly<Record<string, unknown>>;
  for (const [key, field] of Object.entries(type.fields)) {
    const item = values[key];
    if (item === undefined) continue;
    if (field.repeated) encodeRepeated(out, field, item as readonly unknown[]);
    else if (field.kind === 'map') encodeMap(out, field, item as Record<string, string>);
    else if (!isDefault(field, item)) encodeField(out, field, item);
  }
  return Buffer.concat(out);
}

function isDefault(field: Field, item: unknown): boolean {
  if (field.kind === 'enum') return field.enumeration?.values[item as string] === 0;
  if (field.kind === 'bytes') return (item as Uint8Array).length === 0;
  return item === defaultOf(field);
}

function encodeRepeated(out: Uint8Array[], field: Field, items: readonly unknown[]): void {
  if (items.length === 0) return;
  if (!isPackable(field.kind)) {
    for (const item of items) encodeField(out, field, item);
    return;
  }
  const packed = Buffer.concat(items.map((item) => varint(integerOf(field, item))));
  out.push(tag(field, WIRE.bytes), varint(BigInt(packed.length)), packed);
}

function encodeMap(out: Uint8Array[], field: Field, entries: Record<string, string>): void {
  for (const [key, value] of Object.entries(entries)) {
    encodeBytes(out, field, encode(MAP_ENTRY, { key, value }));
  }
}

function encodeField(out: Uint8Array[], field: Field, item: unknown): void {
  switch (field.kind) {
    case 'string':
      return encodeBytes(out, field, Buffer.from(item as string, 'utf8'));
    case 'bytes':
      return encodeBytes(out, field, item as Uint8Array);
    case 'message':
      return encodeBytes(out, field, encode(field.message!, item as Encodable<Message>));
    case 'int64Value':
      return encodeBytes(out, field, encode(INT64_VALUE, { value: item as number }));
    default:
      out.push(tag(field, WIRE.varint), varint(integerOf(field, item)));
  }
}

function encodeBytes(out: Uint8Array[], field: Field, bytes: Uint8Array): void {
  out.push(tag(field, WIRE.bytes), varint(BigInt(bytes.length)), bytes);
}

function tag(field: Field, wire: number): Buffer {
  return varint(BigInt(field.number * 8 + wire));
}

function integerOf(field: Field, item: unknown): bigint {
  switch (field.kind) {
    case 'bool':
      return item === true ? 1n : 0n;
    case 'bigint':
      return item as bigint;
    case 'enum': {
      const number = field.enumeration!.values[item as string];
      invariant(number !== undefined, `${field.enumeration!.name} has no value ${String(item)}`);
      return BigInt(number);
    }
    default:
      invariant(Number.isSafeInteger(item), `field ${field.number} takes a whole number`);
      return BigInt(item as number);
  }
}

function varint(value: bigint): Buffer {
  // Negative numbers are written as the 64 bits of their two's complement.
  let rest = BigInt.asUintN(64, value);
  const bytes: number[] = [];
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

function isPackable(kind: Kind): boolean {
  return kind !== 'string' && kind !== 'bytes' && kind !== 'message' && kind !== 'int64Value';
}

// ---- Decoding ----

type Cursor = { readonly bytes: Buffer; at: number; low: number; high: number };

/**
 * The message in `bytes`. Keeps nothing of `bytes`.
 *
 * @throws Failure `Unknown` when the bytes are not such a message.
 */
export function decode<M extends Message>(type: M, bytes: Buffer): Decoded<M> {
  const cursor = { bytes, at: 0, low: 0, high: 0 };
  return decodeMessage(cursor, type, bytes.length, 0) as Decoded<M>;
}

function decodeMessage(
  cursor: Cursor,
  type: Message,
  end: number,
  depth: number,
): Record<string, unknown> {
  if (depth > MAX_DEPTH) throw malformed(type, `nested more than ${MAX_DEPTH} deep`);
  const out: Record<string, unknown> = { ...type.defaults };
  while (cursor.at < end) {
    readVarint(cursor, type, end);
    if (cursor.high !== 0) throw malformed(type, 'a field number is out of range');
    const number = cursor.low >>> 3;
    const wire = cursor.low & 7;
    if (number === 0) throw malformed(type, 'field number 0');
    const known = type.byNumber.get(number);
    if (known === undefined) skip(cursor, type, wire, end);
    else decodeField(cursor, type, known[0], known[1], wire, end, depth, out);
  }
  return out;
}

function decodeField(
  cursor: Cursor,
  type: Message,
  key: string,
  field: Field,
  wire: number,
  end: number,
  depth: number,
  out: Record<string, unknown>,
): void {
  const scalar = isPackable(field.kind) && field.kind !== 'map';
  if (wire === WIRE.varint && scalar) {
    readVarint(cursor, type, end);
    store(out, key, field, scalarOf(cursor, type, key, field));
    return;
  }
  if (wire !== WIRE.bytes || (scalar && !field.repeated)) {
    throw malformed(type, `${key} has wire type ${wire}`);
  }
  const stop = readLength(cursor, type, end);
  if (scalar) {
    while (cursor.at < stop) {
      readVarint(cursor, type, stop);
      store(out, key, field, scalarOf(cursor, type, key, field));
    }
    return;
  }
  store(out, key, field, decodeBytes(cursor, field, stop, depth, out[key]));
  cursor.at = stop;
}

function decodeBytes(
  cursor: Cursor,
  field: Field,
  stop: number,
  depth: number,
  before: unknown,
): unknown {
  switch (field.kind) {
    case 'string':
      return cursor.bytes.toString('utf8', cursor.at, stop);
    case 'bytes':
      return Buffer.from(cursor.bytes.subarray(cursor.at, stop));
    case 'int64Value':
      return decodeMessage(cursor, INT64_VALUE, stop, depth + 1)['value'];
    case 'map': {
      const entry = decodeMessage(cursor, MAP_ENTRY, stop, depth + 1);
      const entries = before === NO_ENTRIES ? {} : (before as Record<string, string>);
      entries[entry['key'] as string] = entry['value'] as string;
      return entries;
    }
    default:
      return decodeMessage(cursor, field.message!, stop, depth + 1);
  }
}

function store(out: Record<string, unknown>, key: string, field: Field, value: unknown): void {
  if (!field.repeated) out[key] = value;
  else if (out[key] === NO_ITEMS) out[key] = [value];
  else (out[key] as unknown[]).push(value);
}

function scalarOf(cursor: Cursor, type: Message, key: string, field: Field): unknown {
  const { low, high } = cursor;
  switch (field.kind) {
    case 'bool':
      return low !== 0 || high !== 0;
    case 'int32':
      return low | 0;
    case 'uint32':
      return low;
    case 'enum':
      // A value that a newer runtime knows and this table doesn't is undefined.
      return field.enumeration!.names.get(low | 0);
    case 'bigint':
      return (BigInt(high | 0) << 32n) | BigInt(low);
    default: {
      const number = (field.kind === 'int64' ? high | 0 : high) * 2 ** 32 + low;
      if (!Number.isSafeInteger(number)) throw malformed(type, `${key} is beyond 2^53`);
      return number;
    }
  }
}

function readVarint(cursor: Cursor, type: Message, end: number): void {
  let low = 0;
  let high = 0;
  for (let i = 0; i < 10; i++) {
    if (cursor.at >= end) throw malformed(type, 'cut off in a number');
    const byte = cursor.bytes[cursor.at++]!;
    const bits = byte & 0x7f;
    if (i < 4) low |= bits << (7 * i);
    else if (i > 4) high |= bits << (7 * i - 32);
    else {
      low |= bits << 28;
      high |= bits >>> 4;
    }
    if (byte < 0x80) {
      cursor.low = low >>> 0;
      cursor.high = high >>> 0;
      return;
    }
  }
  throw malformed(type, 'a number of more than ten bytes');
}

/** Reads a length and gives the offset where what it measures ends. */
function readLength(cursor: Cursor, type: Message, end: number): number {
  readVarint(cursor, type, end);
  if (cursor.high !== 0 || cursor.low > end - cursor.at) {
    throw malformed(type, 'a field is longer than what holds it');
  }
  return cursor.at + cursor.low;
}

function skip(cursor: Cursor, type: Message, wire: number, end: number): void {
  if (wire === WIRE.varint) readVarint(cursor, type, end);
  else if (wire === WIRE.bytes) cursor.at = readLength(cursor, type, end);
  else if (wire === WIRE.fixed64 || wire === WIRE.fixed32) {
    cursor.at += wire === WIRE.fixed64 ? 8 : 4;
    if (cursor.at > end) throw malformed(type, 'cut off in a fixed-size field');
  } else throw malformed(type, `wire type ${wire}`);
}

function malformed(type: Message, what: string): Failure {
  return new Failure('Unknown', `the runtime sent a malformed ${type.name}: ${what}`);
}

const MAP_ENTRY = message('MapEntry', {
  key: { number: 1, kind: 'string', repeated: false },
  value: { number: 2, kind: 'string', repeated: false },
});

const INT64_VALUE = message('Int64Value', {
  value: { number: 1, kind: 'int64', repeated: false },
});
