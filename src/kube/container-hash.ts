/**
 * FNV-1a hashes as Go's hash/fnv has them, and the hash that the kubelet writes on a container.
 * An agent that takes over a node keeps its containers only if it computes the same one.
 */

/** FNV-1a of UTF-8 text in 32 bits. */
export function fnv1a32(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) {
    hash = Math.imul(hash ^ byte, 0x01000193);
  }
  return hash >>> 0;
}

const FNV128_OFFSET = 0x6c62272e07bb014262b821756295c58dn;
const FNV128_PRIME_LOW = 0x13bn;

/** FNV-1a of UTF-8 text in 128 bits, as 32 hexadecimal digits. */
export function fnv1a128(text: string): string {
  let hash = FNV128_OFFSET;
  for (const byte of new TextEncoder().encode(text)) {
    hash ^= BigInt(byte);
    // The prime is 2^88 + 0x13b.
    hash = BigInt.asUintN(128, (hash << 88n) + hash * FNV128_PRIME_LOW);
  }
  return hash.toString(16).padStart(32, '0');
}

export const HASH_ANNOTATION = 'io.kubernetes.container.hash';

/**
 * The annotation `io.kubernetes.container.hash`: FNV-1a-32 over the way Go prints the bytes of
 * `{"name":…,"image":…}`. Source: kubecontainer.HashContainer, v1.36.
 */
export function containerHash(container: {
  readonly name: string;
  readonly image: string;
}): string {
  const { name, image } = container;
  const bytes = new TextEncoder().encode(`{"image":${goJson(image)},"name":${goJson(name)}}`);
  return fnv1a32(`([]uint8)[${bytes.join(' ')}]`).toString(16);
}

/** Go's encoding/json escapes what HTML would read, and the separators U+2028 and U+2029. */
function goJson(text: string): string {
  return JSON.stringify(text).replace(/[<>&\u2028\u2029]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });
}
