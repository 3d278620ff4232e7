/**
 * The kubelet's port (10250), and its health on a port of its own (10248).
 *
 *   TLS handshake --> who is it? (certificate, token) --> may they? (API server) --> the answer
 *
 * HTTP/1.1 only. Nothing that a client sends ends the agent; everything that a client can make
 * large or slow has a limit in `base/limits.ts`. Without an API server nobody new gets in: what is
 * needed on the spot then goes through the local socket. There is no `/logs`, `/debug`, `/run` and
 * no `/checkpoint`.
 */
import { createServer as createHttps, type Server } from 'node:https';
import type { IncomingMessage, Server as HttpServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import { errnoOf, Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { peerOf, type Peer } from './authenticate.ts';
import { createHealthzServer } from './health.ts';
import { createKubeletRequests, type KubeletSource } from './kubelet-requests.ts';
import {
  checkCertificates,
  secureContext,
  useCertificates,
  watchConnections,
} from './kubelet-tls.ts';
import type { ReviewAccess, ReviewToken } from './review.ts';
import { SELF_SIGNED_MS, selfSigned, type KeyPair } from './self-signed.ts';

export type { KubeletSource } from './kubelet-requests.ts';

const CHECK_INTERVAL_MS = 2_000;
/** A certificate of our own is made anew after this part of its life. */
const RENEW_AFTER = 0.8;

export type KubeletOptions = KubeletSource & {
  readonly nodeName: string;
  /** Addresses and DNS names of the node, for a serving certificate of our own. */
  readonly nodeAddresses: readonly string[];
  /** `address` and `port` of KubeletConfiguration; port 0 is any that is free. */
  readonly address: string;
  readonly port: number;
  /** `healthzBindAddress` and `healthzPort`; undefined for none. */
  readonly healthz: { readonly address: string; readonly port: number } | undefined;
  /** Undefined: the node signs a certificate of its own. */
  readonly serving: KeyPair | undefined;
  /** The CA bundle for client certificates, PEM (`authentication.x509.clientCAFile`). */
  readonly clientCA: string;
  readonly reviewToken: ReviewToken;
  readonly reviewAccess: ReviewAccess;
  /** How long answers of the API server are remembered. */
  readonly remember: {
    readonly authenticatedMs: number;
    readonly authorizedMs: number;
    readonly unauthorizedMs: number;
  };
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly limits?: KubeletLimits;
};

export type KubeletLimits = {
  readonly [K in keyof typeof LIMITS as K extends `kubelet${string}` ? K : never]: number;
};

/** `authentication.webhook.cacheTTL` and `authorization.webhook`, as the kubelet sets them. */
export const REMEMBER = {
  authenticatedMs: 120_000,
  authorizedMs: 300_000,
  unauthorizedMs: 30_000,
} as const satisfies KubeletOptions['remember'];

export type KubeletServer = AsyncDisposable & {
  readonly port: number;
  readonly healthzPort: number | undefined;
  /**
   * Other certificates, from the next connection on. With `serving` undefined the node's own stays
   * in use or is made. Connections that are in use stay until their request has ended.
   * @throws Failure InvalidArgument; then nothing has changed
   */
  useCertificates(certificates: Pick<KubeletOptions, 'serving' | 'clientCA'>): void;
};

/**
 * Serves until it is disposed of or `signal` is aborted.
 * @throws Failure AlreadyExists when a port is in use, PermissionDenied, InvalidArgument for an
 *   address that is not ours or certificates that are none.
 */
export async function serveKubelet(
  options: KubeletOptions,
  signal: AbortSignal,
): Promise<KubeletServer> {
  const { clock, log, limits = LIMITS } = options;
  await using stack = new AsyncDisposableStack();
  const stop = new AbortController();
  stack.defer(() => stop.abort());
  const certificates = createCertificates(options);
  stack.defer(() => certificates.stop());
  const peers = new WeakMap<Socket, Peer>();
  const requests = createKubeletRequests({
    ...options,
    limits,
    signal: stop.signal,
    peerOf: (socket) => {
      return connections.ageOf(socket) === certificates.age() ? peers.get(socket) : undefined;
    },
    known: (socket) => connections.known(socket),
  });
  const server = createHttps(
    {
      ...secureContext(certificates.current()),
      // Clients without a certificate may have a token; one that is not valid is refused (peerOf).
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: limits.kubeletHandshakeMs,
      headersTimeout: limits.kubeletHeadersMs,
      requestTimeout: limits.kubeletHeadersMs,
      keepAliveTimeout: limits.kubeletIdleMs,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      maxHeaderSize: limits.kubeletHeaderBytes,
      shouldUpgradeCallback: requests.upgrades,
    },
    requests.onRequest,
  );
  server.maxConnections = limits.kubeletConnections;
  const connections = watchConnections(server, limits.kubeletStrangers, () => certificates.age());
  server.on('secureConnection', (socket: TLSSocket) => {
    socket.on('error', () => undefined);
    peers.set(socket, peerOf(socket));
  });
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    requests.onUpgrade(request, socket, head);
  });
  server.on('clientError', refuseGarbage);
  stack.defer(() => closed(server, () => connections.closeAll()));
  const port = await listen(server, options);
  server.on('error', (error) => log.error('kubelet port', { error: error.message }));
  const health = options.healthz === undefined ? undefined : createHealthzServer();
  if (health !== undefined) stack.defer(() => closed(health, () => health.closeAllConnections()));
  const healthzPort =
    health === undefined || options.healthz === undefined
      ? undefined
      : await listen(health, options.healthz);
  health?.on('error', (error) => log.error('healthz port', { error: error.message }));
  certificates.apply(server, clock);
  const all = stack.move();
  const onAbort = (): void => void all.disposeAsync();
  signal.addEventListener('abort', onAbort, { once: true });
  all.defer(() => signal.removeEventListener('abort', onAbort));
  if (signal.aborted) await all.disposeAsync();
  return {
    port,
    healthzPort,
    useCertificates: (next) => certificates.use(next),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

type OwnCertificates = {
  current(): { readonly serving: KeyPair; readonly clientCA: string };
  /** Differs after each change of the client CA. */
  age(): number;
  apply(server: Server, clock: Clock): void;
  use(next: Pick<KubeletOptions, 'serving' | 'clientCA'>): void;
  stop(): void;
};

/** The certificates in use; those of our own are renewed in time. */
function createCertificates(options: KubeletOptions): OwnCertificates {
  const { nodeName, nodeAddresses, clock, random, log } = options;
  const sign = (): KeyPair =>
    selfSigned(nodeName, nodeAddresses, { wallMs: clock.now().wallMs, random });
  let given = options.serving;
  let serving = given ?? sign();
  let { clientCA } = options;
  let age = 0;
  let server: Server | undefined;
  let timer: { cancel(): void } | undefined;
  checkCertificates({ serving, clientCA });
  const renewLater = (): void => {
    timer?.cancel();
    if (given !== undefined) return;
    timer = clock.at(clock.now().monoMs + SELF_SIGNED_MS * RENEW_AFTER, () => {
      serving = sign();
      if (server !== undefined) useCertificates(server, { serving, clientCA });
      log.info('made a new serving certificate', { node: nodeName });
      renewLater();
    });
  };
  return {
    current: () => ({ serving, clientCA }),
    age: () => age,
    apply: (of) => {
      server = of;
      renewLater();
    },
    use: (next) => {
      const wanted = next.serving ?? (given === undefined ? serving : sign());
      if (server !== undefined) {
        useCertificates(server, { serving: wanted, clientCA: next.clientCA });
      }
      if (next.clientCA !== clientCA) {
        age++;
        // Their clients were verified by a CA that may be out of use now: they connect again.
        server?.closeIdleConnections();
      }
      ({ clientCA } = next);
      given = next.serving;
      serving = wanted;
      renewLater();
    },
    stop: () => timer?.cancel(),
  };
}

async function listen(
  server: HttpServer | Server,
  { address, port }: { readonly address: string; readonly port: number },
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const onError = (error: Error): void => {
    const errno = errnoOf(error);
    const code =
      errno === 'EADDRINUSE'
        ? 'AlreadyExists'
        : errno === 'EACCES'
          ? 'PermissionDenied'
          : 'InvalidArgument';
    const hint = errno === 'EADDRINUSE' ? ': is a kubelet running? (systemctl stop kubelet)' : '';
    const where = `${address} port ${port}`;
    reject(
      new Failure(code, `cannot listen on ${where}: ${errno ?? error.message}${hint}`, {
        cause: error,
      }),
    );
  };
  server.once('error', onError);
  server.listen({ host: address, port }, () => resolve(undefined));
  await promise;
  server.removeListener('error', onError);
  return (server.address() as AddressInfo).port;
}

async function closed(server: HttpServer | Server, drop: () => void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  server.close(() => resolve(undefined));
  drop();
  await promise;
}

const GARBAGE: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** What is no HTTP gets an answer where that can be sent, and is cut off. */
function refuseGarbage(error: Error, socket: Socket | NodeJS.WritableStream): void {
  const code = errnoOf(error) ?? '';
  const isHttp = code.startsWith('HPE_') || code === 'ERR_HTTP_REQUEST_TIMEOUT';
  if (!('destroySoon' in socket)) return;
  if (!isHttp || socket.destroyed || !socket.writable) return void socket.destroy();
  socket.end(`HTTP/1.1 ${GARBAGE[code] ?? '400 Bad Request'}\r\nConnection: close\r\n\r\n`);
  socket.once('finish', () => socket.destroy());
  socket.setTimeout(CHECK_INTERVAL_MS, () => socket.destroy());
}
