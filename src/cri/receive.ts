/**
 * Cuts the bytes of a gRPC answer into messages. Chunks are copied into one kept buffer and decoded
 * from there at once: a relist of hundreds of containers then leaves no garbage behind but its
 * result, which is what keeps the agent's memory flat.
 */
import { Failure } from '../base/failure.ts';
import { protocolFailure } from './errors.ts';

/** One byte of flags and four of length before each message. */
const HEAD_BYTES = 5;
const FIRST_BYTES = 4096;
/** A buffer that once had to grow beyond this is not kept. */
const KEPT_BYTES = 1024 * 1024;

export type Receiver = {
  /** Takes bytes in, and gives each message that is complete to `onMessage`. */
  push(chunk: Buffer): void;
  /** True in the middle of a message. */
  partial(): boolean;
  /** Gives the buffer back. */
  done(): void;
};

export type Receivers = {
  open(method: string, onMessage: (bytes: Buffer) => void): Receiver;
};

/**
 * Receivers with one kept buffer for each method.
 *
 * @param maxBytes The longest message that is taken. `push` throws a Failure `ResourceExhausted` on
 *   a longer one before it has arrived.
 */
export function createReceivers(maxBytes: number): Receivers {
  /** Buffers that nobody uses at the moment, by method. */
  const idle = new Map<string, Buffer>();
  return {
    open(method, onMessage) {
      let buffer = idle.get(method) ?? Buffer.allocUnsafeSlow(FIRST_BYTES);
      idle.delete(method);
      let filled = 0;

      const needed = (): number => {
        if (filled < HEAD_BYTES) return HEAD_BYTES;
        if (buffer[0] !== 0)
          throw protocolFailure(method, 'a compressed message was not asked for');
        const length = buffer.readUInt32BE(1);
        if (length > maxBytes) {
          throw new Failure(
            'ResourceExhausted',
            `${method}: the runtime answers with ${length} bytes; limpet takes ${maxBytes}`,
          );
        }
        return HEAD_BYTES + length;
      };

      return {
        push(chunk) {
          let at = 0;
          while (at < chunk.length) {
            const target = needed();
            buffer = grown(buffer, filled, target);
            const count = Math.min(target - filled, chunk.length - at);
            chunk.copy(buffer, filled, at, at + count);
            filled += count;
            at += count;
            if (filled >= HEAD_BYTES && filled === needed()) {
              onMessage(buffer.subarray(HEAD_BYTES, filled));
              filled = 0;
            }
          }
        },
        partial: () => filled > 0,
        done() {
          if (buffer.length <= KEPT_BYTES) idle.set(method, buffer);
        },
      };
    },
  };
}

function grown(buffer: Buffer, filled: number, target: number): Buffer {
  if (target <= buffer.length) return buffer;
  const larger = Buffer.allocUnsafeSlow(Math.max(target, 2 * buffer.length));
  buffer.copy(larger, 0, 0, filled);
  return larger;
}
