/**
 * Every field of KubeletConfiguration v1beta1 of Kubernetes v1.36: its type, its defaults (with a
 * configuration file and without one), and what limpet does with it. Later features only change
 * the last column, and read their fields out of `KubeletConfig`.
 * Source: k8s.io/kubelet config/v1beta1/types.go; k8s.io/kubernetes pkg/kubelet/apis/config
 * v1beta1/defaults.go and validation/validation.go; cmd/kubelet/app/options/options.go, v1.36.3.
 */
import {
  boolean,
  carried,
  choice,
  duration,
  group,
  integer,
  list,
  map,
  notNeeded,
  number,
  quantity,
  refused,
  text,
  texts,
  warned,
  type ConfigOf,
  type Shape,
} from './config-fields.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const MAX_PORT = 65_535;

const TLS = 'limpet has a list of its own, with forward secrecy';
const NO_LOGS = 'limpet serves no logs of the system';
const NO_DEBUG = 'limpet serves nothing under /debug';
const CLUSTER = 'limpet keeps to the defaults with an API server yet';
const IMAGES = 'limpet removes no unused images yet';
const EVICTION = 'limpet evicts no pods yet';
const RESERVED = 'limpet reserves nothing for the system yet; remove it';
const CPUS = 'limpet gives pods no processors or memory of their own yet; remove it';
const SHUTDOWN = 'limpet does not end pods by itself when the node shuts down yet; remove it';
const PULLS = 'limpet pulls two images at a time';
const LOGGING = 'limpet logs text on standard error, unbuffered';
const IPTABLES = 'limpet makes no iptables rules';

const port = { min: 0, max: MAX_PORT };
const percent = { min: 0, max: 100, zeroCounts: true } as const;
const notNegative = { min: 0 };
/** Numbers that are pointers in Go: zero is not "not given". */
const pointer = { zeroCounts: true } as const;

export type Taint = { readonly key: string; readonly value?: string; readonly effect: string };
const TAINT: Shape = {
  type: 'object',
  required: ['key', 'effect'],
  members: {
    key: { type: 'text' },
    value: { type: 'text' },
    effect: { type: 'text', choices: ['NoSchedule', 'PreferNoSchedule', 'NoExecute'] },
    timeAdded: { type: 'text' },
  },
};

export type ShutdownGrace = {
  readonly priority: number;
  readonly shutdownGracePeriodSeconds: number;
};
const SHUTDOWN_GRACE: Shape = {
  type: 'object',
  required: ['priority', 'shutdownGracePeriodSeconds'],
  members: {
    priority: { type: 'integer', min: -(2 ** 31), max: 2 ** 31 - 1 },
    shutdownGracePeriodSeconds: { type: 'integer', min: 0, max: Number.MAX_SAFE_INTEGER },
  },
};

export type MemoryReservation = {
  readonly numaNode: number;
  readonly limits: Readonly<Record<string, string>>;
};
const MEMORY_RESERVATION: Shape = {
  type: 'object',
  required: ['numaNode', 'limits'],
  members: {
    numaNode: { type: 'integer', min: 0, max: 2 ** 31 - 1 },
    limits: { type: 'map', values: { type: 'quantity' } },
  },
};

export type VerbosityOfFile = { readonly filePattern: string; readonly verbosity: number };
const VERBOSITY_OF_FILE: Shape = {
  type: 'object',
  required: ['filePattern', 'verbosity'],
  members: {
    filePattern: { type: 'text' },
    verbosity: { type: 'integer', min: 0, max: 2 ** 31 - 1 },
  },
};

const outputOptions = group({
  splitStream: boolean(false, warned(LOGGING)),
  infoBufferSize: quantity('0', warned(LOGGING)),
});

export const KUBELET_FIELDS = {
  enableServer: boolean(true, carried),
  staticPodPath: text('', carried, { form: 'path' }),
  podLogsDir: text('/var/log/pods', carried, { form: 'path' }),
  syncFrequency: duration(MINUTE, notNeeded('limpet acts when something changes')),
  fileCheckFrequency: duration(20 * SECOND, notNeeded('limpet watches the folder')),
  httpCheckFrequency: duration(20 * SECOND, notNeeded('it belongs to staticPodURL')),
  staticPodURL: text('', refused('limpet takes no pods from a URL yet; use staticPodPath')),
  staticPodURLHeader: map<readonly string[]>(
    refused('limpet takes no pods from a URL yet; use staticPodPath'),
    { type: 'list', items: { type: 'text' } },
    { secret: true },
  ),
  address: text('0.0.0.0', carried, { form: 'ip' }),
  port: integer(10_250, carried, port),
  readOnlyPort: integer(0, warned('limpet serves no read-only port', 0), {
    ...port,
    withoutFile: 10_255,
  }),
  tlsCertFile: text('', carried, { form: 'path' }),
  tlsPrivateKeyFile: text('', carried, { form: 'path' }),
  tlsCipherSuites: texts([], warned(TLS)),
  tlsCurvePreferences: list<number>({ type: 'integer', min: 0, max: 65_535 }, warned(TLS)),
  tlsMinVersion: choice(
    ['', 'VersionTLS10', 'VersionTLS11', 'VersionTLS12', 'VersionTLS13'],
    '',
    warned('limpet speaks TLS 1.2 and 1.3 only', 'VersionTLS12', 'VersionTLS13'),
  ),
  rotateCertificates: boolean(false, carried),
  serverTLSBootstrap: boolean(false, carried),
  authentication: group({
    x509: group({ clientCAFile: text('', carried, { form: 'path' }) }),
    webhook: group({
      enabled: boolean(true, carried, { withoutFile: false }),
      cacheTTL: duration(2 * MINUTE, carried),
    }),
    anonymous: group({
      enabled: boolean(false, warned('limpet answers nobody whom it does not know'), {
        withoutFile: true,
      }),
    }),
  }),
  authorization: group({
    mode: choice(
      ['', 'AlwaysAllow', 'Webhook'],
      'Webhook',
      warned('limpet always asks the API server'),
      {
        withoutFile: 'AlwaysAllow',
      },
    ),
    webhook: group({
      cacheAuthorizedTTL: duration(5 * MINUTE, carried),
      cacheUnauthorizedTTL: duration(30 * SECOND, carried),
    }),
  }),
  registryPullQPS: integer(5, notNeeded(PULLS), { ...notNegative, ...pointer }),
  registryBurst: integer(10, notNeeded(PULLS), notNegative),
  imagePullCredentialsVerificationPolicy: choice(
    [
      '',
      'NeverVerify',
      'NeverVerifyPreloadedImages',
      'NeverVerifyAllowlistedImages',
      'AlwaysVerify',
    ],
    'NeverVerifyPreloadedImages',
    refused('limpet does not check who pulled an image yet; remove it', 'NeverVerify'),
  ),
  preloadedImagesVerificationAllowlist: texts(
    [],
    refused('limpet does not check who pulled an image yet; remove it'),
  ),
  eventRecordQPS: integer(50, carried, { ...notNegative, ...pointer }),
  eventBurst: integer(100, carried, notNegative),
  enableDebuggingHandlers: boolean(true, carried),
  enableContentionProfiling: boolean(false, notNeeded('it profiles locks of the Go runtime')),
  healthzPort: integer(10_248, carried, { ...port, ...pointer }),
  healthzBindAddress: text('127.0.0.1', carried, { form: 'ip' }),
  oomScoreAdj: integer(-999, warned('set OOMScoreAdjust= in the systemd unit'), {
    min: -1000,
    max: 1000,
    ...pointer,
  }),
  clusterDomain: text('', carried),
  clusterDNS: texts([], carried, { form: 'ip' }),
  streamingConnectionIdleTimeout: duration(4 * HOUR, carried),
  nodeStatusUpdateFrequency: duration(10 * SECOND, warned(CLUSTER)),
  nodeStatusReportFrequency: duration(5 * MINUTE, warned(CLUSTER)),
  nodeLeaseDurationSeconds: integer(40, warned(CLUSTER), notNegative),
  imageMinimumGCAge: duration(2 * MINUTE, warned(IMAGES)),
  imageMaximumGCAge: duration(0, warned(IMAGES)),
  imageGCHighThresholdPercent: integer(85, warned(IMAGES), percent),
  imageGCLowThresholdPercent: integer(80, warned(IMAGES), percent),
  volumeStatsAggPeriod: duration(MINUTE, notNeeded('limpet measures volumes when it is asked')),
  kubeletCgroups: text('', notNeeded('systemd gives limpet a cgroup of its own')),
  systemCgroups: text('', refused('limpet moves no processes of the system; remove it')),
  cgroupRoot: text('', refused('limpet puts pods under the root cgroup; remove it', '/')),
  cgroupsPerQOS: boolean(true, refused('limpet always makes cgroups of pods; set it to true')),
  cgroupDriver: choice(['', 'cgroupfs', 'systemd'], 'cgroupfs', carried),
  cpuManagerPolicy: choice(['', 'none', 'static'], 'none', refused(CPUS)),
  singleProcessOOMKill: boolean(
    undefined,
    refused('limpet ends a container as a whole when it is out of memory; remove it', false),
  ),
  cpuManagerPolicyOptions: map(refused(CPUS)),
  cpuManagerReconcilePeriod: duration(10 * SECOND, notNeeded('it belongs to cpuManagerPolicy')),
  memoryManagerPolicy: choice(['', 'None', 'Static'], 'None', refused(CPUS)),
  topologyManagerPolicy: choice(
    ['', 'none', 'best-effort', 'restricted', 'single-numa-node'],
    'none',
    refused(CPUS),
  ),
  topologyManagerScope: choice(['', 'container', 'pod'], 'container', refused(CPUS)),
  topologyManagerPolicyOptions: map(refused(CPUS)),
  qosReserved: map(refused('limpet reserves nothing by class of pods yet; remove it')),
  runtimeRequestTimeout: duration(2 * MINUTE, warned('limpet has its own limits for each call')),
  hairpinMode: choice(
    ['', 'promiscuous-bridge', 'hairpin-veth', 'none'],
    'promiscuous-bridge',
    notNeeded('it is up to the CNI configuration'),
  ),
  maxPods: integer(110, carried, notNegative),
  podCIDR: text('', refused('give the addresses to the CNI configuration; remove it')),
  podPidsLimit: integer(-1, refused('limpet limits no processes of pods yet; remove it'), pointer),
  resolvConf: text('/etc/resolv.conf', carried, { form: 'path', zeroCounts: true }),
  runOnce: boolean(false, refused('neither the kubelet nor limpet has this mode; remove it')),
  cpuCFSQuota: boolean(true, refused('limpet always enforces CPU limits; set it to true')),
  cpuCFSQuotaPeriod: duration(100, refused('limpet has 100ms and no other yet'), pointer),
  nodeStatusMaxImages: integer(50, warned(CLUSTER), { min: -1, ...pointer }),
  maxOpenFiles: integer(1_000_000, notNeeded('LimitNOFILE= of the systemd unit holds'), {
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
  }),
  contentType: text('application/vnd.kubernetes.protobuf', notNeeded('limpet speaks JSON')),
  kubeAPIQPS: integer(50, warned(CLUSTER), { ...notNegative, ...pointer }),
  kubeAPIBurst: integer(100, warned(CLUSTER), notNegative),
  serializeImagePulls: boolean(true, warned(PULLS, false)),
  maxParallelImagePulls: integer(undefined, warned(PULLS, 2), { min: 1, ...pointer }),
  // An empty one takes away the default thresholds.
  evictionHard: map(warned(EVICTION), undefined, pointer),
  evictionSoft: map(warned(EVICTION)),
  evictionSoftGracePeriod: map(warned(EVICTION)),
  evictionPressureTransitionPeriod: duration(5 * MINUTE, warned(EVICTION)),
  evictionMaxPodGracePeriod: integer(0, warned(EVICTION)),
  evictionMinimumReclaim: map(warned(EVICTION)),
  mergeDefaultEvictionSettings: boolean(false, carried),
  podsPerCore: integer(0, carried, notNegative),
  enableControllerAttachDetach: boolean(true, warned(CLUSTER)),
  protectKernelDefaults: boolean(false, warned('limpet changes no settings of the kernel', true)),
  makeIPTablesUtilChains: boolean(true, warned(IPTABLES, false)),
  iptablesMasqueradeBit: integer(14, notNeeded(IPTABLES), { min: 0, max: 31, ...pointer }),
  iptablesDropBit: integer(15, notNeeded(IPTABLES), { min: 0, max: 31, ...pointer }),
  featureGates: map<boolean>(carried, { type: 'boolean' }),
  failSwapOn: boolean(true, warned('limpet starts with swap as well; pods get none', false)),
  memorySwap: group({
    swapBehavior: choice(
      ['', 'NoSwap', 'LimitedSwap'],
      '',
      refused('limpet gives pods no swap yet; use NoSwap', 'NoSwap'),
    ),
  }),
  containerLogMaxSize: quantity('10Mi', carried),
  containerLogMaxFiles: integer(5, carried, { min: 2, max: 1000, ...pointer }),
  containerLogMaxWorkers: integer(1, notNeeded('one is enough'), { min: 1, ...pointer }),
  containerLogMonitorInterval: duration(10 * SECOND, carried, pointer),
  configMapAndSecretChangeDetectionStrategy: choice(
    ['', 'Get', 'Cache', 'Watch'],
    'Watch',
    warned(CLUSTER),
  ),
  systemReserved: map(refused(RESERVED)),
  kubeReserved: map(refused(RESERVED)),
  reservedSystemCPUs: text('', refused(RESERVED)),
  showHiddenMetricsForVersion: text('', warned('limpet has no metrics yet')),
  systemReservedCgroup: text('', refused(RESERVED)),
  kubeReservedCgroup: text('', refused(RESERVED)),
  enforceNodeAllocatable: texts(['pods'], refused(RESERVED), pointer),
  allowedUnsafeSysctls: texts([], warned('limpet refuses all pods with sysctls yet')),
  volumePluginDir: text(
    '/usr/libexec/kubernetes/kubelet-plugins/volume/exec/',
    warned('limpet has no FlexVolumes'),
    { form: 'path' },
  ),
  providerID: text('', warned(CLUSTER)),
  kernelMemcgNotification: boolean(false, warned(EVICTION)),
  logging: group({
    format: choice(['', 'text', 'json'], 'text', warned(LOGGING)),
    flushFrequency: duration(5 * SECOND, notNeeded(LOGGING), { numbersAreNanos: true }),
    verbosity: integer(0, carried, notNegative),
    vmodule: list<VerbosityOfFile>(VERBOSITY_OF_FILE, warned('limpet has no files written in Go')),
    options: group({ text: outputOptions, json: outputOptions }),
  }),
  enableSystemLogHandler: boolean(true, warned(NO_LOGS, false)),
  enableSystemLogQuery: boolean(false, warned(NO_LOGS)),
  shutdownGracePeriod: duration(0, refused(SHUTDOWN)),
  shutdownGracePeriodCriticalPods: duration(0, refused(SHUTDOWN)),
  shutdownGracePeriodByPodPriority: list<ShutdownGrace>(SHUTDOWN_GRACE, refused(SHUTDOWN)),
  crashLoopBackOff: group({
    maxContainerRestartPeriod: duration(
      5 * MINUTE,
      warned('limpet waits for at most 5m0s'),
      pointer,
    ),
  }),
  reservedMemory: list<MemoryReservation>(MEMORY_RESERVATION, refused(CPUS)),
  enableProfilingHandler: boolean(true, warned(NO_DEBUG, false)),
  enableDebugFlagsHandler: boolean(true, warned(NO_DEBUG, false)),
  seccompDefault: boolean(
    false,
    refused('limpet has no default profile yet; give pods a seccompProfile of RuntimeDefault'),
  ),
  memoryThrottlingFactor: number(0.9, warned('limpet does not throttle memory'), pointer),
  memoryReservationPolicy: choice(
    ['', 'None', 'TieredReservation'],
    'None',
    refused('limpet reserves no memory for pods yet; remove it'),
  ),
  registerWithTaints: list<Taint>(TAINT, carried),
  registerNode: boolean(true, warned(CLUSTER, false)),
  tracing: group({
    endpoint: text('', warned('limpet sends no traces')),
    samplingRatePerMillion: integer(0, warned('limpet sends no traces'), {
      min: 0,
      max: 1_000_000,
    }),
  }),
  localStorageCapacityIsolation: boolean(true, warned(EVICTION, false)),
  containerRuntimeEndpoint: text('unix:///run/containerd/containerd.sock', carried),
  imageServiceEndpoint: text('', carried),
  failCgroupV1: boolean(true, notNeeded('limpet runs on cgroup v2 only')),
  userNamespaces: group({
    idsPerPod: integer(undefined, warned('limpet refuses pods with user namespaces yet'), {
      min: 65_536,
      max: 2 ** 32 - 1,
      ...pointer,
    }),
  }),
} as const;

/** A whole KubeletConfiguration: durations are milliseconds, what has no default is undefined. */
export type KubeletConfig = ConfigOf<typeof KUBELET_FIELDS>;

/** `evictionHard` where a configuration file says nothing of it. */
export const DEFAULT_EVICTION_HARD: Readonly<Record<string, string>> = {
  'memory.available': '100Mi',
  'nodefs.available': '10%',
  'nodefs.inodesFree': '5%',
  'imagefs.available': '15%',
  'imagefs.inodesFree': '5%',
};
