/**
 * All requests share one connection by HTTP/2: 30 watches take 0.3 MB of memory there and 1.9 MB on
 * connections of their own, headers that are repeated take a byte each, and the network is not kept
 * awake by each. A server, or what stands before it, that speaks HTTP/1.1 alone is told at the
 * handshake and has it so.
 *
 * A connection on which an answer was waited for in vain gets no new streams: it may be dead without
 * anybody knowing. Those that are on it have deadlines of their own.
 */
import http2 from 'node:http2';
import type tls from 'node:tls';

import { Failure } from '../base/failure.ts';
import { closed, http2Call, type HttpCall, type HttpMessage } from './http.ts';

export type SessionsOptions = {
  /** Of the server: `host:port` */
  readonly authority: string;
  readonly idleMs: number;
  readonly connect: (protocols: readonly string[]) => tls.TLSSocket;
};

/** One connection, with a place on it for one more stream. */
export type Session = {
  readonly http2: http2.ClientHttp2Session;
  active: number;
  isUsed: boolean;
  isDoubtful: boolean;
};

/** The server's own limit may be lower; that of Kubernetes is this. */
const MAX_STREAMS = 100;

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #sessions = new Set<Session>();
  #opening:
    { readonly promise: Promise<Session | undefined>; readonly socket: tls.TLSSocket } | undefined;
  #isHttp1 = false;
  /** Opened to find out that the server speaks HTTP/1.1. */
  #spare: tls.TLSSocket | undefined;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /**
   * A place for a stream; undefined when the server speaks HTTP/1.1 alone.
   * @throws the error of the connection
   */
  async take(): Promise<Session | undefined> {
    for (;;) {
      if (this.#isHttp1) return undefined;
      const free = [...this.#sessions].find(hasPlace);
      if (free !== undefined) {
        free.active += 1;
        return free;
      }
      this.#opening ??= this.#open();
      await this.#opening.promise;
    }
  }

  /** Takes the place that `take` gave. */
  begin(session: Session, { method, path, headers, body }: HttpMessage): HttpCall {
    const over = () => this.release(session);
    let stream: http2.ClientHttp2Stream;
    try {
      const all = { ':method': method, ':path': path, ...headers };
      stream = session.http2.request(all, { endStream: body === undefined });
    } catch (error) {
      over();
      throw error;
    }
    stream.once('close', over);
    if (body !== undefined) stream.end(body);
    const call = http2Call(stream);
    const isReused = session.isUsed;
    session.isUsed = true;
    return {
      ...call,
      isReused: () => isReused,
      destroy: (error) => {
        if (isDeadline(error)) session.isDoubtful = true;
        call.destroy(error);
      },
    };
  }

  /** Gives a place back. */
  release(session: Session): void {
    session.active -= 1;
    if (session.active === 0 && session.isDoubtful) session.http2.close();
  }

  /** Who waited for a connection has given up. */
  giveUp(error: Error | undefined): void {
    if (isDeadline(error)) this.#opening?.socket.destroy(error);
  }

  /** The connection that was made to find out, once. */
  spare(): tls.TLSSocket | undefined {
    const socket = this.#spare;
    this.#spare = undefined;
    return socket?.destroyed === false ? socket : undefined;
  }

  /** What is under way ends in its own time. */
  retire(): void {
    this.#spare?.destroy();
    for (const session of this.#sessions) session.http2.close();
  }

  #open(): { readonly promise: Promise<Session | undefined>; readonly socket: tls.TLSSocket } {
    const socket = this.#options.connect(['h2', 'http/1.1']);
    const promise = this.#negotiate(socket)
      .catch((error: unknown) => {
        // A session that ends with its socket does not say why; an alert is the socket's.
        throw socket.errored ?? error;
      })
      .finally(() => (this.#opening = undefined));
    return { promise, socket };
  }

  async #negotiate(socket: tls.TLSSocket): Promise<Session | undefined> {
    await happens(socket, 'secureConnect');
    if (socket.alpnProtocol !== 'h2') {
      this.#isHttp1 = true;
      this.#spare = socket;
      return undefined;
    }
    // A server that refuses our certificate says so when the handshake is over for us.
    if (socket.destroyed) throw closed();
    const { authority, idleMs } = this.#options;
    const client = http2.connect(`https://${authority}`, {
      createConnection: () => socket,
      settings: { enablePush: false },
    });
    const session: Session = { http2: client, active: 0, isUsed: false, isDoubtful: false };
    client.on('error', () => undefined);
    client.once('close', () => this.#sessions.delete(session));
    client.setTimeout(idleMs);
    client.on('timeout', () => {
      if (session.active === 0) client.close();
    });
    // How many streams it may have.
    await happens(client, 'remoteSettings');
    this.#sessions.add(session);
    return session;
  }
}

function hasPlace({ http2: client, active, isDoubtful }: Session): boolean {
  if (client.closed || client.destroyed || isDoubtful) return false;
  const { maxConcurrentStreams = MAX_STREAMS } = client.remoteSettings;
  return active < Math.max(1, Math.min(maxConcurrentStreams, MAX_STREAMS));
}

function isDeadline(error: Error | undefined): boolean {
  return error instanceof Failure && error.code === 'DeadlineExceeded';
}

function happens(emitter: tls.TLSSocket | http2.ClientHttp2Session, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    emitter.once(event, () => resolve());
    emitter.once('error', reject);
    emitter.once('close', () => reject(closed()));
  });
}
