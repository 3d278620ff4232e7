/**
 * `/healthz`: on the kubelet's port for those who may, and on a port of its own on this machine for
 * everybody, where it says no more than that the agent answers.
 * Source: k8s.io/apiserver pkg/server/healthz; cmd/kubelet/app (healthzPort).
 */
import { createServer, type Server } from 'node:http';
import type { Log } from '../base/log.ts';
import { HttpError } from './http-error.ts';
import { close, listen, type Endpoint } from './listen.ts';

const TIMEOUT_MS = 10_000;
const IDLE_MS = 5_000;
const MAX_HEADER_BYTES = 8 * 1024;
const MAX_CONNECTIONS = 32;

/** The checks by name, each with what is wrong, or undefined. */
export type HealthChecks = Readonly<Record<string, () => string | undefined>>;

/** What `/healthz` or `/healthz/{check}` says. @throws HttpError 404, or 500 when it is not well. */
export function healthText(
  checks: HealthChecks,
  check: string | undefined,
  verbose: boolean,
): string {
  if (check !== undefined) {
    const run = Object.hasOwn(checks, check) ? checks[check] : undefined;
    if (run === undefined) throw new HttpError(404, '404 page not found\n');
    const wrong = run();
    if (wrong !== undefined) throw new HttpError(500, `internal server error: ${wrong}\n`);
    return 'ok';
  }
  const results = Object.entries(checks).map(([name, run]) => ({ name, wrong: run() }));
  const lines = results.map(({ name, wrong }) =>
    wrong === undefined ? `[+]${name} ok\n` : `[-]${name} failed: reason withheld\n`,
  );
  if (results.some(({ wrong }) => wrong !== undefined)) {
    throw new HttpError(500, `${lines.join('')}healthz check failed\n`);
  }
  return verbose ? `${lines.join('')}healthz check passed\n` : 'ok';
}

export type HealthzServer = AsyncDisposable & { readonly port: number };

/**
 * Serves GET and HEAD of `/healthz` and its ping until it is disposed of.
 * @throws Failure as `listen`
 */
export async function serveHealthz(endpoint: Endpoint, log: Log): Promise<HealthzServer> {
  const server = createHealthzServer();
  const port = await listen(server, endpoint);
  server.on('error', (error) => log.error('healthz port', { error: error.message }));
  return {
    port,
    [Symbol.asyncDispose]: () => close(server, () => server.closeAllConnections()),
  };
}

function createHealthzServer(): Server {
  const server = createServer(
    {
      headersTimeout: TIMEOUT_MS,
      requestTimeout: TIMEOUT_MS,
      keepAliveTimeout: IDLE_MS,
      connectionsCheckingInterval: IDLE_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
      // Nothing here is upgraded, so an Upgrade header is only a header.
      shouldUpgradeCallback: () => false,
    },
    (request, response) => {
      const [path] = (request.url ?? '').split('?');
      const found = path === '/healthz' || path === '/healthz/ping';
      const allowed = request.method === 'GET' || request.method === 'HEAD';
      response.writeHead(!found ? 404 : allowed ? 200 : 405, {
        'content-type': 'text/plain; charset=utf-8',
        'x-content-type-options': 'nosniff',
        ...(found && !allowed && { allow: 'GET, HEAD' }),
        // A body is not read, so nothing may come behind it.
        ...(!allowed && { connection: 'close' }),
      });
      response.end(!found ? '404 page not found\n' : allowed ? 'ok' : 'Method Not Allowed\n');
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.on('clientError', (_error, socket) => socket.destroy());
  server.on('connection', (socket) => socket.on('error', () => undefined));
  return server;
}
