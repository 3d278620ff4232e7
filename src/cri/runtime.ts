/** The CRI's RuntimeService, with a deadline for each call. */
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type {
  ContainerConfig,
  ContainerEvent,
  ContainerStatusCri,
  ContainerSummary,
  Mount,
  PodSandbox,
  PodSandboxStatus,
  RuntimeService,
  StreamingService,
} from '../kube/cri.ts';
import type { Channel, Method } from './channel.ts';
import type { Decoded, Encodable, Message } from './codec.ts';
import * as wire from './schema.ts';

/** Calls that only read. */
const LOOK_MS = 30_000;
/** Calls that act; the kubelet's `runtimeRequestTimeout`. */
const ACT_MS = 120_000;
/** A sandbox waits for the network plugin; the kubelet doubles it as well. */
const SANDBOX_MS = 2 * ACT_MS;

const POD_UID_LABEL = 'io.kubernetes.pod.uid';

const PROPAGATION = {
  PRIVATE: 'PROPAGATION_PRIVATE',
  HOST_TO_CONTAINER: 'PROPAGATION_HOST_TO_CONTAINER',
  BIDIRECTIONAL: 'PROPAGATION_BIDIRECTIONAL',
} as const satisfies Record<Mount['propagation'], string>;

function method<I extends Message, O extends Message>(
  name: string,
  request: I,
  response: O,
): Method<I, O> {
  return { path: `/runtime.v1.RuntimeService/${name}`, request, response };
}

/** The calls of RuntimeService that limpet makes. */
export const RUNTIME_METHODS = {
  version: method('Version', wire.VersionRequest, wire.VersionResponse),
  status: method('Status', wire.StatusRequest, wire.StatusResponse),
  config: method('RuntimeConfig', wire.RuntimeConfigRequest, wire.RuntimeConfigResponse),
  runSandbox: method('RunPodSandbox', wire.RunPodSandboxRequest, wire.RunPodSandboxResponse),
  stopSandbox: method('StopPodSandbox', wire.StopPodSandboxRequest, wire.Empty.stopPodSandbox),
  removeSandbox: method(
    'RemovePodSandbox',
    wire.RemovePodSandboxRequest,
    wire.Empty.removePodSandbox,
  ),
  sandboxStatus: method(
    'PodSandboxStatus',
    wire.PodSandboxStatusRequest,
    wire.PodSandboxStatusResponse,
  ),
  listSandboxes: method('ListPodSandbox', wire.ListPodSandboxRequest, wire.ListPodSandboxResponse),
  create: method('CreateContainer', wire.CreateContainerRequest, wire.CreateContainerResponse),
  start: method('StartContainer', wire.StartContainerRequest, wire.Empty.startContainer),
  stop: method('StopContainer', wire.StopContainerRequest, wire.Empty.stopContainer),
  remove: method('RemoveContainer', wire.RemoveContainerRequest, wire.Empty.removeContainer),
  list: method('ListContainers', wire.ListContainersRequest, wire.ListContainersResponse),
  containerStatus: method(
    'ContainerStatus',
    wire.ContainerStatusRequest,
    wire.ContainerStatusResponse,
  ),
  reopenLog: method(
    'ReopenContainerLog',
    wire.ReopenContainerLogRequest,
    wire.Empty.reopenContainerLog,
  ),
  execSync: method('ExecSync', wire.ExecSyncRequest, wire.ExecSyncResponse),
  events: method('GetContainerEvents', wire.GetEventsRequest, wire.ContainerEventResponse),
  exec: method('Exec', wire.ExecRequest, wire.ExecResponse),
  attach: method('Attach', wire.AttachRequest, wire.AttachResponse),
  portForward: method('PortForward', wire.PortForwardRequest, wire.PortForwardResponse),
} as const;

/** The runtime's calls over `channel`. Failures are `errors.ts`'s. */
export function createRuntimeService(channel: Channel): RuntimeService {
  return { ...nodeCalls(channel), ...sandboxCalls(channel), ...containerCalls(channel) };
}

/** The calls that open a stream into a container, over `channel`. */
export function createStreamingService(channel: Channel): StreamingService {
  return {
    async exec(request, signal) {
      const options = { signal, deadlineMs: ACT_MS };
      return (await channel.unary(RUNTIME_METHODS.exec, request, options)).url;
    },
    async attach(request, signal) {
      const options = { signal, deadlineMs: ACT_MS };
      return (await channel.unary(RUNTIME_METHODS.attach, request, options)).url;
    },
    async portForward(podSandboxId, ports, signal) {
      const request = { podSandboxId, port: ports };
      const options = { signal, deadlineMs: ACT_MS };
      return (await channel.unary(RUNTIME_METHODS.portForward, request, options)).url;
    },
  };
}

type NodeCalls = Pick<RuntimeService, 'version' | 'status' | 'cgroupDriver' | 'containerEvents'>;

function nodeCalls(channel: Channel): NodeCalls {
  return {
    version: (signal) =>
      channel.unary(RUNTIME_METHODS.version, { version: 'v1' }, { signal, deadlineMs: LOOK_MS }),
    async status(signal) {
      const answer = await channel.unary(
        RUNTIME_METHODS.status,
        {},
        { signal, deadlineMs: LOOK_MS },
      );
      const { status, runtimeHandlers, features } = answer;
      return { conditions: status?.conditions ?? [], handlers: runtimeHandlers, features };
    },
    async cgroupDriver(signal) {
      const answer = await channel
        .unary(RUNTIME_METHODS.config, {}, { signal, deadlineMs: LOOK_MS })
        .catch(unless('Unimplemented'));
      const driver = answer?.linux?.cgroupDriver;
      if (driver === undefined) return undefined;
      return driver === 'SYSTEMD' ? 'systemd' : 'cgroupfs';
    },
    containerEvents: (onEvent, signal) =>
      channel.stream(RUNTIME_METHODS.events, {}, { signal, deadlineMs: undefined }, (answer) => {
        const event = containerEvent(answer);
        if (event !== undefined) onEvent(event);
      }),
  };
}

type SandboxCalls = Pick<
  RuntimeService,
  'runPodSandbox' | 'stopPodSandbox' | 'removePodSandbox' | 'podSandboxStatus' | 'listPodSandboxes'
>;

function sandboxCalls(channel: Channel): SandboxCalls {
  return {
    async runPodSandbox(config, signal) {
      const request = { config };
      const options = { signal, deadlineMs: SANDBOX_MS };
      const answer = await channel.unary(RUNTIME_METHODS.runSandbox, request, options);
      return identifier('RunPodSandbox', answer.podSandboxId);
    },
    async stopPodSandbox(podSandboxId, signal) {
      await channel
        .unary(RUNTIME_METHODS.stopSandbox, { podSandboxId }, { signal, deadlineMs: SANDBOX_MS })
        .catch(unless('NotFound'));
    },
    async removePodSandbox(podSandboxId, signal) {
      await channel
        .unary(RUNTIME_METHODS.removeSandbox, { podSandboxId }, { signal, deadlineMs: ACT_MS })
        .catch(unless('NotFound'));
    },
    async podSandboxStatus(podSandboxId, signal) {
      const answer = await channel
        .unary(RUNTIME_METHODS.sandboxStatus, { podSandboxId }, { signal, deadlineMs: LOOK_MS })
        .catch(unless('NotFound'));
      const status = answer?.status;
      return status === undefined ? undefined : podSandboxStatus(status);
    },
    async listPodSandboxes(podUid, signal) {
      const request = podUid === undefined ? {} : { filter: labelled(podUid) };
      const options = { signal, deadlineMs: LOOK_MS };
      const answer = await channel.unary(RUNTIME_METHODS.listSandboxes, request, options);
      return answer.items.map(podSandbox);
    },
  };
}

type ContainerCalls = Omit<RuntimeService, keyof NodeCalls | keyof SandboxCalls>;

function containerCalls(channel: Channel): ContainerCalls {
  return {
    async createContainer(podSandboxId, config, sandboxConfig, signal) {
      const request = { podSandboxId, config: containerConfig(config), sandboxConfig };
      const options = { signal, deadlineMs: ACT_MS };
      const answer = await channel.unary(RUNTIME_METHODS.create, request, options);
      return identifier('CreateContainer', answer.containerId);
    },
    async startContainer(containerId, signal) {
      await channel.unary(RUNTIME_METHODS.start, { containerId }, { signal, deadlineMs: ACT_MS });
    },
    async stopContainer(containerId, graceSeconds, signal) {
      const timeout = Math.max(0, Math.ceil(graceSeconds));
      const deadlineMs = timeout * 1000 + ACT_MS;
      await channel
        .unary(RUNTIME_METHODS.stop, { containerId, timeout }, { signal, deadlineMs })
        .catch(unless('NotFound'));
    },
    async removeContainer(containerId, signal) {
      await channel
        .unary(RUNTIME_METHODS.remove, { containerId }, { signal, deadlineMs: ACT_MS })
        .catch(unless('NotFound'));
    },
    async listContainers(podUid, signal) {
      const request = podUid === undefined ? {} : { filter: labelled(podUid) };
      const answer = await channel.unary(RUNTIME_METHODS.list, request, {
        signal,
        deadlineMs: LOOK_MS,
      });
      return answer.containers.map(containerSummary);
    },
    async containerStatus(containerId, signal) {
      const answer = await channel
        .unary(RUNTIME_METHODS.containerStatus, { containerId }, { signal, deadlineMs: LOOK_MS })
        .catch(unless('NotFound'));
      const status = answer?.status;
      return status === undefined ? undefined : containerStatus(status);
    },
    async reopenContainerLog(containerId, signal) {
      await channel.unary(
        RUNTIME_METHODS.reopenLog,
        { containerId },
        { signal, deadlineMs: LOOK_MS },
      );
    },
    async execSync(containerId, command, timeoutSeconds, signal) {
      const answer = await channel.unary(
        RUNTIME_METHODS.execSync,
        { containerId, cmd: command, timeout: timeoutSeconds },
        {
          signal,
          // The runtime's own timeout comes first, and ends the command too.
          deadlineMs: timeoutSeconds === 0 ? undefined : timeoutSeconds * 1000 + ACT_MS,
          keepBytes: LIMITS.probeOutputBytes,
        },
      );
      const written = Buffer.concat([answer.stdout, answer.stderr]);
      const output = written.subarray(0, LIMITS.probeOutputBytes).toString('utf8');
      return { exitCode: answer.exitCode, output };
    },
  };
}

/** For `catch`: undefined on a failure of this code, and any other passed on. */
export function unless(code: 'NotFound' | 'Unimplemented'): (error: unknown) => undefined {
  return (error) => {
    if (error instanceof Failure && error.code === code) return undefined;
    throw error;
  };
}

function labelled(podUid: string): { labelSelector: Record<string, string> } {
  return { labelSelector: { [POD_UID_LABEL]: podUid } };
}

function identifier(name: string, id: string): string {
  if (id === '') throw new Failure('Unknown', `${name}: the runtime answered without an id`);
  return id;
}

/** The CRI's form of `config`, which differs in a few names and in bytes for values. */
function containerConfig(config: ContainerConfig): Encodable<typeof wire.ContainerConfig> {
  const { capabilities } = config.linux.securityContext;
  return {
    ...config,
    envs: config.envs.map(({ key, value }) => ({ key, value: Buffer.from(value, 'utf8') })),
    mounts: config.mounts.map((mount) => ({
      ...mount,
      propagation: PROPAGATION[mount.propagation],
    })),
    linux: {
      resources: config.linux.resources,
      securityContext: {
        ...config.linux.securityContext,
        capabilities: { addCapabilities: capabilities.add, dropCapabilities: capabilities.drop },
      },
    },
  };
}

function podSandbox(item: Decoded<typeof wire.PodSandbox>): PodSandbox {
  const { metadata, state, ...rest } = item;
  return {
    ...rest,
    metadata: sandboxMetadata(metadata),
    // A state that we don't know is not one to run containers in.
    state: state ?? 'SANDBOX_NOTREADY',
  };
}

function podSandboxStatus(item: Decoded<typeof wire.PodSandboxStatus>): PodSandboxStatus {
  const { network, ...rest } = item;
  const ips = network === undefined ? [] : [network.ip, ...network.additionalIps.map((a) => a.ip)];
  return { ...podSandbox(rest), ips: ips.filter((ip) => ip !== '') };
}

function sandboxMetadata(
  metadata: Decoded<typeof wire.PodSandboxMetadata> | undefined,
): PodSandbox['metadata'] {
  return metadata ?? { name: '', uid: '', namespace: '', attempt: 0 };
}

function containerSummary(item: Decoded<typeof wire.Container>): ContainerSummary {
  const { metadata, state, ...rest } = item;
  return {
    ...rest,
    name: metadata?.name ?? '',
    attempt: metadata?.attempt ?? 0,
    state: state ?? 'CONTAINER_UNKNOWN',
  };
}

function containerStatus(item: Decoded<typeof wire.ContainerStatus>): ContainerStatusCri {
  const { metadata, state, ...rest } = item;
  return {
    ...rest,
    name: metadata?.name ?? '',
    attempt: metadata?.attempt ?? 0,
    state: state ?? 'CONTAINER_UNKNOWN',
  };
}

/** Undefined for a kind of event that we don't know. */
function containerEvent(
  answer: Decoded<typeof wire.ContainerEventResponse>,
): ContainerEvent | undefined {
  const { containerId, containerEventType: type, createdAt, podSandboxStatus } = answer;
  if (type === undefined) return undefined;
  const podUid = podSandboxStatus?.metadata?.uid;
  const event = { containerId, type, createdAt };
  return podUid === undefined || podUid === '' ? event : { ...event, podUid };
}
