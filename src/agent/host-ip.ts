import { networkInterfaces } from 'node:os';
import { currentSandbox } from '../pod/seen.ts';
import type { Worker } from './turns.ts';

/** The first address of the node that others can reach. */
export function hostIP(): string | undefined {
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { family, internal, address } of addresses ?? []) {
      if (family === 'IPv4' && !internal && !address.startsWith('169.254.')) return address;
    }
  }
  return undefined;
}

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
