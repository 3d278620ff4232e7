/**
 * The TLS side of the kubelet's port: which ciphers, whose certificates, and who may stay.
 *
 * Connections whose client has not shown who it is are few, and the oldest gives way to the newest:
 * somebody who opens many and says nothing costs little memory and keeps nobody out.
 */
import { constants, X509Certificate } from 'node:crypto';
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TlsOptions } from 'node:tls';
import { Failure } from '../base/failure.ts';
import type { KeyPair } from './self-signed.ts';

/** CIS Kubernetes Benchmark 4.2.12, those with forward secrecy, and the suites of TLS 1.3. */
export const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
].join(':');

export type Certificates = {
  readonly serving: KeyPair;
  /** The CA bundle that client certificates are verified with, PEM (clientCAFile), if any is. */
  readonly clientCA: string | undefined;
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
};

/** What differs from one set of certificates to the next. */
export function secureContext({ serving, clientCA, minVersion }: Certificates): TlsOptions {
  return {
    cert: serving.cert,
    key: serving.key,
    // Not undefined: Node would trust every CA of the web then.
    ca: clientCA ?? [],
    minVersion,
    ciphers: CIPHERS,
    honorCipherOrder: true,
    // A session that is resumed would bring back a client that an older CA had verified.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | constants.SSL_OP_NO_TICKET,
  };
}

/**
 * Makes `server` use other certificates from the next handshake on.
 * @throws Failure InvalidArgument when they are no certificates; the old ones then stay in use.
 */
export function useCertificates(server: Server, certificates: Certificates): void {
  checkCertificates(certificates);
  try {
    server.setSecureContext(secureContext(certificates));
  } catch (error) {
    throw badCertificate('the serving certificate and its key', error);
  }
}

/** OpenSSL takes an empty bundle without a word, and then trusts nobody. @throws Failure */
export function checkCertificates({ serving, clientCA }: Certificates): void {
  for (const [what, pem] of [
    ['the serving certificate', serving.cert],
    ['the client CA', clientCA],
  ] as const) {
    if (pem === undefined) continue;
    try {
      new X509Certificate(pem);
    } catch (error) {
      throw badCertificate(what, error);
    }
  }
}

function badCertificate(what: string, cause: unknown): Failure {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Failure('InvalidArgument', `cannot use ${what}: ${why}`, { cause });
}

export type Connections = {
  /** What `age` said when the connection was made. */
  ageOf(socket: Socket): number | undefined;
  /** The client at the other end has shown who it is. */
  known(socket: Socket): void;
  closeAll(): void;
};

/** Keeps the connections of `server`, and at most `strangers` of clients that are not `known`. */
export function watchConnections(
  server: Server,
  strangers: number,
  age: () => number,
): Connections {
  // By the address of the other end: a TLS socket does not tell which one it was made from.
  const open = new Map<string, { readonly socket: Socket; readonly age: number }>();
  const unknown = new Map<string, Socket>();
  server.on('connection', (socket: Socket) => {
    const end = endOf(socket);
    open.set(end, { socket, age: age() });
    unknown.set(end, socket);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      if (open.get(end)?.socket === socket) open.delete(end);
      if (unknown.get(end) === socket) unknown.delete(end);
    });
    if (unknown.size <= strangers) return;
    const [oldest] = unknown.values();
    oldest?.destroy();
    // Its close comes later than the next connection may.
    for (const [key, value] of unknown) if (value === oldest) unknown.delete(key);
  });
  return {
    known: (socket) => void unknown.delete(endOf(socket)),
    ageOf: (socket) => open.get(endOf(socket))?.age,
    closeAll: () => open.forEach(({ socket }) => socket.destroy()),
  };
}

function endOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
