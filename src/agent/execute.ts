/**
 * Carries out the actions of the core. Every one may be repeated, since the agent can be killed
 * between an effect and its record. What goes wrong is a `Failure`; `turns.ts` hands it to the core.
 */
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { podCgroupParent } from '../kube/cgroup.ts';
import type { ContainerStatusCri, PodSandboxConfig, RuntimeService } from '../kube/cri.ts';
import type { NewEvent } from '../kube/event.ts';
import { REASON } from '../kube/reason.ts';
import { podResources, qosClass } from '../kube/qos.ts';
import { containerConfig } from '../pod/container-config.ts';
import { objectOf } from '../pod/events.ts';
import type { Action, ActionResult } from '../pod/model.ts';
import { sandboxConfig } from '../pod/sandbox-config.ts';
import { currentSandbox } from '../pod/seen.ts';
import { setUpVolume, tearDownLeftovers, tearDownVolume } from '../volume/index.ts';
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
import type { Worker } from './turns.ts';

export type ExecuteOptions = {
  readonly options: AgentOptions;
  readonly paths: PodPaths;
  readonly runtime: RuntimeService;
  readonly looks: Looks;
  readonly images: Images;
  readonly starts: Slots;
  readonly nodeCgroup: NodeCgroup;
  readonly memoryBytes: number;
  readonly onView: (worker: Worker, view: Awaited<ReturnType<Looks['look']>>) => void;
  readonly onEvent: (event: NewEvent) => void;
  readonly log: Log;
};

type Execute = (worker: Worker, action: Action, signal: AbortSignal) => Promise<ActionResult>;

const OK: ActionResult = { ok: true };

/** The one place where actions become effects. */
export function createExecute(context: ExecuteOptions): Execute {
  /** Where the volumes of each pod are, as told when they were set up. */
  const volumePaths = new WeakMap<Worker, Record<string, string>>();
  /** What is known of the images that were ensured, by what the runtime calls them. */
  const imageUsers = new Map<string, { uid?: number; username: string }>();

  const sandboxOf = async (worker: Worker, attempt: number): Promise<PodSandboxConfig> => {
    const { pod, source } = worker.want;
    const { options } = context;
    const { config, notes } = sandboxConfig({
      pod,
      source,
      attempt,
      cgroupParent: podCgroupParent(context.nodeCgroup.driver(), qosClass(pod), worker.uid),
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
      context.onEvent({ type: 'Warning', reason, message, object: objectOf(worker.want) });
    }
    return config;
  };

  const create = async (
    worker: Worker,
    action: Action & { type: 'CreateContainer' },
    signal: AbortSignal,
  ): Promise<ActionResult> => {
    const { pod, deletion } = worker.want;
    const { name, attempt, imageRef } = action;
    const container = [...pod.spec.initContainers, ...pod.spec.containers].find(
      (c) => c.name === name,
    );
    if (container === undefined) throw new Failure('InvalidArgument', `no container ${name}`);
    const imageUser = imageUsers.get(imageRef);
    // Never guess: an image that asks for a user must not run as root.
    if (imageUser === undefined) throw new Failure('NotFound', `the image ${imageRef} is unknown`);
    const ips = currentSandbox(worker.seen)?.ips ?? [];
    const { clusterDomain } = context.options;
    const terminationLogPath = await createTerminationLog(context.paths, pod, container, attempt);
    const config = containerConfig({
      pod,
      container,
      attempt,
      imageRef,
      imageUser,
      volumePaths: volumePaths.get(worker) ?? {},
      etcHostsPath: await writeHostsFile(context.paths, pod, { ips, clusterDomain }),
      ...(terminationLogPath !== undefined && { terminationLogPath }),
      sandboxIPs: ips,
      swapControlled: context.nodeCgroup.hasSwapControl(),
      memoryCapacityBytes: context.memoryBytes,
      ...(deletion !== undefined && { deletionGraceSeconds: deletion.graceSeconds }),
    });
    if (!config.ok) return config;
    const sandbox = await sandboxOf(worker, action.sandboxAttempt);
    await context.runtime.createContainer(action.sandboxId, config.value, sandbox, signal);
    return OK;
  };

  const first = <T>(worker: Worker, signal: AbortSignal, work: () => Promise<T>) =>
    context.starts.run(worker.want.order, signal, work);

  return async (worker, action, signal) => {
    const { runtime, paths, looks } = context;
    const { pod } = worker.want;
    const place = { rootDirectory: paths.rootDirectory, podUid: worker.uid };
    switch (action.type) {
      case 'Look':
        context.onView(worker, await looks.look(worker.uid, signal));
        return OK;
      case 'SetUpPod':
        await setUpPodFiles(paths, pod);
        await context.nodeCgroup.pods().ensurePod(worker.uid, podResources(pod), undefined, signal);
        return OK;
      case 'TearDownPod':
        await context.nodeCgroup.pods().removePod(qosClass(pod), worker.uid, signal);
        if (action.final) {
          await tearDownLeftovers(place, signal);
          await tearDownPodFiles(paths, pod, signal);
        }
        return OK;
      case 'SetUpVolume': {
        const at = { ...place, pod, allocatableMemoryBytes: context.memoryBytes };
        const { hostPath } = await setUpVolume(at, action.volume, signal);
        volumePaths.set(worker, {
          ...volumePaths.get(worker),
          [action.volume.name]: hostPath,
        });
        return OK;
      }
      case 'TearDownVolume':
        await tearDownVolume(place, action.volume, signal);
        return OK;
      case 'PullImage': {
        const { image, note } = await context.images.ensure(
          action.image,
          action.policy,
          worker.want.order,
          signal,
        );
        const { id, uid, username } = image;
        imageUsers.set(id, { ...(uid !== undefined && { uid }), username });
        return { ok: true, value: id, note };
      }
      case 'RunPodSandbox':
        await first(worker, signal, async () =>
          runtime.runPodSandbox(await sandboxOf(worker, action.attempt), signal),
        );
        return OK;
      case 'StopPodSandbox':
        await runtime.stopPodSandbox(action.id, signal);
        return OK;
      case 'RemovePodSandbox':
        await runtime.removePodSandbox(action.id, signal);
        return OK;
      case 'CreateContainer':
        return first(worker, signal, () => create(worker, action, signal)).catch(
          worded(REASON.createContainerError),
        );
      case 'StartContainer':
        await first(worker, signal, () => runtime.startContainer(action.id, signal)).catch(
          worded(REASON.runContainerError),
        );
        await linkContainerLog(paths, pod, action.name, action.attempt, action.id).catch(
          (error: unknown) => {
            // The container runs; only log collectors miss something.
            context.log.warn('cannot link a log', { message: faultOf(error).message });
          },
        );
        return OK;
      case 'StopContainer':
        await runtime.stopContainer(action.id, action.graceSeconds, signal);
        return OK;
      case 'RemoveContainer':
        await runtime.removeContainer(action.id, signal);
        return OK;
    }
  };
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

/** Adds to an ended container what it wrote into its termination message file. */
export async function withLastWords(
  paths: PodPaths,
  worker: Worker | undefined,
  ended: ContainerStatusCri,
): Promise<ContainerStatusCri> {
  const spec = worker?.want.pod.spec;
  const container = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].find(
    (c) => c.name === ended.name,
  );
  if (worker === undefined || container === undefined) return ended;
  const words = await terminationMessage(paths, worker.want.pod, container, ended);
  return words === '' ? ended : { ...ended, message: words };
}
