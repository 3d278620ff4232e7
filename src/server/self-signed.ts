/**
 * The serving certificate of a node that was given none: X.509 v3, ECDSA P-256, signed by itself.
 * Source: RFC 5280, RFC 5480.
 */
import { generateKeyPairSync, sign } from 'node:crypto';
import {
  attribute,
  bitString,
  der,
  generalName,
  integer,
  oid,
  OID,
  pem,
  sequence,
  TAG,
  time,
} from '../base/der.ts';
import type { Random } from '../base/random.ts';

/** A certificate, or a chain that begins with it, and its private key, both PEM. */
export type KeyPair = { readonly cert: string; readonly key: string };

const HOUR_MS = 3_600_000;
export const SELF_SIGNED_MS = 365 * 24 * HOUR_MS;
/** The longest common name (RFC 5280, ub-common-name); the whole name is among the SANs. */
const MAX_COMMON_NAME = 64;
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
  const name = sequence(attribute(OID.commonName, nodeName.slice(0, MAX_COMMON_NAME)));
  const from = wallMs - HOUR_MS;
  const body = sequence(
    der(TAG.context0, integer(Buffer.of(2))),
    integer(serialNumber(random)),
    algorithm,
    name,
    sequence(time(from), time(from + SELF_SIGNED_MS)),
    name,
    keys.publicKey.export({ type: 'spki', format: 'der' }),
    der(TAG.context3, sequence(...extensions([nodeName, ...addresses]))),
  );
  const certificate = sequence(body, algorithm, bitString(sign('sha256', body, keys.privateKey)));
  return {
    cert: pem('CERTIFICATE', certificate),
    key: keys.privateKey.export({ type: 'pkcs8', format: 'pem' }),
  };
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
    extension(
      OID.subjectAltName,
      false,
      sequence(...[...new Set(names)].flatMap((name) => generalName(name) ?? [])),
    ),
  ];
}

/** 16 bytes, positive. */
function serialNumber(random: Random): Buffer {
  const bytes = Buffer.from(random.uuid().replaceAll('-', ''), 'hex');
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return bytes;
}
