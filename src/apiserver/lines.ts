/** Cuts a stream of bytes into lines, wherever the network has cut it. */
const NEWLINE = 0x0a;

export type LineSplitter = {
  /** @throws what `tooLong` gives, for a line of more than `maxBytes` */
  push(chunk: Buffer): void;
  /** Bytes of a line that has not ended. */
  readonly pending: number;
};

/**
 * Gives each line without its end; empty ones are left out. A line is decoded whole, so a character
 * may arrive in parts.
 */
export function splitLines(
  maxBytes: number,
  onLine: (line: string) => void,
  tooLong: () => Error,
): LineSplitter {
  let parts: Buffer[] = [];
  let pending = 0;
  const keep = (part: Buffer) => {
    pending += part.length;
    if (pending > maxBytes) throw tooLong();
    if (part.length > 0) parts.push(part);
  };
  return {
    push(chunk) {
      let from = 0;
      for (;;) {
        const end = chunk.indexOf(NEWLINE, from);
        if (end === -1) return keep(chunk.subarray(from));
        keep(chunk.subarray(from, end));
        from = end + 1;
        if (pending === 0) continue;
        const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts, pending);
        parts = [];
        pending = 0;
        onLine(line.toString('utf8'));
      }
    },
    get pending() {
      return pending;
    },
  };
}
