/**
 * GET, well from 200 to 399. Redirects are followed on the same host only; one to another host is
 * well, with a warning. Node's own client: no proxy of the environment, each request on a connection
 * of its own, no more of a body than 10 KiB. Source: pkg/probe/http.
 */
import http from 'node:http';
import https from 'node:https';
import { LIMITS } from '../base/limits.ts';
import type { HTTPGetAction, HTTPHeader } from '../kube/pod.ts';
import type { ProbeKind, ProbeTarget } from './target.ts';
import {
  KUBE_VERSION,
  TimedOut,
  hostOf,
  hostPort,
  portOf,
  withTimeout,
  wordsOf,
} from './target.ts';

const MAX_REDIRECTS = 10;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export const httpGet: ProbeKind<'httpGet'> = {
  async run(target, handler, timeoutSeconds, signal) {
    let first: URL;
    try {
      first = urlOf(target, handler);
    } catch (error) {
      return { result: 'error', text: (error as Error).message };
    }
    using limit = withTimeout(target.clock, timeoutSeconds * 1000, signal);
    const headers = headersOf(handler.httpHeaders, `kube-probe/${KUBE_VERSION}`);
    try {
      const { status, body } = await get(first, headers, limit.signal);
      if (status >= 400 || status < 200) {
        // What the container says may be secret; it does not belong into an event.
        return { result: 'failure', text: `HTTP probe failed with statuscode: ${status}` };
      }
      if (status < 300) return { result: 'success', text: body };
      const text = `Probe terminated redirects, Response body: ${body}`;
      return { result: 'warning', text };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const [why, at] = limit.signal.aborted
        ? [limit.signal.reason as Error, first]
        : [error, error instanceof GetFailed ? error.url : first];
      if (error instanceof BodyFailed && !limit.signal.aborted) {
        return { result: 'error', text: error.message };
      }
      return { result: 'failure', text: `Get "${at.href}": ${describe(why, at)}` };
    }
  },
};

function describe(why: unknown, at: URL): string {
  if (why instanceof TimedOut) {
    return 'context deadline exceeded (Client.Timeout exceeded while awaiting headers)';
  }
  const cause = why instanceof GetFailed ? why.cause : why;
  const words = wordsOf(cause);
  return words.startsWith('connect: ') ? `dial tcp ${at.host}: ${words}` : words;
}

/** A request failed before its answer had a status. */
export class GetFailed extends Error {
  readonly url: URL;

  constructor(url: URL, cause: unknown) {
    super(wordsOf(cause), { cause });
    this.name = 'GetFailed';
    this.url = url;
  }
}

class BodyFailed extends Error {}

type Headers = Readonly<Record<string, string | readonly string[]>>;
export type Got = { readonly status: number; readonly body: string };

/**
 * Gets `first` and follows redirects on its host.
 * @throws GetFailed when there is no answer.
 */
export async function get(first: URL, headers: Headers, signal: AbortSignal): Promise<Got> {
  let url = first;
  for (let redirects = 0; ; redirects += 1) {
    const got = await getOnce(url, headers, signal);
    if (got.location === undefined || !REDIRECTS.has(got.status)) return got;
    let next: URL;
    try {
      next = new URL(got.location, url);
    } catch (cause) {
      throw new GetFailed(url, cause);
    }
    if (next.hostname !== first.hostname) return got;
    if (redirects + 1 >= MAX_REDIRECTS) {
      throw new GetFailed(next, new Error(`stopped after ${MAX_REDIRECTS} redirects`));
    }
    if (next.protocol !== 'http:' && next.protocol !== 'https:') {
      const scheme = next.protocol.slice(0, -1);
      throw new GetFailed(next, new Error(`unsupported protocol scheme ${JSON.stringify(scheme)}`));
    }
    url = next;
  }
}

function getOnce(
  url: URL,
  headers: Headers,
  signal: AbortSignal,
): Promise<Got & { readonly location: string | undefined }> {
  const { promise, resolve, reject } = Promise.withResolvers<
    Got & { readonly location: string | undefined }
  >();
  const options: https.RequestOptions = {
    // Of an address in brackets Node wants what is between them.
    hostname: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port,
    path: `${url.pathname}${url.search}`,
    headers: headers as http.OutgoingHttpHeaders,
    agent: false,
    signal,
    // A kubelet does not check the certificate of what it probes: it has nothing to check it
    // against, and it sends nothing that is worth protecting. Nothing else may copy this line.
    rejectUnauthorized: false,
  };
  let request: http.ClientRequest;
  try {
    request = url.protocol === 'https:' ? https.request(options) : http.request(options);
  } catch (cause) {
    reject(new GetFailed(url, cause));
    return promise;
  }
  request.on('error', (cause) => reject(new GetFailed(url, cause)));
  request.on('response', (response) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const status = response.statusCode ?? 0;
    const done = () => {
      const body = Buffer.concat(chunks).subarray(0, LIMITS.probeOutputBytes).toString('utf8');
      resolve({ status, body, location: response.headers.location });
      request.destroy();
    };
    response.on('data', (chunk: Buffer) => {
      if (length >= LIMITS.probeOutputBytes) return;
      chunks.push(chunk);
      length += chunk.length;
      if (length >= LIMITS.probeOutputBytes) done();
    });
    response.on('end', done);
    response.on('error', (cause) => reject(new BodyFailed(wordsOf(cause), { cause })));
  });
  request.end();
  return promise;
}

/** What an action asks for. @throws Error when the port or the address is not there. */
export function urlOf(target: ProbeTarget, handler: HTTPGetAction): URL {
  const at = hostPort(hostOf(handler.host, target), portOf(handler.port, target.container));
  return new URL(`${handler.scheme.toLowerCase()}://${at}${pathOf(handler.path)}`);
}

/** A path with its query. Whatever else it has is not for the server. */
function pathOf(written: string): string {
  const path = written.replace(/#.*$/s, '').replace(/^([a-z][a-z0-9+.-]*:)?\/\/[^/?]*/i, '');
  const isEncoded = !/%(?![0-9a-f]{2})/i.test(path);
  const encoded = isEncoded ? path : path.replaceAll('%', '%25');
  return encoded.startsWith('/') ? encoded : `/${encoded}`;
}

/** Headers that belong to the connection and not to whoever wrote the pod. */
const OWN: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'trailer',
  'transfer-encoding',
]);

/** The headers of an action; `Accept: ""` takes that header away. */
export function headersOf(written: readonly HTTPHeader[], userAgent: string): Headers {
  const headers: Record<string, [string, ...string[]]> = {};
  for (const { name, value } of written) {
    const key = name.toLowerCase();
    if (OWN.has(key)) continue;
    const before = headers[key];
    // A request has one host, whatever is written.
    if (before === undefined) headers[key] = [value];
    else if (key !== 'host') before.push(value);
  }
  headers['user-agent'] ??= [userAgent];
  headers['accept'] ??= ['*/*'];
  if (headers['accept'][0] === '') delete headers['accept'];
  return Object.fromEntries([
    ...Object.entries(headers).map(([key, [first, ...more]]) => [
      key,
      more.length === 0 ? first : [first, ...more],
    ]),
    ['connection', 'close'],
  ]) as Headers;
}
