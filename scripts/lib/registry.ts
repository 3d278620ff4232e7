// A registry for tests: read-only, over images built here, and as slow or as broken as one likes.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BuiltImage } from './oci-archive.ts';

export type RegistryFault = {
  /** HTTP status to answer with, or `hang` to say nothing, or `reset` to hang up. */
  readonly answer: number | 'hang' | 'reset';
  /** Of an image's repository and of manifests or blobs alone, when given. */
  readonly repository?: string;
  readonly kind?: 'manifests' | 'blobs';
};

export type RegistryOptions = {
  readonly images: readonly BuiltImage[];
  /** How fast each blob is sent; as fast as possible when missing. */
  readonly bytesPerSecond?: number;
  /** `user:password` that whoever asks must give; nobody has to when missing. */
  readonly login?: string;
};

export type RegistryRequest = {
  readonly method: string;
  readonly path: string;
  readonly status: number;
};

export type Registry = AsyncDisposable & {
  readonly port: number;
  /** What was asked, in order. */
  readonly requests: readonly RegistryRequest[];
  /** Adds an image, or moves its names to it. */
  add(image: BuiltImage): void;
  /** Sets how it fails from now on; nothing to work again. */
  fail(fault?: RegistryFault): void;
  /** Sets how fast it is from now on. */
  throttle(bytesPerSecond?: number): void;
  close(): Promise<void>;
};

type Content = {
  /** Manifest digests by `repository:tag`. */
  readonly tags: Map<string, string>;
  readonly blobs: Map<string, Buffer>;
  readonly types: Map<string, string>;
};

type Mood = { bytesPerSecond: number | undefined; fault: RegistryFault | undefined };

/**
 * Serves images over plain HTTP on a free port of 127.0.0.1, which a virtual node reaches at
 * 10.0.2.2. An image named `any.host/some/name:tag` is served as `some/name:tag`.
 */
export async function serveRegistry(options: RegistryOptions): Promise<Registry> {
  const content: Content = { tags: new Map(), blobs: new Map(), types: new Map() };
  const mood: Mood = { bytesPerSecond: options.bytesPerSecond, fault: undefined };
  const requests: RegistryRequest[] = [];
  options.images.forEach((image) => add(content, image));
  const server = createServer((request, response) => {
    const { method = 'GET', url = '/' } = request;
    response.on('close', () => requests.push({ method, path: url, status: response.statusCode }));
    const { authorization } = request.headers;
    if (options.login !== undefined && authorization !== basic(options.login)) {
      response.setHeader('www-authenticate', 'Basic realm="test"');
      return send(response, 401, problem('UNAUTHORIZED', 'a login is required'));
    }
    answer(content, mood, request, response).catch(() => response.destroy());
  });
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.on('error', reject);
  server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    resolve(typeof address === 'object' && address !== null ? address.port : 0);
  });
  const port = await promise;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    if (server.listening) await server[Symbol.asyncDispose]();
  };
  return {
    port,
    requests,
    add: (image) => add(content, image),
    fail: (fault) => (mood.fault = fault),
    throttle: (bytesPerSecond) => (mood.bytesPerSecond = bytesPerSecond),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function add(content: Content, image: BuiltImage): void {
  for (const [digest, body] of image.blobs) content.blobs.set(digest, body);
  content.types.set(image.manifest.digest, image.manifest.mediaType);
  for (const name of image.names) {
    content.tags.set(name.slice(name.indexOf('/') + 1), image.manifest.digest);
  }
}

async function answer(
  content: Content,
  mood: Mood,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = (request.url ?? '/').replace(/\?.*$/, '');
  if (path === '/v2/') return send(response, 200, '{}');
  const found = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(path);
  if (found === null) return send(response, 404, problem('UNSUPPORTED', path));
  const [, repository = '', kind = '', reference = ''] = found;
  const { fault } = mood;
  if (
    fault !== undefined &&
    (fault.repository ?? repository) === repository &&
    (fault.kind ?? kind) === kind
  ) {
    if (fault.answer === 'hang') return;
    if (fault.answer === 'reset') return void response.destroy();
    return send(response, fault.answer, problem('DENIED', 'told to fail'));
  }
  const digest = reference.includes(':')
    ? reference
    : content.tags.get(`${repository}:${reference}`);
  const body = digest === undefined ? undefined : content.blobs.get(digest);
  if (digest === undefined || body === undefined) {
    const code = kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN';
    return send(response, 404, problem(code, reference));
  }
  const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? '0');
  response.writeHead(start === 0 ? 200 : 206, {
    'content-type': content.types.get(digest) ?? 'application/octet-stream',
    'content-length': body.length - start,
    'docker-content-digest': digest,
    ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${body.length - 1}/${body.length}` }),
  });
  if (request.method === 'HEAD') response.end();
  else await trickle(response, body.subarray(start), mood);
}

/** Sends a body ten times a second; a new speed holds from the next tenth on. */
async function trickle(response: ServerResponse, body: Buffer, mood: Mood): Promise<void> {
  for (let at = 0; at < body.length && !response.destroyed;) {
    const size = mood.bytesPerSecond === undefined ? body.length : mood.bytesPerSecond / 10;
    response.write(body.subarray(at, (at += Math.max(1, Math.floor(size)))));
    if (at < body.length) await sleep(100);
  }
  response.end();
}

function send(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(body);
}

function basic(login: string): string {
  return `Basic ${Buffer.from(login).toString('base64')}`;
}

function problem(code: string, message: string): string {
  return JSON.stringify({ errors: [{ code, message }] });
}
