/**
 * The local socket: HTTP/1.1 with JSON over `limpet.sock`, for root alone. The directory (0700) is
 * the lock, since Node cannot ask a socket who its peer is.
 *
 * Nothing that a client sends ends the agent: what is malformed gets a 400, what is too large a 413,
 * who is slow is cut off, and there are only so many connections.
 */
import { chmod, lstat, mkdir, unlink } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { errnoOf, Failure, faultOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import { USAGE_DEPTHS, type UsageDepth } from '../node/usage.ts';
import { ApiError, SOCKET_NAME, type ErrorReport, type LocalApi } from './api.ts';

const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 30_000;
const IDLE_TIMEOUT_MS = 5_000;
const CHECK_INTERVAL_MS = 10_000;
const PROBE_TIMEOUT_MS = 2_000;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 32;
const MAX_GRACE_SECONDS = 2 ** 31 - 1;
/** `sun_path` has 108 bytes with its closing zero. */
const MAX_SOCKET_PATH_BYTES = 107;

/**
 * Listens on `<runDirectory>/limpet.sock` until it is disposed of or `signal` is aborted.
 * @throws Failure AlreadyExists when another agent answers there, PermissionDenied when the
 *   directory or the path is not ours alone, InvalidArgument when the path is too long.
 */
export async function serveLocal(
  api: LocalApi,
  runDirectory: string,
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<AsyncDisposable> {
  const path = join(runDirectory, SOCKET_NAME);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw new Failure('InvalidArgument', `the path of the socket is too long: ${path}`);
  }
  await prepareDirectory(runDirectory);
  await clearPath(path);
  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connectionsCheckingInterval: CHECK_INTERVAL_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    (request, response) => {
      void answer(api, request, response, log);
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.on('clientError', refuseGarbage);
  server.on('connection', (socket) => {
    socket.on('error', () => undefined);
  });
  await listen(server, path);
  await chmod(path, 0o600);
  // From here on an error of the server (no file descriptors left) is logged and survived.
  server.on('error', (error) => log.error('local socket', { error: error.message }));

  const close = async (): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    server.close(() => resolve(undefined));
    server.closeAllConnections();
    await promise;
  };
  const onAbort = (): void => void close();
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) await close();
  return {
    [Symbol.asyncDispose]: async () => {
      signal.removeEventListener('abort', onAbort);
      await close();
    },
  };
}

async function prepareDirectory(directory: string): Promise<void> {
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const found = await lstat(directory);
    if (!found.isDirectory() || found.uid !== process.getuid?.()) {
      throw new Failure(
        'PermissionDenied',
        `${directory} is not a directory of our own: remove it and start limpet again`,
      );
    }
    if ((found.mode & 0o777) !== 0o700) await chmod(directory, 0o700);
  } catch (error) {
    throw asFailure(error, `cannot use ${directory} for the local socket`);
  }
}

/** Removes a socket that nobody listens on; refuses anything else that lies at the path. */
async function clearPath(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw asFailure(error, `cannot look at ${path}`);
  });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new Failure('PermissionDenied', `${path} is not a socket: remove it and start again`);
  }
  if (await answers(path)) {
    throw new Failure(
      'AlreadyExists',
      `another limpet answers on ${path}: there can be one only (systemctl status limpet)`,
    );
  }
  await unlink(path).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw asFailure(error, `cannot remove the old ${path}`);
  });
}

/** Whether somebody listens. One that takes the connection too slowly is there all the same. */
async function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.setTimeout(PROBE_TIMEOUT_MS, () => resolve(true));
  socket.on('connect', () => resolve(true));
  socket.on('error', (error) => {
    const gone = errnoOf(error) === 'ECONNREFUSED' || errnoOf(error) === 'ENOENT';
    resolve(!gone);
  });
  const found = await promise;
  socket.destroy();
  return found;
}

async function listen(server: Server, path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const onError = (error: Error): void => reject(asFailure(error, `cannot listen on ${path}`));
  server.once('error', onError);
  server.listen({ path, backlog: MAX_CONNECTIONS }, () => resolve(undefined));
  await promise;
  server.removeListener('error', onError);
}

function asFailure(error: unknown, what: string): Failure {
  if (error instanceof Failure) return error;
  const denied = ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '');
  const { code, message } = faultOf(error);
  return new Failure(denied ? 'PermissionDenied' : code, `${what}: ${message}`, { cause: error });
}

type Refusal = Pick<ErrorReport, 'reason' | 'message'> & { readonly status: string };

const GARBAGE: Refusal = {
  status: '400 Bad Request',
  reason: 'Invalid',
  message: 'this is not HTTP/1.1 as limpet speaks it',
};

/** By the code of Node's error. */
const REFUSALS: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: {
    ...GARBAGE,
    status: '431 Request Header Fields Too Large',
    reason: 'TooLarge',
  },
  // On a machine that is very busy the question may come too late.
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: '408 Request Timeout',
    reason: 'Unavailable',
    message: 'the question did not arrive in time; ask again',
  },
};

function refuseGarbage(error: Error, socket: Socket | NodeJS.WritableStream): void {
  if ('destroyed' in socket && (socket.destroyed || !socket.writable)) return;
  const { status, ...said } = REFUSALS[errnoOf(error) ?? ''] ?? GARBAGE;
  const report: ErrorReport = { kind: 'Error', ...said };
  const body = JSON.stringify(report);
  const head = `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\n`;
  socket.end(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

async function answer(
  api: LocalApi,
  request: IncomingMessage,
  response: ServerResponse,
  log: Log,
): Promise<void> {
  try {
    const result = await route(api, request);
    send(response, 200, result);
  } catch (error) {
    if (error instanceof ApiError) return send(response, error.status, error.report);
    // The client has gone: there is nobody to tell.
    if (request.destroyed && errnoOf(error) === 'ECONNRESET') return;
    const { code, message } = faultOf(error);
    log.error('request to the local socket failed', {
      method: request.method,
      url: request.url,
      error: message,
    });
    const busy = code === 'Unavailable' || code === 'NoSpace';
    const reason = busy ? 'Unavailable' : 'Internal';
    send(response, busy ? 503 : 500, { kind: 'Error', reason, message });
  }
}

async function route(api: LocalApi, request: IncomingMessage): Promise<{ readonly kind: string }> {
  const { path, query } = target(request);
  const method = request.method ?? '';
  if (path === '/v1/pods' && method === 'POST') return await api.apply(await readManifest(request));
  if (declaresBody(request)) throw invalid(400, `${method} ${path} takes no body`);
  switch (`${method} ${path}`) {
    case 'GET /v1/status':
      return api.status();
    case 'GET /v1/pods':
      return api.pods();
    case 'GET /v1/usage':
      return await api.usage(depthOf(query), maxAgeOf(query));
    case 'GET /v1/events': {
      const [namespace, name] = [query.get('namespace'), query.get('name')];
      return api.events({
        ...(namespace === null ? {} : { namespace }),
        ...(name === null ? {} : { name }),
      });
    }
  }
  const [, namespace, name] = /^\/v1\/pods\/([^/]+)\/([^/]+)$/.exec(path) ?? [];
  if (method === 'DELETE' && namespace !== undefined && name !== undefined) {
    return await api.deletePod(decoded(namespace), decoded(name), graceOf(query));
  }
  throw new ApiError(404, {
    reason: 'NotFound',
    message: `there is no ${method} ${path}; this agent may be older than the command`,
  });
}

function target(request: IncomingMessage): { path: string; query: URLSearchParams } {
  try {
    const url = new URL(request.url ?? '', 'http://limpet');
    return { path: url.pathname, query: url.searchParams };
  } catch {
    throw invalid(400, 'the path of the request is malformed');
  }
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw invalid(400, `"${segment}" is not URL-encoded`);
  }
}

function graceOf(query: URLSearchParams): number | undefined {
  const given = query.get('gracePeriodSeconds');
  if (given === null) return undefined;
  const seconds = /^\d{1,10}$/.test(given) ? Number(given) : Number.NaN;
  if (seconds <= MAX_GRACE_SECONDS) return seconds;
  throw invalid(400, `gracePeriodSeconds is a number of seconds, not "${given}"`);
}

function depthOf(query: URLSearchParams): UsageDepth {
  const given = query.get('depth') ?? 'pods';
  const depth = USAGE_DEPTHS.find((one) => one === given);
  if (depth !== undefined) return depth;
  throw invalid(400, `depth is one of ${USAGE_DEPTHS.join(', ')}, not "${given}"`);
}

function maxAgeOf(query: URLSearchParams): number {
  const given = query.get('maxAgeMs') ?? '0';
  if (/^\d{1,9}$/.test(given)) return Number(given);
  throw invalid(400, `maxAgeMs is a number of milliseconds, not "${given}"`);
}

function declaresBody(request: IncomingMessage): boolean {
  const length = request.headers['content-length'];
  return request.headers['transfer-encoding'] !== undefined || (length ?? '0') !== '0';
}

async function readManifest(request: IncomingMessage): Promise<string> {
  const limit = LIMITS.manifestBytes;
  const tooLarge = (): ApiError =>
    new ApiError(413, { reason: 'TooLarge', message: `a manifest has at most ${limit} bytes` });
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limit) throw tooLarge();
    chunks.push(chunk);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks));
  } catch {
    throw invalid(400, 'the manifest is not UTF-8 text');
  }
}

function invalid(status: number, message: string): ApiError {
  return new ApiError(status, { reason: 'Invalid', message });
}

function send(response: ServerResponse, status: number, body: object): void {
  if (response.destroyed || response.headersSent) return;
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    // What is left of a refused request must not be taken for the next one.
    ...(status >= 400 ? { connection: 'close' } : {}),
  });
  response.end(text);
}
