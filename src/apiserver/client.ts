/**
 * Requests to the API server.
 *
 * - Each ends exactly once: with its answer, or with an `ApiFailure` whose code says what may be
 *   done about it. What happened on the other side is unknown after `Unavailable`,
 *   `DeadlineExceeded` and `Cancelled`.
 * - Nothing is repeated here, save a request that met a connection which the server had closed while
 *   it was idle.
 * - Redirects are not followed: an API server sends none.
 */
import type { Clock } from '../base/clock.ts';
import { errnoOf, Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { KUBERNETES_VERSION, VERSION } from '../base/version.ts';
import { Connections, type Traffic } from './connections.ts';
import type { Credentials, Material } from './credentials.ts';
import {
  cancelledFailure,
  connectionFailure,
  cutFailure,
  deadlineFailure,
  foreignFailure,
  isStatus,
  protocolFailure,
  statusFailure,
  tooLongFailure,
  type Asked,
} from './errors.ts';
import { NOT_BEGUN, type HttpAnswer, type HttpCall } from './http.ts';

export type Request = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With its query; see `pathOf`. */
  readonly path: string;
  readonly body?: unknown;
  /** Of `body`; JSON unless told. */
  readonly contentType?: string;
  /** JSON unless told. */
  readonly accept?: string;
};

export type CallOptions = {
  readonly signal: AbortSignal;
  /** Until the whole answer is there; without the time that a credential plugin takes. */
  readonly deadlineMs: number;
};

export type StreamOptions = {
  readonly signal: AbortSignal;
  /** Until the answer begins, as above. */
  readonly openMs: number;
  /** The longest time without any byte. */
  readonly silenceMs: number;
  /** The answer has begun. */
  readonly onOpen: () => void;
  /** An error that it throws ends the stream and is passed on. */
  readonly onData: (chunk: Buffer) => void;
};

export type JsonObject = Readonly<Record<string, unknown>>;

const JSON_TYPE = 'application/json';
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64' };
const USER_AGENT =
  `limpet/${VERSION} (linux/${ARCHITECTURES[process.arch] ?? process.arch}) ` +
  `kubernetes/${KUBERNETES_VERSION}`;

export type ApiClientOptions = { readonly credentials: Credentials; readonly clock: Clock };

export class ApiClient {
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  readonly #connections: Connections;

  /** With connections of its own; nothing is opened yet. */
  constructor(options: ApiClientOptions) {
    this.#credentials = options.credentials;
    this.#clock = options.clock;
    this.#connections = new Connections(options.credentials);
  }

  /**
   * A request whose answer is a JSON object.
   *
   * @throws ApiFailure see `errors.ts`; Failure from `Credentials.current`
   */
  async json(request: Request, options: CallOptions): Promise<JsonObject> {
    const asked = this.asked(request);
    const { body, type } = await this.#call(request, options, asked);
    return parseObject(asked, body, type);
  }

  /** A request whose answer is taken as it comes: a log, `/healthz`, … Throws as `json`. */
  async raw(request: Request, options: CallOptions): Promise<Buffer> {
    return (await this.#call(request, options, this.asked(request))).body;
  }

  /**
   * A request whose answer goes on and on. Resolves when the server ends it in order; throws as
   * `json`, with `DeadlineExceeded` when the server is silent.
   */
  async stream(request: Request, options: StreamOptions): Promise<void> {
    const asked = this.asked(request);
    const { openMs, silenceMs } = options;
    const slow = (ms: number) => `the API server was silent for ${ms / 1000} s`;
    await this.#exchange(request, options.signal, asked, true, async (exchange) => {
      exchange.deadline(openMs, slow(openMs));
      const answer = await exchange.answer();
      await checkStatus(exchange, asked, answer);
      checkType(asked, answer, JSON_TYPE);
      options.onOpen();
      const heard = () => exchange.deadline(silenceMs, slow(silenceMs));
      heard();
      await exchange.read((chunk) => {
        heard();
        options.onData(chunk);
      });
    });
  }

  /** How a request is named in messages. */
  asked({ method, path }: Request): Asked {
    return {
      what: `${method} ${path.split('?', 1)[0]}`,
      server: this.#credentials.server.origin,
      wallMs: this.#clock.now().wallMs,
      doubt: this.#credentials.doubt(),
    };
  }

  traffic(): Traffic {
    return this.#connections.traffic();
  }

  /** Closes all connections: after failures it is better to begin anew than to trust them. */
  close(): void {
    this.#connections.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #call(request: Request, options: CallOptions, asked: Asked): Promise<Answer> {
    const { signal, deadlineMs } = options;
    return await this.#exchange(request, signal, asked, false, async (exchange) => {
      exchange.deadline(deadlineMs, `no answer within ${deadlineMs / 1000} s`);
      const answer = await exchange.answer();
      await checkStatus(exchange, asked, answer);
      return { body: await exchange.readAll(asked), type: contentType(answer) };
    });
  }

  async #exchange<T>(
    request: Request,
    signal: AbortSignal,
    asked: Asked,
    isStream: boolean,
    use: (exchange: Exchange) => Promise<T>,
  ): Promise<T> {
    for (let isFirst = true; ; isFirst = false) {
      if (signal.aborted) throw cancelledFailure(asked.what, signal.reason);
      const material = await this.#credentials.current();
      if (signal.aborted) throw cancelledFailure(asked.what, signal.reason);
      using exchange = new Exchange(
        this.#open(request, material, isStream),
        signal,
        asked,
        this.#clock,
      );
      try {
        return await use(exchange);
      } catch (error) {
        // The server closed the idle connection just when we began to use it.
        if (isFirst && exchange.wasStale(error, isRepeatable(request))) continue;
        if (error instanceof Failure && error.code === 'Unauthenticated') {
          this.#credentials.refused();
        }
        throw error;
      }
    }
  }

  #open(request: Request, material: Material, isStream: boolean): HttpCall {
    const { server } = this.#credentials;
    const { body } = request;
    const bytes = body === undefined ? undefined : encoded(body);
    return this.#connections.call(material, isStream, {
      method: request.method,
      body: bytes,
      path: `${server.pathname.replace(/\/$/, '')}${request.path}`,
      headers: {
        accept: request.accept ?? JSON_TYPE,
        'user-agent': USER_AGENT,
        ...(material.token === undefined ? {} : { authorization: `Bearer ${material.token}` }),
        ...(bytes === undefined
          ? {}
          : {
              'content-type': request.contentType ?? JSON_TYPE,
              'content-length': bytes.length,
            }),
      },
    });
  }
}

/** Whether it does not matter if the server has carried it out before. */
function isRepeatable({ method, contentType }: Request): boolean {
  return method !== 'POST' && contentType !== 'application/json-patch+json';
}

type Answer = { readonly body: Buffer; readonly type: string };

/** One request on its way: ends at its deadline, its signal, or when its scope is left. */
class Exchange {
  readonly #call: HttpCall;
  readonly #signal: AbortSignal;
  readonly #asked: Asked;
  readonly #clock: Clock;
  readonly #onAbort: () => void;
  #timer: { cancel(): void } | undefined;
  #answer: HttpAnswer | undefined;
  #ended: Failure | undefined;

  constructor(call: HttpCall, signal: AbortSignal, asked: Asked, clock: Clock) {
    this.#call = call;
    this.#signal = signal;
    this.#asked = asked;
    this.#clock = clock;
    this.#onAbort = () => this.#end(cancelledFailure(asked.what, signal.reason));
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Ends the exchange with `why` in `ms` from now, instead of what was said before. */
  deadline(ms: number, why: string): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.at(this.#clock.now().monoMs + ms, () =>
      this.#end(deadlineFailure(this.#asked, why)),
    );
  }

  async answer(): Promise<HttpAnswer> {
    try {
      this.#answer = await this.#call.answer();
      return this.#answer;
    } catch (cause) {
      throw this.#ended ?? connectionFailure(this.#asked, cause);
    }
  }

  /** Gives the body as it comes; resolves at its end. */
  async read(onData: (chunk: Buffer) => void): Promise<void> {
    const { body, isWhole } = this.#answer!;
    await new Promise<void>((resolve, reject) => {
      let isOver = false;
      body.on('data', (chunk: Buffer) => {
        if (isOver || this.#ended !== undefined) return;
        try {
          onData(chunk);
        } catch (thrown) {
          isOver = true;
          const error = thrown as Error;
          reject(error);
          this.#call.destroy();
        }
      });
      body.once('close', () => {
        if (isWhole()) return resolve();
        const why = 'the connection broke in the middle of the answer';
        reject(this.#ended ?? cutFailure(this.#asked, why));
      });
    });
  }

  async readAll(asked: Asked): Promise<Buffer> {
    const maxBytes = LIMITS.apiResponseBytes;
    const length = Number(this.#answer!.headers['content-length'] ?? 0);
    if (length > maxBytes) throw tooLongFailure(asked, maxBytes);
    const chunks: Buffer[] = [];
    let bytes = 0;
    await this.read((chunk) => {
      bytes += chunk.length;
      if (bytes > maxBytes) throw tooLongFailure(asked, maxBytes);
      chunks.push(chunk);
    });
    return Buffer.concat(chunks, bytes);
  }

  /**
   * Whether nothing came of it because the connection had been closed before: for sure, or, where
   * it does not matter, perhaps.
   */
  wasStale(error: unknown, isRepeatable: boolean): boolean {
    const errno = (error instanceof Failure ? errnoOf(error.cause) : undefined) ?? '';
    if (NOT_BEGUN.has(errno)) return true;
    const isClosed = errno === 'ECONNRESET' || errno === 'EPIPE';
    return isRepeatable && isClosed && this.#call.isReused() && this.#answer === undefined;
  }

  #end(failure: Failure): void {
    this.#ended ??= failure;
    this.#call.destroy(failure);
  }

  [Symbol.dispose](): void {
    this.#timer?.cancel();
    this.#signal.removeEventListener('abort', this.#onAbort);
    // A connection whose answer was not read to its end can't serve another request.
    if (this.#answer?.body.readableEnded !== true) this.#call.destroy();
  }
}

function encoded(body: unknown): Buffer {
  if (typeof body === 'string') return Buffer.from(body);
  return body instanceof Uint8Array ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
}

function contentType({ headers }: HttpAnswer): string {
  return (headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
}

async function checkStatus(exchange: Exchange, asked: Asked, answer: HttpAnswer): Promise<void> {
  const { status } = answer;
  if (status >= 200 && status < 300) return;
  if (status >= 300 && status < 400) {
    throw foreignFailure(asked, `it redirects (HTTP ${status}): a captive portal or a proxy?`, {
      status,
    });
  }
  const type = contentType(answer);
  const body = type === JSON_TYPE ? await exchange.readAll(asked) : undefined;
  throw statusFailure(asked, status, body && parsedOr(body), answer.headers);
}

function checkType(asked: Asked, answer: HttpAnswer, wanted: string): void {
  const type = contentType(answer);
  if (type !== wanted) throw wrongType(asked, type);
}

function wrongType(asked: Asked, type: string): Failure {
  const isPage = type === 'text/html';
  return foreignFailure(
    asked,
    isPage
      ? 'it sends a web page: a captive portal (log in to the network) or a proxy?'
      : `it sends ${type === '' ? 'something without a type' : `"${type.slice(0, 80)}"`}, not JSON`,
  );
}

function parsedOr(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

function parseObject(asked: Asked, body: Buffer, type: string): JsonObject {
  if (type !== JSON_TYPE) throw wrongType(asked, type);
  if (body.length === 0) throw foreignFailure(asked, 'it sends an empty answer');
  const parsed = parsedOr(body);
  if (typeof parsed !== 'object' || parsed === null) {
    throw foreignFailure(asked, 'it sends something that is no JSON object');
  }
  const object = parsed as JsonObject;
  if (typeof object['kind'] !== 'string') {
    throw protocolFailure(asked, 'it is no object of Kubernetes, for it has no kind');
  }
  // A failure under the status of success.
  if (isStatus(object) && object.status === 'Failure') {
    throw statusFailure(asked, Number(object.code ?? 500), object, {});
  }
  return object;
}
