/**
 * An API server whose answers a test spells out: real TLS, real sockets, real certificates, HTTP/1.1
 * and HTTP/2 as the client likes.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import { systemClock, type Clock } from '../../src/base/clock.ts';
import { ApiClient } from '../../src/apiserver/client.ts';
import type { Credentials } from '../../src/apiserver/credentials.ts';
import { createAuthority, type Issued } from '../../scripts/lib/certificates.ts';

export const AUTHORITY = createAuthority();
export const SERVER = AUTHORITY.issue({ name: 'kube-apiserver', names: ['127.0.0.1'] });
export const NODE = AUTHORITY.issue({ name: 'system:node:pi1', group: 'system:nodes' });

export type Call = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  readonly body: string;
  /** Of the client's certificate. */
  readonly user: string | undefined;
};

export type Peer = {
  readonly port: number;
  readonly server: string;
  readonly calls: Call[];
  readonly sockets: Set<Socket>;
  /** Connections that there have been. */
  readonly accepted: number;
  answer: (call: Call) => unknown;
  /** Drops every connection. */
  drop(): void;
  credentials(options?: Partial<Credentials>): Credentials;
  client(options?: { clock?: Clock; credentials?: Credentials }): ApiClient;
  [Symbol.asyncDispose](): Promise<void>;
};

/** `onlyHttp1`: as some load balancers are. */
export async function createPeer(
  own: Issued = SERVER,
  options: { readonly onlyHttp1?: boolean } & http2.SecureServerOptions = {},
): Promise<Peer> {
  const sockets = new Set<Socket>();
  const clients: ApiClient[] = [];
  let accepted = 0;
  const { onlyHttp1 = false, ...rest } = options;
  const secure = {
    ...{ key: own.key, cert: own.certificate, ca: AUTHORITY.certificate, requestCert: true },
    ...{ rejectUnauthorized: false, keepAliveTimeout: 60_000, allowHTTP1: true },
    ...rest,
  };
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    request.on('end', () => {
      const { subject } = (request.socket as import('node:tls').TLSSocket).getPeerCertificate();
      const call: Call = {
        request,
        response,
        url: new URL(request.url ?? '/', peer.server),
        body: Buffer.concat(chunks).toString('utf8'),
        user: subject?.CN?.toString(),
      };
      peer.calls.push(call);
      peer.answer(call);
    });
  };
  // Both versions are used alike.
  const server = onlyHttp1
    ? https.createServer(secure, serve)
    : http2.createSecureServer(
        secure,
        serve as unknown as Parameters<typeof http2.createServer>[1],
      );
  server.on('sessionError', () => undefined);
  server.on('connection', (socket: Socket) => {
    accepted += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const peer: Peer = {
    port,
    server: `https://127.0.0.1:${port}`,
    calls: [],
    sockets,
    get accepted() {
      return accepted;
    },
    answer: ({ response }) => json(response, { kind: 'Status', status: 'Success' }),
    drop: () => sockets.forEach((socket) => socket.destroy()),
    credentials: (changes) => plainCredentials(peer.server, changes),
    client(changes = {}) {
      const { clock = systemClock('boot', () => 0), credentials = peer.credentials() } = changes;
      const client = new ApiClient({ clock, credentials });
      clients.push(client);
      return client;
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close();
      const closed = new Promise((resolve) => server.close(resolve));
      peer.drop();
      await closed;
    },
  };
  return peer;
}

/** Credentials that need no kubeconfig. */
export function plainCredentials(server: string, changes: Partial<Credentials> = {}): Credentials {
  return {
    server: new URL(server),
    serverName: undefined,
    current: () => Promise.resolve(material()),
    refused: () => undefined,
    doubt: () => undefined,
    ...changes,
  };
}

export function material(of: Issued | undefined = NODE, generation = 1) {
  const { certificate, key } = of ?? {};
  return { ca: AUTHORITY.certificate, certificate, key, token: undefined, generation };
}

export function json(
  response: ServerResponse,
  body: unknown,
  status = 200,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

export function refuse(
  response: ServerResponse,
  code: number,
  reason: string,
  message: string,
  headers: Record<string, string> = {},
): void {
  const status = { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason, message, code };
  json(response, status, code, headers);
}

/** Waits until something is so, for at most two seconds. */
export async function until(holds: () => boolean, what: string, ms = 2000): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    if (tries > ms) throw new Error(`never: ${what}`);
    await pause(1);
  }
}
