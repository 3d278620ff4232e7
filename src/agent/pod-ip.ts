import { currentSandbox } from '../pod/seen.ts';
import type { Worker } from './turns.ts';

/**
 * Where a pod's containers are asked how they are; undefined while the pod has no address. With the
 * host's network that is the node's address, or the loopback while the node has none.
 */
export function podIPOf(
  { want, seen }: Worker,
  nodeIP: () => string | undefined,
): string | undefined {
  return want.pod.spec.hostNetwork ? (nodeIP() ?? '127.0.0.1') : currentSandbox(seen)?.ips[0];
}
