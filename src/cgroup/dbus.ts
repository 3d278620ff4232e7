/**
 * As much D-Bus as a few method calls to systemd take: one connection, one call, one reply.
 * Source: dbus.freedesktop.org/doc/dbus-specification.html.
 */
import net from 'node:net';

import { Failure } from '../base/failure.ts';

/** An argument with its signature; structures are arrays, so is `a…`, and `v` holds another. */
export type Argument =
  | { readonly type: 's' | 'o'; readonly value: string }
  | { readonly type: 'b'; readonly value: boolean }
  | { readonly type: 't'; readonly value: bigint }
  | { readonly type: 'as'; readonly value: readonly string[] }
  | { readonly type: 'a(sv)'; readonly value: readonly Property[] }
  /** Always empty here. */
  | { readonly type: 'a(sa(sv))'; readonly value: readonly [] };

export type Property = readonly [name: string, value: Argument];

export type MethodCall = {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly args: readonly Argument[];
};

/** A reply that is an error: its name, such as `org.freedesktop.systemd1.NoSuchUnit`. */
export type Reply = { readonly error?: string; readonly text?: string };

const METHOD_CALL = 1;
const METHOD_RETURN = 2;
const ERROR = 3;
const FIELD = {
  path: 1,
  interface: 2,
  member: 3,
  errorName: 4,
  replySerial: 5,
  destination: 6,
  signature: 8,
} as const;
const FIXED_HEADER_BYTES = 16;
const MAX_REPLY_BYTES = 1024 * 1024;

/** Little-endian bytes with D-Bus's alignment. */
class Marshal {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  pad(alignment: number): void {
    while (this.#bytes.length % alignment !== 0) this.#bytes.push(0);
  }

  byte(value: number): void {
    this.#bytes.push(value);
  }

  uint32(value: number): void {
    this.pad(4);
    this.patch(this.reserve(4), value);
  }

  uint64(value: bigint): void {
    this.pad(8);
    this.patch(this.reserve(8), Number(value & 0xffffffffn));
    this.patch(this.length - 4, Number(value >> 32n));
  }

  string(value: string): void {
    const bytes = Buffer.from(value, 'utf8');
    this.uint32(bytes.length);
    for (const byte of bytes) this.#bytes.push(byte);
    this.#bytes.push(0);
  }

  signature(value: string): void {
    this.byte(value.length);
    for (const byte of Buffer.from(value, 'latin1')) this.#bytes.push(byte);
    this.#bytes.push(0);
  }

  /** An array of items that start at `alignment`. */
  array(alignment: number, write: () => void): void {
    this.pad(4);
    const at = this.reserve(4);
    this.pad(alignment);
    const start = this.length;
    write();
    this.patch(at, this.length - start);
  }

  argument(argument: Argument): void {
    switch (argument.type) {
      case 's':
      case 'o':
        return this.string(argument.value);
      case 'b':
        return this.uint32(argument.value ? 1 : 0);
      case 't':
        return this.uint64(argument.value);
      case 'as':
        return this.array(4, () => argument.value.forEach((item) => this.string(item)));
      case 'a(sv)':
        return this.array(8, () => {
          for (const [name, value] of argument.value) {
            this.pad(8);
            this.string(name);
            this.signature(value.type);
            this.argument(value);
          }
        });
      case 'a(sa(sv))':
        return this.array(8, () => undefined);
    }
  }

  reserve(count: number): number {
    const at = this.length;
    for (let i = 0; i < count; i++) this.#bytes.push(0);
    return at;
  }

  patch(at: number, value: number): void {
    for (let i = 0; i < 4; i++) this.#bytes[at + i] = (value >>> (8 * i)) & 0xff;
  }

  toBuffer(): Buffer {
    return Buffer.from(this.#bytes);
  }
}

/** The bytes of a call. */
export function encodeCall(call: MethodCall, serial: number): Buffer {
  const body = new Marshal();
  for (const argument of call.args) body.argument(argument);
  const message = new Marshal();
  message.byte('l'.charCodeAt(0));
  message.byte(METHOD_CALL);
  message.byte(0);
  message.byte(1);
  message.uint32(body.length);
  message.uint32(serial);
  const fields: readonly [number, 'o' | 's' | 'g', string][] = [
    [FIELD.path, 'o', call.path],
    [FIELD.interface, 's', call.interface],
    [FIELD.member, 's', call.member],
    [FIELD.destination, 's', call.destination],
    [FIELD.signature, 'g', call.args.map(({ type }) => type).join('')],
  ];
  message.array(8, () => {
    for (const [code, type, value] of fields) {
      message.pad(8);
      message.byte(code);
      message.signature(type);
      if (type === 'g') message.signature(value);
      else message.string(value);
    }
  });
  message.pad(8);
  return Buffer.concat([message.toBuffer(), body.toBuffer()]);
}

/**
 * Takes the reply to `serial` out of the messages in `bytes`: what is left, and the reply once it
 * is there. Signals and other messages are dropped.
 *
 * @throws Failure on bytes that are no D-Bus.
 */
export function takeReply(bytes: Buffer, serial: number): { rest: Buffer; reply?: Reply } {
  let rest = bytes;
  while (rest.length >= FIXED_HEADER_BYTES) {
    if (rest[0] !== 0x6c) throw new Failure('Unknown', 'systemd speaks no little-endian D-Bus');
    const bodyBytes = rest.readUInt32LE(4);
    const fieldBytes = rest.readUInt32LE(12);
    const bodyAt = Math.ceil((FIXED_HEADER_BYTES + fieldBytes) / 8) * 8;
    const total = bodyAt + bodyBytes;
    if (total > MAX_REPLY_BYTES) throw new Failure('Unknown', 'systemd sent too large a message');
    if (rest.length < total) break;
    const type = rest[1];
    const fields = headerFields(rest.subarray(0, FIXED_HEADER_BYTES + fieldBytes));
    const body = rest.subarray(bodyAt, total);
    rest = rest.subarray(total);
    if (fields.get(FIELD.replySerial) !== serial) continue;
    if (type === METHOD_RETURN) return { rest, reply: {} };
    if (type === ERROR) {
      const error = String(fields.get(FIELD.errorName) ?? 'unknown');
      const isText = String(fields.get(FIELD.signature) ?? '').startsWith('s');
      const text = isText ? body.toString('utf8', 4, 4 + body.readUInt32LE(0)) : '';
      return { rest, reply: { error, text } };
    }
  }
  return { rest };
}

function headerFields(header: Buffer): ReadonlyMap<number, string | number> {
  const fields = new Map<number, string | number>();
  let at = FIXED_HEADER_BYTES;
  while (at < header.length) {
    at = Math.ceil(at / 8) * 8;
    const code = header[at];
    const type = String.fromCharCode(header[at + 2] ?? 0);
    at += 4;
    if (code === undefined) break;
    if (type === 'u') {
      at = Math.ceil(at / 4) * 4;
      fields.set(code, header.readUInt32LE(at));
      at += 4;
    } else if (type === 's' || type === 'o') {
      at = Math.ceil(at / 4) * 4;
      const length = header.readUInt32LE(at);
      fields.set(code, header.toString('utf8', at + 4, at + 4 + length));
      at += 4 + length + 1;
    } else if (type === 'g') {
      const length = header[at] ?? 0;
      fields.set(code, header.toString('latin1', at + 1, at + 1 + length));
      at += 1 + length + 1;
    } else throw new Failure('Unknown', `systemd sent a header field of type ${type}`);
  }
  return fields;
}

export type BusAddress = {
  readonly path: string;
  /** A message bus, and not the peer itself: it wants a Hello first. */
  readonly bus: boolean;
};

/**
 * Makes one call over a connection of its own.
 *
 * @throws Failure `Unavailable` when nobody listens or the connection breaks; `PermissionDenied`;
 *   `Cancelled`.
 */
export async function callOnce(
  address: BusAddress,
  uid: number,
  call: MethodCall,
  signal: AbortSignal,
): Promise<Reply> {
  const socket = net.connect({ path: address.path, signal });
  const received = reader(socket);
  try {
    // SASL: EXTERNAL means that the kernel vouches for our user id.
    socket.write(`\0AUTH EXTERNAL ${Buffer.from(String(uid)).toString('hex')}\r\n`);
    const answer = await received.line();
    if (!answer.startsWith('OK ')) {
      throw new Failure('PermissionDenied', `${address.path} does not let us in: ${answer}`);
    }
    socket.write('BEGIN\r\n');
    if (address.bus) {
      socket.write(encodeCall(HELLO, 1));
      await received.reply(1);
    }
    socket.write(encodeCall(call, 2));
    return await received.reply(2);
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (signal.aborted)
      throw new Failure('Cancelled', `${call.member} was cancelled`, { cause: error });
    const why = error instanceof Error ? error.message : String(error);
    throw new Failure('Unavailable', `can't reach systemd at ${address.path}: ${why}`, {
      cause: error,
    });
  } finally {
    socket.destroy();
  }
}

const HELLO: MethodCall = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
  member: 'Hello',
  args: [],
};

type Reader = { line(): Promise<string>; reply(serial: number): Promise<Reply> };

function reader(socket: net.Socket): Reader {
  const chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  let bytes: Buffer = Buffer.alloc(0);
  const more = async () => {
    const next = await chunks.next();
    if (next.done === true) throw new Error('it hung up');
    bytes = Buffer.concat([bytes, next.value]);
    if (bytes.length > MAX_REPLY_BYTES) throw new Error('it sends too much');
  };
  return {
    async line() {
      let end: number;
      while ((end = bytes.indexOf('\r\n')) < 0) await more();
      const line = bytes.toString('latin1', 0, end);
      bytes = bytes.subarray(end + 2);
      return line;
    },
    async reply(serial) {
      for (;;) {
        const { rest, reply } = takeReply(bytes, serial);
        bytes = rest;
        if (reply !== undefined) return reply;
        await more();
      }
    },
  };
}
