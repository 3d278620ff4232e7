// Puts the official kubelet and kubeadm into a virtual node, as the packages of Kubernetes do.
import { join } from 'node:path';
import { repository } from './cache.ts';
import { kubernetes } from './kubernetes.ts';
import type { VirtualNode } from './virtual-node.ts';

/** Installs both; the kubelet waits for `kubeadm join`. Builds them first if they are missing. */
export async function installKubelet(
  node: VirtualNode,
  say: (line: string) => void,
): Promise<void> {
  const units = join(repository, 'test', 'control-plane', 'node');
  const { kubeadm, kubelet } = await kubernetes(['kubeadm', 'kubelet'], say, node.arch);
  await node.copyIn([kubeadm, kubelet], '/usr/bin/');
  await node.copyIn(join(units, 'kubelet.service'), '/etc/systemd/system/kubelet.service');
  await node.copyIn(join(units, '10-kubeadm.conf'), '/etc/systemd/system/kubelet.service.d/');
  await node.ssh(
    'mkdir -p /etc/kubernetes/manifests && systemctl daemon-reload && systemctl enable kubelet',
    { timeoutMs: 60_000 },
  );
}
