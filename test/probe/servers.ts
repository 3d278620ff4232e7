/** Real things to probe on loopback: servers, sockets that say nothing, and processes. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import type { Container } from '../../src/kube/pod.ts';
import type { ProbeTarget } from '../../src/probe/target.ts';
import { aContainer } from '../pod/a-pod.ts';

export const never = new AbortController().signal;

/** A container at 127.0.0.1 whose commands are processes of this machine. */
export function targetOf(container: Partial<Container> = {}): ProbeTarget {
  return {
    runtime: { execSync: runHere },
    clock: systemClock('boot', () => 0),
    container: aContainer(container),
    containerId: 'c1',
    podIP: '127.0.0.1',
  };
}

/** What a runtime does with a command, here without a container around it. */
function runHere(
  _: string,
  [file = '', ...rest]: readonly string[],
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutSeconds * 1000, signal };
    execFile(file, rest, options, (error, stdout, stderr) => {
      const output = `${stdout}${stderr}`;
      if (error === null) return resolve({ exitCode: 0, output });
      if (error.killed === true) {
        return reject(new Failure('DeadlineExceeded', 'context deadline exceeded'));
      }
      if (typeof error.code === 'number') return resolve({ exitCode: error.code, output });
      reject(new Failure('Unknown', error.message));
    });
  });
}

export type Listening = AsyncDisposable & { readonly port: number };

async function listening(server: net.Server): Promise<Listening> {
  const sockets = new Set<net.Socket>();
  const keep = (socket: net.Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  };
  server.on('connection', keep);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    [Symbol.asyncDispose]: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** Takes connections and says nothing. */
export function silence(): Promise<Listening> {
  return listening(net.createServer());
}

/** A port where nobody listens. */
export async function deadPort(): Promise<number> {
  await using server = await silence();
  return server.port;
}

export function httpServer(listener: http.RequestListener): Promise<Listening> {
  return listening(http.createServer(listener));
}

/** With a certificate that nobody has signed. */
export function httpsServer(listener: http.RequestListener): Promise<Listening> {
  const folder = mkdtempSync(join(tmpdir(), 'limpet-tls-'));
  const [key, cert] = [join(folder, 'key'), join(folder, 'cert')];
  const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1';
  const subject = ['-subj', '/CN=nobody', '-keyout', key, '-out', cert];
  execFileSync('openssl', [...words.split(' '), ...subject], { stdio: 'ignore' });
  const pair = { key: readFileSync(key), cert: readFileSync(cert) };
  rmSync(folder, { recursive: true });
  return listening(https.createServer(pair, listener));
}

/** A health service that answers with this status and these bytes. */
export function grpcServer(
  answer: { readonly code?: number; readonly said?: string; readonly message?: Buffer },
  onCall: (headers: http2.IncomingHttpHeaders, body: Buffer) => void = () => undefined,
): Promise<Listening> {
  const server = http2.createServer();
  server.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('error', () => undefined);
    stream.on('end', () => {
      onCall(headers, Buffer.concat(chunks));
      const type = { 'content-type': 'application/grpc' };
      stream.respond(type, { waitForTrailers: true });
      stream.on('wantTrailers', () =>
        stream.sendTrailers({
          'grpc-status': String(answer.code ?? 0),
          'grpc-message': answer.said ?? '',
        }),
      );
      const message = answer.message ?? Buffer.from([0x08, 1]);
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.length, 1);
      stream.end(Buffer.concat([head, message]));
    });
  });
  return listening(server);
}
