/** Makes X.509 certificates, with any dates and names, since node:crypto only reads them. */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';

export type Issued = { readonly certificate: string; readonly key: string };

export type Authority = Issued & {
  /** A certificate for a server or a client; valid from yesterday for a year unless told. */
  issue(options: {
    readonly name: string;
    readonly group?: string;
    readonly names?: readonly string[];
    readonly from?: Date;
    readonly to?: Date;
    /** Whose certificate it is; a new key of its own without it, else `key` is empty. */
    readonly publicKey?: KeyObject;
  }): Issued;
};

const der = (tag: number, ...content: readonly Uint8Array[]): Buffer => {
  const body = Buffer.concat(content);
  const long =
    body.length < 0x100 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...(body.length < 0x80 ? [body.length] : long)]), body]);
};
const sequence = (...content: readonly Uint8Array[]) => der(0x30, ...content);
const integer = (...bytes: readonly number[]) => der(0x02, Buffer.from(bytes));
const oid = (text: string) => {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [40 * first + second];
  for (const part of rest) {
    const groups = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
};
const time = (at: Date) =>
  der(0x18, Buffer.from(`${at.toISOString().replace(/[-:T]|\..*$/g, '')}Z`));
const attribute = (type: string, text: string) =>
  der(0x31, sequence(oid(type), der(0x0c, Buffer.from(text))));
const distinguished = (name: string, group?: string) =>
  sequence(
    ...(group === undefined ? [] : [attribute('2.5.4.10', group)]),
    attribute('2.5.4.3', name),
  );
const extension = (id: string, value: Uint8Array) => sequence(oid(id), der(0x04, value));
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));

const address = (text: string) => Buffer.from(text.split('.').map(Number));
const alternative = (name: string) =>
  /^[\d.]+$/.test(name) ? der(0x87, address(name)) : der(0x82, Buffer.from(name));

let serial = 1;

function certificate(options: {
  readonly subject: Uint8Array;
  readonly issuer: Uint8Array;
  readonly signer: KeyObject;
  readonly publicKey: KeyObject;
  readonly isAuthority: boolean;
  readonly names: readonly string[];
  readonly from: Date;
  readonly to: Date;
}): string {
  const { subject, issuer, signer, publicKey, isAuthority, names, from, to } = options;
  const constraints = sequence(...(isAuthority ? [der(0x01, Buffer.from([0xff]))] : []));
  const extensions = [
    extension('2.5.29.19', constraints),
    ...(names.length > 0 ? [extension('2.5.29.17', sequence(...names.map(alternative)))] : []),
  ];
  serial += 1;
  const body = sequence(
    der(0xa0, integer(2)),
    integer(1 + (serial >> 8), serial & 0x7f),
    ECDSA_SHA256,
    issuer,
    sequence(time(from), time(to)),
    subject,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
  const signature = sign('sha256', body, signer);
  const whole = sequence(body, ECDSA_SHA256, der(0x03, Buffer.from([0]), signature));
  const lines = whole.toString('base64').match(/.{1,64}/g)!;
  return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
}

const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = (key: KeyObject) => key.export({ type: 'pkcs8', format: 'pem' }).toString();
const DAY_MS = 86_400_000;

export function createAuthority(name = 'kubernetes'): Authority {
  const own = pair();
  const issuer = distinguished(name);
  const yesterday = () => new Date(Date.now() - DAY_MS);
  const nextYear = () => new Date(Date.now() + 365 * DAY_MS);
  return {
    certificate: certificate({
      ...{ subject: issuer, issuer, signer: own.privateKey, publicKey: own.publicKey },
      ...{ isAuthority: true, names: [], from: yesterday(), to: nextYear() },
    }),
    key: pem(own.privateKey),
    issue({ name: subject, group, names = [], from = yesterday(), to = nextYear(), publicKey }) {
      const keys = pair();
      return {
        certificate: certificate({
          ...{ subject: distinguished(subject, group), issuer, signer: own.privateKey },
          ...{ publicKey: publicKey ?? keys.publicKey, isAuthority: false, names, from, to },
        }),
        key: publicKey === undefined ? pem(keys.privateKey) : '',
      };
    },
  };
}
