/**
 * What goes into a pod's /etc/resolv.conf, which the runtime writes.
 * Source: pkg/kubelet/network/dns/dns.go.
 */
import type { DNSConfig } from '../kube/cri.ts';
import type { Pod, PodDNSConfig } from '../kube/pod.ts';
import { describePod } from './names.ts';

const MAX_NAMESERVERS = 3;
const MAX_SEARCHES = 32;
const MAX_SEARCH_LENGTH = 253;
const MAX_SEARCH_LINE_LENGTH = 2048;
const CLUSTER_OPTIONS = ['ndots:5'] as const;

export type DnsFacts = {
  /** The node's resolv.conf, see `parseResolvConf`. */
  readonly host: DNSConfig;
  /** Addresses of the cluster's DNS service; empty on a node without a cluster. */
  readonly clusterDNS: readonly string[];
  /** `cluster.local`, or empty. */
  readonly clusterDomain: string;
};

/** Something that a person should know, in the kubelet's words. */
export type Note = { readonly reason: string; readonly message: string };

export type PodDns = { readonly config: DNSConfig; readonly notes: readonly Note[] };

/** The resolver settings of a pod by its `dnsPolicy` and `dnsConfig`. */
export function podDns(pod: Pod, facts: DnsFacts): PodDns {
  const notes: Note[] = [];
  const base = baseConfig(pod, facts, notes);
  const config = pod.spec.dnsConfig === undefined ? base : merge(base, pod.spec.dnsConfig);
  return { config: cutToLimits(config, notes), notes };
}

function baseConfig(pod: Pod, facts: DnsFacts, notes: Note[]): DNSConfig {
  const { dnsPolicy, hostNetwork } = pod.spec;
  if (dnsPolicy === 'None') return { servers: [], searches: [], options: [] };
  const wantsCluster =
    dnsPolicy === 'ClusterFirstWithHostNet' || (dnsPolicy === 'ClusterFirst' && !hostNetwork);
  if (!wantsCluster) return facts.host;
  if (facts.clusterDNS.length === 0) {
    const fallback =
      'kubelet does not have ClusterDNS IP configured and cannot create Pod using ' +
      '"ClusterFirst" policy. Falling back to "Default" policy.';
    notes.push({
      reason: 'MissingClusterDNS',
      message: `pod: ${JSON.stringify(describePod(pod))}. ${fallback}`,
    });
    return facts.host;
  }
  return {
    servers: facts.clusterDNS,
    searches: clusterSearches(pod.metadata.namespace, facts),
    options: CLUSTER_OPTIONS,
  };
}

function clusterSearches(namespace: string, { clusterDomain, host }: DnsFacts): readonly string[] {
  if (clusterDomain === '') return host.searches;
  const own = [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain];
  return unique([...own, ...host.searches]);
}

function merge(base: DNSConfig, more: PodDNSConfig): DNSConfig {
  const options = new Map(base.options.map(splitOption));
  for (const { name, value } of more.options ?? []) options.set(name, value ?? '');
  return {
    servers: unique([...base.servers, ...(more.nameservers ?? [])]),
    searches: unique([...base.searches, ...(more.searches ?? [])]),
    options: [...options].map(([name, value]) => (value === '' ? name : `${name}:${value}`)),
  };
}

function splitOption(option: string): [string, string] {
  const colon = option.indexOf(':');
  return colon === -1 ? [option, ''] : [option.slice(0, colon), option.slice(colon + 1)];
}

function cutToLimits(config: DNSConfig, notes: Note[]): DNSConfig {
  const servers = config.servers.slice(0, MAX_NAMESERVERS);
  if (servers.length < config.servers.length) {
    notes.push({
      reason: 'DNSConfigForming',
      message:
        'Nameserver limits were exceeded, some nameservers have been omitted, the applied ' +
        `nameserver line is: ${servers.join(' ')}`,
    });
  }
  // Some resolvers abort on a search path of more than 255 bytes.
  const searches = config.searches
    .slice(0, MAX_SEARCHES)
    .filter((search) => search.length <= MAX_SEARCH_LENGTH);
  while (searches.join(' ').length > MAX_SEARCH_LINE_LENGTH) searches.pop();
  if (searches.length < config.searches.length) {
    notes.push({
      reason: 'DNSConfigForming',
      message:
        'Search Line limits were exceeded, some search paths have been omitted, the applied ' +
        `search line is: ${searches.join(' ')}`,
    });
  }
  return { servers, searches, options: config.options };
}

/**
 * Reads a resolv.conf: nameservers add up, of search lines the last one counts, of options the last
 * one of each name. What cannot be understood is left out.
 */
export function parseResolvConf(text: string): DNSConfig {
  const servers: string[] = [];
  let searches: readonly string[] = [];
  const options = new Map<string, string>();
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && values[0] !== undefined) servers.push(values[0]);
    if (keyword === 'search') {
      searches = values.filter((value) => value !== '.').map((value) => value.replace(/\.$/, ''));
    }
    if (keyword === 'options') {
      for (const option of values) options.set(splitOption(option)[0], option);
    }
  }
  return { servers, searches, options: [...options.values()] };
}

function unique(values: readonly string[]): readonly string[] {
  return [...new Set(values)];
}
