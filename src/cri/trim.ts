/**
 * Cuts long fields out of a gRPC message while it arrives, so that what a container prints costs no
 * more memory than what is kept of it. Only for messages of flat fields (ExecSyncResponse).
 */
import { Failure } from '../base/failure.ts';
import { protocolFailure } from './errors.ts';
import type { Receiver } from './receive.ts';

const WIRE_VARINT = 0;
const WIRE_BYTES = 2;
const HEAD_BYTES = 5;
/** A tag, or the length of a field: at most ten bytes. */
const MAX_VARINT_BYTES = 10;

type Step =
  | { readonly at: 'head'; readonly bytes: number[] }
  | { readonly at: 'tag' | 'value'; readonly number: bigint; readonly shift: bigint }
  | { readonly at: 'length'; readonly number: bigint; readonly shift: bigint }
  | { readonly at: 'field'; readonly left: number; readonly kept: Buffer; readonly filled: number };

const TAG: Step = { at: 'tag', number: 0n, shift: 0n };

/**
 * A receiver that gives `onMessage` each message with no more than `keepBytes` of any field.
 * `push` throws a Failure when the bytes are no such message.
 */
export function createTrimmer(
  method: string,
  keepBytes: number,
  onMessage: (bytes: Buffer) => void,
): Receiver {
  let step: Step = { at: 'head', bytes: [] };
  let left = 0;
  let tag = 0n;
  let out: Buffer[] = [];

  const finish = () => {
    if (left > 0) return;
    if (step !== TAG) throw malformed(method, 'cut off in a number');
    onMessage(Buffer.concat(out));
    out = [];
    step = { at: 'head', bytes: [] };
  };
  const byte = (value: number) => {
    if (step.at === 'head') {
      step.bytes.push(value);
      if (step.bytes.length < HEAD_BYTES) return;
      const head = Buffer.from(step.bytes);
      if (head[0] !== 0) throw protocolFailure(method, 'a compressed message was not asked for');
      left = head.readUInt32BE(1);
      step = TAG;
      return finish();
    }
    if (step.at === 'field') return;
    left -= 1;
    const number = step.number | (BigInt(value & 0x7f) << step.shift);
    const shift = step.shift + 7n;
    if (shift > BigInt(7 * MAX_VARINT_BYTES)) throw malformed(method, 'a number that is too long');
    if (value >= 0x80) {
      step = { ...step, number, shift };
    } else if (step.at === 'tag') {
      tag = number;
      const wire = Number(number & 7n);
      if (wire !== WIRE_VARINT && wire !== WIRE_BYTES) throw malformed(method, `wire type ${wire}`);
      step = { at: wire === WIRE_BYTES ? 'length' : 'value', number: 0n, shift: 0n };
    } else if (step.at === 'value') {
      out.push(varint(tag), varint(number));
      step = TAG;
    } else {
      if (number > BigInt(left)) throw malformed(method, 'a field longer than what holds it');
      const length = Number(number);
      const kept = Buffer.allocUnsafe(Math.min(length, keepBytes));
      step = { at: 'field', left: length, kept, filled: 0 };
      return endField();
    }
    finish();
  };
  const endField = () => {
    if (step.at !== 'field' || step.left > 0) return;
    out.push(varint(tag), varint(BigInt(step.kept.length)), step.kept);
    step = TAG;
    finish();
  };
  return {
    push(chunk) {
      let at = 0;
      while (at < chunk.length) {
        if (step.at !== 'field') {
          byte(chunk[at]!);
          at += 1;
          continue;
        }
        const { kept, filled } = step;
        const count = Math.min(step.left, chunk.length - at);
        const copied = chunk.copy(kept, filled, at, at + count);
        at += count;
        left -= count;
        step = { at: 'field', left: step.left - count, kept, filled: filled + copied };
        endField();
      }
    },
    partial: () => step.at !== 'head' || step.bytes.length > 0,
    done: () => undefined,
  };
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

function malformed(method: string, what: string): Failure {
  return new Failure('Unknown', `${method}: the runtime sent a malformed message: ${what}`);
}
