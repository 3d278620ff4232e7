// Puts limpet into a virtual node as a user would: the binary, the unit, `systemctl enable`.
import { join } from 'node:path';
import type { PodReport } from '../../src/server/api.ts';
import type { VirtualNode } from './virtual-node.ts';

const ROOT = join(import.meta.dirname, '../..');

/** The binary that scripts/build makes for a machine. */
export function binaryFor(arch: VirtualNode['arch']): string {
  return join(ROOT, 'dist', `limpet-linux-${arch === 'amd64' ? 'x64' : 'arm64'}`);
}

/** Installs limpet and starts it; returns when systemd says that it is ready. */
export async function installLimpet(node: VirtualNode): Promise<void> {
  await node.copyIn(binaryFor(node.arch), '/usr/bin/limpet');
  await node.copyIn(join(ROOT, 'scripts/limpet.service'), '/etc/systemd/system/limpet.service');
  await node.ssh('mkdir -p /etc/kubernetes/manifests && chmod 755 /usr/bin/limpet && sync');
  await node.ssh('systemctl daemon-reload && systemctl enable --now limpet && sync', {
    timeoutMs: 180_000,
  });
}

/** What `limpet pods` says, as data. Empty while the agent does not answer. */
export async function podsOf(node: VirtualNode): Promise<readonly PodReport[]> {
  const { code, stdout } = await node.ssh('limpet pods -A --output json', { check: false });
  if (code !== 0) return [];
  return (JSON.parse(stdout) as { readonly items: readonly PodReport[] }).items;
}

/** Asks again and again until `what` is so. Throws with what was seen last. */
export async function until<T>(
  what: string,
  ask: () => Promise<T>,
  so: (seen: T) => boolean,
  options: { readonly timeoutMs: number; readonly everyMs?: number },
): Promise<T> {
  const endMs = performance.now() + options.timeoutMs;
  for (;;) {
    const seen = await ask();
    if (so(seen)) return seen;
    if (performance.now() > endMs) {
      const seconds = options.timeoutMs / 1000;
      throw new Error(`not within ${seconds} s: ${what}; seen last: ${JSON.stringify(seen)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, options.everyMs ?? 500));
  }
}

/** One line about a pod: its summary, restarts and uid. */
export function briefly({ pod, summary, status }: PodReport): string {
  const all = [...status.initContainerStatuses, ...status.containerStatuses];
  const restarts = all.reduce((sum, c) => sum + c.restartCount, 0);
  const name = `${pod.metadata.namespace}/${pod.metadata.name}`;
  return `${name.padEnd(28)} ${summary.padEnd(18)} restarts ${restarts}  uid ${pod.metadata.uid}`;
}
