/**
 * Tells what the node and its pods use, to whoever asks: the command line, the relay, later the
 * eviction. Each has an interval of its own and asks when it is due. Nothing is read unless somebody
 * asks, and one reading serves all who are content with its age; so there is no timer here, and
 * nothing to be subscribed to or forgotten.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { cgroupPath, containerCgroupNames, podCgroupName, qosCgroupName } from '../kube/cgroup.ts';
import type { CgroupDriver } from '../kube/cri.ts';
import type { QOSClass } from '../kube/pod.ts';
import type {
  ContainerUsage,
  PodUsage,
  UsageDepth,
  UsageReport,
  VolumeUsage,
} from '../node/usage.ts';
import { USAGE_DEPTHS } from '../node/usage.ts';
import { cgroupFiles, cgroupUsage, type CgroupFile } from './cgroup.ts';
import { kernelFiles, type ReadKernelFile } from './kernel-file.ts';
import { networkUsage } from './network.ts';
import { nodeUsage } from './node.ts';
import { volumeUsage } from './volumes.ts';

/** A pod as the agent knows it. */
export type KnownPod = {
  readonly podRef: PodUsage['podRef'];
  readonly qos: QOSClass;
  readonly hostNetwork: boolean;
  /** Of the sandbox that is ready. */
  readonly sandboxId?: string;
  /** Those that run. */
  readonly containers: readonly { readonly name: string; readonly id: string }[];
};

export type UsageOptions = {
  readonly clock: Clock;
  /** On the file system that the node's figures are of. */
  readonly directory: string;
  readonly cgroupRoot: string;
  readonly driver: () => CgroupDriver;
  readonly pods: () => readonly KnownPod[];
};

export type ReadUsage = (depth: UsageDepth, maxAgeMs: number) => Promise<UsageReport>;

/** However many ask: less than that apart figures mean little, and reading has its price. */
export const LEAST_AGE_MS = 250;
/** Files are counted no more often. */
const VOLUMES_AGE_MS = 60_000;
/** After so many pods others have their turn. */
const AT_ONCE = 8;

export function createUsage(options: UsageOptions): ReadUsage {
  const { clock } = options;
  const read = kernelFiles();
  const withVolumes = countVolumes(options);
  let last:
    { readonly report: Promise<UsageReport>; depth: UsageDepth; monoMs: number } | undefined;
  return async (depth, maxAgeMs) => {
    const { monoMs } = clock.now();
    const isEnough =
      last !== undefined &&
      monoMs - last.monoMs <= Math.max(maxAgeMs, LEAST_AGE_MS) &&
      isAsDeep(last.depth, depth);
    if (last === undefined || !isEnough)
      last = { report: readAll(options, read, depth), depth, monoMs };
    const report = await last.report;
    return depth === 'volumes' ? await withVolumes(report) : report;
  };
}

/** Adds the volumes of each pod, one pod after the other. */
function countVolumes({ clock, directory }: UsageOptions) {
  type Counted = { readonly monoMs: number; readonly volumes: Promise<readonly VolumeUsage[]> };
  let counted = new Map<string, Counted>();
  return async (report: UsageReport): Promise<UsageReport> => {
    const { monoMs } = clock.now();
    const next = new Map<string, Counted>();
    const pods: PodUsage[] = [];
    for (const pod of report.pods ?? []) {
      const { uid } = pod.podRef;
      const before = counted.get(uid);
      const isNew = before !== undefined && monoMs - before.monoMs < VOLUMES_AGE_MS;
      const one = isNew
        ? before
        : { monoMs, volumes: volumeUsage(join(directory, 'pods', uid, 'volumes')) };
      next.set(uid, one);
      pods.push({ ...pod, volumes: await one.volumes });
    }
    counted = next;
    return { ...report, pods };
  };
}

function isAsDeep(depth: UsageDepth, wanted: UsageDepth): boolean {
  return USAGE_DEPTHS.indexOf(depth) >= USAGE_DEPTHS.indexOf(wanted);
}

async function readAll(
  options: UsageOptions,
  read: ReadKernelFile,
  depth: UsageDepth,
): Promise<UsageReport> {
  const { clock, cgroupRoot, directory, driver } = options;
  const time = new Date(clock.now().wallMs).toISOString();
  const node = nodeUsage(read, cgroupRoot, directory, clock);
  if (depth === 'node') return { kind: 'UsageReport', time, depth, node };
  const pathOf = (qos: QOSClass) => join(cgroupRoot, cgroupPath(driver(), qosCgroupName(qos)));
  // What the cgroup of all pods lacks none below it has.
  const files = cgroupFiles(read, pathOf('Guaranteed'));
  const ofClass = (qos: QOSClass) => cgroupUsage(read, pathOf(qos), files, clock);
  const all = ofClass('Guaranteed');
  const [burstable, bestEffort] = [ofClass('Burstable'), ofClass('BestEffort')];
  const pods: PodUsage[] = [];
  for (const [index, pod] of options.pods().entries()) {
    if (index % AT_ONCE === AT_ONCE - 1) await new Promise<void>((go) => clock.soon(go));
    const usage = podUsage(options, pod, { read, files, depth });
    if (usage !== undefined) pods.push(usage);
  }
  return {
    ...{ kind: 'UsageReport', time, depth, node },
    ...(all !== undefined && { kubepods: all }),
    qosClasses: {
      ...(burstable !== undefined && { Burstable: burstable }),
      ...(bestEffort !== undefined && { BestEffort: bestEffort }),
    },
    pods,
  };
}

type Means = {
  readonly read: ReadKernelFile;
  readonly files: readonly CgroupFile[];
  readonly depth: UsageDepth;
};

/** Undefined for a pod that has no cgroup (yet, or any more). */
function podUsage(
  { clock, cgroupRoot, driver }: UsageOptions,
  pod: KnownPod,
  { read, files, depth }: Means,
): PodUsage | undefined {
  const { podRef, sandboxId } = pod;
  const path = join(cgroupRoot, cgroupPath(driver(), podCgroupName(pod.qos, podRef.uid)));
  const cgroupOf = (id: string) =>
    containerCgroupNames(driver(), id)
      .map((name) => `${path}/${name}`)
      .find((candidate) => existsSync(candidate));
  const sandbox = pod.hostNetwork || sandboxId === undefined ? undefined : cgroupOf(sandboxId);
  const network = sandbox === undefined ? undefined : networkUsage(read, sandbox, clock);
  const containers = pod.containers.flatMap(({ name, id }): readonly ContainerUsage[] => {
    const cgroup = isAsDeep(depth, 'containers') ? cgroupOf(id) : undefined;
    const found = cgroup === undefined ? undefined : cgroupUsage(read, cgroup, files, clock);
    return found === undefined ? [] : [{ name, id, ...found }];
  });
  // After its containers: what they count goes on, and a pod never has less than they have together.
  const usage = cgroupUsage(read, path, files, clock);
  if (usage === undefined) return undefined;
  return {
    podRef,
    ...(sandboxId !== undefined && { sandboxId }),
    ...usage,
    ...(network !== undefined && { network }),
    ...(isAsDeep(depth, 'containers') && { containers }),
  };
}
