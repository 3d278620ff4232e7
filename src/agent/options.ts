/** What the agent is told: its configuration, in the form in which it uses it. */
import type { LogLevel } from '../base/log.ts';
import { VERSION } from '../base/version.ts';
import type { CgroupDriver } from '../kube/cri.ts';
import type { FeatureGates } from '../kube/feature-gates.ts';
import { KUBELET_FIELDS, type KubeletConfig } from '../kube/kubelet-config.ts';
import type { KubeletFlags } from '../kube/kubelet-flags.ts';
import { ALONE } from '../kube/kubelet-settings.ts';
import { LIMPET_FIELDS, type LimpetConfig } from '../kube/limpet-config.ts';
import { quantityBytes } from '../kube/quantity.ts';
import type { ClusterOptions } from './cluster.ts';

export type RelaySettings = LimpetConfig['relay'];

/** Names are the kubelet's, where it has one. */
export type AgentOptions = {
  /** The name that this node and its static pods bear. */
  readonly nodeName: string;
  /** The database and the pods' directories. */
  readonly rootDirectory: string;
  /** The local socket. */
  readonly runDirectory: string;
  /** The folder of static pods (staticPodPath); undefined when there is none. */
  readonly manifestDirectory: string | undefined;
  /** `unix:///run/containerd/containerd.sock` */
  readonly runtimeEndpoint: string;
  readonly podLogsDirectory: string;
  readonly containerLogsDirectory: string;
  /** Used where the runtime does not tell its own (containerd 1.7). */
  readonly cgroupDriver: CgroupDriver;
  readonly cgroupRoot: string;
  /** The host's resolv.conf; empty: pods get none of it. */
  readonly resolvConf: string;
  readonly clusterDNS: readonly string[];
  readonly clusterDomain: string;
  readonly maxPods: number;
  readonly logLevel: LogLevel;
  readonly containerLogMaxBytes: number;
  readonly containerLogMaxFiles: number;
  readonly containerLogMonitorIntervalMs: number;
  /** The whole configuration, for what reads more of it than the above. */
  readonly kubelet: KubeletConfig;
  readonly flags: KubeletFlags;
  readonly gates: FeatureGates;
  /** What was asked for and has no effect: said in the log and in the status. */
  readonly configWarnings: readonly string[];
  /** better-sqlite3's addon, where it does not lie beside its JavaScript (the single binary). */
  readonly nativeBinding?: string | object;
  readonly version: string;
  /** Without it nothing is told to a broker. */
  readonly relay?: RelaySettings;
  /** Of the node's own (`--node-ip`); else that of the default route. */
  readonly nodeIPs: readonly string[];
  /** Without it the node belongs to no cluster. */
  readonly cluster?: Omit<ClusterOptions, 'registration'> & {
    readonly registration: Omit<ClusterOptions['registration'], 'nodeName'>;
  };
};

/** Where the agent's things are when nobody says otherwise. */
export const DEFAULT_OPTIONS = {
  rootDirectory: LIMPET_FIELDS.rootDirectory.fallback,
  manifestDirectory: ALONE.staticPodPath,
  runtimeEndpoint: KUBELET_FIELDS.containerRuntimeEndpoint.fallback,
} as const;

export type Given = {
  readonly kubelet: KubeletConfig;
  readonly flags: KubeletFlags;
  readonly gates: FeatureGates;
  readonly limpet: LimpetConfig;
  readonly nodeName: string;
  /** Processors of the machine. */
  readonly cores: number;
  readonly configWarnings: readonly string[];
};

/** From here on `--v` logs what only a developer wants to know. */
const DEBUG_VERBOSITY = 4;

/** The options that a configuration without problems gives. */
export function agentOptions(given: Given): AgentOptions {
  const { kubelet, limpet, flags, gates, nodeName, configWarnings } = given;
  const { maxPods, podsPerCore, containerRuntimeEndpoint: endpoint } = kubelet;
  const verbose = kubelet.logging.verbosity >= DEBUG_VERBOSITY ? 'debug' : 'info';
  return {
    nodeName,
    rootDirectory: limpet.rootDirectory,
    runDirectory: limpet.runDirectory,
    manifestDirectory: kubelet.staticPodPath === '' ? undefined : kubelet.staticPodPath,
    runtimeEndpoint: endpoint.startsWith('/') ? `unix://${endpoint}` : endpoint,
    podLogsDirectory: kubelet.podLogsDir,
    containerLogsDirectory: '/var/log/containers',
    cgroupDriver: kubelet.cgroupDriver === 'systemd' ? 'systemd' : 'cgroupfs',
    cgroupRoot: '/sys/fs/cgroup',
    resolvConf: kubelet.resolvConf,
    clusterDNS: kubelet.clusterDNS,
    clusterDomain: kubelet.clusterDomain,
    maxPods: podsPerCore === 0 ? maxPods : Math.min(maxPods, podsPerCore * given.cores),
    logLevel: limpet.logLevel === '' ? verbose : limpet.logLevel,
    containerLogMaxBytes: quantityBytes(kubelet.containerLogMaxSize),
    containerLogMaxFiles: kubelet.containerLogMaxFiles,
    containerLogMonitorIntervalMs: kubelet.containerLogMonitorInterval,
    kubelet,
    flags,
    gates,
    configWarnings,
    version: VERSION,
    nodeIPs: flags.nodeIP.split(',').filter(Boolean),
    ...(limpet.relay.broker !== '' && { relay: limpet.relay }),
    ...(flags.kubeconfig !== '' && { cluster: clusterOptions(given) }),
  };
}

function clusterOptions({ flags, kubelet, limpet }: Given): NonNullable<AgentOptions['cluster']> {
  return {
    kubeconfig: flags.kubeconfig,
    ...(flags.bootstrapKubeconfig !== '' && { bootstrapKubeconfig: flags.bootstrapKubeconfig }),
    certDirectory: flags.certDir,
    runDirectory: limpet.runDirectory,
    registration: { labels: flags.nodeLabels, taints: kubelet.registerWithTaints },
    rotate: kubelet.rotateCertificates,
    servingCertificate: kubelet.serverTLSBootstrap,
  };
}
