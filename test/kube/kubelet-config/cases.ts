/**
 * Configurations that were given to the kubelet of Kubernetes v1.36.3: `answers.json` has what it
 * made of them. `record.ts` asks a kubelet again.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Case = {
  readonly name: string;
  /** Below the folder of the case; `config.yaml` is given with --config, `d/` with --config-dir. */
  readonly files: Readonly<Record<string, string>>;
  readonly args: readonly string[];
};

const HEAD = 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n';

/** What `kubeadm init` and `kubeadm join` of v1.36 write to /var/lib/kubelet/config.yaml. */
export const KUBEADM_CONFIG = readFileSync(
  join(import.meta.dirname, 'kubeadm-config.yaml'),
  'utf8',
);

/** One case for a configuration file and flags. */
function file(name: string, text: string, ...args: readonly string[]): Case {
  return { name, files: { 'config.yaml': HEAD + text }, args };
}

/** One case for each configuration file; its text is its name. */
function files(...texts: readonly string[]): readonly Case[] {
  return texts.map((text) => file(text, `${text}\n`));
}

/** One case for flags alone. */
function flags(...args: readonly string[]): Case {
  return { name: args.join(' '), files: {}, args };
}

function dropIns(name: string, main: string | undefined, ...texts: readonly string[]): Case {
  const drops = texts.map((text, index) => [`d/${index}0-x.conf`, HEAD + text] as const);
  return {
    name,
    files: {
      ...(main === undefined ? {} : { 'config.yaml': HEAD + main }),
      ...Object.fromEntries(drops),
    },
    args: [],
  };
}

export const CASES: readonly Case[] = [
  { name: 'no file, no flags', files: {}, args: [] },
  file('an empty configuration', ''),
  { name: 'as kubeadm writes it', files: { 'config.yaml': KUBEADM_CONFIG }, args: [] },
  ...files(
    'evictionHard: {memory.available: 200Mi}',
    'evictionHard: {}',
    'evictionHard: {memory.available: 200Mi}\nmergeDefaultEvictionSettings: true',
    'nodeStatusUpdateFrequency: 20s',
    'nodeStatusUpdateFrequency: 0s\nnodeStatusReportFrequency: 0s',
    'maxParallelImagePulls: 3',
    'maxParallelImagePulls: 1',
    'maxParallelImagePulls: 3\nserializeImagePulls: true',
    'maxParallelImagePulls: 0',
    'podPidsLimit: -7',
    'podPidsLimit: 0',
    'maxPods: 0\nport: 0\nnodeLeaseDurationSeconds: 0',
    'maxPods: -1',
    'maxPods: "9"',
    'maxPods: 1.5',
    'maxPods: 3000000000',
    'maxPods: null',
    'maxpods: 7',
    'unknownField: 1',
    'healthzPort: 0\nimageGCLowThresholdPercent: 0',
    'healthzPort: 70000',
    'port: -1',
    'resolvConf: ""',
    'resolvConf: relative/resolv.conf\nstaticPodPath: ./manifests\npodLogsDir: x/../logs',
    'enforceNodeAllocatable: []',
    'enforceNodeAllocatable: [none]',
    'enforceNodeAllocatable: [none, pods]',
    'enforceNodeAllocatable: [pods, pods]',
    'enforceNodeAllocatable: [system-reserved]',
    'enforceNodeAllocatable: [kube-reserved, kube-reserved-compressible]\nkubeReservedCgroup: /x',
    'cgroupsPerQOS: false',
    'authentication: {anonymous: {enabled: true}, webhook: {cacheTTL: 1m30s}}',
    'authentication: null',
    'authorization: {mode: ""}',
    'logging: {flushFrequency: 0, verbosity: 0}',
    'logging: {flushFrequency: 3s}',
    'logging: {format: xml}',
    'syncFrequency: 90',
    'syncFrequency: 1m 30s',
    'syncFrequency: 1.5h',
    'cpuCFSQuotaPeriod: 2s',
    'cpuCFSQuotaPeriod: 50ms\nfeatureGates: {CustomCPUCFSQuotaPeriod: false}',
    'imageGCHighThresholdPercent: 101',
    'imageGCHighThresholdPercent: 80',
    'imageMaximumGCAge: 1m',
    'imageMinimumGCAge: -1s',
    'shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s',
    'shutdownGracePeriod: 10s\nshutdownGracePeriodCriticalPods: 30s',
    'shutdownGracePeriod: 500ms',
    'shutdownGracePeriodByPodPriority: [{priority: 1, shutdownGracePeriodSeconds: 5}]',
    'shutdownGracePeriod: 5s\nshutdownGracePeriodByPodPriority: [{priority: 1, shutdownGracePeriodSeconds: 5}]',
    'crashLoopBackOff: {maxContainerRestartPeriod: 1s}',
    'crashLoopBackOff: {maxContainerRestartPeriod: 500ms}',
    'crashLoopBackOff: {maxContainerRestartPeriod: 301s}',
    'memorySwap: {swapBehavior: LimitedSwap}',
    'memorySwap: {swapBehavior: UnlimitedSwap}',
    'memoryThrottlingFactor: 0',
    'memoryReservationPolicy: TieredReservation',
    'featureGates: {NodeSwap: true}',
    'featureGates: {NodeSwap: false}',
    'featureGates: {NoSuchGate: true}',
    'featureGates: {AllAlpha: true, ContainerCheckpoint: false}',
    'featureGates: {GracefulNodeShutdown: false}',
    'featureGates: {GracefulNodeShutdown: false, GracefulNodeShutdownBasedOnPodPriority: false, WindowsGracefulNodeShutdown: false}',
    'registerWithTaints: [{key: a, value: b, effect: NoSchedule}]',
    'registerWithTaints: [{key: a, effect: Never}]',
    'registerWithTaints: [{key: "-", effect: NoSchedule}]',
    'topologyManagerPolicy: best',
    'hairpinMode: none',
    'containerLogMaxFiles: 1',
    'containerLogMaxWorkers: 0',
    'containerLogMonitorInterval: 2s',
    'podLogsDir: /var/log//pods',
    'enableSystemLogQuery: true',
    'enableSystemLogQuery: true\nenableSystemLogHandler: false',
    'reservedSystemCPUs: 0-1,3',
    'reservedSystemCPUs: one',
    'reservedMemory: [{numaNode: 0, limits: {memory: 1Gi}}]',
    'reservedMemory: [{numaNode: 0, limits: {cpu: 1}}]',
    'reservedMemory: [{numaNode: 0, limits: {memory: 0}}]',
    'userNamespaces: {idsPerPod: 131072}',
    'userNamespaces: {idsPerPod: 65537}',
    'systemCgroups: /system',
    'staticPodURLHeader: {X-A: [b, c]}',
    'tracing: {samplingRatePerMillion: 2000000}',
    'clusterDNS: 10.96.0.10',
    'oomScoreAdj: -2000',
    'preloadedImagesVerificationAllowlist: [a]',
  ),
  {
    name: 'no kind',
    files: { 'config.yaml': 'apiVersion: kubelet.config.k8s.io/v1beta1\nmaxPods: 3\n' },
    args: [],
  },
  {
    name: 'another version',
    files: { 'config.yaml': HEAD.replace('v1beta1', 'v1') },
    args: [],
  },
  { name: 'an empty file', files: { 'config.yaml': '' }, args: [] },
  { name: 'JSON', files: { 'config.yaml': JSON.stringify(yamlHead({ maxPods: 5 })) }, args: [] },
  dropIns('drop-ins in order', 'maxPods: 5', 'maxPods: 6\nport: 1', 'maxPods: 7'),
  dropIns('maps are merged', 'systemReserved: {cpu: "1"}', 'systemReserved: {memory: 1Gi}'),
  dropIns('lists are replaced', 'clusterDNS: [10.0.0.1]', 'clusterDNS: [10.0.0.2, 10.0.0.3]'),
  dropIns(
    'null takes away',
    'systemReserved: {cpu: "1"}\nmaxPods: 5',
    'systemReserved: null\nmaxPods: null',
  ),
  dropIns(
    'null takes a key away',
    'systemReserved: {cpu: "1", memory: 1Gi}',
    'systemReserved: {cpu: null}',
  ),
  dropIns(
    'zero is the default again',
    'syncFrequency: 5s\nmaxPods: 5',
    'syncFrequency: 0s\nmaxPods: 0',
  ),
  dropIns('thresholds of a drop-in', '', 'evictionHard: {memory.available: 7%}'),
  dropIns('an empty list before a drop-in', 'enforceNodeAllocatable: []', 'maxPods: 3'),
  dropIns('report frequency by a drop-in', '', 'nodeStatusUpdateFrequency: 20s'),
  dropIns('report frequency zero in a drop-in', '', 'nodeStatusReportFrequency: 0s'),
  dropIns('parallel pulls by a drop-in', '', 'maxParallelImagePulls: 3'),
  dropIns(
    'a relative path in a drop-in',
    '',
    'staticPodPath: /x\nauthentication: {x509: {clientCAFile: /ca}}',
  ),
  dropIns('drop-ins without a file', undefined, 'maxPods: 7'),
  dropIns(
    'groups are merged',
    'authentication: {webhook: {enabled: false}}',
    'authentication: {webhook: {cacheTTL: 5s}}',
  ),
  dropIns('gates are merged', 'featureGates: {AllAlpha: true}', 'featureGates: {AllBeta: false}'),
  dropIns('a wrong type in a drop-in', '', 'maxPods: many'),
  {
    name: 'a drop-in of another kind',
    files: { 'config.yaml': HEAD, 'd/1.conf': 'apiVersion: v1\nkind: ConfigMap\n' },
    args: [],
  },
  {
    name: 'a drop-in without a version',
    files: { 'config.yaml': HEAD, 'd/1.conf': 'kind: KubeletConfiguration\n' },
    args: [],
  },
  {
    name: 'an empty drop-in',
    files: { 'config.yaml': HEAD, 'd/1.conf': '' },
    args: [],
  },
  {
    name: 'folders of drop-ins, and files that are none',
    files: {
      'config.yaml': HEAD,
      'd/b/1.conf': `${HEAD}maxPods: 21\n`,
      'd/a.conf': `${HEAD}maxPods: 22\n`,
      'd/b-c.conf': `${HEAD}maxPods: 23\n`,
      'd/z.yaml': `${HEAD}maxPods: 24\n`,
      'd/z.conf.bak': 'rubbish',
    },
    args: [],
  },
  flags('--max-pods=5', '--max_pods', '6'),
  flags('--cluster-dns=10.0.0.1,10.0.0.2', '--cluster-dns', '10.0.0.3', '--cluster-domain=x.y'),
  flags(
    '--eviction-hard=memory.available<1Gi,nodefs.available<5%',
    '--eviction-hard=pid.available<5%',
  ),
  flags('--system-reserved=cpu=1,memory=1Gi'),
  flags('--register-with-taints=a=b:NoSchedule,c:NoExecute'),
  flags('--register-with-taints=a=b:Sometimes'),
  flags('--register-with-taints=a=b'),
  flags('--node-labels=a=b,node.kubernetes.io/x=y,kubernetes.io/hostname=z,bare'),
  flags('--node-labels=kubernetes.io/role=master'),
  flags('--node-labels=a=-b-'),
  flags('--feature-gates=AllAlpha=true,ContainerCheckpoint=false'),
  flags('--feature-gates=NodeSwap=false'),
  flags('--feature-gates=Nonsense=true'),
  flags('--feature-gates=AllAlpha'),
  flags('--feature-gates=AllAlpha=maybe'),
  flags('--anonymous-auth=false', '--authorization-mode=Webhook', '--fail-swap-on=F'),
  flags('--anonymous-auth=no'),
  flags('--sync-frequency=90s', '--node-status-update-frequency=20s'),
  flags('--sync-frequency=90'),
  flags('--address=::', '--healthz-bind-address='),
  flags('--address=localhost'),
  flags('--manifest-url-header=a:hello,b:again', '--manifest-url-header', 'b:beautiful'),
  flags('--reserved-memory=0:memory=1Gi,hugepages-2Mi=4Mi'),
  flags('--reserved-memory=0=memory'),
  flags('--reserved-memory=0:memory=1Gi;1:memory=2Gi'),
  flags('--max-pods=abc'),
  flags('--max-pods=3000000000'),
  flags('--max-pods'),
  flags('--no-such-flag'),
  flags('--no-such-flag=3', 'word'),
  flags('---max-pods=3'),
  flags('-x'),
  flags('--pod-infra-container-image=pause'),
  flags('--network-plugin=cni'),
  flags('run'),
  flags('--housekeeping-interval=10s', '--storage-driver-db=x', '--log-cadvisor-usage'),
  flags('--tls-cipher-suites=TLS_AES_128_GCM_SHA256', '--enforce-node-allocatable='),
  flags('--provider-id=x://y', '--pod-max-pids', '100', '--oom-score-adj=-998'),
  file(
    'flags win over the file',
    'maxPods: 5\nclusterDNS: [10.0.0.1]\n',
    '--max-pods=6',
    '--cluster-dns=10.0.0.2',
  ),
  file(
    'a map of a flag replaces that of the file',
    'systemReserved: {cpu: "1"}\n',
    '--system-reserved=memory=1Gi',
  ),
  file(
    'gates of flags and file are merged',
    'featureGates: {AllAlpha: true, AllBeta: true}\n',
    '--feature-gates=AllBeta=false',
  ),
  file('report frequency by a flag', '', '--node-status-update-frequency=20s'),
  { ...dropIns('flags win over drop-ins', 'maxPods: 5', 'maxPods: 6'), args: ['--max-pods=7'] },
];

function yamlHead(more: object): object {
  return { apiVersion: 'kubelet.config.k8s.io/v1beta1', kind: 'KubeletConfiguration', ...more };
}
