/**
 * The cgroups of the node's pods, in cgroup v2, by either driver.
 *
 *   /kubepods                        all pods; Guaranteed ones directly below
 *   /kubepods/burstable/pod<uid>
 *   /kubepods/besteffort/pod<uid>
 *
 * The runtime makes the containers' cgroups below those of the pods. With the systemd driver each
 * is a slice that systemd made; the exact values are written to the files as well. A file that
 * holds the right value is not written.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, rmdirSync, statfsSync } from 'node:fs';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Clock } from '../base/clock.ts';
import { Failure, errnoOf } from '../base/failure.ts';
import { cgroupPath, podCgroupName, qosCgroupName, sliceName } from '../kube/cgroup.ts';
import type { CgroupName } from '../kube/cgroup.ts';
import type { CgroupDriver } from '../kube/cri.ts';
import type { QOSClass } from '../kube/pod.ts';
import type { PodResources } from '../kube/qos.ts';
import { podSettings, qosSettings, settingFiles, type Settings } from './settings.ts';
import type { Systemd } from './systemd.ts';

export const CGROUP_ROOT = '/sys/fs/cgroup';
const CGROUP2_MAGIC = 0x63677270;

/** Those that the kubelet uses too; the first three are a must. */
const CONTROLLERS = ['cpu', 'memory', 'pids', 'cpuset', 'hugetlb', 'io'] as const;
const NEEDED: readonly string[] = CONTROLLERS.slice(0, 3);

const POLL_MS = 20;
/** How long systemd may take to make a slice's directory, before it is made here. */
const SLICE_MS = 2000;
/** How long killed processes may take to go. */
const EMPTY_MS = 5000;

export type CgroupsOptions = {
  readonly driver: CgroupDriver;
  readonly clock: Clock;
  /** Needed by the systemd driver. */
  readonly systemd?: Systemd;
  readonly root?: string;
};

export type PodCgroup = {
  /** What the CRI is told. */
  readonly cgroupParent: string;
  /** The directory. */
  readonly path: string;
};

export type Cgroups = {
  /**
   * Makes the cgroups of the node and the classes.
   *
   * @param burstableCpuMilli What all Burstable pods together request.
   * @throws Failure when the kernel has no cgroup v2 or lacks a controller.
   */
  ensureNode(burstableCpuMilli: number, signal: AbortSignal): Promise<void>;
  /** Where the cgroup of a pod is, there or not. */
  podCgroup(qos: QOSClass, uid: string): PodCgroup;
  /** Makes the cgroup of a pod and sets its limits; those above it too, if they are not there. */
  ensurePod(
    uid: string,
    resources: PodResources,
    pidsMax: number | undefined,
    signal: AbortSignal,
  ): Promise<PodCgroup>;
  /** Kills what is still in the cgroup of a pod and removes it. Not there is success. */
  removePod(qos: QOSClass, uid: string, signal: AbortSignal): Promise<void>;
  /** The UIDs of the pods that have a cgroup. */
  podUids(): readonly { readonly qos: QOSClass; readonly uid: string }[];
};

/** True when `root` is cgroup v2 and nothing else. */
export function isUnified(root = CGROUP_ROOT): boolean {
  try {
    return statfsSync(root).type === CGROUP2_MAGIC;
  } catch {
    return false;
  }
}

/** The controllers that the kernel offers at `path`. */
export function controllers(path = CGROUP_ROOT): readonly string[] {
  return words(join(path, 'cgroup.controllers'));
}

/** What of the controllers that pods need the kernel does not offer. */
export function missingControllers(root = CGROUP_ROOT): readonly string[] {
  const offered = controllers(root);
  return NEEDED.filter((name) => !offered.includes(name));
}

export function createCgroups(options: CgroupsOptions): Cgroups {
  const { driver, root = CGROUP_ROOT } = options;
  const pathOf = (name: CgroupName) => join(root, cgroupPath(driver, name));
  const podCgroup = (qos: QOSClass, uid: string): PodCgroup => {
    const cgroupParent = cgroupPath(driver, podCgroupName(qos, uid));
    return { cgroupParent, path: join(root, cgroupParent) };
  };
  return {
    podCgroup,
    async ensureNode(burstableCpuMilli, signal) {
      checkKernel(root);
      await ensure(options, qosCgroupName('Guaranteed'), {}, signal);
      await Promise.all([
        ensure(options, qosCgroupName('Burstable'), qosSettings(burstableCpuMilli), signal),
        ensure(options, qosCgroupName('BestEffort'), qosSettings(0), signal),
      ]);
      for (const qos of ['Guaranteed', 'Burstable', 'BestEffort'] as const) {
        enableControllers(pathOf(qosCgroupName(qos)));
      }
    },
    async ensurePod(uid, resources, pidsMax, signal) {
      const name = podCgroupName(resources.qosClass, uid);
      // Somebody may have stopped the slices that ensureNode made.
      for (const above of [qosCgroupName('Guaranteed'), qosCgroupName(resources.qosClass)]) {
        if (!existsSync(pathOf(above))) await ensure(options, above, {}, signal);
      }
      await ensure(options, name, podSettings(resources, pidsMax), signal);
      const cgroup = podCgroup(resources.qosClass, uid);
      forbidHugePages(cgroup.path);
      enableControllers(cgroup.path);
      return cgroup;
    },
    async removePod(qos, uid, signal) {
      const { path } = podCgroup(qos, uid);
      if (existsSync(path)) await empty(options.clock, path, signal);
      await options.systemd?.stopSlice(sliceName(podCgroupName(qos, uid)), signal);
      await removeDirectories(options.clock, path, signal);
    },
    podUids: () =>
      (['Guaranteed', 'Burstable', 'BestEffort'] as const).flatMap((qos) =>
        podUidsIn(pathOf(qosCgroupName(qos)), driver).map((uid) => ({ qos, uid })),
      ),
  };
}

function checkKernel(root: string): void {
  if (!isUnified(root)) {
    throw new Failure(
      'Unknown',
      `${root} is not cgroup v2: add systemd.unified_cgroup_hierarchy=1 to the line in cmdline.txt`,
    );
  }
  const missing = missingControllers(root);
  if (missing.length === 0) return;
  const advice = missing.includes('memory')
    ? ': add cgroup_enable=memory to the line in cmdline.txt of the boot partition, and boot'
    : '';
  throw new Failure(
    'Unknown',
    `the kernel lacks the cgroup controllers ${missing.join(', ')}${advice}`,
  );
}

/** Makes a cgroup below ones that are there, and gives it its settings. */
async function ensure(
  options: CgroupsOptions,
  name: CgroupName,
  settings: Settings,
  signal: AbortSignal,
): Promise<void> {
  const { driver, root = CGROUP_ROOT, systemd, clock } = options;
  const path = join(root, cgroupPath(driver, name));
  enableControllers(join(path, '..'));
  const files = settingFiles(settings);
  // Asking systemd for what is so already costs more than looking.
  if (driver === 'systemd' && !holds(path, files)) {
    if (systemd === undefined) throw new Failure('Unavailable', 'no systemd to make slices');
    await systemd.ensureSlice(sliceName(name), settings, signal);
    const untilMs = clock.now().monoMs + SLICE_MS;
    while (!existsSync(path) && clock.now().monoMs < untilMs) await clock.sleep(POLL_MS, signal);
  }
  mkdirSync(path, { recursive: true });
  for (const [file, value] of Object.entries(files)) writeSetting(path, file, value);
}

function holds(path: string, files: Readonly<Record<string, string>>): boolean {
  if (!existsSync(path)) return false;
  return Object.entries(files).every(([file, value]) => readValue(path, file) === value);
}

function writeSetting(path: string, file: string, value: string): void {
  if (readValue(path, file) === value) return;
  try {
    writeFileSync(join(path, file), value);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Failure('Unknown', `can't write ${value} to ${join(path, file)}: ${why}`, { cause });
  }
}

/** Undefined when there is no such file. */
function readValue(path: string, file: string): string | undefined {
  try {
    return readFileSync(join(path, file), 'latin1').trim();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function words(file: string): readonly string[] {
  return readFileSync(file, 'latin1').split(/\s+/).filter(Boolean);
}

/** Lets the children of a cgroup use every controller that it has itself. */
function enableControllers(path: string): void {
  const file = join(path, 'cgroup.subtree_control');
  const enabled = words(file);
  const offered = controllers(path);
  for (const name of CONTROLLERS) {
    if (enabled.includes(name) || !offered.includes(name)) continue;
    try {
      // One by one: the kernel takes all of a line or nothing.
      writeFileSync(file, `+${name}`);
    } catch (cause) {
      if (!NEEDED.includes(name)) continue;
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Failure('Unknown', `can't enable ${name} in ${file}: ${why}`, { cause });
    }
  }
}

/** No pod here may have huge pages: none can ask for them yet. */
function forbidHugePages(path: string): void {
  for (const file of readdirSync(path)) {
    if (/^hugetlb\.\w+\.max$/.test(file)) writeSetting(path, file, '0');
  }
}

/** Kills all processes at `path` and below, and waits until they are gone. */
async function empty(clock: Clock, path: string, signal: AbortSignal): Promise<void> {
  const populated = () => /^populated 1$/m.test(readValue(path, 'cgroup.events') ?? '');
  if (!populated()) return;
  const untilMs = clock.now().monoMs + EMPTY_MS;
  writeFileSync(join(path, 'cgroup.kill'), '1');
  while (populated()) {
    if (clock.now().monoMs > untilMs) {
      throw new Failure(
        'Unavailable',
        `processes in ${path} don't die: is a disk or server stuck?`,
      );
    }
    await clock.sleep(POLL_MS, signal);
  }
}

/** Removes a cgroup and those below it. The kernel may need a moment after the last process. */
async function removeDirectories(clock: Clock, path: string, signal: AbortSignal): Promise<void> {
  const untilMs = clock.now().monoMs + EMPTY_MS;
  for (;;) {
    try {
      return removeDeepest(path);
    } catch (cause) {
      if (!existsSync(path)) return;
      // systemd removes as well: what it was faster with is ENOENT here.
      const passing = ['EBUSY', 'ENOENT', 'ENOTEMPTY'].includes(errnoOf(cause) ?? '');
      if (!passing || clock.now().monoMs > untilMs) {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new Failure('Unavailable', `can't remove the cgroup ${path}: ${why}`, { cause });
      }
    }
    await clock.sleep(POLL_MS, signal);
  }
}

function removeDeepest(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeDeepest(join(path, entry.name));
  }
  rmdirSync(path);
}

function podUidsIn(path: string, driver: CgroupDriver): string[] {
  const form = driver === 'systemd' ? /^kubepods(?:-\w+)?-pod(\w+)\.slice$/ : /^pod([\w-]+)$/;
  if (!existsSync(path)) return [];
  return readdirSync(path).flatMap((name) => {
    const uid = form.exec(name)?.[1];
    if (uid === undefined) return [];
    return [driver === 'systemd' ? uid.replaceAll('_', '-') : uid];
  });
}
