/**
 * Asks `grpc.health.v1.Health/Check` in clear text, on a connection of its own. Any end but SERVING
 * is a failure. Source: pkg/probe/grpc, grpc/health/v1/health.proto.
 */
import http2 from 'node:http2';
import { LIMITS } from '../base/limits.ts';
import { decode, encode, enumeration, message } from '../cri/codec.ts';
import { createTrimmer } from '../cri/trim.ts';
import type { ProbeAnswer, ProbeKind } from './target.ts';
import { KUBE_VERSION, hostOf, hostPort, withTimeout, wordsOf } from './target.ts';

const ServingStatus = enumeration('ServingStatus', {
  UNKNOWN: 0,
  SERVING: 1,
  NOT_SERVING: 2,
  SERVICE_UNKNOWN: 3,
});
const HealthCheckRequest = message('HealthCheckRequest', {
  service: { number: 1, kind: 'string', repeated: false },
});
const HealthCheckResponse = message('HealthCheckResponse', {
  status: { number: 1, kind: 'enum', repeated: false, enumeration: ServingStatus },
});

const UNIMPLEMENTED = '12';
const NAMES: Readonly<Record<string, string>> = {
  ...{ 1: 'Canceled', 2: 'Unknown', 3: 'InvalidArgument', 4: 'DeadlineExceeded', 5: 'NotFound' },
  ...{ 7: 'PermissionDenied', 8: 'ResourceExhausted', 13: 'Internal', 14: 'Unavailable' },
  ...{ 16: 'Unauthenticated' },
};

export const grpc: ProbeKind<'grpc'> = {
  async run(target, { port, service }, timeoutSeconds, signal) {
    let host: string;
    try {
      host = hostOf(undefined, target);
    } catch (error) {
      return { result: 'error', text: (error as Error).message };
    }
    const address = JSON.stringify(hostPort(host, port));
    using limit = withTimeout(target.clock, timeoutSeconds * 1000, signal);
    const session = http2.connect(`http://${hostPort(host, port)}`, {
      settings: { enablePush: false },
    });
    const onAbort = () => session.destroy();
    limit.signal.addEventListener('abort', onAbort, { once: true });
    try {
      await connected(session, limit.signal);
    } catch (error) {
      session.destroy();
      if (signal.aborted) throw signal.reason;
      const why = limit.signal.aborted
        ? `timeout: failed to connect service ${address} within ${timeoutSeconds}s: context deadline exceeded`
        : `error: failed to connect service at ${address}: ${wordsOf(error)}`;
      return { result: 'failure', text: why };
    }
    try {
      return await check(session, service);
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const text = limit.signal.aborted
        ? `timeout: health rpc did not complete within ${timeoutSeconds}s`
        : `error: health rpc probe failed: ${wordsOf(error)}`;
      return { result: 'failure', text };
    } finally {
      limit.signal.removeEventListener('abort', onAbort);
      session.destroy();
    }
  },
};

/** Until the other side has spoken HTTP/2. */
function connected(session: http2.ClientHttp2Session, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    session.once('remoteSettings', () => resolve());
    session.on('error', reject);
    session.once('close', () => reject(new Error('the connection was closed')));
  });
}

function check(session: http2.ClientHttp2Session, service: string): Promise<ProbeAnswer> {
  const body = encode(HealthCheckRequest, { service });
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  const stream = session.request({
    ':method': 'POST',
    ':path': '/grpc.health.v1.Health/Check',
    te: 'trailers',
    'content-type': 'application/grpc',
    'user-agent': `kube-probe/${KUBE_VERSION}`,
  });
  return new Promise((resolve, reject) => {
    let code: string | undefined;
    let said = '';
    let status: keyof typeof ServingStatus.values | undefined;
    const read = (headers: http2.IncomingHttpHeaders) => {
      if (headers['grpc-status'] === undefined) return;
      code = String(headers['grpc-status']);
      said = String(headers['grpc-message'] ?? '');
    };
    const trimmer = createTrimmer('Check', LIMITS.probeOutputBytes, (bytes) => {
      status = decode(HealthCheckResponse, bytes).status as typeof status;
    });
    stream.on('response', read);
    stream.on('trailers', read);
    stream.on('error', reject);
    stream.on('data', (chunk: Buffer) => {
      try {
        trimmer.push(chunk);
      } catch (cause) {
        reject(new Error('the server broke the gRPC protocol', { cause }));
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
    });
    stream.on('close', () => {
      if (code === undefined) return reject(new Error('the server broke the gRPC protocol'));
      resolve(answerOf(code, said, status ?? 'UNKNOWN'));
    });
    stream.end(Buffer.concat([head, body]));
  });
}

function answerOf(code: string, said: string, status: string): ProbeAnswer {
  if (code === UNIMPLEMENTED) {
    const text = `error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ${said}`;
    return { result: 'failure', text };
  }
  if (code !== '0') {
    const name = NAMES[code] ?? `Code(${code})`;
    const text = `error: health rpc probe failed: rpc error: code = ${name} desc = ${said}`;
    return { result: 'failure', text };
  }
  if (status === 'SERVING') return { result: 'success', text: 'service healthy' };
  return {
    result: 'failure',
    text: `service unhealthy (responded with ${JSON.stringify(status)})`,
  };
}
