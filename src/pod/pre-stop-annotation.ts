/**
 * A preStop hook as the kubelet writes it on a container, so that an agent that does not know the
 * pod any more can still run it. Source: pkg/kubelet/kuberuntime/labels.go.
 */
import type { LifecycleHandler, PortRef } from '../kube/pod.ts';

export const PRE_STOP_ANNOTATION = 'io.kubernetes.container.preStopHandler';

/** The hook as Go writes a LifecycleHandler. */
export function preStopAnnotation(handler: LifecycleHandler): string {
  switch (handler.kind) {
    case 'exec':
      return JSON.stringify({ exec: { command: handler.command } });
    case 'httpGet': {
      const { path, port, host, scheme, httpHeaders } = handler;
      const headers = httpHeaders.length === 0 ? {} : { httpHeaders };
      return JSON.stringify({ httpGet: { path, port, host, scheme, ...headers } });
    }
    case 'tcpSocket':
      return JSON.stringify({ tcpSocket: { port: handler.port, host: handler.host } });
    case 'sleep':
      return JSON.stringify({ sleep: { seconds: handler.seconds } });
  }
}

/** The hook of an annotation; undefined when there is none, or none that can be run. */
export function readPreStop(annotation: string | undefined): LifecycleHandler | undefined {
  if (annotation === undefined) return undefined;
  try {
    return handlerOf(JSON.parse(annotation));
  } catch {
    // Written by nobody who knows how: the container gets its signal all the same.
    return undefined;
  }
}

type Loose = Readonly<Record<string, unknown>>;

function handlerOf(written: unknown): LifecycleHandler | undefined {
  const { exec, httpGet, sleep } = objectOf(written);
  if (exec !== undefined) {
    const { command } = objectOf(exec);
    const isGood = Array.isArray(command) && command.every((word) => typeof word === 'string');
    return isGood ? { kind: 'exec', command } : undefined;
  }
  if (sleep !== undefined) {
    const { seconds } = objectOf(sleep);
    return typeof seconds === 'number' ? { kind: 'sleep', seconds } : undefined;
  }
  if (httpGet === undefined) return undefined;
  const { path, port, host, scheme, httpHeaders } = objectOf(httpGet);
  if (typeof port !== 'number' && typeof port !== 'string') return undefined;
  return {
    kind: 'httpGet',
    path: typeof path === 'string' ? path : '/',
    port: port satisfies PortRef,
    ...(typeof host === 'string' && host !== '' ? { host } : {}),
    scheme: scheme === 'HTTPS' ? 'HTTPS' : 'HTTP',
    httpHeaders: (Array.isArray(httpHeaders) ? httpHeaders : []).flatMap((header) => {
      const { name, value = '' } = objectOf(header);
      return typeof name === 'string' && typeof value === 'string' ? [{ name, value }] : [];
    }),
  };
}

function objectOf(value: unknown): Loose {
  return typeof value === 'object' && value !== null ? (value as Loose) : {};
}
