/** Opens a connection and closes it. Source: pkg/probe/tcp. */
import net from 'node:net';
import type { ProbeKind } from './target.ts';
import { hostOf, hostPort, portOf, withTimeout, wordsOf } from './target.ts';

export const tcpSocket: ProbeKind<'tcpSocket'> = {
  async run(target, handler, timeoutSeconds, signal) {
    let host: string;
    let port: number;
    try {
      port = portOf(handler.port, target.container);
      host = hostOf(handler.host, target);
    } catch (error) {
      return { result: 'error', text: (error as Error).message };
    }
    using limit = withTimeout(target.clock, timeoutSeconds * 1000, signal);
    const socket = net.connect({ host, port, signal: limit.signal });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.on('error', reject);
      });
      return { result: 'success', text: '' };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const why: unknown = limit.signal.aborted ? limit.signal.reason : error;
      return { result: 'failure', text: `dial tcp ${hostPort(host, port)}: ${wordsOf(why)}` };
    } finally {
      socket.destroy();
    }
  },
};
