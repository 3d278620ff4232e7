/** The kubeconfig of a node that has got its certificate, as the kubelet writes it. */
import { writeFileDurably } from '../base/durable-file.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Kubeconfig } from './kubeconfig.ts';

/**
 * Writes `path` durably: the cluster of `like`, and `certificatePath` as certificate and key.
 * kubeadm waits for it, and for these names in it.
 *
 * @throws Failure when it can't be written
 */
export function writeKubeconfig(path: string, like: Kubeconfig, certificatePath: string): void {
  const { ca, server, serverName } = like;
  const text = (value: string) => JSON.stringify(value);
  const authority =
    'file' in ca
      ? `certificate-authority: ${text(ca.file)}`
      : `certificate-authority-data: ${Buffer.from(ca.text).toString('base64')}`;
  const lines = [
    'apiVersion: v1',
    'kind: Config',
    'clusters:',
    '- name: default-cluster',
    '  cluster:',
    `    ${authority}`,
    `    server: ${text(server.href.replace(/\/$/, ''))}`,
    ...(serverName === undefined ? [] : [`    tls-server-name: ${text(serverName)}`]),
    'contexts:',
    '- name: default-context',
    '  context:',
    '    cluster: default-cluster',
    '    namespace: default',
    '    user: default-auth',
    'current-context: default-context',
    'users:',
    '- name: default-auth',
    '  user:',
    `    client-certificate: ${text(certificatePath)}`,
    `    client-key: ${text(certificatePath)}`,
    '',
  ];
  try {
    writeFileDurably(path, lines.join('\n'));
  } catch (cause) {
    const { code, message } = faultOf(cause);
    throw new Failure(code, `can't write the kubeconfig ${path}: ${message}`, { cause });
  }
}
