/**
 * The messages of the Container Runtime Interface that limpet uses, as plain data. The core builds
 * and reads them; `src/cri` puts them on the wire. Names are the CRI's own in camel case.
 * Source: k8s.io/cri-api runtime/v1. Nanoseconds are bigint: they don't fit a number.
 */

export type PodSandboxState = 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
export type ContainerStateCri =
  'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';

export type Labels = Readonly<Record<string, string>>;

export type PodSandboxMetadata = {
  readonly name: string;
  readonly uid: string;
  readonly namespace: string;
  readonly attempt: number;
};

export type NamespaceMode = 'POD' | 'CONTAINER' | 'NODE';
export type NamespaceOption = {
  readonly network: NamespaceMode;
  readonly pid: NamespaceMode;
  readonly ipc: NamespaceMode;
};

export type SecurityProfile = {
  readonly profileType: 'RuntimeDefault' | 'Unconfined' | 'Localhost';
  readonly localhostRef?: string;
};

export type DNSConfig = {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
};

export type PortMapping = {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly containerPort: number;
  readonly hostPort: number;
  readonly hostIp?: string;
};

export type PodSandboxConfig = {
  readonly metadata: PodSandboxMetadata;
  readonly hostname: string;
  readonly logDirectory: string;
  readonly dnsConfig?: DNSConfig;
  readonly portMappings: readonly PortMapping[];
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly linux: {
    readonly cgroupParent: string;
    readonly securityContext: {
      readonly namespaceOptions: NamespaceOption;
      readonly runAsUser?: number;
      readonly runAsGroup?: number;
      readonly readonlyRootfs: boolean;
      readonly supplementalGroups: readonly number[];
      readonly privileged: boolean;
      readonly seccomp?: SecurityProfile;
    };
    readonly sysctls: Labels;
  };
};

export type PodSandbox = {
  readonly id: string;
  readonly metadata: PodSandboxMetadata;
  readonly state: PodSandboxState;
  /** Nanoseconds since 1970. */
  readonly createdAt: bigint;
  readonly labels: Labels;
  readonly annotations: Labels;
};

export type PodSandboxStatus = PodSandbox & {
  /** Empty with host network, or while the network is not there. */
  readonly ips: readonly string[];
};

export type Mount = {
  readonly containerPath: string;
  readonly hostPath: string;
  readonly readonly: boolean;
  readonly propagation: 'PRIVATE' | 'HOST_TO_CONTAINER' | 'BIDIRECTIONAL';
};

export type LinuxContainerResources = {
  readonly cpuPeriod: number;
  readonly cpuQuota: number;
  readonly cpuShares: number;
  readonly memoryLimitInBytes: number;
  readonly oomScoreAdj: number;
  /** Raw cgroup v2 keys, e.g. `memory.oom.group`. */
  readonly unified: Labels;
};

export type LinuxContainerSecurityContext = {
  readonly capabilities: { readonly add: readonly string[]; readonly drop: readonly string[] };
  readonly privileged: boolean;
  readonly namespaceOptions: NamespaceOption;
  readonly runAsUser?: number;
  readonly runAsGroup?: number;
  readonly runAsUsername?: string;
  readonly readonlyRootfs: boolean;
  readonly supplementalGroups: readonly number[];
  readonly noNewPrivs: boolean;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly seccomp?: SecurityProfile;
};

export type ContainerConfig = {
  readonly metadata: { readonly name: string; readonly attempt: number };
  /** `image` is what to run (an image id), `userSpecifiedImage` what the manifest says. */
  readonly image: { readonly image: string; readonly userSpecifiedImage: string };
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly workingDir: string;
  readonly envs: readonly { readonly key: string; readonly value: string }[];
  readonly mounts: readonly Mount[];
  readonly labels: Labels;
  readonly annotations: Labels;
  /** Relative to the sandbox's log directory. */
  readonly logPath: string;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
  readonly tty: boolean;
  readonly linux: {
    readonly resources: LinuxContainerResources;
    readonly securityContext: LinuxContainerSecurityContext;
  };
};

/** An entry of ListContainers. */
export type ContainerSummary = {
  readonly id: string;
  readonly podSandboxId: string;
  readonly name: string;
  readonly attempt: number;
  readonly state: ContainerStateCri;
  readonly createdAt: bigint;
  readonly imageRef: string;
  readonly labels: Labels;
  readonly annotations: Labels;
};

/** ContainerStatus. Times are nanoseconds since 1970, 0 when it did not happen. */
export type ContainerStatusCri = {
  readonly id: string;
  readonly name: string;
  readonly attempt: number;
  readonly state: ContainerStateCri;
  readonly createdAt: bigint;
  readonly startedAt: bigint;
  readonly finishedAt: bigint;
  readonly exitCode: number;
  readonly imageRef: string;
  readonly reason: string;
  readonly message: string;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly logPath: string;
};

export type ContainerEvent = {
  readonly containerId: string;
  readonly type:
    | 'CONTAINER_CREATED_EVENT'
    | 'CONTAINER_STARTED_EVENT'
    | 'CONTAINER_STOPPED_EVENT'
    | 'CONTAINER_DELETED_EVENT';
  readonly createdAt: bigint;
  /** The pod it belongs to, where the runtime tells. */
  readonly podUid?: string;
};

export type Image = {
  readonly id: string;
  readonly repoTags: readonly string[];
  readonly repoDigests: readonly string[];
  /** Bytes. */
  readonly size: number;
  /** The numeric user that the image asks for, if it does so by number. */
  readonly uid?: number;
  readonly username: string;
  readonly pinned: boolean;
};

export type RuntimeVersion = {
  readonly runtimeName: string;
  readonly runtimeVersion: string;
  readonly runtimeApiVersion: string;
};

export type RuntimeCondition = {
  readonly type: string;
  readonly status: boolean;
  readonly reason: string;
  readonly message: string;
};

/** A way to run pods that the runtime offers, by the name that RuntimeClasses use. */
export type RuntimeHandler = {
  readonly name: string;
  readonly features:
    { readonly recursiveReadOnlyMounts: boolean; readonly userNamespaces: boolean } | undefined;
};

export type RuntimeStatus = {
  readonly conditions: readonly RuntimeCondition[];
  /** None where the runtime does not tell (containerd 1.7). */
  readonly handlers: readonly RuntimeHandler[];
  readonly features: { readonly supplementalGroupsPolicy: boolean } | undefined;
};

export type CgroupDriver = 'systemd' | 'cgroupfs';

/** How a command in a container ended. */
export type ExecResult = {
  readonly exitCode: number;
  /** The beginning of what it wrote, standard output first. */
  readonly output: string;
};

/**
 * The calls. Every one takes a signal, has a deadline of its own, and fails with a `Failure`.
 * "Already so" is success: stopping or removing what is not there does not fail.
 */
export type RuntimeService = {
  version(signal: AbortSignal): Promise<RuntimeVersion>;
  status(signal: AbortSignal): Promise<RuntimeStatus>;
  /** Undefined where the runtime has no such call (containerd 1.7). */
  cgroupDriver(signal: AbortSignal): Promise<CgroupDriver | undefined>;
  runPodSandbox(config: PodSandboxConfig, signal: AbortSignal): Promise<string>;
  stopPodSandbox(id: string, signal: AbortSignal): Promise<void>;
  removePodSandbox(id: string, signal: AbortSignal): Promise<void>;
  /** Undefined when there is no such sandbox. */
  podSandboxStatus(id: string, signal: AbortSignal): Promise<PodSandboxStatus | undefined>;
  /** All, or those of one pod. */
  listPodSandboxes(podUid: string | undefined, signal: AbortSignal): Promise<readonly PodSandbox[]>;
  createContainer(
    podSandboxId: string,
    config: ContainerConfig,
    sandboxConfig: PodSandboxConfig,
    signal: AbortSignal,
  ): Promise<string>;
  startContainer(id: string, signal: AbortSignal): Promise<void>;
  /** SIGTERM now, SIGKILL after `graceSeconds`; resolves when it has ended. */
  stopContainer(id: string, graceSeconds: number, signal: AbortSignal): Promise<void>;
  removeContainer(id: string, signal: AbortSignal): Promise<void>;
  /** All, or those of one pod. */
  listContainers(
    podUid: string | undefined,
    signal: AbortSignal,
  ): Promise<readonly ContainerSummary[]>;
  /** Undefined when there is no such container. */
  containerStatus(id: string, signal: AbortSignal): Promise<ContainerStatusCri | undefined>;
  reopenContainerLog(id: string, signal: AbortSignal): Promise<void>;
  /**
   * Runs a command in a container to its end. The runtime ends it after `timeoutSeconds` (0: never),
   * and the call fails with `DeadlineExceeded`.
   */
  execSync(
    id: string,
    command: readonly string[],
    timeoutSeconds: number,
    signal: AbortSignal,
  ): Promise<ExecResult>;
  /** Runs until the stream ends (resolves or fails) or the signal is aborted. */
  containerEvents(onEvent: (event: ContainerEvent) => void, signal: AbortSignal): Promise<void>;
};

/** Which of a process's streams are wanted. With `tty` there is no `stderr` of its own. */
export type StreamSelection = {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  readonly tty: boolean;
};

/**
 * The calls that open a stream. Each resolves to the URL where the runtime's own streaming server
 * waits for one connection, for about a minute; a container that is not there is `NotFound`.
 */
export type StreamingService = {
  exec(
    request: StreamSelection & { readonly containerId: string; readonly cmd: readonly string[] },
    signal: AbortSignal,
  ): Promise<string>;
  attach(
    request: StreamSelection & { readonly containerId: string },
    signal: AbortSignal,
  ): Promise<string>;
  portForward(podSandboxId: string, ports: readonly number[], signal: AbortSignal): Promise<string>;
};

/** Who pulls an image. */
export type AuthConfig = { readonly username: string; readonly password: string };

export type ImageService = {
  /** Undefined when it is not there. */
  imageStatus(image: string, signal: AbortSignal): Promise<Image | undefined>;
  /** Resolves to the image reference (id). No deadline of its own. */
  pullImage(
    image: string,
    sandbox: PodSandboxConfig | undefined,
    auth: AuthConfig | undefined,
    signal: AbortSignal,
  ): Promise<string>;
  listImages(signal: AbortSignal): Promise<readonly Image[]>;
  removeImage(image: string, signal: AbortSignal): Promise<void>;
};
