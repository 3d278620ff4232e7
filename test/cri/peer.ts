/** The other end of the wire: an HTTP/2 server on a unix socket whose answers a test spells out. */
import { mkdtempSync, rmSync } from 'node:fs';
import http2 from 'node:http2';
import type net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Channel, type ChannelOptions } from '../../src/cri/channel.ts';

export type Call = {
  readonly stream: http2.ServerHttp2Stream;
  readonly headers: http2.IncomingHttpHeaders;
  /** The request's message, without its head. */
  readonly request: Buffer;
};

export type Peer = {
  readonly path: string;
  readonly calls: Call[];
  readonly sessions: Set<http2.ServerHttp2Session>;
  readonly sockets: Set<net.Socket>;
  answer: (call: Call) => void;
  channel(options?: Partial<ChannelOptions>): Channel;
  /** Stops listening and drops every connection, as a process that dies does. */
  die(): Promise<void>;
  revive(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
};

/** `data` with gRPC's head. */
export function framed(data: Uint8Array, flags = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(data.length, 1);
  return Buffer.concat([head, data]);
}

/** Answers with these messages and a status in the trailers. */
export function respond(call: Call, messages: Uint8Array[], status = 0, said = ''): void {
  const { stream } = call;
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () =>
    stream.sendTrailers({ 'grpc-status': String(status), 'grpc-message': encodeURI(said) }),
  );
  stream.end(Buffer.concat(messages.map((message) => framed(message))));
}

/** Answers with a status alone, in the headers. */
export function refuse(call: Call, status: number, said: string): void {
  call.stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': String(status),
      'grpc-message': encodeURIComponent(said),
    },
    { endStream: true },
  );
}

export async function createPeer(): Promise<Peer> {
  const dir = mkdtempSync(join(tmpdir(), 'limpet-cri-'));
  const path = join(dir, 'runtime.sock');
  const sessions = new Set<http2.ServerHttp2Session>();
  const sockets = new Set<net.Socket>();
  const channels: Channel[] = [];
  let server: http2.Http2Server;

  const peer: Peer = {
    path,
    calls: [],
    sessions,
    sockets,
    answer: (call) => respond(call, [Buffer.alloc(0)]),
    channel(options) {
      const channel = new Channel(path, {
        clock: systemClock('boot', () => 0),
        random: seededRandom(1),
        maxMessageBytes: 1024 * 1024,
        minBackoffMs: 5,
        maxBackoffMs: 50,
        ...options,
      });
      channels.push(channel);
      return channel;
    },
    async die() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
    async revive() {
      server = http2.createServer();
      server.on('connection', (socket: net.Socket) => {
        sockets.add(socket);
        socket.on('close', () => sockets.delete(socket));
      });
      server.on('session', (session) => {
        sessions.add(session);
        session.on('close', () => sessions.delete(session));
        session.on('error', () => undefined);
      });
      server.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
        const chunks: Buffer[] = [];
        stream.on('error', () => undefined);
        stream.on('data', (chunk: Buffer) => chunks.push(chunk));
        stream.on('end', () => {
          const call = { stream, headers, request: Buffer.concat(chunks).subarray(5) };
          peer.calls.push(call);
          peer.answer(call);
        });
      });
      await new Promise<void>((resolve) => server.listen(path, resolve));
    },
    async [Symbol.asyncDispose]() {
      for (const channel of channels) await channel[Symbol.asyncDispose]();
      if (server.listening) await peer.die();
      rmSync(dir, { recursive: true });
    },
  };
  await peer.revive();
  return peer;
}
