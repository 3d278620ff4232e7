/**
 * Exec, attach and port-forward: the runtime is asked for a stream, answers with a URL of its own
 * streaming server on this machine, and the client's upgraded connection is handed through to that,
 * byte for byte. So whatever the two speak (SPDY, WebSocket) works without being known here.
 *
 *   client --upgrade--> authorize --> CRI Exec --> URL --> the same upgrade request --> 101 --> bytes
 *
 * What comes behind the request is kept until the runtime has agreed; after anything else than 101
 * the connection is closed, so nothing of it can be taken for another request. Nobody is redirected.
 * Source: pkg/kubelet/server; cri-streaming pkg/streaming (remotecommand, portforward).
 */
import {
  request as httpRequest,
  STATUS_CODES,
  type ClientRequest,
  type IncomingMessage,
} from 'node:http';
import { isIPv4, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { RuntimeService, StreamingService, StreamSelection } from '../kube/cri.ts';
import type { PodReport } from './api.ts';
import { HttpError } from './http-error.ts';
import type { StreamRoute } from './route.ts';

/** For the runtime's streaming server, which is on this machine, to agree. */
const ANSWER_MS = 30_000;
/** The runtime keeps that many streams waiting for that long; then there is room again. */
const RETRY_SECONDS = '60';
/** Of the client's request, what is not for the runtime: it is no proxy's, or it is a secret. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([
  'host',
  'authorization',
  'proxy-authorization',
  'cookie',
  'content-length',
  'transfer-encoding',
]);

export type StreamSource = {
  readonly runtime: Pick<RuntimeService, 'listContainers' | 'listPodSandboxes'>;
  readonly streaming: StreamingService;
  readonly clock: Clock;
  /** Time without a byte in either direction after which a stream is closed. */
  readonly idleMs: number;
};

/**
 * Where the runtime serves the stream that is asked for.
 * @throws HttpError 400 for a bad request, 404 without such a container, 429, 500 as the runtime says
 */
export async function streamUrl(
  route: StreamRoute,
  query: URLSearchParams,
  upgrade: string,
  report: PodReport,
  { runtime, streaming }: StreamSource,
  signal: AbortSignal,
): Promise<URL> {
  const { metadata, spec } = report.pod;
  if (route.uid !== undefined && route.uid !== metadata.uid) {
    throw new HttpError(404, 'pod not found');
  }
  const ask = async (): Promise<string> => {
    if (route.kind === 'portForward') {
      const ports = portsOf(query, upgrade);
      const sandboxes = await runtime.listPodSandboxes(metadata.uid, signal);
      const ready = sandboxes
        .filter(({ state }) => state === 'SANDBOX_READY')
        .sort((a, b) => b.metadata.attempt - a.metadata.attempt)[0];
      if (ready === undefined) {
        const name = `${metadata.name}_${metadata.namespace}`;
        throw new HttpError(404, `pod not found ("${name}"): it has no sandbox that runs`);
      }
      return await streaming.portForward(ready.id, ports, signal);
    }
    const streams = streamsOf(query);
    const containers = await runtime.listContainers(metadata.uid, signal);
    const found = containers
      .filter(({ name, state }) => name === route.container && state === 'CONTAINER_RUNNING')
      .sort((a, b) => b.attempt - a.attempt)[0];
    if (found === undefined) {
      throw new HttpError(
        404,
        `container not found ("${route.container}"): none of that name runs`,
      );
    }
    const containerId = found.id;
    if (route.kind === 'exec') {
      return await streaming.exec(
        { containerId, cmd: query.getAll('command'), ...streams },
        signal,
      );
    }
    // Whether a process has a terminal was settled when it was started.
    const all = [...spec.containers, ...spec.initContainers];
    const tty = all.find(({ name }) => name === route.container)?.tty ?? false;
    return await streaming.attach({ containerId, ...streams, tty }, signal);
  };
  return localUrl(await ask().catch(asHttpError));
}

function asHttpError(error: unknown): never {
  if (error instanceof HttpError) throw error;
  const { code, message } = faultOf(error);
  if (code === 'NotFound') throw new HttpError(404, message);
  if (code === 'InvalidArgument') throw new HttpError(400, message);
  if (code !== 'ResourceExhausted') throw new HttpError(500, message);
  throw new HttpError(429, message, { 'retry-after': RETRY_SECONDS });
}

/** Named in the query as nowhere else: `input`, `output`, `error` and `tty`, each `1`. */
function streamsOf(query: URLSearchParams): StreamSelection {
  const [stdin, stdout, stderr, tty] = ['input', 'output', 'error', 'tty'].map(
    (name) => query.get(name) === '1',
  ) as [boolean, boolean, boolean, boolean];
  if (!stdin && !stdout && !stderr) {
    throw new HttpError(400, 'you must specify at least 1 of stdin, stdout, stderr');
  }
  // A terminal has one output.
  return { stdin, stdout, stderr: stderr && !tty, tty };
}

/** A WebSocket has to say its ports beforehand, SPDY says them in the stream. */
function portsOf(query: URLSearchParams, upgrade: string): readonly number[] {
  if (upgrade.toLowerCase() !== 'websocket') return [];
  const ports = query.getAll('port').flatMap((text) => text.split(','));
  if (ports.length === 0) throw new HttpError(400, 'query parameter "port" is required');
  return ports.map((text) => {
    const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    if (port >= 1 && port <= 65535) return port;
    throw new HttpError(400, `unable to parse ${JSON.stringify(text)} as a port`);
  });
}

/**
 * The runtime's URL, if it is on this machine: what comes through carries what is typed into
 * containers, unencrypted.
 */
function localUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const host = url?.hostname ?? '';
  const loopback = host === '[::1]' || (isIPv4(host) && host.startsWith('127.'));
  if (url !== undefined && url.protocol === 'http:' && url.port !== '' && loopback) return url;
  const shown = url === undefined ? '' : `${url.protocol}//${url.host}`;
  throw new HttpError(
    500,
    `the runtime's streaming server is at ${JSON.stringify(shown)}: limpet takes only plain http ` +
      'on a loopback address (containerd: stream_server_address = "127.0.0.1", no TLS)',
  );
}

/**
 * Repeats the client's upgrade request to `url` and, once the runtime has agreed, joins the two
 * connections until either ends or both are silent for `idleMs`. Resolves when it is over.
 * @throws HttpError what the runtime said instead; nothing was sent to the client then.
 */
export async function handThrough(
  request: IncomingMessage,
  client: Socket,
  head: Buffer,
  url: URL,
  { clock, idleMs }: StreamSource,
): Promise<void> {
  const upstream = httpRequest({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port,
    path: `${url.pathname}${url.search}`,
    method: request.method,
    headers: forwarded(request, url),
    agent: false,
    maxHeaderSize: LIMITS.streamRefusalBytes,
  });
  const abandon = (): void => void upstream.destroy();
  client.once('close', abandon);
  try {
    const { response, runtime, first } = await agreed(upstream, clock);
    if (client.destroyed) return void runtime.destroy();
    client.write(headOf(response));
    await join(client, runtime, { toClient: first, toRuntime: head, idleMs });
  } finally {
    client.removeListener('close', abandon);
  }
}

function forwarded(request: IncomingMessage, url: URL): string[] {
  const headers = ['Host', url.host];
  for (let at = 0; at + 1 < request.rawHeaders.length; at += 2) {
    const [name = '', value = ''] = request.rawHeaders.slice(at, at + 2);
    if (!NOT_FORWARDED.has(name.toLowerCase())) headers.push(name, value);
  }
  if (request.method === 'POST') headers.push('Content-Length', '0');
  return headers;
}

type Agreed = {
  readonly response: IncomingMessage;
  readonly runtime: Duplex;
  /** What came with the answer already. */
  readonly first: Buffer;
};

/** Waits for 101. @throws HttpError */
async function agreed(upstream: ClientRequest, clock: Clock): Promise<Agreed> {
  const { promise, resolve, reject } = Promise.withResolvers<Agreed>();
  const timer = clock.at(clock.now().monoMs + ANSWER_MS, () => {
    const seconds = ANSWER_MS / 1000;
    upstream.destroy(new Failure('DeadlineExceeded', `no answer within ${seconds} s`));
  });
  upstream.on('upgrade', (response, runtime, first) => {
    // An error is followed by a close, which is what counts.
    runtime.on('error', () => undefined);
    resolve({ response, runtime, first });
  });
  let refused = false;
  upstream.on('response', (response) => {
    refused = true;
    void refusalOf(response).then(reject, reject);
  });
  upstream.on('error', (error) => {
    reject(new HttpError(500, `the runtime's streaming server: ${faultOf(error).message}`));
  });
  upstream.on('close', () => {
    if (!refused) reject(new HttpError(500, 'the runtime closed the stream'));
  });
  upstream.end();
  try {
    return await promise;
  } catch (error) {
    upstream.destroy();
    throw error;
  } finally {
    timer.cancel();
  }
}

async function refusalOf(response: IncomingMessage): Promise<HttpError> {
  const status = response.statusCode ?? 0;
  if (status < 400) return new HttpError(500, `invalid upgrade response: status code ${status}`);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes >= LIMITS.streamRefusalBytes) break;
    }
  } catch {
    // What was said before the connection broke has to do.
  }
  const text = Buffer.concat(chunks).subarray(0, LIMITS.streamRefusalBytes).toString('utf8');
  return new HttpError(status, text);
}

function headOf({ rawHeaders }: IncomingMessage): string {
  const lines = ['HTTP/1.1 101 Switching Protocols'];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    lines.push(`${rawHeaders[at]}: ${rawHeaders[at + 1]}`);
  }
  return `${lines.join('\r\n')}\r\n\r\n`;
}

/** Copies both ways, each at the other's pace, until both are closed. */
async function join(
  client: Socket,
  runtime: Duplex,
  how: { readonly toClient: Buffer; readonly toRuntime: Buffer; readonly idleMs: number },
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  if (how.toClient.length > 0) client.write(how.toClient);
  if (how.toRuntime.length > 0) runtime.write(how.toRuntime);
  // The close of one side is the end of the other, which gets what was said before.
  runtime.once('close', () => client.destroySoon());
  client.once('close', () => {
    runtime.destroy();
    resolve(undefined);
  });
  client.setTimeout(how.idleMs, () => client.destroy());
  client.setNoDelay(true);
  client.pipe(runtime);
  runtime.pipe(client);
  await promise;
}

/** Answers an upgrade request with an error, after which nothing can follow on the connection. */
export function refuseUpgrade(client: Socket, { status, headers, message }: HttpError): void {
  if (client.destroyed || !client.writable) return void client.destroy();
  const all = {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(message)),
    Connection: 'close',
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const reason = STATUS_CODES[status] ?? 'Error';
  client.end(`HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n${message}`);
  client.setTimeout(LIMITS.kubeletHeadersMs, () => client.destroy());
  client.resume();
  client.once('finish', () => client.destroySoon());
}
