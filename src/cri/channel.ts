/**
 * gRPC over one HTTP/2 session on a unix socket, on node:http2 alone.
 *
 * - The session is opened by the first call and again by the first call after it was lost. While it
 *   can't be opened, calls fail at once with `Unavailable` until a jittered backoff is over.
 * - Each call ends exactly once: with its answer, the runtime's status, its deadline, its signal or
 *   the loss of the session. What happened on the other side is then unknown but in the first two
 *   cases.
 * - A runtime that hangs keeps its socket open. So a call that runs out of time without any byte
 *   from the runtime pings it, and drops the session, and all calls on it, when no pong comes.
 *
 * Source of the wire format: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
import http2 from 'node:http2';
import net from 'node:net';

import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Random } from '../base/random.ts';
import { decode, encode, type Decoded, type Encodable, type Message } from './codec.ts';
import {
  brokenFailure,
  cancelledFailure,
  connectFailure,
  deadlineFailure,
  protocolFailure,
  statusFailure,
} from './errors.ts';
import { createReceivers, type Receivers } from './receive.ts';
import { createTrimmer } from './trim.ts';

export type Method<I extends Message, O extends Message> = {
  /** `/runtime.v1.RuntimeService/Version`. */
  readonly path: string;
  readonly request: I;
  readonly response: O;
};

export type CallOptions = {
  readonly signal: AbortSignal;
  /** Undefined: the call may take for ever. */
  readonly deadlineMs: number | undefined;
  /** Bytes that are kept of each field of the answer, which may then be of any length. */
  readonly keepBytes?: number;
};

export type ChannelOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly maxMessageBytes: number;
  readonly minBackoffMs?: number;
  readonly maxBackoffMs?: number;
  readonly pingTimeoutMs?: number;
};

const { constants: H } = http2;
const MIN_BACKOFF_MS = 100;
/** To find nobody at a socket costs next to nothing, and pods wait. */
const MAX_BACKOFF_MS = 500;
const PING_TIMEOUT_MS = 5000;
/** So that a list of some hundred containers arrives without a round trip for flow control. */
const WINDOW_BYTES = 1024 * 1024;

export class Channel {
  readonly #path: string;
  readonly #options: ChannelOptions;
  readonly #receivers: Receivers;
  #session: http2.ClientHttp2Session | undefined;
  #connecting: Promise<http2.ClientHttp2Session> | undefined;
  #backoffMs = 0;
  #notBeforeMs = 0;
  #lastFailure: Failure | undefined;
  #lastHeardMs = 0;
  #pinging = false;
  #closed = false;

  /** @param path The socket, see `socketPath`. Nothing is opened yet. */
  constructor(path: string, options: ChannelOptions) {
    this.#path = path;
    this.#options = options;
    this.#receivers = createReceivers(options.maxMessageBytes);
  }

  /**
   * One request, one answer.
   *
   * @throws Failure See `errors.ts`; `Cancelled` when the signal was aborted.
   */
  async unary<I extends Message, O extends Message>(
    method: Method<I, O>,
    request: Encodable<I>,
    options: CallOptions,
  ): Promise<Decoded<O>> {
    const name = nameOf(method.path);
    let answer: Decoded<O> | undefined;
    await this.#call(method, request, options, (bytes) => {
      if (answer !== undefined) throw protocolFailure(name, 'two answers to one request');
      answer = decode(method.response, bytes);
    });
    if (answer === undefined) throw protocolFailure(name, 'status OK without an answer');
    return answer;
  }

  /**
   * One request, any number of answers, each given to `onAnswer` as it comes. Resolves when the
   * runtime ends the stream with OK.
   *
   * @throws Failure as `unary`; an error thrown by `onAnswer` ends the call and is passed on.
   */
  async stream<I extends Message, O extends Message>(
    method: Method<I, O>,
    request: Encodable<I>,
    options: CallOptions,
    onAnswer: (answer: Decoded<O>) => void,
  ): Promise<void> {
    await this.#call(method, request, options, (bytes) => onAnswer(decode(method.response, bytes)));
  }

  /** Ends all calls with `Unavailable`, and every later one. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    const session = this.#session ?? (await this.#connecting?.catch(() => undefined));
    this.#session = undefined;
    if (session === undefined || session.destroyed) return;
    await new Promise<void>((resolve) => {
      session.once('close', resolve);
      session.destroy();
    });
  }

  async #call<I extends Message, O extends Message>(
    method: Method<I, O>,
    request: Encodable<I>,
    options: CallOptions,
    onMessage: (bytes: Buffer) => void,
  ): Promise<void> {
    const { signal, deadlineMs } = options;
    const name = nameOf(method.path);
    if (signal.aborted) throw cancelledFailure(name, signal.reason);
    const session = await this.#connected();
    if (signal.aborted) throw cancelledFailure(name, signal.reason);
    const body = framed(encode(method.request, request));
    const startedMs = this.#monoMs();
    const stream = this.#request(session, name, method.path, deadlineMs);
    const receiver =
      options.keepBytes === undefined
        ? this.#receivers.open(name, onMessage)
        : createTrimmer(name, options.keepBytes, onMessage);
    let onAbort: () => void = () => undefined;
    let timer: { cancel(): void } | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        // The listeners stay: a stream may still have something to say after the call has ended.
        const fail = (failure: Error) => {
          reject(failure);
          stream.close(H.NGHTTP2_CANCEL);
        };
        onAbort = () => fail(cancelledFailure(name, signal.reason));
        signal.addEventListener('abort', onAbort, { once: true });
        if (deadlineMs !== undefined) {
          timer = this.#options.clock.at(startedMs + deadlineMs, () => {
            fail(deadlineFailure(name, deadlineMs));
            if (this.#lastHeardMs < startedMs) this.#ping(session);
          });
        }
        const status = statusOf(stream, name, fail);
        let over = false;
        stream.on('data', (chunk: Buffer) => {
          this.#heard();
          if (over) return;
          try {
            receiver.push(chunk);
          } catch (error) {
            over = true;
            fail(error as Error);
          }
        });
        // A reset may follow a status: the status counts.
        let cause: unknown;
        stream.on('error', (error) => (cause = error));
        stream.on('close', () => {
          const failure = status.ended(receiver.partial());
          if (failure === undefined) resolve();
          else reject(failure ?? brokenFailure(name, this.#path, cause));
        });
        stream.end(body);
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
      timer?.cancel();
      receiver.done();
    }
  }

  #request(
    session: http2.ClientHttp2Session,
    name: string,
    path: string,
    deadlineMs: number | undefined,
  ): http2.ClientHttp2Stream {
    const headers: http2.OutgoingHttpHeaders = {
      ':method': 'POST',
      ':path': path,
      te: 'trailers',
      'content-type': 'application/grpc',
      'user-agent': 'limpet',
      // At most eight digits are allowed.
      ...(deadlineMs === undefined ? {} : { 'grpc-timeout': `${Math.ceil(deadlineMs)}m` }),
    };
    try {
      const stream = session.request(headers);
      stream.on('response', () => this.#heard());
      return stream;
    } catch (error) {
      // The session was lost between two turns.
      throw brokenFailure(name, this.#path, error);
    }
  }

  #connected(): Promise<http2.ClientHttp2Session> {
    if (this.#closed) {
      throw new Failure('Unavailable', `the connection to ${this.#path} was closed`);
    }
    const session = this.#session;
    if (session !== undefined && !session.closed && !session.destroyed) {
      return Promise.resolve(session);
    }
    if (this.#connecting !== undefined) return this.#connecting;
    if (this.#lastFailure !== undefined && this.#monoMs() < this.#notBeforeMs) {
      throw this.#lastFailure;
    }
    this.#connecting = this.#connect().finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(): Promise<http2.ClientHttp2Session> {
    const socket = net.connect(this.#path);
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      });
    } catch (error) {
      throw this.#backOff(connectFailure(this.#path, error));
    }
    const session = http2.connect('http://localhost', {
      createConnection: () => socket,
      settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
    });
    // Without a listener the loss of the session would end the process; its streams report it.
    session.on('error', () => undefined);
    session.on('connect', () => {
      // It may be destroyed by then, and what is thrown here would end the process.
      if (!session.destroyed) session.setLocalWindowSize(WINDOW_BYTES);
    });
    const lost = () => {
      if (this.#session === session) this.#session = undefined;
    };
    session.on('goaway', lost);
    session.on('close', () => {
      lost();
      // It was opened and fell before it said anything: that is no connection.
      if (this.#backoffMs > 0) {
        this.#backOff(connectFailure(this.#path, new Error('it hung up at once')));
      }
    });
    this.#backoffMs ||= this.#minBackoffMs();
    this.#lastFailure = undefined;
    this.#session = session;
    return session;
  }

  /** Notes that the socket can't be used for a while, and gives `failure` back. */
  #backOff(failure: Failure): Failure {
    const { random, maxBackoffMs = MAX_BACKOFF_MS } = this.#options;
    const backoffMs = Math.max(this.#backoffMs, this.#minBackoffMs());
    this.#notBeforeMs = this.#monoMs() + backoffMs * (0.8 + 0.4 * random.next());
    this.#backoffMs = Math.min(2 * backoffMs, maxBackoffMs);
    this.#lastFailure = failure;
    return failure;
  }

  #minBackoffMs(): number {
    return this.#options.minBackoffMs ?? MIN_BACKOFF_MS;
  }

  #heard(): void {
    this.#lastHeardMs = this.#monoMs();
    this.#backoffMs = 0;
  }

  #ping(session: http2.ClientHttp2Session): void {
    if (this.#pinging || session.destroyed || session.closed) return;
    this.#pinging = true;
    const { clock, pingTimeoutMs = PING_TIMEOUT_MS } = this.#options;
    const timer = clock.at(this.#monoMs() + pingTimeoutMs, () => {
      this.#pinging = false;
      session.destroy();
    });
    session.ping(() => {
      timer.cancel();
      this.#pinging = false;
    });
  }

  #monoMs(): number {
    return this.#options.clock.now().monoMs;
  }
}

/** `StopContainer` of `/runtime.v1.RuntimeService/StopContainer`. */
function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function framed(body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  return Buffer.concat([head, body]);
}

type Status = {
  /** Undefined: it ended well. Null: the runtime did not say how it ended. */
  ended(partial: boolean): Failure | undefined | null;
};

/** Watches a stream for its gRPC status, in trailers or, where there are none, in its headers. */
function statusOf(
  stream: http2.ClientHttp2Stream,
  name: string,
  fail: (failure: Failure) => void,
): Status {
  let code: string | undefined;
  let said = '';
  const read = (headers: http2.IncomingHttpHeaders) => {
    const value = headers['grpc-status'];
    if (value === undefined) return;
    code = String(value);
    said = percentDecoded(String(headers['grpc-message'] ?? ''));
  };
  stream.on('trailers', read);
  stream.on('response', (headers) => {
    const status = headers[':status'];
    const type = String(headers['content-type'] ?? '');
    if (status !== 200) {
      // A proxy or a server in trouble; 502 to 504 are gRPC's Unavailable.
      if (status !== undefined && status >= 502 && status <= 504) {
        fail(statusFailure(name, 14, `HTTP status ${status}`));
      } else fail(protocolFailure(name, `HTTP status ${status}`));
    } else if (!type.startsWith('application/grpc')) {
      fail(protocolFailure(name, `content type ${JSON.stringify(type)}`));
    } else read(headers);
  });
  return {
    ended(partial) {
      if (code === undefined) return null;
      if (code !== '0') return statusFailure(name, Number(code), said);
      return partial ? protocolFailure(name, 'it ended in the middle of a message') : undefined;
    },
  };
}

/** grpc-message is percent-encoded UTF-8; one that is not is shown as it came. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
