import type { LogLevel } from '../base/log.ts';
import type { CgroupDriver } from '../kube/cri.ts';
import type { ClusterOptions } from './cluster.ts';

/** What `limpet run` can be told. Names are the kubelet's, where it has one. */
export type AgentOptions = {
  /** The name that this node and its static pods bear. */
  readonly nodeName: string;
  /** The database and the pods' directories. */
  readonly rootDirectory: string;
  /** The local socket. */
  readonly runDirectory: string;
  /** The folder of static pods (staticPodPath). */
  readonly manifestDirectory: string;
  /** `unix:///run/containerd/containerd.sock` */
  readonly runtimeEndpoint: string;
  readonly podLogsDirectory: string;
  readonly containerLogsDirectory: string;
  /** Used where the runtime does not tell its own (containerd 1.7). */
  readonly cgroupDriver: CgroupDriver;
  readonly cgroupRoot: string;
  /** The host's resolv.conf. */
  readonly resolvConf: string;
  readonly clusterDNS: readonly string[];
  readonly clusterDomain: string;
  readonly maxPods: number;
  readonly logLevel: LogLevel;
  readonly containerLogMaxBytes: number;
  readonly containerLogMaxFiles: number;
  /** better-sqlite3's addon, where it does not lie beside its JavaScript (the single binary). */
  readonly nativeBinding?: string | object;
  readonly version: string;
  /** Of the node's own (`--node-ip`); else that of the default route. */
  readonly nodeIPs: readonly string[];
  /** Without it the node belongs to no cluster. */
  readonly cluster?: Omit<ClusterOptions, 'registration'> & {
    readonly registration: Omit<ClusterOptions['registration'], 'nodeName'>;
  };
};

/** The defaults of every option but the node's name. */
export const DEFAULT_OPTIONS = {
  rootDirectory: '/var/lib/limpet',
  runDirectory: '/run/limpet',
  manifestDirectory: '/etc/kubernetes/manifests',
  runtimeEndpoint: 'unix:///run/containerd/containerd.sock',
  podLogsDirectory: '/var/log/pods',
  containerLogsDirectory: '/var/log/containers',
  cgroupDriver: 'systemd',
  cgroupRoot: '/sys/fs/cgroup',
  resolvConf: '/etc/resolv.conf',
  clusterDNS: [],
  clusterDomain: 'cluster.local',
  maxPods: 110,
  nodeIPs: [],
  logLevel: 'info',
  containerLogMaxBytes: 10 * 1024 * 1024,
  containerLogMaxFiles: 5,
} as const satisfies Partial<AgentOptions>;
