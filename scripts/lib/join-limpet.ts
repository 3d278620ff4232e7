// Makes limpet a node of a control plane, with what `kubeadm join` would write.
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hostOfNodes } from './control-plane-config.ts';
import type { ControlPlane } from './control-plane.ts';
import { installLimpet } from './install-limpet.ts';
import type { VirtualNode } from './virtual-node.ts';

const BOOTSTRAP = '/etc/kubernetes/bootstrap-kubelet.conf';
const DROP_IN = '/etc/systemd/system/limpet.service.d/cluster.conf';

/** Installs limpet and starts it with a bootstrap token; it registers by itself. */
export async function joinLimpet(node: VirtualNode, plane: ControlPlane): Promise<void> {
  await node.ssh('mkdir -p /etc/kubernetes /etc/systemd/system/limpet.service.d');
  const options = `--kubeconfig /etc/kubernetes/kubelet.conf --bootstrap-kubeconfig ${BOOTSTRAP}`;
  const dropIn = `[Service]\nExecStart=\nExecStart=/usr/bin/limpet run ${options}\n`;
  const files = [
    [BOOTSTRAP, await bootstrapKubeconfig(plane)],
    [DROP_IN, dropIn],
  ] as const;
  const local = join(node.directory, 'to-node');
  for (const [path, content] of files) {
    await writeFile(local, content, { mode: 0o600 });
    await node.copyIn(local, path);
  }
  await rm(local);
  await installLimpet(node);
}

async function bootstrapKubeconfig(plane: ControlPlane): Promise<string> {
  const command = await plane.joinCommand();
  const token = command[command.indexOf('--token') + 1];
  const ca = (await readFile(join(plane.directory, 'pki/ca.crt'))).toString('base64');
  const server = `https://${hostOfNodes}:${plane.port}`;
  return JSON.stringify({
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'bootstrap' },
    clusters: [{ name: 'cluster', cluster: { server, 'certificate-authority-data': ca } }],
    users: [{ name: 'token', user: { token } }],
    contexts: [{ name: 'bootstrap', context: { cluster: 'cluster', user: 'token' } }],
  });
}
