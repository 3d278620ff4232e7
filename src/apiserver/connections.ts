/**
 * Connections to the API server over TLS: one by HTTP/2 (`sessions.ts`), or some by HTTP/1.1, kept
 * open between requests, where nothing else is spoken. Counted in bytes as they go over the wire.
 */
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';

import type { Credentials, Material } from './credentials.ts';
import { callWhenOpen, http1Call, type HttpCall, type HttpMessage } from './http.ts';
import { Sessions } from './sessions.ts';

/** What went over the wire since the start, TLS and its handshakes included. */
export type Traffic = {
  readonly requests: number;
  readonly connections: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
};

/** Requests at the same time over HTTP/1.1; watches come on top. */
const MAX_SOCKETS = 4;
/** The API server closes a connection that was idle for 90 s; we do so first. */
const IDLE_MS = 60_000;
const KEEPALIVE_MS = 30_000;

export class Connections {
  readonly #credentials: Credentials;
  #pool: Pool | undefined;
  #requests = 0;
  #connections = 0;
  #sentBytes = 0;
  #receivedBytes = 0;
  readonly #live = new Set<net.Socket>();

  /** Nothing is opened yet. */
  constructor(credentials: Credentials) {
    this.#credentials = credentials;
  }

  /** Begins a request; `isStream` for one that lasts. */
  call(material: Material, isStream: boolean, message: HttpMessage): HttpCall {
    this.#requests += 1;
    if (this.#pool?.generation !== material.generation) {
      this.#pool?.retire();
      this.#pool = this.#open(material);
    }
    const { calls, streams, sessions } = this.#pool;
    const agent = isStream ? streams : calls;
    return callWhenOpen({
      opened: sessions.take(),
      begin: (session) =>
        session === undefined ? this.#http1(agent, message) : sessions.begin(session, message),
      giveUp: (error) => sessions.giveUp(error),
      release: (session) => session && sessions.release(session),
    });
  }

  traffic(): Traffic {
    let sentBytes = this.#sentBytes;
    let receivedBytes = this.#receivedBytes;
    for (const socket of this.#live) {
      sentBytes += socket.bytesWritten;
      receivedBytes += socket.bytesRead;
    }
    return { requests: this.#requests, connections: this.#connections, sentBytes, receivedBytes };
  }

  /** Closes all connections, those in use too; later requests open new ones. */
  close(): void {
    this.#pool?.retire();
    this.#pool = undefined;
    for (const socket of this.#live) socket.destroy();
  }

  #open(material: Material): Pool {
    const context = tls.createSecureContext({
      ca: material.ca,
      cert: material.certificate,
      key: material.key,
      minVersion: 'TLSv1.2',
    });
    // A session that is resumed saves the exchange of certificates.
    const session: { ticket: Buffer | undefined } = { ticket: undefined };
    const connect = (protocols: readonly string[]) => this.#connect(context, session, protocols);
    const { host } = this.#credentials.server;
    const sessions = new Sessions({ authority: host, idleMs: IDLE_MS, connect });
    const plain = () => sessions.spare() ?? connect(['http/1.1']);
    const calls = agent({ maxSockets: MAX_SOCKETS, maxFreeSockets: MAX_SOCKETS }, plain);
    const streams = agent({ maxFreeSockets: 1 }, plain);
    // What is under way ends in its own time; what is idle would never be used again.
    const idle = () => [calls, streams].flatMap((one) => Object.values(one.freeSockets).flat());
    const retire = () => {
      idle().forEach((socket) => socket?.destroy());
      sessions.retire();
    };
    return { generation: material.generation, calls, streams, sessions, retire };
  }

  #http1(agent: https.Agent, { method, path, headers, body }: HttpMessage): HttpCall {
    const { server, serverName } = this.#credentials;
    const request = https.request({
      ...{ agent, method, path, headers },
      host: server.hostname,
      port: server.port || 443,
      ...(serverName === undefined ? {} : { servername: serverName }),
    });
    request.end(body);
    return http1Call(request);
  }

  #connect(
    context: tls.SecureContext,
    session: { ticket: Buffer | undefined },
    protocols: readonly string[],
  ): tls.TLSSocket {
    const { server, serverName } = this.#credentials;
    const host = server.hostname.replace(/^\[(.*)\]$/, '$1');
    // Opened apart from the TLS on it, because only this one counts what goes over the wire.
    const socket = net.connect({
      host,
      port: Number(server.port || 443),
      keepAlive: true,
      keepAliveInitialDelay: KEEPALIVE_MS,
      noDelay: true,
    });
    this.#connections += 1;
    this.#live.add(socket);
    socket.once('close', () => {
      this.#live.delete(socket);
      this.#sentBytes += socket.bytesWritten;
      this.#receivedBytes += socket.bytesRead;
    });
    const name = serverName ?? host;
    const secure = tls.connect({
      socket,
      secureContext: context,
      host: name,
      // The SNI may not be an address.
      ...(net.isIP(name) === 0 ? { servername: name } : {}),
      ALPNProtocols: [...protocols],
      ...(session.ticket === undefined ? {} : { session: session.ticket }),
    });
    socket.once('error', (error) => secure.destroy(error));
    secure.on('session', (ticket) => (session.ticket = ticket));
    secure.on('error', (error) => {
      session.ticket = undefined;
      // After an alert it stays open, and an HTTP/2 session on it would never end.
      secure.destroy(error);
    });
    return secure;
  }
}

type Pool = {
  readonly generation: number;
  /** For servers that speak HTTP/1.1 alone, as are those for `streams`. */
  readonly calls: https.Agent;
  readonly streams: https.Agent;
  readonly sessions: Sessions;
  retire(): void;
};

function agent(options: https.AgentOptions, connect: () => tls.TLSSocket): https.Agent {
  const made = new https.Agent({ ...options, keepAlive: true, timeout: IDLE_MS });
  made.createConnection = connect;
  return made;
}
