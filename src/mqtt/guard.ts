/** Looks at the length of each packet before anybody keeps its bytes. */

/**
 * Takes all bytes of a connection in turn. Returns what is wrong as soon as a packet announces more
 * than `maxBytes`, or a length that is none. Source: MQTT 5.0, section 1.5.5 and 2.1.
 */
export function packetGuard(maxBytes: number): (chunk: Uint8Array) => string | undefined {
  /** Bytes of the packet's body that are still to come. */
  let left = 0;
  /** Bytes of the length that were read; undefined before the packet's first byte. */
  let digits: number | undefined;
  let length = 0;
  return (chunk) => {
    let at = 0;
    while (at < chunk.length) {
      if (left > 0) {
        const skipped = Math.min(left, chunk.length - at);
        left -= skipped;
        at += skipped;
        continue;
      }
      const byte = chunk[at++]!;
      if (digits === undefined) {
        digits = 0;
        length = 0;
        continue;
      }
      length += (byte & 0x7f) * 128 ** digits;
      digits += 1;
      if (byte >= 0x80) {
        if (digits === 4) return 'what is no MQTT';
        continue;
      }
      if (length > maxBytes) return `a packet of ${length} bytes, more than ${maxBytes}`;
      left = length;
      digits = undefined;
    }
    return undefined;
  };
}
