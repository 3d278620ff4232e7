/**
 * The few structures of DER that certificates and requests for them are made of: node:crypto makes
 * keys and signatures, but neither of those.
 * Source: X.690, RFC 5280.
 */
import { isIP, isIPv4 } from 'node:net';

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  /** Choices of a GeneralName. */
  dnsName: 0x82,
  ipAddress: 0x87,
  /** [0], e.g. the attributes of a request, the version of a certificate. */
  context0: 0xa0,
  /** [3], the extensions of a certificate. */
  context3: 0xa3,
} as const;

export const OID = {
  ecdsaWithSha256: [1, 2, 840, 10045, 4, 3, 2],
  commonName: [2, 5, 4, 3],
  organization: [2, 5, 4, 10],
  extensionRequest: [1, 2, 840, 113549, 1, 9, 14],
  keyUsage: [2, 5, 29, 15],
  subjectAltName: [2, 5, 29, 17],
  basicConstraints: [2, 5, 29, 19],
  extKeyUsage: [2, 5, 29, 37],
  serverAuth: [1, 3, 6, 1, 5, 5, 7, 3, 1],
} as const;

export function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body]);
  const digits = body.length.toString(16);
  const length = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, body]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => der(TAG.sequence, ...parts);

export const integer = (value: Uint8Array): Buffer => der(TAG.integer, value);

/** With no unused bits. */
export const bitString = (value: Uint8Array): Buffer => der(TAG.bitString, Buffer.of(0), value);

export function oid([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  const bytes = rest.flatMap((arc) => {
    const septets = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    return septets;
  });
  return der(TAG.oid, Buffer.from([first * 40 + second, ...bytes]));
}

/** From 2050 on, X.509 writes years with four digits. */
const YEAR_OF_LONG_TIMES = 2050;

/** A moment, in milliseconds since 1970, to the second. */
export function time(ms: number): Buffer {
  const date = new Date(ms);
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() >= YEAR_OF_LONG_TIMES
    ? der(TAG.generalizedTime, Buffer.from(digits))
    : der(TAG.utcTime, Buffer.from(digits.slice(2)));
}

/** A relative distinguished name of one attribute. */
export function attribute(type: readonly number[], text: string): Buffer {
  return der(TAG.set, sequence(oid(type), der(TAG.utf8String, Buffer.from(text))));
}

/** An IP address or a DNS name as a subject's other name; undefined for what is neither. */
export function generalName(name: string): Buffer | undefined {
  if (isIP(name) !== 0) {
    return name.includes('%') ? undefined : der(TAG.ipAddress, ipBytes(name));
  }
  const isName = name.length <= 253 && /^[\w-]+(\.[\w-]+)*$/.test(name);
  return isName ? der(TAG.dnsName, Buffer.from(name, 'ascii')) : undefined;
}

/** 4 or 16 bytes of an address that `isIP` took. */
function ipBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail = ''] = address.split('::');
  const before = groups(head);
  const after = groups(tail);
  return Buffer.concat([before, Buffer.alloc(16 - before.length - after.length), after]);
}

function groups(part: string): Buffer {
  const bytes = part.split(':').flatMap((group) => {
    if (group === '') return [];
    if (group.includes('.')) return group.split('.').map(Number);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
  return Buffer.from(bytes);
}

/** @param label `CERTIFICATE`, `CERTIFICATE REQUEST` */
export function pem(label: string, content: Buffer): string {
  const lines = content.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
