/** The content of a pod's /etc/hosts. Source: pkg/kubelet/kubelet_pods.go. */
import type { HostAlias } from '../kube/pod.ts';

const HEADER = '# Kubernetes-managed hosts file.\n';
const HEADER_HOST_NETWORK = '# Kubernetes-managed hosts file (host network).\n';

export type HostsInput = {
  /** Of the sandbox; the first is the pod's own. */
  readonly ips: readonly string[];
  readonly hostname: string;
  /** Empty without a subdomain. */
  readonly domain: string;
  readonly aliases: readonly HostAlias[];
};

/** For a pod with a network of its own. */
export function podHosts({ ips, hostname, domain, aliases }: HostsInput): string {
  const names = domain === '' ? hostname : `${hostname}.${domain}\t${hostname}`;
  return [
    HEADER,
    '127.0.0.1\tlocalhost\n',
    '::1\tlocalhost ip6-localhost ip6-loopback\n',
    'fe00::0\tip6-localnet\n',
    'fe00::0\tip6-mcastprefix\n',
    'fe00::1\tip6-allnodes\n',
    'fe00::2\tip6-allrouters\n',
    ...ips.map((ip) => `${ip}\t${names}\n`),
    aliasLines(aliases),
  ].join('');
}

/** For a pod with the node's network: the node's own file and the aliases. */
export function hostNetworkHosts(nodeHosts: string, aliases: readonly HostAlias[]): string {
  return `${HEADER_HOST_NETWORK}${nodeHosts}${aliasLines(aliases)}`;
}

function aliasLines(aliases: readonly HostAlias[]): string {
  if (aliases.length === 0) return '';
  const lines = aliases.map(({ ip, hostnames }) => `${ip}\t${hostnames.join('\t')}\n`);
  return `\n# Entries added by HostAliases.\n${lines.join('')}`;
}
