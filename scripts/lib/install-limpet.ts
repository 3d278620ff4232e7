// Puts limpet into a virtual node as a user would: the binary, the unit, `systemctl enable`.
import { get } from 'node:http';
import { join } from 'node:path';
import type { PodList, PodReport } from '../../src/server/api.ts';
import { forwardSocket } from './ssh.ts';
import { kubernetes } from './kubernetes.ts';
import type { VirtualNode } from './virtual-node.ts';

const ROOT = join(import.meta.dirname, '../..');

/** The binary that scripts/build makes for a machine. */
export function binaryFor(arch: VirtualNode['arch']): string {
  return join(ROOT, 'dist', `limpet-linux-${arch === 'amd64' ? 'x64' : 'arm64'}`);
}

/** Installs limpet and starts it; returns when systemd says that it is ready. */
export async function installLimpet(
  node: VirtualNode,
  binary = binaryFor(node.arch),
): Promise<void> {
  await node.copyIn(binary, '/usr/bin/limpet');
  await node.copyIn(join(ROOT, 'scripts/limpet.service'), '/etc/systemd/system/limpet.service');
  await node.ssh('mkdir -p /etc/kubernetes/manifests && chmod 755 /usr/bin/limpet && sync');
  await node.ssh('systemctl daemon-reload && systemctl enable --now limpet && sync', {
    timeoutMs: 180_000,
  });
}

/**
 * Installs limpet in the place of the official kubelet, with kubeadm beside it and the drop-in of
 * kubeadm's package. It waits for `kubeadm join`, as a kubelet does.
 */
export async function installLimpetAsKubelet(
  node: VirtualNode,
  say: (line: string) => void,
): Promise<void> {
  const { kubeadm } = await kubernetes(['kubeadm'], say, node.arch);
  const units = '/etc/systemd/system';
  await node.copyIn(binaryFor(node.arch), '/usr/bin/limpet');
  await node.copyIn(kubeadm, '/usr/bin/kubeadm');
  await node.copyIn(join(ROOT, 'scripts/limpet.service'), `${units}/kubelet.service`);
  await node.ssh(`mkdir -p /etc/kubernetes/manifests ${units}/kubelet.service.d`);
  const dropIn = join(ROOT, 'test/control-plane/node/10-kubeadm.conf');
  await node.copyIn(dropIn, `${units}/kubelet.service.d/`);
  await node.ssh('chmod 755 /usr/bin/limpet && ln -sfn limpet /usr/bin/kubelet');
  await node.ssh('systemctl daemon-reload && systemctl enable kubelet', { timeoutMs: 60_000 });
}

/** Where the agent's socket of a machine is on the host, by the machine. */
const sockets = new WeakMap<VirtualNode, string>();
/** A socket's file is not removed when its connection ends, so each has a new name. */
let forwards = 0;

/**
 * Asks the agent over its own socket, without a process in the machine: in an emulated one a start
 * of the command line would take seconds from the pods. Undefined while nobody answers.
 */
export async function askAgent<T>(node: VirtualNode, path: string): Promise<T | undefined> {
  const known = sockets.get(node);
  const answer = known === undefined ? undefined : await getJson<T>(known, path);
  if (answer !== undefined) return answer;
  // The connection behind the socket ends with each power cut.
  const socket = join(node.directory, `agent${++forwards}`);
  try {
    await forwardSocket(node.way, socket, '/run/limpet/limpet.sock');
  } catch {
    return undefined;
  }
  sockets.set(node, socket);
  return await getJson<T>(socket, path);
}

function getJson<T>(socketPath: string, path: string): Promise<T | undefined> {
  const { promise, resolve } = Promise.withResolvers<T | undefined>();
  const request = get({ socketPath, path, timeout: 20_000 }, (response) => {
    let body = '';
    response.on('data', (chunk: Buffer) => (body += chunk.toString()));
    response.on('error', () => resolve(undefined));
    response.on('end', () =>
      resolve(response.statusCode === 200 ? (JSON.parse(body) as T) : undefined),
    );
  });
  request.on('timeout', () => request.destroy());
  request.on('error', () => resolve(undefined));
  return promise;
}

/** All pods as the agent sees them. Empty while it does not answer. */
export async function podsOf(node: VirtualNode): Promise<readonly PodReport[]> {
  return (await askAgent<PodList>(node, '/v1/pods'))?.items ?? [];
}

/** Asks again and again until `what` is so. Throws with what was seen last. */
export async function until<T>(
  what: string,
  ask: () => Promise<T>,
  so: (seen: T) => boolean,
  options: {
    readonly timeoutMs: number;
    readonly everyMs?: number;
    readonly show?: (seen: T) => string;
  },
): Promise<T> {
  const endMs = performance.now() + options.timeoutMs;
  for (;;) {
    const seen = await ask();
    if (so(seen)) return seen;
    if (performance.now() > endMs) {
      const seconds = options.timeoutMs / 1000;
      const last = (options.show ?? JSON.stringify)(seen);
      throw new Error(`not within ${seconds} s: ${what}; seen last:\n${last}`);
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
