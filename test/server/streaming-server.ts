/** The runtime's streaming server, byte by byte: a test says what it answers to a request's head. */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';

export type StreamingServer = AsyncDisposable & {
  readonly url: string;
  /** The heads of the requests, as they came. */
  readonly heads: string[];
  /** What came behind the heads. */
  readonly bytes: () => Buffer;
  readonly sockets: Socket[];
  answer: (socket: Socket) => void;
};

export const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\n';

/** Agrees to SPDY, as the runtime does. */
export const agree = (socket: Socket): void => {
  socket.write(`${SWITCHING}Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n`);
};

export async function createStreamingServer(): Promise<StreamingServer> {
  const chunks: Buffer[] = [];
  const server = createServer((socket) => {
    const peer = streaming;
    peer.sockets.push(socket);
    let head: Buffer | undefined = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      if (head === undefined) return void chunks.push(chunk);
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      peer.heads.push(head.toString('latin1', 0, end + 4));
      chunks.push(head.subarray(end + 4));
      head = undefined;
      peer.answer(socket);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const streaming: StreamingServer = {
    url: `http://127.0.0.1:${port}/exec/token`,
    heads: [],
    bytes: () => Buffer.concat(chunks),
    sockets: [],
    answer: agree,
    [Symbol.asyncDispose]: async () => {
      server.close();
      for (const socket of streaming.sockets) socket.destroy();
    },
  };
  return streaming;
}
