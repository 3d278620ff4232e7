/** What a probe or a hook is run at, and what it says. */
import type { Clock } from '../base/clock.ts';
import { errnoOf } from '../base/failure.ts';
import type { RuntimeService } from '../kube/cri.ts';
import type { Container, PortRef, ProbeHandler } from '../kube/pod.ts';

/** The container that is asked. */
export type ProbeTarget = {
  readonly runtime: Pick<RuntimeService, 'execSync'>;
  readonly clock: Clock;
  readonly container: Container;
  readonly containerId: string;
  /** The pod's address, the node's with the host's network; undefined while it has none. */
  readonly podIP: string | undefined;
};

/**
 * `error`: the probe could not be made, which says nothing of the container; it is tried again at
 * once. `text` is for people, worded as the kubelet words it.
 */
export type ProbeAnswer = {
  readonly result: 'success' | 'warning' | 'failure' | 'error';
  readonly text: string;
};

/** One kind of probe. `run` never rejects, but for the signal's reason. */
export type ProbeKind<K extends ProbeHandler['kind'] = ProbeHandler['kind']> = {
  readonly run: (
    target: ProbeTarget,
    handler: Extract<ProbeHandler, { readonly kind: K }>,
    timeoutSeconds: number,
    signal: AbortSignal,
  ) => Promise<ProbeAnswer>;
};

/** Marks how the kubelet introduces itself; the version is the kubelet's that limpet follows. */
export const KUBE_VERSION = '1.36';

/**
 * The number of a port.
 * @throws Error with the kubelet's words when the container has no port of this name.
 */
export function portOf(ref: PortRef, container: Container): number {
  if (typeof ref === 'number') return ref;
  const port = container.ports.find(({ name }) => name === ref)?.containerPort;
  if (port === undefined) throw new Error(`port ${ref} not found`);
  return port;
}

/** The address to connect to. @throws Error when there is none. */
export function hostOf(host: string | undefined, { podIP }: ProbeTarget): string {
  const address = host ?? podIP;
  if (address === undefined) throw new Error('the pod has no address');
  return address;
}

/** `10.0.0.1:80`, `[fd00::1]:80`. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

const CONNECT_WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  ECONNRESET: 'read: connection reset by peer',
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'no such host',
  ETIMEDOUT: 'i/o timeout',
};

/** A connection's error in the words that people know from the kubelet. */
export function wordsOf(error: unknown): string {
  const words = CONNECT_WORDS[errnoOf(error) ?? ''];
  if (words !== undefined) return words;
  return error instanceof Error ? error.message : String(error);
}

/** A signal that is aborted with `signal`, or after `ms` with a `TimedOut`. */
export function withTimeout(
  clock: Clock,
  ms: number | undefined,
  signal: AbortSignal,
): { readonly signal: AbortSignal; [Symbol.dispose](): void } {
  const controller = new AbortController();
  const onAbort = () => controller.abort(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  const timer =
    ms === undefined
      ? undefined
      : clock.at(clock.now().monoMs + ms, () => controller.abort(new TimedOut()));
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      timer?.cancel();
      signal.removeEventListener('abort', onAbort);
    },
  };
}

export class TimedOut extends Error {
  constructor() {
    super('i/o timeout');
    this.name = 'TimedOut';
  }
}
