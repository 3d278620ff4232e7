/** What the kubelet's port answers, request by request: who, whether, what. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { faultOf } from '../base/failure.ts';
import type { RuntimeService } from '../kube/cri.ts';
import type { PodList, PodReport } from './api.ts';
import { authenticate, type Peer } from './authenticate.ts';
import { authorize } from './authorize.ts';
import { sendContainerLog, type LogSource } from './container-logs.ts';
import { healthText } from './health.ts';
import { HttpError } from './http-error.ts';
import type { KubeletLimits, KubeletOptions } from './kubelet.ts';
import { readLogOptions } from './log-options.ts';
import { podListOf, runningPodListOf } from './pod-list.ts';
import { createReviewCache, type AccessReview, type TokenReview, type User } from './review.ts';
import { isStream, methodsOf, readTarget, type PodTarget, type Target } from './route.ts';
import { handThrough, refuseUpgrade, streamUrl, type StreamSource } from './stream.ts';

/** What there is to show. */
export type KubeletSource = Omit<LogSource, 'runtime'> &
  Omit<StreamSource, 'runtime'> & {
    readonly pods: () => PodList;
    readonly runtime: Pick<
      RuntimeService,
      'containerStatus' | 'listContainers' | 'listPodSandboxes'
    >;
    /** The configuration in use, as KubeletConfiguration v1beta1. */
    readonly configz: () => object;
    /** What keeps the agent from its work, or undefined. */
    readonly syncLoop: () => string | undefined;
  };

type Options = KubeletOptions & {
  readonly limits: KubeletLimits;
  readonly signal: AbortSignal;
  /** What the handshake has shown; undefined when it is to be done again. */
  readonly peerOf: (socket: Socket) => Peer | undefined;
  readonly known: (socket: Socket) => void;
};

export type KubeletRequests = {
  /** Whether a request that asks for another protocol may get it. */
  readonly upgrades: (request: IncomingMessage) => boolean;
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void;
  readonly onUpgrade: (request: IncomingMessage, socket: Socket, head: Buffer) => void;
};

/** What `enableDebuggingHandlers` is about, by the first part of the path. */
const DEBUGGING: ReadonlySet<string> = new Set([
  ...['run', 'exec', 'attach', 'portForward', 'containerLogs', 'runningpods', 'configz'],
]);

type Admitted = { readonly user: User; readonly target: Target };

export function createKubeletRequests(options: Options): KubeletRequests {
  const { clock, log, limits } = options;
  const admit = createAdmission(options);
  /** Connections with a request under way: one at a time, nobody needs more. */
  const busy = new WeakSet<Socket>();
  let streams = 0;
  /** Runs `use` as one of the streams. @throws HttpError 429 */
  const asStream = async (use: () => Promise<void>): Promise<void> => {
    if (streams >= limits.kubeletStreams) {
      const message = `there are ${streams} streams already: try again later\n`;
      throw new HttpError(429, message, { 'retry-after': '10' });
    }
    streams++;
    await use().finally(() => streams--);
  };
  /** One line for each request: who, what, how it ended. The query is left out: it has secrets. */
  const accessLine = (request: IncomingMessage) => {
    const startedMs = clock.now().monoMs;
    const { remoteAddress } = request.socket;
    return (status: number, user: User | undefined): void =>
      log.debug('kubelet request', {
        method: request.method,
        path: request.url?.split('?')[0],
        user: user?.name,
        status,
        ms: clock.now().monoMs - startedMs,
        from: remoteAddress,
      });
  };
  const onRequest = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { socket } = request;
    if (busy.has(socket)) return void socket.destroy();
    busy.add(socket);
    const line = accessLine(request);
    let user: User | undefined;
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    response.once('close', () => {
      busy.delete(socket);
      line(response.statusCode, user);
    });
    try {
      const admitted = await admit(request);
      ({ user } = admitted);
      await answer(options, admitted, request, response, asStream);
    } catch (error) {
      const refused = httpErrorOf(error, log);
      sendText(response, refused.status, refused.message, refused.headers);
    }
  };
  const onUpgrade = async (request: IncomingMessage, socket: Socket, head: Buffer) => {
    socket.on('error', () => undefined);
    if (busy.has(socket)) return void socket.destroy();
    busy.add(socket);
    const line = accessLine(request);
    let user: User | undefined;
    try {
      const admitted = await admit(request);
      ({ user } = admitted);
      await asStream(() => openStream(options, admitted, request, socket, head));
      line(101, user);
    } catch (error) {
      const refused = httpErrorOf(error, log);
      refuseUpgrade(socket, refused);
      line(refused.status, user);
    }
  };
  return {
    upgrades: (request) => {
      const route = readTarget(request.url ?? '')?.route;
      if (route === undefined || !isStream(route) || declaresBody(request)) return false;
      return methodsOf(route).includes(request.method ?? '');
    },
    onRequest: (request, response) => void onRequest(request, response),
    onUpgrade: (request, socket, head) => void onUpgrade(request, socket, head),
  };
}

/** Who it is, whether they may, and whether it makes sense, in this order. */
function createAdmission(options: Options): (request: IncomingMessage) => Promise<Admitted> {
  const { clock, limits, signal, remember } = options;
  const size = limits.kubeletReviews;
  const tokens = createReviewCache<TokenReview>({
    clock,
    size,
    signal,
    ttlMs: () => remember.authenticatedMs,
  });
  const access = createReviewCache<AccessReview>({
    clock,
    size,
    signal,
    ttlMs: ({ allowed }) => (allowed ? remember.authorizedMs : remember.unauthorizedMs),
  });
  return async (request) => {
    const { method = '', socket } = request;
    const peer = options.peerOf(socket);
    if (peer === undefined) throw new HttpError(401, 'Unauthorized: the client CA has changed\n');
    const { wallMs } = clock.now();
    const { reviewToken } = options;
    const user = await authenticate(request, peer, { reviewToken, tokens, wallMs });
    options.known(socket);
    const target = readTarget(request.url ?? '');
    if (target === undefined) throw new HttpError(400, 'the path of the request is malformed\n');
    await authorize(user, method, target, { ...options, access });
    if (!options.debugging && DEBUGGING.has(target.root)) {
      throw new HttpError(405, 'Debug endpoints are disabled.\n');
    }
    if (target.route.kind === 'unknown') throw new HttpError(404, '404 page not found\n');
    const methods = methodsOf(target.route);
    if (!methods.includes(method)) {
      throw new HttpError(405, 'Method Not Allowed\n', { allow: methods.join(', ') });
    }
    if (declaresBody(request)) throw new HttpError(400, 'no request here has a body\n');
    return { user, target };
  };
}

async function answer(
  options: Options,
  { target: { route, query } }: Admitted,
  request: IncomingMessage,
  response: ServerResponse,
  asStream: (use: () => Promise<void>) => Promise<void>,
): Promise<void> {
  switch (route.kind) {
    case 'healthz': {
      const checks = { ping: () => undefined, syncloop: options.syncLoop };
      sendText(response, 200, healthText(checks, route.check, query.has('verbose')));
      return;
    }
    case 'pods':
      return sendJson(response, podListOf(options.pods().items));
    case 'runningPods': {
      const [sandboxes, containers] = await Promise.all([
        options.runtime.listPodSandboxes(undefined, options.signal),
        options.runtime.listContainers(undefined, options.signal),
      ]);
      return sendJson(response, runningPodListOf(sandboxes, containers));
    }
    case 'configz':
      return sendJson(response, { kubeletconfig: options.configz() });
    case 'containerLogs': {
      const logOptions = readLogOptions(query, options.clock.now().wallMs);
      const report = findPod(options.pods(), route);
      // Node ends a connection that is silent for so long, and forgets the time with this answer.
      request.socket.setTimeout(options.idleMs);
      return await asStream(() =>
        sendContainerLog(report, route.container, logOptions, response, options),
      );
    }
    case 'exec':
    case 'attach':
    case 'portForward':
      throw new HttpError(400, 'Upgrade request required\n');
    case 'unknown':
      throw new HttpError(404, '404 page not found\n');
  }
}

async function openStream(
  options: Options,
  { target: { route, query } }: Admitted,
  request: IncomingMessage,
  socket: Socket,
  head: Buffer,
): Promise<void> {
  if (!isStream(route)) throw new HttpError(400, 'this is not upgraded\n');
  const report = findPod(options.pods(), route);
  const upgrade = request.headers.upgrade ?? '';
  const url = await streamUrl(route, query, upgrade, report, options, options.signal);
  await handThrough(request, socket, head, url, options);
}

/** While a pod is being replaced there are two of its name: the one that stays is meant. */
function findPod({ items }: PodList, { namespace, pod: name }: PodTarget): PodReport {
  const found = items.filter(
    ({ pod: { metadata } }) => metadata.namespace === namespace && metadata.name === name,
  );
  const report = found.find(({ deleting }) => !deleting) ?? found[0];
  if (report === undefined) throw new HttpError(404, `pod "${name}" does not exist\n`);
  return report;
}

function declaresBody({ headers }: IncomingMessage): boolean {
  const length = headers['content-length'];
  return headers['transfer-encoding'] !== undefined || (length ?? '0') !== '0';
}

function httpErrorOf(error: unknown, log: Options['log']): HttpError {
  if (error instanceof HttpError) return error;
  const { code, message } = faultOf(error);
  log.error('kubelet request failed', { error: message });
  return new HttpError(code === 'Unavailable' ? 503 : 500, `${message}\n`);
}

function sendJson(response: ServerResponse, body: object): void {
  send(response, 200, 'application/json', JSON.stringify(body));
}

function sendText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  // What is left of a refused request must not be taken for the next one.
  const close = status >= 400 ? { connection: 'close' } : {};
  send(response, status, 'text/plain; charset=utf-8', text, { ...close, ...headers });
}

function send(
  response: ServerResponse,
  status: number,
  type: string,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(text);
}
