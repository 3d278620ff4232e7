/** One request and its answer over HTTP/1.1 or HTTP/2, alike to those who use them. */
import type { ClientRequest, IncomingHttpHeaders } from 'node:http';
import http2 from 'node:http2';
import type { Readable } from 'node:stream';

export type HttpMessage = {
  readonly method: string;
  readonly path: string;
  /** Names in small letters. */
  readonly headers: Readonly<Record<string, string | number>>;
  readonly body: Buffer | undefined;
};

export type HttpAnswer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readable;
  /** Whether the body came to its proper end; true only when it has closed. */
  isWhole(): boolean;
};

export type HttpCall = {
  /** To be called once, and at once. Rejects with the error of the connection. */
  answer(): Promise<HttpAnswer>;
  /** Gives it up. What waits for it gets the error. */
  destroy(error?: Error): void;
  /** Whether its connection had served others before. */
  isReused(): boolean;
};

export function http1Call(request: ClientRequest): HttpCall {
  // It may have something to say after we have turned away.
  request.on('error', () => undefined);
  return {
    answer: () =>
      new Promise((resolve, reject) => {
        request.once('response', (response) => {
          response.on('error', () => undefined);
          const { statusCode: status = 0, headers } = response;
          resolve({ status, headers, body: response, isWhole: () => response.complete });
        });
        request.once('error', reject);
      }),
    destroy: (error) => void request.destroy(error),
    isReused: () => request.reusedSocket,
  };
}

/** Without `isReused`, which the stream does not know. */
export function http2Call(stream: http2.ClientHttp2Stream): Omit<HttpCall, 'isReused'> {
  stream.on('error', () => undefined);
  return {
    answer: () =>
      new Promise((resolve, reject) => {
        stream.once('response', ({ ':status': status = 0, ...headers }) => {
          const isWhole = () =>
            stream.rstCode === http2.constants.NGHTTP2_NO_ERROR && !stream.aborted;
          resolve({ status, headers, body: stream, isWhole });
        });
        stream.once('error', (error) => reject(isRefused(stream) ? refused(error) : error));
        stream.once('close', () => reject(isRefused(stream) ? refused() : closed()));
      }),
    destroy: (error) => {
      stream.close(http2.constants.NGHTTP2_CANCEL);
      stream.destroy(error);
    },
  };
}

/** Codes of errors of HTTP/2 that say: the server has not begun with the request, nor will it. */
export const NOT_BEGUN: ReadonlySet<string> = new Set([
  'NGHTTP2_REFUSED_STREAM',
  'ERR_HTTP2_GOAWAY_SESSION',
  'ERR_HTTP2_INVALID_SESSION',
]);

function isRefused({ rstCode }: http2.ClientHttp2Stream): boolean {
  return rstCode === http2.constants.NGHTTP2_REFUSED_STREAM;
}

function refused(cause?: unknown): Error {
  const error = new Error('the server closes the connection', { cause });
  return Object.assign(error, { code: 'NGHTTP2_REFUSED_STREAM' });
}

/** The other side has closed the connection without a word. */
export function closed(): Error {
  return Object.assign(new Error('the connection was closed'), { code: 'ECONNRESET' });
}

export type Opening<T> = {
  readonly opened: Promise<T>;
  readonly begin: (opened: T) => HttpCall;
  /** It is not waited for any more. */
  readonly giveUp: (error: Error | undefined) => void;
  /** It was not needed any more when it came. */
  readonly release: (opened: T) => void;
};

/** A call over a connection that is still being opened. */
export function callWhenOpen<T>(opening: Opening<T>): HttpCall {
  const givenUp = Promise.withResolvers<never>();
  givenUp.promise.catch(() => undefined);
  let call: HttpCall | undefined;
  let isOver = false;
  return {
    answer: async () => {
      const begun = opening.opened.then((opened) => {
        if (!isOver) return (call = opening.begin(opened));
        opening.release(opened);
        return givenUp.promise;
      });
      begun.catch(() => undefined);
      return await (await Promise.race([begun, givenUp.promise])).answer();
    },
    destroy: (error) => {
      isOver = true;
      givenUp.reject(error ?? new Error('given up'));
      if (call === undefined) opening.giveUp(error);
      else call.destroy(error);
    },
    isReused: () => call?.isReused() ?? false,
  };
}
