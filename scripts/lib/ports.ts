// Ports of 127.0.0.1 that nobody uses.
import { createServer } from 'node:net';

/** Finds free ports while all are held, so that no two are the same. */
export async function freePorts(count: number): Promise<number[]> {
  const held: AsyncDisposable[] = [];
  const ports: number[] = [];
  for (let n = 0; n < count; n++) {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
    held.push(server);
    ports.push(await promise);
  }
  for (const server of held) await server[Symbol.asyncDispose]();
  return ports;
}
