/**
 * The flags of a kubelet of Kubernetes v1.36.3, and limpet's own. Most of them set a field of the
 * KubeletConfiguration; the others are fields of `KUBELET_FLAG_FIELDS`. `--pod-logs-dir` is limpet's.
 * Source: k8s.io/kubernetes cmd/kubelet/app/options, v1.36.3.
 */
import {
  boolean,
  carried,
  duration,
  integer,
  leaves,
  map,
  notNeeded,
  refused,
  text,
  warned,
  type ConfigOf,
  type Field,
} from './config-fields.ts';
import { KUBELET_FIELDS } from './kubelet-config.ts';
import { LIMPET_FIELDS } from './limpet-config.ts';

const CLUSTER = 'limpet keeps to the defaults with an API server yet';
const PROVIDERS = 'limpet asks no plugins for credentials of registries yet; remove it';
const DEAD = 'limpet keeps the last dead container of each, and no more';

/** What can be given as a flag only. */
export const KUBELET_FLAG_FIELDS = {
  config: text('', carried, { form: 'path', help: 'file with a KubeletConfiguration' }),
  configDir: text('', carried, {
    form: 'path',
    help: 'folder of drop-in files, *.conf',
  }),
  kubeconfig: text('', carried, {
    form: 'path',
    help: 'how to reach the API server, if there is one',
  }),
  bootstrapKubeconfig: text('', carried, {
    form: 'path',
    help: 'how to get a certificate, and a kubeconfig',
  }),
  certDir: text('/var/lib/kubelet/pki', carried, {
    form: 'path',
    help: 'folder of certificates and keys',
  }),
  hostnameOverride: text('', carried, { help: "node name; else the host's name" }),
  nodeIP: text('', carried, { help: 'address of the node, or two of them (dual stack)' }),
  nodeLabels: map(carried, undefined, { help: 'labels of the node' }),
  cloudProvider: text('', warned(CLUSTER), { help: '"external" or nothing' }),
  seccompDefault: boolean(
    false,
    refused('limpet has no default profile yet; give pods a seccompProfile of RuntimeDefault'),
    { help: 'RuntimeDefault for pods without a profile' },
  ),
  lockFile: text('', refused('systemd runs limpet once only; remove it'), { form: 'path' }),
  exitOnLockContention: boolean(false, refused('systemd runs limpet once only; remove it')),
  runtimeCgroups: text('', notNeeded('systemd gives the runtime a cgroup of its own')),
  imageCredentialProviderConfig: text('', refused(PROVIDERS), { form: 'path' }),
  imageCredentialProviderBinDir: text('', refused(PROVIDERS), { form: 'path' }),
  minimumContainerTTLDuration: duration(0, warned(DEAD)),
  maximumDeadContainersPerContainer: integer(1, warned(DEAD)),
  maximumDeadContainers: integer(-1, warned(DEAD)),
  experimentalMounterPath: text('', refused('limpet mounts by itself; remove it')),
  experimentalAllocatableIgnoreEviction: boolean(false, warned('limpet evicts no pods yet')),
} as const;

export type KubeletFlags = ConfigOf<typeof KUBELET_FLAG_FIELDS>;

/** Where the value of a flag belongs. */
export type FlagTable = 'kubelet' | 'flags' | 'limpet';
export type Flag = {
  readonly table: FlagTable;
  readonly path: string;
  readonly field: Field<unknown>;
  readonly short?: string;
};

const TABLES = {
  kubelet: new Map(leaves(KUBELET_FIELDS)),
  flags: new Map(leaves(KUBELET_FLAG_FIELDS)),
  limpet: new Map(leaves(LIMPET_FIELDS)),
};

function* flagsOf(table: FlagTable, rows: string): Generator<[string, Flag]> {
  for (const row of rows.trim().split('\n')) {
    const [flag = '', path = ''] = row.trim().split(/\s+/);
    yield [flag, { table, path, field: TABLES[table].get(path)! }];
  }
}

/** By name. */
export const FLAGS: ReadonlyMap<string, Flag> = new Map<string, Flag>([
  ...flagsOf(
    'flags',
    `
    config                                    config
    config-dir                                configDir
    kubeconfig                                kubeconfig
    bootstrap-kubeconfig                      bootstrapKubeconfig
    cert-dir                                  certDir
    hostname-override                         hostnameOverride
    node-ip                                   nodeIP
    node-labels                               nodeLabels
    cloud-provider                            cloudProvider
    seccomp-default                           seccompDefault
    lock-file                                 lockFile
    exit-on-lock-contention                   exitOnLockContention
    runtime-cgroups                           runtimeCgroups
    image-credential-provider-config          imageCredentialProviderConfig
    image-credential-provider-bin-dir         imageCredentialProviderBinDir
    minimum-container-ttl-duration            minimumContainerTTLDuration
    maximum-dead-containers-per-container     maximumDeadContainersPerContainer
    maximum-dead-containers                   maximumDeadContainers
    experimental-mounter-path                 experimentalMounterPath
    experimental-allocatable-ignore-eviction  experimentalAllocatableIgnoreEviction`,
  ),
  ...flagsOf(
    'limpet',
    `
    root-dir   rootDirectory
    run-dir    runDirectory
    log-level  logLevel`,
  ),
  ...flagsOf(
    'kubelet',
    `
    address                                       address
    allowed-unsafe-sysctls                        allowedUnsafeSysctls
    anonymous-auth                                authentication.anonymous.enabled
    authentication-token-webhook                  authentication.webhook.enabled
    authentication-token-webhook-cache-ttl        authentication.webhook.cacheTTL
    authorization-mode                            authorization.mode
    authorization-webhook-cache-authorized-ttl    authorization.webhook.cacheAuthorizedTTL
    authorization-webhook-cache-unauthorized-ttl  authorization.webhook.cacheUnauthorizedTTL
    cgroup-driver                                 cgroupDriver
    cgroup-root                                   cgroupRoot
    cgroups-per-qos                               cgroupsPerQOS
    client-ca-file                                authentication.x509.clientCAFile
    cluster-dns                                   clusterDNS
    cluster-domain                                clusterDomain
    container-log-max-files                       containerLogMaxFiles
    container-log-max-size                        containerLogMaxSize
    container-runtime-endpoint                    containerRuntimeEndpoint
    contention-profiling                          enableContentionProfiling
    cpu-cfs-quota                                 cpuCFSQuota
    cpu-cfs-quota-period                          cpuCFSQuotaPeriod
    cpu-manager-policy                            cpuManagerPolicy
    cpu-manager-policy-options                    cpuManagerPolicyOptions
    cpu-manager-reconcile-period                  cpuManagerReconcilePeriod
    enable-controller-attach-detach               enableControllerAttachDetach
    enable-debugging-handlers                     enableDebuggingHandlers
    enable-server                                 enableServer
    enforce-node-allocatable                      enforceNodeAllocatable
    event-burst                                   eventBurst
    event-qps                                     eventRecordQPS
    eviction-hard                                 evictionHard
    eviction-max-pod-grace-period                 evictionMaxPodGracePeriod
    eviction-minimum-reclaim                      evictionMinimumReclaim
    eviction-pressure-transition-period           evictionPressureTransitionPeriod
    eviction-soft                                 evictionSoft
    eviction-soft-grace-period                    evictionSoftGracePeriod
    fail-cgroupv1                                 failCgroupV1
    fail-swap-on                                  failSwapOn
    feature-gates                                 featureGates
    file-check-frequency                          fileCheckFrequency
    hairpin-mode                                  hairpinMode
    healthz-bind-address                          healthzBindAddress
    healthz-port                                  healthzPort
    http-check-frequency                          httpCheckFrequency
    image-gc-high-threshold                       imageGCHighThresholdPercent
    image-gc-low-threshold                        imageGCLowThresholdPercent
    image-service-endpoint                        imageServiceEndpoint
    kernel-memcg-notification                     kernelMemcgNotification
    kube-api-burst                                kubeAPIBurst
    kube-api-content-type                         contentType
    kube-api-qps                                  kubeAPIQPS
    kube-reserved                                 kubeReserved
    kube-reserved-cgroup                          kubeReservedCgroup
    kubelet-cgroups                               kubeletCgroups
    local-storage-capacity-isolation              localStorageCapacityIsolation
    log-flush-frequency                           logging.flushFrequency
    log-json-info-buffer-size                     logging.options.json.infoBufferSize
    log-json-split-stream                         logging.options.json.splitStream
    log-text-info-buffer-size                     logging.options.text.infoBufferSize
    log-text-split-stream                         logging.options.text.splitStream
    logging-format                                logging.format
    make-iptables-util-chains                     makeIPTablesUtilChains
    manifest-url                                  staticPodURL
    manifest-url-header                           staticPodURLHeader
    max-open-files                                maxOpenFiles
    max-pods                                      maxPods
    memory-manager-policy                         memoryManagerPolicy
    minimum-image-ttl-duration                    imageMinimumGCAge
    node-status-max-images                        nodeStatusMaxImages
    node-status-update-frequency                  nodeStatusUpdateFrequency
    oom-score-adj                                 oomScoreAdj
    pod-cidr                                      podCIDR
    pod-logs-dir                                  podLogsDir
    pod-manifest-path                             staticPodPath
    pod-max-pids                                  podPidsLimit
    pods-per-core                                 podsPerCore
    port                                          port
    protect-kernel-defaults                       protectKernelDefaults
    provider-id                                   providerID
    qos-reserved                                  qosReserved
    read-only-port                                readOnlyPort
    register-node                                 registerNode
    register-with-taints                          registerWithTaints
    registry-burst                                registryBurst
    registry-qps                                  registryPullQPS
    reserved-cpus                                 reservedSystemCPUs
    reserved-memory                               reservedMemory
    resolv-conf                                   resolvConf
    rotate-certificates                           rotateCertificates
    rotate-server-certificates                    serverTLSBootstrap
    runonce                                       runOnce
    runtime-request-timeout                       runtimeRequestTimeout
    serialize-image-pulls                         serializeImagePulls
    streaming-connection-idle-timeout             streamingConnectionIdleTimeout
    sync-frequency                                syncFrequency
    system-cgroups                                systemCgroups
    system-reserved                               systemReserved
    system-reserved-cgroup                        systemReservedCgroup
    tls-cert-file                                 tlsCertFile
    tls-cipher-suites                             tlsCipherSuites
    tls-min-version                               tlsMinVersion
    tls-private-key-file                          tlsPrivateKeyFile
    topology-manager-policy                       topologyManagerPolicy
    topology-manager-policy-options               topologyManagerPolicyOptions
    topology-manager-scope                        topologyManagerScope
    v                                             logging.verbosity
    vmodule                                       logging.vmodule
    volume-plugin-dir                             volumePluginDir
    volume-stats-agg-period                       volumeStatsAggPeriod`,
  ),
]);

/** Of cAdvisor, which is in the kubelet and not in limpet: taken, and without effect. */
export const CADVISOR_FLAGS: ReadonlyMap<string, 'boolean' | 'text'> = new Map([
  ...['enable-load-reader', 'log-cadvisor-usage', 'storage-driver-secure'].map(
    (flag) => [flag, 'boolean'] as const,
  ),
  ...`application-metrics-count-limit boot-id-file container-hints containerd containerd-namespace
    event-storage-age-limit event-storage-event-limit global-housekeeping-interval
    housekeeping-interval machine-id-file storage-driver-buffer-duration storage-driver-db
    storage-driver-host storage-driver-password storage-driver-table storage-driver-user`
    .split(/\s+/)
    .map((flag) => [flag, 'text'] as const),
]);

const OF_RUNTIME = 'remove it: it is up to the container runtime';

/** Flags that kubelets once had, and what to do in their place. */
export const GONE_FLAGS: Readonly<Record<string, string>> = {
  'pod-infra-container-image':
    "remove it: the image of sandboxes is in the container runtime's configuration",
  'container-runtime': 'remove it: there is only "remote" left',
  'network-plugin': OF_RUNTIME,
  'cni-bin-dir': OF_RUNTIME,
  'cni-conf-dir': OF_RUNTIME,
  'cni-cache-dir': OF_RUNTIME,
  'network-plugin-mtu': OF_RUNTIME,
  'non-masquerade-cidr': OF_RUNTIME,
  'docker-endpoint': OF_RUNTIME,
  'image-pull-progress-deadline': OF_RUNTIME,
  'cloud-config': 'remove it: clouds have programs of their own',
  'dynamic-config-dir': 'remove it: use --config',
  'master-service-namespace': 'remove it',
  'register-schedulable': 'use --register-with-taints',
  'keep-terminated-pod-volumes': 'remove it',
  'iptables-masquerade-bit': 'remove it',
  'iptables-drop-bit': 'remove it',
  'azure-container-registry-config': 'use --image-credential-provider-config',
};
