/** Messages as bytes: CBOR or JSON out, either in. */
import { decode as decodeCbor, encode as encodeCbor } from 'cborg';
import type { Fault } from '../base/failure.ts';
import {
  ALWAYS_JSON,
  MAJOR,
  MESSAGE_BYTES,
  SHAPES,
  type MessageKind,
  type Messages,
} from './message.ts';
import { Misshapen, read, toCompact, toJson } from './shape.ts';

export type Encoding = 'cbor' | 'json';

/** The bytes of a message. Never fails: what is too long is cut. Some are always JSON. */
export function encode<K extends MessageKind>(
  kind: K,
  message: Messages[K],
  encoding: Encoding,
): Uint8Array {
  const shape = SHAPES[kind];
  if (encoding === 'cbor' && !ALWAYS_JSON.has(kind)) return encodeCbor(toCompact(shape, message));
  return new TextEncoder().encode(JSON.stringify(toJson(shape, message)));
}

export type Decoded<T> =
  { readonly ok: true; readonly message: T } | { readonly ok: false; readonly fault: Fault };

const CBOR = {
  useMaps: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowBigInt: false,
  allowInfinity: false,
  allowNaN: false,
  rejectDuplicateMapKeys: true,
} as const;

const OPENING_BRACE = 0x7b;

/**
 * Reads a message, whichever way it is written: no CBOR map begins with "{". Never throws, whatever
 * the bytes are; fields of a newer minor version are ignored, a newer major version is refused.
 */
export function decode<K extends MessageKind>(kind: K, bytes: Uint8Array): Decoded<Messages[K]> {
  if (bytes.length > MESSAGE_BYTES) {
    return refused(kind, `has ${bytes.length} bytes, more than ${MESSAGE_BYTES}`);
  }
  let value: unknown;
  try {
    value =
      bytes[0] === OPENING_BRACE
        ? JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
        : decodeCbor(bytes, CBOR);
  } catch {
    return refused(kind, 'is neither JSON nor CBOR');
  }
  try {
    const message = read(SHAPES[kind], value) as Messages[K];
    const version = 'v' in message ? Number.parseInt(message.v, 10) : MAJOR;
    if (version === MAJOR) return { ok: true, message };
    return refused(kind, `is of format ${version}, and this limpet reads ${MAJOR}: upgrade it`);
  } catch (error) {
    if (error instanceof Misshapen) return refused(kind, error.message);
    throw error;
  }
}

function refused(kind: MessageKind, why: string): { readonly ok: false; readonly fault: Fault } {
  return { ok: false, fault: { code: 'InvalidArgument', message: `the message ${kind} ${why}` } };
}
