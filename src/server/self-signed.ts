/**
 * The serving certificate of a node that was given none: X.509 v3, ECDSA P-256, signed by itself.
 * node:crypto makes keys and signatures but no certificates, so their few DER structures are here.
 * Source: RFC 5280, RFC 5480, X.690.
 */
import { generateKeyPairSync, sign } from 'node:crypto';
import { isIP, isIPv4 } from 'node:net';
import type { Random } from '../base/random.ts';

/** A certificate, or a chain that begins with it, and its private key, both PEM. */
export type KeyPair = { readonly cert: string; readonly key: string };

const HOUR_MS = 3_600_000;
export const SELF_SIGNED_MS = 365 * 24 * HOUR_MS;
/** The longest common name (RFC 5280, ub-common-name); the whole name is among the SANs. */
const MAX_COMMON_NAME = 64;
/** From 2050 on, X.509 writes years with four digits. */
const YEAR_OF_LONG_TIMES = 2050;

const TAG = {
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
  /** [0] and [3] of a certificate, and the choices of a GeneralName. */
  version: 0xa0,
  extensions: 0xa3,
  dnsName: 0x82,
  ipAddress: 0x87,
} as const;

const OID = {
  ecdsaWithSha256: [1, 2, 840, 10045, 4, 3, 2],
  commonName: [2, 5, 4, 3],
  keyUsage: [2, 5, 29, 15],
  subjectAltName: [2, 5, 29, 17],
  basicConstraints: [2, 5, 29, 19],
  extKeyUsage: [2, 5, 29, 37],
  serverAuth: [1, 3, 6, 1, 5, 5, 7, 3, 1],
} as const;

/**
 * A new key and a certificate for `nodeName` and `addresses` (IP addresses and DNS names; anything
 * else is left out), valid for a year from an hour before `wallMs`.
 */
export function selfSigned(
  nodeName: string,
  addresses: readonly string[],
  { wallMs, random }: { readonly wallMs: number; readonly random: Random },
): KeyPair {
  const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const commonName = der(TAG.utf8String, Buffer.from(nodeName.slice(0, MAX_COMMON_NAME)));
  const name = sequence(der(TAG.set, sequence(oid(OID.commonName), commonName)));
  const from = wallMs - HOUR_MS;
  const body = sequence(
    der(TAG.version, integer(Buffer.of(2))),
    integer(serialNumber(random)),
    algorithm,
    name,
    sequence(time(from), time(from + SELF_SIGNED_MS)),
    name,
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    der(TAG.extensions, sequence(...extensions([nodeName, ...addresses]))),
  );
  const certificate = sequence(body, algorithm, bitString(sign('sha256', body, keys.privateKey)));
  return { cert: pem(certificate), key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }) };
}

function extensions(names: readonly string[]): readonly Buffer[] {
  const isTrue = der(TAG.boolean, Buffer.of(0xff));
  const extension = (id: readonly number[], critical: boolean, value: Buffer) =>
    sequence(oid(id), ...(critical ? [isTrue] : []), der(TAG.octetString, value));
  // Bit 0 of the key usage, digitalSignature, and seven unused bits.
  const digitalSignature = der(TAG.bitString, Buffer.of(7, 0x80));
  return [
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.keyUsage, true, digitalSignature),
    extension(OID.extKeyUsage, false, sequence(oid(OID.serverAuth))),
    extension(OID.subjectAltName, false, sequence(...[...new Set(names)].flatMap(generalName))),
  ];
}

function generalName(name: string): Buffer | [] {
  if (isIP(name) !== 0) return name.includes('%') ? [] : der(TAG.ipAddress, ipBytes(name));
  const isName = name.length <= 253 && /^[\w-]+(\.[\w-]+)*$/.test(name);
  return isName ? der(TAG.dnsName, Buffer.from(name, 'ascii')) : [];
}

/** 4 or 16 bytes of an address that `isIP` took. */
function ipBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const before = groups(head);
  const after = groups(tail ?? '');
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

/** 16 bytes, positive. */
function serialNumber(random: Random): Buffer {
  const bytes = Buffer.from(random.uuid().replaceAll('-', ''), 'hex');
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}

function time(ms: number): Buffer {
  const date = new Date(ms);
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '');
  return date.getUTCFullYear() >= YEAR_OF_LONG_TIMES
    ? der(TAG.generalizedTime, Buffer.from(digits))
    : der(TAG.utcTime, Buffer.from(digits.slice(2)));
}

function oid([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  const bytes = rest.flatMap((arc) => {
    const septets = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) septets.unshift((left & 0x7f) | 0x80);
    return septets;
  });
  return der(TAG.oid, Buffer.from([first * 40 + second, ...bytes]));
}

const sequence = (...parts: readonly Buffer[]): Buffer => der(TAG.sequence, ...parts);
const integer = (value: Buffer): Buffer => der(TAG.integer, value);
/** With no unused bits. */
const bitString = (value: Buffer): Buffer => der(TAG.bitString, Buffer.of(0), value);

function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body]);
  const digits = body.length.toString(16);
  const length = Buffer.from(digits.padStart(digits.length + (digits.length % 2), '0'), 'hex');
  return Buffer.concat([Buffer.of(tag, 0x80 | length.length), length, body]);
}

function pem(certificate: Buffer): string {
  const lines = certificate.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
