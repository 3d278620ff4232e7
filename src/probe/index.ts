/** All kinds of probes. To add one: a file, a line here, a fixture in test/probe. */
import type { Probe, ProbeHandler } from '../kube/pod.ts';
import { exec } from './exec.ts';
import { grpc } from './grpc.ts';
import { httpGet } from './http.ts';
import type { ProbeAnswer, ProbeKind, ProbeTarget } from './target.ts';
import { tcpSocket } from './tcp.ts';

export const PROBES: { readonly [K in ProbeHandler['kind']]: ProbeKind<K> } = {
  exec,
  httpGet,
  tcpSocket,
  grpc,
};

const ATTEMPTS = 3;

/**
 * Asks a container once. What could not be asked at all is tried three times at once, as the
 * kubelet does. Rejects only with the signal's reason.
 */
export async function runProbe(
  target: ProbeTarget,
  { handler, timeoutSeconds }: Probe,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  // Which kind belongs to which handler is checked where PROBES is written down.
  const kind = PROBES[handler.kind] as ProbeKind;
  let answer = await kind.run(target, handler, timeoutSeconds, signal);
  for (let i = 1; i < ATTEMPTS && answer.result === 'error'; i += 1) {
    answer = await kind.run(target, handler, timeoutSeconds, signal);
  }
  return answer;
}
