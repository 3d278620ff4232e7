/**
 * The part of the Kubernetes v1 API that limpet carries out, as types. What is not here is refused
 * by `parse.ts` with the path of the field. After parsing, defaults are filled in.
 * Source: k8s.io/api core/v1.
 */

export type ObjectMeta = {
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** RFC 3339. */
  readonly creationTimestamp?: string;
  /** Of a pod of the API server: counts the changes of what is wanted. */
  readonly generation?: number;
};

export type Pod = {
  readonly metadata: ObjectMeta;
  readonly spec: PodSpec;
};

/** Where a pod comes from: the manifest folder, `limpet apply`, the API server. */
export type Source = 'file' | 'local' | 'api';

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';
export type DNSPolicy = 'ClusterFirst' | 'ClusterFirstWithHostNet' | 'Default' | 'None';
export type PullPolicy = 'Always' | 'IfNotPresent' | 'Never';

export type PodSpec = {
  readonly containers: readonly Container[];
  readonly initContainers: readonly Container[];
  readonly volumes: readonly Volume[];
  readonly restartPolicy: RestartPolicy;
  readonly terminationGracePeriodSeconds: number;
  readonly activeDeadlineSeconds?: number;
  readonly dnsPolicy: DNSPolicy;
  readonly dnsConfig?: PodDNSConfig;
  readonly hostNetwork: boolean;
  readonly hostPID: boolean;
  readonly hostIPC: boolean;
  readonly shareProcessNamespace: boolean;
  readonly hostname?: string;
  readonly subdomain?: string;
  readonly hostAliases: readonly HostAlias[];
  readonly securityContext: PodSecurityContext;
  readonly nodeName?: string;
  readonly priority?: number;
  readonly priorityClassName?: string;
  readonly serviceAccountName?: string;
  /** The API server heeds it: it puts the token's volume into the pod. */
  readonly automountServiceAccountToken?: boolean;
  /** Names of secrets. */
  readonly imagePullSecrets?: readonly string[];
  /** Whether containers get variables of the services of their namespace; true when absent. */
  readonly enableServiceLinks?: boolean;
};

export type HostAlias = { readonly ip: string; readonly hostnames: readonly string[] };

export type PodDNSConfig = {
  readonly nameservers?: readonly string[];
  readonly searches?: readonly string[];
  readonly options?: readonly { readonly name: string; readonly value?: string }[];
};

export type Container = {
  readonly name: string;
  readonly image: string;
  readonly imagePullPolicy: PullPolicy;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly workingDir?: string;
  readonly env: readonly EnvVar[];
  readonly envFrom?: readonly EnvFromSource[];
  readonly ports: readonly ContainerPort[];
  readonly resources: ResourceRequirements;
  readonly volumeMounts: readonly VolumeMount[];
  readonly terminationMessagePath: string;
  readonly terminationMessagePolicy: 'File' | 'FallbackToLogsOnError';
  readonly securityContext: SecurityContext;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  /** Only on an init container, and then it is a sidecar. */
  readonly restartPolicy?: 'Always';
  readonly startupProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly lifecycle?: Lifecycle;
};

/** `value` counts unless it is empty; then `valueFrom` does. */
export type EnvVar = {
  readonly name: string;
  readonly value: string;
  readonly valueFrom?: EnvVarSource;
};

export type EnvVarSource =
  | ({ readonly kind: 'fieldRef' } & ObjectFieldSelector)
  | ({ readonly kind: 'resourceFieldRef' } & ResourceFieldSelector)
  | ({ readonly kind: 'configMapKeyRef' | 'secretKeyRef' } & KeySelector);

/** `metadata.name`, `metadata.labels['app']`, `status.podIP`, … */
export type ObjectFieldSelector = { readonly fieldPath: string };

export type ResourceFieldSelector = {
  /** The container itself when absent; only an environment variable may leave it out. */
  readonly containerName?: string;
  readonly resource: ContainerResource;
  /** A quantity that is not zero. */
  readonly divisor: string;
};

export type ContainerResource = 'limits.cpu' | 'limits.memory' | 'requests.cpu' | 'requests.memory';

export type KeySelector = {
  /** Of the object. */
  readonly name: string;
  readonly key: string;
  readonly optional: boolean;
};

export type EnvFromSource = {
  readonly kind: 'configMapRef' | 'secretRef';
  readonly name: string;
  readonly optional: boolean;
  /** Stands before each key. */
  readonly prefix: string;
};

export type Probe = {
  readonly handler: ProbeHandler;
  readonly initialDelaySeconds: number;
  readonly timeoutSeconds: number;
  readonly periodSeconds: number;
  readonly successThreshold: number;
  readonly failureThreshold: number;
  /** The grace of a container that is stopped because of this probe; else the pod's. */
  readonly terminationGracePeriodSeconds?: number;
};

export type Lifecycle = {
  readonly postStart?: LifecycleHandler;
  readonly preStop?: LifecycleHandler;
};

export type ProbeHandler = ExecAction | HTTPGetAction | TCPSocketAction | GRPCAction;
export type LifecycleHandler = ExecAction | HTTPGetAction | TCPSocketAction | SleepAction;

export type ExecAction = { readonly kind: 'exec'; readonly command: readonly string[] };
export type HTTPGetAction = {
  readonly kind: 'httpGet';
  readonly path: string;
  readonly port: PortRef;
  /** The pod's address when absent. */
  readonly host?: string;
  readonly scheme: 'HTTP' | 'HTTPS';
  readonly httpHeaders: readonly HTTPHeader[];
};
export type HTTPHeader = { readonly name: string; readonly value: string };
export type TCPSocketAction = {
  readonly kind: 'tcpSocket';
  readonly port: PortRef;
  /** The pod's address when absent. */
  readonly host?: string;
};
export type GRPCAction = { readonly kind: 'grpc'; readonly port: number; readonly service: string };
export type SleepAction = { readonly kind: 'sleep'; readonly seconds: number };
/** A number, or the name of one of the container's ports. */
export type PortRef = number | string;

export type Protocol = 'TCP' | 'UDP' | 'SCTP';
export type ContainerPort = {
  readonly name?: string;
  readonly containerPort: number;
  readonly hostPort?: number;
  readonly hostIP?: string;
  readonly protocol: Protocol;
};

/** Quantities as written; `quantity.ts` reads them. */
export type ResourceList = Readonly<Record<string, string>>;
export type ResourceRequirements = {
  readonly requests: ResourceList;
  readonly limits: ResourceList;
};

export type MountPropagation = 'None' | 'HostToContainer' | 'Bidirectional';
export type VolumeMount = {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly: boolean;
  readonly mountPropagation?: MountPropagation;
};

export type HostPathType =
  | ''
  | 'DirectoryOrCreate'
  | 'Directory'
  | 'FileOrCreate'
  | 'File'
  | 'Socket'
  | 'CharDevice'
  | 'BlockDevice';

/** One volume: its name and its source, told apart by `kind`. */
export type Volume =
  | {
      readonly name: string;
      readonly kind: 'emptyDir';
      readonly medium: '' | 'Memory';
      /** A quantity. */
      readonly sizeLimit?: string;
    }
  | {
      readonly name: string;
      readonly kind: 'hostPath';
      readonly path: string;
      readonly type: HostPathType;
    }
  | ({ readonly name: string; readonly kind: 'configMap' } & ObjectFiles & DefaultMode)
  | ({ readonly name: string; readonly kind: 'secret' } & ObjectFiles & DefaultMode)
  | ({ readonly name: string; readonly kind: 'downwardAPI' } & DownwardAPIFiles & DefaultMode)
  | ({ readonly name: string; readonly kind: 'projected' } & DefaultMode & {
        readonly sources: readonly VolumeProjection[];
      });

/** Permission bits of the files that have none of their own. */
type DefaultMode = { readonly defaultMode: number };

/** Files made of a config map or a secret. */
export type ObjectFiles = {
  readonly objectName: string;
  /** All keys, each under its own name, when there are none. */
  readonly items: readonly KeyToPath[];
  readonly optional: boolean;
};

type DownwardAPIFiles = { readonly items: readonly DownwardAPIVolumeFile[] };

/** One source of a projected volume. */
export type VolumeProjection =
  | ({ readonly kind: 'configMap' | 'secret' } & ObjectFiles)
  | ({ readonly kind: 'downwardAPI' } & DownwardAPIFiles)
  | ({ readonly kind: 'serviceAccountToken' } & ServiceAccountTokenProjection);

export type ServiceAccountTokenProjection = {
  /** Empty: the API server's own. */
  readonly audience: string;
  readonly expirationSeconds: number;
  readonly path: string;
};

/** The file that a key becomes. */
export type KeyToPath = {
  readonly key: string;
  /** Relative, without `..`. */
  readonly path: string;
  readonly mode?: number;
};

export type DownwardAPIVolumeFile = {
  /** Relative, without `..`. */
  readonly path: string;
  readonly mode?: number;
  readonly from:
    | ({ readonly kind: 'fieldRef' } & ObjectFieldSelector)
    | ({ readonly kind: 'resourceFieldRef' } & ResourceFieldSelector);
};

export type Capabilities = { readonly add: readonly string[]; readonly drop: readonly string[] };

export type PodSecurityContext = {
  readonly runAsUser?: number;
  readonly runAsGroup?: number;
  readonly runAsNonRoot?: boolean;
  readonly supplementalGroups?: readonly number[];
  readonly fsGroup?: number;
  readonly seccompProfile?: SeccompProfile;
};

export type SeccompProfile = { readonly type: 'RuntimeDefault' | 'Unconfined' };

export type SecurityContext = {
  readonly runAsUser?: number;
  readonly runAsGroup?: number;
  readonly runAsNonRoot?: boolean;
  readonly privileged?: boolean;
  readonly allowPrivilegeEscalation?: boolean;
  readonly readOnlyRootFilesystem?: boolean;
  readonly capabilities?: Capabilities;
  readonly seccompProfile?: SeccompProfile;
};

export type PodPhase = 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown';

export type ContainerState = {
  readonly waiting?: { readonly reason: string; readonly message?: string };
  readonly running?: { readonly startedAt: string };
  readonly terminated?: ContainerStateTerminated;
};

export type ContainerStateTerminated = {
  readonly exitCode: number;
  readonly signal?: number;
  readonly reason: string;
  readonly message?: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly containerID?: string;
};

export type ContainerStatus = {
  readonly name: string;
  readonly image: string;
  readonly imageID: string;
  readonly containerID?: string;
  readonly ready: boolean;
  readonly started: boolean;
  readonly restartCount: number;
  readonly state: ContainerState;
  readonly lastState: ContainerState;
};

export type PodCondition = {
  readonly type: string;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason?: string;
  readonly message?: string;
  readonly lastTransitionTime?: string;
};

export type PodStatus = {
  readonly phase: PodPhase;
  readonly reason?: string;
  readonly message?: string;
  readonly startTime?: string;
  readonly podIP?: string;
  readonly podIPs?: readonly { readonly ip: string }[];
  readonly hostIP?: string;
  readonly qosClass: QOSClass;
  readonly conditions: readonly PodCondition[];
  readonly containerStatuses: readonly ContainerStatus[];
  readonly initContainerStatuses: readonly ContainerStatus[];
};

export type QOSClass = 'Guaranteed' | 'Burstable' | 'BestEffort';
