/**
 * The kubelet's port (10250).
 *
 *   TLS handshake --> who is it? (certificate, token) --> may they? (API server) --> the answer
 *
 * HTTP/1.1 only. Nothing that a client sends ends the agent; everything that a client can make
 * large or slow has a limit in `base/limits.ts`. Without an API server nobody new gets in: what is
 * needed on the spot then goes through the local socket. There is no `/logs`, `/debug`, `/run` and
 * no `/checkpoint`.
 */
import { createServer as createHttps, type Server } from 'node:https';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../base/clock.ts';
import { errnoOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { peerOf, type Peer } from './authenticate.ts';
import { createKubeletRequests, type KubeletSource } from './kubelet-requests.ts';
import {
  checkCertificates,
  secureContext,
  useCertificates,
  watchConnections,
  type Certificates,
} from './kubelet-tls.ts';
import { close, listen } from './listen.ts';
import type { ReviewAccess, ReviewToken } from './review.ts';
import { SELF_SIGNED_MS, selfSigned, type KeyPair } from './self-signed.ts';

export type { KubeletSource } from './kubelet-requests.ts';

const CHECK_INTERVAL_MS = 2_000;
/** A certificate of our own is made anew after this part of its life. */
const RENEW_AFTER = 0.8;
/** Without a CA a certificate says nothing. */
const NOBODY: Peer = { kind: 'none' };

export type KubeletOptions = KubeletSource & {
  readonly nodeName: string;
  /** Addresses and DNS names of the node as of now, for a serving certificate of our own. */
  readonly nodeAddresses: () => readonly string[];
  /** `address` and `port` of KubeletConfiguration; port 0 is any that is free. */
  readonly address: string;
  readonly port: number;
  /** Undefined: the node signs a certificate of its own. */
  readonly serving: KeyPair | undefined;
  /**
   * The CA bundle for client certificates, PEM (`authentication.x509.clientCAFile`). Undefined: a
   * client shows who it is by a token only.
   */
  readonly clientCA: string | undefined;
  /** `tlsMinVersion` */
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
  /** Whether logs, exec, attach and port-forward are served (`enableDebuggingHandlers`). */
  readonly debugging: boolean;
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
  /**
   * Other certificates, from the next connection on. With `serving` undefined the node's own is
   * used, and made anew when the addresses are others. Connections that are in use stay until
   * their request has ended.
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
  const { log, limits = LIMITS } = options;
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
    peers.set(socket, certificates.current().clientCA === undefined ? NOBODY : peerOf(socket));
  });
  server.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    requests.onUpgrade(request, socket, head);
  });
  server.on('clientError', refuseGarbage);
  stack.defer(() => close(server, () => connections.closeAll()));
  const port = await listen(server, options);
  server.on('error', (error) => log.error('kubelet port', { error: error.message }));
  certificates.apply(server);
  const all = stack.move();
  const onAbort = (): void => void all.disposeAsync();
  signal.addEventListener('abort', onAbort, { once: true });
  all.defer(() => signal.removeEventListener('abort', onAbort));
  if (signal.aborted) await all.disposeAsync();
  return {
    port,
    useCertificates: (next) => certificates.use(next),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

type OwnCertificates = {
  current(): Certificates;
  /** Differs after each change of the client CA. */
  age(): number;
  apply(server: Server): void;
  use(next: Pick<KubeletOptions, 'serving' | 'clientCA'>): void;
  stop(): void;
};

/** The certificates in use; those of our own are renewed in time. */
function createCertificates(options: KubeletOptions): OwnCertificates {
  const { nodeName, clock, random, log, minVersion } = options;
  let names: string | undefined;
  const sign = (): KeyPair => {
    const addresses = options.nodeAddresses();
    names = addresses.join();
    return selfSigned(nodeName, addresses, { wallMs: clock.now().wallMs, random });
  };
  const own = (): KeyPair =>
    given === undefined && names === options.nodeAddresses().join() ? serving : sign();
  let given = options.serving;
  let serving = given ?? sign();
  let { clientCA } = options;
  let age = 0;
  let server: Server | undefined;
  let timer: { cancel(): void } | undefined;
  const all = (): Certificates => ({ serving, clientCA, minVersion });
  checkCertificates(all());
  const renewLater = (): void => {
    timer?.cancel();
    if (given !== undefined) return;
    timer = clock.at(clock.now().monoMs + SELF_SIGNED_MS * RENEW_AFTER, () => {
      serving = sign();
      if (server !== undefined) useCertificates(server, all());
      log.info('made a new serving certificate', { node: nodeName });
      renewLater();
    });
  };
  return {
    current: all,
    age: () => age,
    apply: (of) => {
      server = of;
      renewLater();
    },
    use: (next) => {
      const wanted = next.serving ?? own();
      if (server !== undefined) {
        useCertificates(server, { serving: wanted, clientCA: next.clientCA, minVersion });
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
