/**
 * Carries out the actions of the core. Every one may be repeated, since the agent can be killed
 * between an effect and its record. What goes wrong is a `Failure`; `turns.ts` hands it to the core.
 */
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { podCgroupParent } from '../kube/cgroup.ts';
import type {
  AuthConfig,
  ContainerStatusCri,
  PodSandboxConfig,
  RuntimeService,
} from '../kube/cri.ts';
import type { NewEvent } from '../kube/event.ts';
import { NO_OBJECTS, type Objects } from '../kube/objects.ts';
import type { Lifecycle, Pod } from '../kube/pod.ts';
import { REASON } from '../kube/reason.ts';
import { podResources, qosClass } from '../kube/qos.ts';
import { containerConfig } from '../pod/container-config.ts';
import { resolveEnvironment } from '../pod/environment.ts';
import { objectOf } from '../pod/events.ts';
import { containerOf } from '../pod/health.ts';
import type { Action, ActionResult, ActionType } from '../pod/model.ts';
import { describePod } from '../pod/names.ts';
import { pullCredentials } from '../pod/pull-secrets.ts';
import type { Allocatable } from '../pod/resources.ts';
import { sandboxConfig } from '../pod/sandbox-config.ts';
import { currentSandbox } from '../pod/seen.ts';
import { hookProblem, runHook } from '../probe/hook.ts';
import { setUpVolume, tearDownLeftovers, tearDownVolume } from '../volume/index.ts';
import type { VolumeContext } from '../volume/plugin.ts';
import { podIPOf } from './pod-ip.ts';
import type { Images } from './images.ts';
import type { Looks } from './looks.ts';
import type { NodeCgroup } from './node-cgroup.ts';
import type { AgentOptions } from './options.ts';
import type { PodPaths } from './pod-files.ts';
import {
  createTerminationLog,
  linkContainerLog,
  nodeDns,
  setUpPodFiles,
  tearDownPodFiles,
  terminationMessage,
  writeHostsFile,
} from './pod-files.ts';
import type { Slots } from './slots.ts';
import type { Execute, Worker } from './turns.ts';

export type ExecuteOptions = {
  readonly options: AgentOptions;
  readonly paths: PodPaths;
  readonly runtime: RuntimeService;
  readonly looks: Looks;
  readonly images: Images;
  readonly starts: Slots;
  readonly nodeCgroup: NodeCgroup;
  readonly memoryBytes: number;
  readonly allocatable: Allocatable;
  /** What pods make use of, as it is known now. */
  readonly objects: Objects;
  readonly token: VolumeContext['token'];
  /** See `ClusterObjects`. */
  readonly heard: (pod: Pod, signal: AbortSignal) => Promise<void>;
  readonly onView: (worker: Worker, view: Awaited<ReturnType<Looks['look']>>) => void;
  readonly onEvent: (event: NewEvent) => void;
  readonly clock: Clock;
  /** Of this machine; see `addresses.ts`. */
  readonly hostIPs: () => readonly string[];
  readonly log: Log;
};

/** What carrying out actions has to remember. */
type State = ExecuteOptions & {
  /** Where the volumes of each pod are, as told when they were set up. */
  readonly volumePaths: WeakMap<Worker, Record<string, string>>;
  /** What is known of the images that were ensured, by what the runtime calls them. */
  readonly imageUsers: Map<string, { uid?: number; username: string }>;
};

/** One action under way. */
type Run<A extends Action = Action> = {
  readonly state: State;
  readonly worker: Worker;
  readonly action: A;
  readonly signal: AbortSignal;
};

type Of<T extends ActionType> = Extract<Action, { readonly type: T }>;

type Executors = {
  readonly [T in ActionType]: (run: Run<Of<T>>) => Promise<unknown>;
};

const OK: ActionResult = { ok: true };

/** Each action's effect. A new action does not compile until it has one. */
const EXECUTORS: Executors = {
  Look: async ({ state, worker, signal }) => {
    state.onView(worker, await state.looks.look(worker.uid, signal));
  },
  SetUpPod: async ({ state, worker, signal }) => {
    const { pod, source } = worker.want;
    if (source === 'api') await state.heard(pod, signal);
    await setUpPodFiles(state.paths, pod);
    const cgroups = state.nodeCgroup.pods();
    await cgroups.ensurePod(worker.uid, podResources(pod), undefined, signal);
  },
  TearDownPod: async ({ state, worker, action, signal }) => {
    const { pod } = worker.want;
    await state.nodeCgroup.pods().removePod(qosClass(pod), worker.uid, signal);
    if (!action.final) return;
    await tearDownLeftovers(placeOf(state, worker), signal);
    await tearDownPodFiles(state.paths, pod, signal);
  },
  SetUpVolume: async ({ state, worker, action: { volume }, signal }) => {
    const { pod } = worker.want;
    const { objects, token, allocatable, clock } = state;
    const { wallMs } = clock.now();
    const context = { ...placeOf(state, worker), pod, objects, token, allocatable, wallMs };
    const { hostPath } = await setUpVolume(context, volume, signal);
    state.volumePaths.set(worker, { ...state.volumePaths.get(worker), [volume.name]: hostPath });
  },
  TearDownVolume: ({ state, worker, action, signal }) =>
    tearDownVolume(placeOf(state, worker), action.volume, signal),
  PullImage: pullImage,
  RunPodSandbox: async (run) => {
    const { state, worker, action, signal } = run;
    await inTurn(run, async () =>
      state.runtime.runPodSandbox(await sandboxOf(state, worker, action.attempt), signal),
    );
  },
  StopPodSandbox: ({ state, action, signal }) => state.runtime.stopPodSandbox(action.id, signal),
  RemovePodSandbox: ({ state, action, signal }) =>
    state.runtime.removePodSandbox(action.id, signal),
  CreateContainer: (run) =>
    inTurn(run, () => createContainer(run)).catch(worded(REASON.createContainerError)),
  StartContainer: startContainer,
  RunPostStart: (run) => runLifecycle(run, 'postStart'),
  RunPreStop: (run) => runLifecycle(run, 'preStop'),
  StopContainer: ({ state, action: { id, graceSeconds }, signal }) =>
    state.runtime.stopContainer(id, graceSeconds, signal),
  RemoveContainer: ({ state, action, signal }) => state.runtime.removeContainer(action.id, signal),
};

/** The one place where actions become effects. */
export function createExecute(options: ExecuteOptions): Execute {
  const state: State = { ...options, volumePaths: new WeakMap(), imageUsers: new Map() };
  return async (worker, action, signal) => {
    const execute = EXECUTORS[action.type] as (run: Run) => Promise<ActionResult | undefined>;
    return (await execute({ state, worker, action, signal })) ?? OK;
  };
}

/** Waits for one of the slots for starts; earlier pods go first. */
function inTurn<T>({ state, worker, signal }: Run, work: () => Promise<T>): Promise<T> {
  return state.starts.run(worker.want.order, signal, work);
}

function placeOf({ paths }: State, worker: Worker) {
  return { rootDirectory: paths.rootDirectory, podUid: worker.uid };
}

async function pullImage({ state, worker, action, signal }: Run<Of<'PullImage'>>) {
  const { order } = worker.want;
  // Asked for when it is plain that the image has to come from its registry.
  const auths = () => {
    const all = authsOf(state, worker, action.image);
    const message = `Pulling image "${action.image}"`;
    const object = objectOf(worker.want);
    state.onEvent({ type: 'Normal', reason: REASON.pulling, message, object });
    return all;
  };
  const { images } = state;
  const { image, note } = await images.ensure(action.image, action.policy, order, signal, auths);
  const { id, uid, username } = image;
  state.imageUsers.set(id, { ...(uid !== undefined && { uid }), username });
  return { ok: true, value: id, note };
}

/** @throws Failure when a secret is not known, or holds nothing that can be read */
function authsOf(state: State, { want }: Worker, image: string): readonly AuthConfig[] {
  const found = pullCredentials(want.pod, image, state.objects);
  if (!found.ok) throw new Failure(found.fault.code, found.fault.message);
  const { auths, missing } = found.value;
  if (missing.length > 0) {
    const message =
      `Unable to retrieve some image pull secrets (${missing.join(', ')}); ` +
      'attempting to pull the image may not succeed.';
    const reason = REASON.failedToRetrieveImagePullSecret;
    state.onEvent({ type: 'Warning', reason, message, object: objectOf(want) });
  }
  return auths;
}

async function startContainer(run: Run<Of<'StartContainer'>>) {
  const { state, worker, action, signal } = run;
  await inTurn(run, () => state.runtime.startContainer(action.id, signal)).catch(
    worded(REASON.runContainerError),
  );
  const { name, attempt, id } = action;
  await linkContainerLog(state.paths, worker.want.pod, name, attempt, id).catch(
    (error: unknown) => {
      // The container runs; only log collectors miss something.
      state.log.warn('cannot link a log', { message: faultOf(error).message });
    },
  );
}

async function runLifecycle(
  { state, worker, action, signal }: Run<Of<'RunPostStart' | 'RunPreStop'>>,
  name: keyof Lifecycle,
): Promise<ActionResult> {
  const container = containerOf(worker.want, action.name);
  const handler = container?.lifecycle?.[name];
  if (container === undefined || handler === undefined) return OK;
  const { runtime, clock } = state;
  const podIP = podIPOf(worker, () => state.hostIPs()[0]);
  const target = { runtime, clock, container, containerId: action.id, podIP };
  try {
    const note = await runHook(target, handler, signal);
    return note === undefined ? OK : { ok: true, note };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    const pod = describePod(worker.want.pod);
    const message = hookProblem(handler, container.name, pod, error.message);
    throw new Failure(error.code, message, { reason: REASON.postStartHookError, cause: error });
  }
}

async function sandboxOf(state: State, worker: Worker, attempt: number): Promise<PodSandboxConfig> {
  const { pod, source } = worker.want;
  const { options } = state;
  const { config, notes } = sandboxConfig({
    pod,
    source,
    attempt,
    cgroupParent: podCgroupParent(state.nodeCgroup.driver(), qosClass(pod), worker.uid),
    logRoot: options.podLogsDirectory,
    dns: {
      host: await nodeDns(options.resolvConf),
      clusterDNS: options.clusterDNS,
      clusterDomain: options.clusterDomain,
    },
  });
  for (const { reason, message } of notes) {
    // A node without a cluster has no cluster's DNS to miss.
    if (reason === 'MissingClusterDNS' && source !== 'api') continue;
    state.onEvent({ type: 'Warning', reason, message, object: objectOf(worker.want) });
  }
  return config;
}

async function createContainer(run: Run<Of<'CreateContainer'>>) {
  const { state, worker, action, signal } = run;
  const { pod, source, deletion } = worker.want;
  const { name, attempt, imageRef } = action;
  const container = containerOf(worker.want, name);
  if (container === undefined) throw new Failure('InvalidArgument', `no container ${name}`);
  const imageUser = state.imageUsers.get(imageRef);
  // Never guess: an image that asks for a user must not run as root.
  if (imageUser === undefined) throw new Failure('NotFound', `the image ${imageRef} is unknown`);
  const ips = currentSandbox(worker.seen)?.ips ?? [];
  const { allocatable } = state;
  const objects = source === 'api' ? state.objects : NO_OBJECTS;
  const facts = { source, allocatable, podIPs: ips, hostIPs: state.hostIPs() };
  const environment = resolveEnvironment(pod, container, objects, facts);
  if (!environment.ok) return environment;
  const { clusterDomain } = state.options;
  const terminationLogPath = await createTerminationLog(state.paths, pod, container, attempt);
  const config = containerConfig({
    pod,
    container,
    attempt,
    imageRef,
    imageUser,
    environment: environment.value,
    volumePaths: state.volumePaths.get(worker) ?? {},
    etcHostsPath: await writeHostsFile(state.paths, pod, { ips, clusterDomain }),
    ...(terminationLogPath !== undefined && { terminationLogPath }),
    sandboxIPs: ips,
    swapControlled: state.nodeCgroup.hasSwapControl(),
    memoryCapacityBytes: state.memoryBytes,
    ...(deletion !== undefined && { deletionGraceSeconds: deletion.graceSeconds }),
  });
  if (!config.ok) return config;
  const sandbox = await sandboxOf(state, worker, action.sandboxAttempt);
  await state.runtime.createContainer(action.sandboxId, config.value, sandbox, signal);
  return OK;
}

/** Gives a failure the kubelet's word, where it has none of its own. */
function worded(reason: string): (error: unknown) => never {
  return (error) => {
    if (error instanceof Failure && error.reason === undefined) {
      throw new Failure(error.code, error.message, { reason, cause: error });
    }
    throw error;
  };
}

/** Adds to what the runtime says of an ended container what that one wrote itself. */
export async function withLastWords(
  paths: PodPaths,
  worker: Worker | undefined,
  ended: ContainerStatusCri,
): Promise<ContainerStatusCri> {
  const container = worker && containerOf(worker.want, ended.name);
  if (worker === undefined || container === undefined) return ended;
  const words = await terminationMessage(paths, worker.want.pod, container, ended);
  if (words === '') return ended;
  return { ...ended, message: ended.message === '' ? words : `${ended.message}: ${words}` };
}
