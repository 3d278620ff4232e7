/**
 * What stands between a node and its API server and does it harm: late answers, refusals, halves.
 *
 * It ends the TLS of the node and asks in its name, as a front proxy does: who the certificate names
 * goes into headers that the API server believes to the proxy's own certificate; a bearer token is
 * passed on as it is. Answers are passed on as they come.
 */
import { readFile } from 'node:fs/promises';
import http2, { type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import https from 'node:https';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { setTimeout as pause } from 'node:timers/promises';
import type { ControlPlane } from '../../scripts/lib/control-plane.ts';

export type ProxyFault =
  /** Each answer begins so late, and comes no faster, those under way included. */
  | { readonly kind: 'slow'; readonly delayMs: number; readonly bytesPerSecond: number }
  /** Nothing of these paths, or nothing at all, reaches the API server. */
  | {
      readonly kind: 'refuse';
      readonly status: 403 | 429 | 500;
      readonly retryAfterSeconds?: number;
      readonly paths?: RegExp;
    }
  /** The API server does as it is asked, but each connection breaks in the middle of an answer. */
  | { readonly kind: 'half' };

export type ProxyRequest = {
  readonly atMs: number;
  readonly method: string;
  readonly path: string;
  /** Who the certificate names; undefined with a token. */
  readonly user: string | undefined;
};

export type FaultProxy = {
  /** Of 127.0.0.1. */
  readonly port: number;
  /** All that has come so far, refused or not. */
  readonly requests: readonly ProxyRequest[];
  /** How many connections were made so far. */
  readonly connections: () => number;
  /** Does this from now on, or no harm. What refuses or cuts begins with a cut of what is open. */
  inject(fault: ProxyFault | undefined): void;
  [Symbol.asyncDispose](): Promise<void>;
};

const REASONS = { 403: 'Forbidden', 429: 'TooManyRequests', 500: 'InternalError' } as const;
/** Of one connection alone. Source: RFC 9113, section 8.2.2 */
const HOP_BY_HOP = /^(:.*|connection|keep-alive|transfer-encoding|upgrade|host|x-remote-.*)$/i;
const SLICES_PER_SECOND = 2;

/** Starts it before the API server of a control plane, whose serving certificate it shows. */
export async function startFaultProxy(plane: ControlPlane): Promise<FaultProxy> {
  const pki = async (name: string) => await readFile(join(plane.directory, 'pki', name));
  const ca = await pki('ca.crt');
  const to = { host: '127.0.0.1', port: plane.port, ca };
  const front = {
    cert: await pki('front-proxy-client.crt'),
    key: await pki('front-proxy-client.key'),
  };
  const asNode = new https.Agent({ ...to, ...front, keepAlive: true });
  const asBearer = new https.Agent({ ...to, keepAlive: true });
  const requests: ProxyRequest[] = [];
  const sockets = new Set<TLSSocket>();
  let connections = 0;
  let fault: ProxyFault | undefined;
  const server = http2.createSecureServer({
    ...{ allowHTTP1: true, requestCert: true, rejectUnauthorized: false, ca },
    ...{ cert: await pki('apiserver.crt'), key: await pki('apiserver.key') },
  });
  server.on('secureConnection', (socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  server.on('sessionError', () => undefined);
  server.on('request', (request, response) => {
    const identity = identityOf(request.socket as TLSSocket);
    const { method, url: path } = request;
    requests.push({ atMs: performance.now(), method, path, user: identity?.user });
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const refusal =
      fault?.kind === 'refuse' && (fault.paths?.test(path) ?? true) ? fault : undefined;
    if (refusal !== undefined) return refuse(request, response, refusal);
    const asked = https.request({
      ...{ ...to, method, path },
      agent: identity === undefined ? asBearer : asNode,
      headers: { ...withoutHops(request.headers), ...identity?.headers },
    });
    asked.on('error', () => cut(request));
    response.on('close', () => asked.destroy());
    asked.on('response', (answer) => {
      answer.on('error', () => undefined);
      void passOn(request, response, answer, () => fault).catch(() => cut(request));
    });
    request.pipe(asked);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cutAll = () => sockets.forEach((socket) => socket.destroy());
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    connections: () => connections,
    inject: (next) => {
      fault = next;
      if (next?.kind === 'refuse' || next?.kind === 'half') cutAll();
    },
    [Symbol.asyncDispose]: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      cutAll();
      asNode.destroy();
      asBearer.destroy();
      await closed;
    },
  };
}

type Identity = { readonly user: string; readonly headers: Readonly<Record<string, string[]>> };

/** Who the certificate names, if our CA has signed it. */
function identityOf(socket: TLSSocket): Identity | undefined {
  if (!socket.authorized) return undefined;
  const { CN: user, O: groups } = socket.getPeerCertificate().subject as {
    readonly CN: string;
    readonly O?: string | string[];
  };
  return { user, headers: { 'x-remote-user': [user], 'x-remote-group': [groups ?? []].flat() } };
}

function withoutHops(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.test(name)));
}

function refuse(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  { status, retryAfterSeconds }: Extract<ProxyFault, { kind: 'refuse' }>,
): void {
  request.resume();
  const after = retryAfterSeconds === undefined ? {} : { 'retry-after': `${retryAfterSeconds}` };
  response.writeHead(status, { 'content-type': 'application/json', ...after });
  const message = 'the test has it so';
  const about = { status: 'Failure', reason: REASONS[status], code: status, message };
  response.end(JSON.stringify({ apiVersion: 'v1', kind: 'Status', ...about }));
}

async function passOn(
  request: Http2ServerRequest,
  response: Http2ServerResponse,
  answer: IncomingMessage,
  faultOfNow: () => ProxyFault | undefined,
): Promise<void> {
  const slow = faultOfNow();
  if (slow?.kind === 'slow') await pause(slow.delayMs);
  if (response.destroyed) return;
  response.writeHead(answer.statusCode ?? 502, withoutHops(answer.headers));
  const isHalf = faultOfNow()?.kind === 'half';
  // Of a watch that is quiet the head alone comes; with HTTP/1.1 that takes a word more.
  if (!isHalf) (response as Partial<Pick<ServerResponse, 'flushHeaders'>>).flushHeaders?.();
  const isWatch = /[?&]watch=true/.test(request.url);
  const whole = isHalf && !isWatch ? [Buffer.concat(await answer.toArray())] : answer;
  for await (const chunk of whole as AsyncIterable<Buffer>) {
    const fault = faultOfNow();
    if (fault?.kind === 'half') {
      response.write(chunk.subarray(0, chunk.length >> 1));
      // Written, but perhaps not sent.
      await pause(50);
      return cut(request);
    }
    const bytes = fault?.kind === 'slow' ? fault.bytesPerSecond / SLICES_PER_SECOND : Infinity;
    for (let at = 0; at < chunk.length && !response.destroyed; at += bytes) {
      response.write(chunk.subarray(at, at + bytes));
      if (bytes < Infinity) await pause(1000 / SLICES_PER_SECOND);
    }
  }
  response.end();
}

function cut(request: Http2ServerRequest): void {
  // With HTTP/1.1 there is no stream.
  const stream = request.stream as Http2ServerRequest['stream'] | undefined;
  if (stream?.session !== undefined) stream.session.destroy();
  else if (request.httpVersionMajor === 1) request.socket.destroy();
}
