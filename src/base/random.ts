/** Randomness as an argument, so that a simulation can seed it. */
export type Random = {
  /** A number in [0, 1). */
  next(): number;
  /** An independent stream; the same label always gives the same one. */
  fork(label: string): Random;
  /** A version 4 UUID. */
  uuid(): string;
};

/** The operating system's entropy. */
export function systemRandom(): Random {
  return {
    next: () => Math.random(),
    fork: () => systemRandom(),
    uuid: () => globalThis.crypto.randomUUID(),
  };
}

/** Bytes that nobody can guess, for keys and nonces. */
export function secretBytes(count: number): Uint8Array {
  return globalThis.crypto.getRandomValues(new Uint8Array(count));
}

/** A seeded stream (splitmix32), the same on every machine. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    fork: (label) => {
      let hash = seed >>> 0;
      for (const char of label) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193) >>> 0;
      return seededRandom(hash);
    },
    uuid: () => {
      const hex = Array.from({ length: 32 }, () => Math.floor(next() * 16).toString(16));
      hex[12] = '4';
      hex[16] = '8';
      const s = hex.join('');
      return [s.slice(0, 8), s.slice(8, 12), s.slice(12, 16), s.slice(16, 20), s.slice(20)].join(
        '-',
      );
    },
  };
}
