// The API server's way to nodes: a proxy of its `cluster` traffic (logs, exec, attach, port-forward).
//
// A virtual node's address means nothing to the host: the machine stands alone behind QEMU. So the
// API server asks here, by HTTP CONNECT, for `10.0.2.16:10250`, and is led to the port of 127.0.0.1
// that the machine of that address forwards to its 10250. A cable that is out cuts this way, too.
import { rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { attach, list } from './virtual-node.ts';

if (import.meta.main) {
  const server = createServer();
  server.on('connect', (request: IncomingMessage, socket: Duplex) => {
    socket.on('error', () => undefined);
    lead(request.url ?? '', socket).catch((error: unknown) => {
      console.error(`${request.url ?? ''}: ${String(error)}`);
      socket.destroy();
    });
  });
  const path = process.argv[2] ?? '';
  // It outlives whom it belonged to.
  rmSync(path, { force: true });
  server.listen(path);
}

async function lead(target: string, socket: Duplex): Promise<void> {
  const port = await forwarded(target);
  if (port === undefined) {
    socket.end(`HTTP/1.1 502 no virtual node forwards to ${target}\r\n\r\n`);
    return;
  }
  const node = connect(port, '127.0.0.1');
  node.on('error', () => socket.destroy());
  socket.on('close', () => node.destroy());
  node.on('connect', () => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    node.pipe(socket);
    socket.pipe(node);
  });
}

/** The port of 127.0.0.1 that leads to `address:port` in a virtual node. */
async function forwarded(target: string): Promise<number | undefined> {
  for (const name of await list()) {
    const node = await attach(name).catch(() => undefined);
    const found = node?.forwards.find(({ guest }) => target === `${node.address}:${guest}`);
    if (found !== undefined) return found.host;
  }
  return undefined;
}
