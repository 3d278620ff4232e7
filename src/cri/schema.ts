/**
 * The CRI's messages, as tables: only those that limpet sends or reads, and of these only the
 * fields it uses. Written from the wire contract of `runtime.v1`; `test/conformance` compares each
 * field with the descriptor of k8s.io/cri-api. Keys are the `.proto`'s names in camel case.
 */
import { enumeration, message, type Decoded, type Enumeration } from './codec.ts';
import type { Field, Kind, Message } from './codec.ts';

const one = <T>(number: number, kind: Kind): Field<T> => ({ number, kind, repeated: false });

const string = (number: number) => one<string>(number, 'string');
const bool = (number: number) => one<boolean>(number, 'bool');
const int32 = (number: number) => one<number>(number, 'int32');
const uint32 = (number: number) => one<number>(number, 'uint32');
const int64 = (number: number) => one<number>(number, 'int64');
const uint64 = (number: number) => one<number>(number, 'uint64');
const bytes = (number: number) => one<Uint8Array>(number, 'bytes');
/** Nanoseconds since 1970. */
const nanoseconds = (number: number) => one<bigint>(number, 'bigint');
const optionalInt64 = (number: number) => one<number | undefined>(number, 'int64Value');
const map = (number: number) => one<Readonly<Record<string, string>>>(number, 'map');
const strings = (number: number): Field<readonly string[]> => ({
  number,
  kind: 'string',
  repeated: true,
});
const int64s = (number: number): Field<readonly number[]> => ({
  number,
  kind: 'int64',
  repeated: true,
});
const int32s = (number: number): Field<readonly number[]> => ({
  number,
  kind: 'int32',
  repeated: true,
});
const of = <M extends Message>(number: number, type: M): Field<Decoded<M> | undefined> => ({
  number,
  kind: 'message',
  repeated: false,
  message: type,
});
const many = <M extends Message>(number: number, type: M): Field<readonly Decoded<M>[]> => ({
  number,
  kind: 'message',
  repeated: true,
  message: type,
});
const named = <N extends string>(number: number, of: Enumeration<N>): Field<N | undefined> => ({
  number,
  kind: 'enum',
  repeated: false,
  enumeration: of,
});

// ---- Enums ----

export const Protocol = enumeration('Protocol', { TCP: 0, UDP: 1, SCTP: 2 });
export const MountPropagation = enumeration('MountPropagation', {
  PROPAGATION_PRIVATE: 0,
  PROPAGATION_HOST_TO_CONTAINER: 1,
  PROPAGATION_BIDIRECTIONAL: 2,
});
export const NamespaceMode = enumeration('NamespaceMode', {
  POD: 0,
  CONTAINER: 1,
  NODE: 2,
  TARGET: 3,
});
export const ProfileType = enumeration('SecurityProfile.ProfileType', {
  RuntimeDefault: 0,
  Unconfined: 1,
  Localhost: 2,
});
export const PodSandboxState = enumeration('PodSandboxState', {
  SANDBOX_READY: 0,
  SANDBOX_NOTREADY: 1,
});
export const ContainerState = enumeration('ContainerState', {
  CONTAINER_CREATED: 0,
  CONTAINER_RUNNING: 1,
  CONTAINER_EXITED: 2,
  CONTAINER_UNKNOWN: 3,
});
export const ContainerEventType = enumeration('ContainerEventType', {
  CONTAINER_CREATED_EVENT: 0,
  CONTAINER_STARTED_EVENT: 1,
  CONTAINER_STOPPED_EVENT: 2,
  CONTAINER_DELETED_EVENT: 3,
});
export const CgroupDriver = enumeration('CgroupDriver', { SYSTEMD: 0, CGROUPFS: 1 });

// ---- What both services share ----

export const Empty = {
  stopPodSandbox: message('StopPodSandboxResponse', {}),
  removePodSandbox: message('RemovePodSandboxResponse', {}),
  startContainer: message('StartContainerResponse', {}),
  stopContainer: message('StopContainerResponse', {}),
  removeContainer: message('RemoveContainerResponse', {}),
  reopenContainerLog: message('ReopenContainerLogResponse', {}),
  removeImage: message('RemoveImageResponse', {}),
} as const;

export const DNSConfig = message('DNSConfig', {
  servers: strings(1),
  searches: strings(2),
  options: strings(3),
});
export const PortMapping = message('PortMapping', {
  protocol: named(1, Protocol),
  containerPort: int32(2),
  hostPort: int32(3),
  hostIp: string(4),
});
export const NamespaceOption = message('NamespaceOption', {
  network: named(1, NamespaceMode),
  pid: named(2, NamespaceMode),
  ipc: named(3, NamespaceMode),
});
export const SecurityProfile = message('SecurityProfile', {
  profileType: named(1, ProfileType),
  localhostRef: string(2),
});
export const LinuxSandboxSecurityContext = message('LinuxSandboxSecurityContext', {
  namespaceOptions: of(1, NamespaceOption),
  runAsUser: optionalInt64(3),
  readonlyRootfs: bool(4),
  supplementalGroups: int64s(5),
  privileged: bool(6),
  runAsGroup: optionalInt64(8),
  seccomp: of(9, SecurityProfile),
});
export const LinuxPodSandboxConfig = message('LinuxPodSandboxConfig', {
  cgroupParent: string(1),
  securityContext: of(2, LinuxSandboxSecurityContext),
  sysctls: map(3),
});
export const PodSandboxMetadata = message('PodSandboxMetadata', {
  name: string(1),
  uid: string(2),
  namespace: string(3),
  attempt: uint32(4),
});
export const PodSandboxConfig = message('PodSandboxConfig', {
  metadata: of(1, PodSandboxMetadata),
  hostname: string(2),
  logDirectory: string(3),
  dnsConfig: of(4, DNSConfig),
  portMappings: many(5, PortMapping),
  labels: map(6),
  annotations: map(7),
  linux: of(8, LinuxPodSandboxConfig),
});
export const ImageSpec = message('ImageSpec', {
  image: string(1),
  userSpecifiedImage: string(18),
});

// ---- RuntimeService ----

export const VersionRequest = message('VersionRequest', { version: string(1) });
export const VersionResponse = message('VersionResponse', {
  runtimeName: string(2),
  runtimeVersion: string(3),
  runtimeApiVersion: string(4),
});

export const StatusRequest = message('StatusRequest', {});
export const RuntimeCondition = message('RuntimeCondition', {
  type: string(1),
  status: bool(2),
  reason: string(3),
  message: string(4),
});
export const RuntimeStatus = message('RuntimeStatus', { conditions: many(1, RuntimeCondition) });
export const RuntimeHandlerFeatures = message('RuntimeHandlerFeatures', {
  recursiveReadOnlyMounts: bool(1),
  userNamespaces: bool(2),
});
export const RuntimeHandler = message('RuntimeHandler', {
  name: string(1),
  features: of(2, RuntimeHandlerFeatures),
});
export const RuntimeFeatures = message('RuntimeFeatures', { supplementalGroupsPolicy: bool(1) });
export const StatusResponse = message('StatusResponse', {
  status: of(1, RuntimeStatus),
  runtimeHandlers: many(3, RuntimeHandler),
  features: of(4, RuntimeFeatures),
});

export const RuntimeConfigRequest = message('RuntimeConfigRequest', {});
export const LinuxRuntimeConfiguration = message('LinuxRuntimeConfiguration', {
  cgroupDriver: named(1, CgroupDriver),
});
export const RuntimeConfigResponse = message('RuntimeConfigResponse', {
  linux: of(1, LinuxRuntimeConfiguration),
});

export const RunPodSandboxRequest = message('RunPodSandboxRequest', {
  config: of(1, PodSandboxConfig),
});
export const RunPodSandboxResponse = message('RunPodSandboxResponse', { podSandboxId: string(1) });
export const StopPodSandboxRequest = message('StopPodSandboxRequest', { podSandboxId: string(1) });
export const RemovePodSandboxRequest = message('RemovePodSandboxRequest', {
  podSandboxId: string(1),
});

export const PodSandboxStatusRequest = message('PodSandboxStatusRequest', {
  podSandboxId: string(1),
});
export const PodIP = message('PodIP', { ip: string(1) });
export const PodSandboxNetworkStatus = message('PodSandboxNetworkStatus', {
  ip: string(1),
  additionalIps: many(2, PodIP),
});
export const PodSandboxStatus = message('PodSandboxStatus', {
  id: string(1),
  metadata: of(2, PodSandboxMetadata),
  state: named(3, PodSandboxState),
  createdAt: nanoseconds(4),
  network: of(5, PodSandboxNetworkStatus),
  labels: map(7),
  annotations: map(8),
});
export const PodSandboxStatusResponse = message('PodSandboxStatusResponse', {
  status: of(1, PodSandboxStatus),
});

export const PodSandboxFilter = message('PodSandboxFilter', { labelSelector: map(3) });
export const ListPodSandboxRequest = message('ListPodSandboxRequest', {
  filter: of(1, PodSandboxFilter),
});
export const PodSandbox = message('PodSandbox', {
  id: string(1),
  metadata: of(2, PodSandboxMetadata),
  state: named(3, PodSandboxState),
  createdAt: nanoseconds(4),
  labels: map(5),
  annotations: map(6),
});
export const ListPodSandboxResponse = message('ListPodSandboxResponse', {
  items: many(1, PodSandbox),
});

export const ContainerMetadata = message('ContainerMetadata', {
  name: string(1),
  attempt: uint32(2),
});
export const KeyValue = message('KeyValue', { key: string(1), value: bytes(2) });
export const Mount = message('Mount', {
  containerPath: string(1),
  hostPath: string(2),
  readonly: bool(3),
  propagation: named(5, MountPropagation),
});
export const LinuxContainerResources = message('LinuxContainerResources', {
  cpuPeriod: int64(1),
  cpuQuota: int64(2),
  cpuShares: int64(3),
  memoryLimitInBytes: int64(4),
  oomScoreAdj: int64(5),
  unified: map(9),
});
export const Capability = message('Capability', {
  addCapabilities: strings(1),
  dropCapabilities: strings(2),
});
export const LinuxContainerSecurityContext = message('LinuxContainerSecurityContext', {
  capabilities: of(1, Capability),
  privileged: bool(2),
  namespaceOptions: of(3, NamespaceOption),
  runAsUser: optionalInt64(5),
  runAsUsername: string(6),
  readonlyRootfs: bool(7),
  supplementalGroups: int64s(8),
  noNewPrivs: bool(11),
  runAsGroup: optionalInt64(12),
  maskedPaths: strings(13),
  readonlyPaths: strings(14),
  seccomp: of(15, SecurityProfile),
});
export const LinuxContainerConfig = message('LinuxContainerConfig', {
  resources: of(1, LinuxContainerResources),
  securityContext: of(2, LinuxContainerSecurityContext),
});
export const ContainerConfig = message('ContainerConfig', {
  metadata: of(1, ContainerMetadata),
  image: of(2, ImageSpec),
  command: strings(3),
  args: strings(4),
  workingDir: string(5),
  envs: many(6, KeyValue),
  mounts: many(7, Mount),
  labels: map(9),
  annotations: map(10),
  logPath: string(11),
  stdin: bool(12),
  stdinOnce: bool(13),
  tty: bool(14),
  linux: of(15, LinuxContainerConfig),
});
export const CreateContainerRequest = message('CreateContainerRequest', {
  podSandboxId: string(1),
  config: of(2, ContainerConfig),
  sandboxConfig: of(3, PodSandboxConfig),
});
export const CreateContainerResponse = message('CreateContainerResponse', {
  containerId: string(1),
});
export const StartContainerRequest = message('StartContainerRequest', { containerId: string(1) });
export const StopContainerRequest = message('StopContainerRequest', {
  containerId: string(1),
  /** Seconds. */
  timeout: int64(2),
});
export const RemoveContainerRequest = message('RemoveContainerRequest', { containerId: string(1) });
export const ReopenContainerLogRequest = message('ReopenContainerLogRequest', {
  containerId: string(1),
});

export const ContainerFilter = message('ContainerFilter', { labelSelector: map(4) });
export const ListContainersRequest = message('ListContainersRequest', {
  filter: of(1, ContainerFilter),
});
export const Container = message('Container', {
  id: string(1),
  podSandboxId: string(2),
  metadata: of(3, ContainerMetadata),
  imageRef: string(5),
  state: named(6, ContainerState),
  createdAt: nanoseconds(7),
  labels: map(8),
  annotations: map(9),
});
export const ListContainersResponse = message('ListContainersResponse', {
  containers: many(1, Container),
});

export const ContainerStatusRequest = message('ContainerStatusRequest', { containerId: string(1) });
export const ContainerStatus = message('ContainerStatus', {
  id: string(1),
  metadata: of(2, ContainerMetadata),
  state: named(3, ContainerState),
  createdAt: nanoseconds(4),
  startedAt: nanoseconds(5),
  finishedAt: nanoseconds(6),
  exitCode: int32(7),
  imageRef: string(9),
  reason: string(10),
  message: string(11),
  labels: map(12),
  annotations: map(13),
  logPath: string(15),
});
export const ContainerStatusResponse = message('ContainerStatusResponse', {
  status: of(1, ContainerStatus),
});

export const ExecSyncRequest = message('ExecSyncRequest', {
  containerId: string(1),
  cmd: strings(2),
  timeout: int64(3),
});
export const ExecSyncResponse = message('ExecSyncResponse', {
  stdout: bytes(1),
  stderr: bytes(2),
  exitCode: int32(3),
});

export const GetEventsRequest = message('GetEventsRequest', {});
/** Of the sandbox that an event carries, only what tells whose it is. */
export const EventSandbox = message('PodSandboxStatus', { metadata: of(2, PodSandboxMetadata) });
export const ContainerEventResponse = message('ContainerEventResponse', {
  containerId: string(1),
  containerEventType: named(2, ContainerEventType),
  createdAt: nanoseconds(3),
  podSandboxStatus: of(4, EventSandbox),
});

// ---- Streams: each answer is where the runtime serves one ----

export const ExecRequest = message('ExecRequest', {
  containerId: string(1),
  cmd: strings(2),
  tty: bool(3),
  stdin: bool(4),
  stdout: bool(5),
  stderr: bool(6),
});
export const ExecResponse = message('ExecResponse', { url: string(1) });
export const AttachRequest = message('AttachRequest', {
  containerId: string(1),
  stdin: bool(2),
  tty: bool(3),
  stdout: bool(4),
  stderr: bool(5),
});
export const AttachResponse = message('AttachResponse', { url: string(1) });
export const PortForwardRequest = message('PortForwardRequest', {
  podSandboxId: string(1),
  port: int32s(2),
});
export const PortForwardResponse = message('PortForwardResponse', { url: string(1) });

// ---- ImageService ----

export const Image = message('Image', {
  id: string(1),
  repoTags: strings(2),
  repoDigests: strings(3),
  size: uint64(4),
  uid: optionalInt64(5),
  username: string(6),
  pinned: bool(8),
});
export const ListImagesRequest = message('ListImagesRequest', {});
export const ListImagesResponse = message('ListImagesResponse', { images: many(1, Image) });
export const ImageStatusRequest = message('ImageStatusRequest', { image: of(1, ImageSpec) });
export const ImageStatusResponse = message('ImageStatusResponse', { image: of(1, Image) });
export const AuthConfig = message('AuthConfig', { username: string(1), password: string(2) });
export const PullImageRequest = message('PullImageRequest', {
  image: of(1, ImageSpec),
  auth: of(2, AuthConfig),
  sandboxConfig: of(3, PodSandboxConfig),
});
export const PullImageResponse = message('PullImageResponse', { imageRef: string(1) });
export const RemoveImageRequest = message('RemoveImageRequest', { image: of(1, ImageSpec) });
