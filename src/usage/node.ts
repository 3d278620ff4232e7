/** What the whole node uses: the root cgroup, /proc, and the file system of limpet's directory. */
import { existsSync, statfsSync } from 'node:fs';
import type { Clock } from '../base/clock.ts';
import type { FsUsage, InterfaceUsage, MemoryUsage, NodeUsage } from '../node/usage.ts';
import { parseCpuList } from '../linux/proc.ts';
import { ioUsage, memoryOf } from './cgroup.ts';
import type { ReadKernelFile } from './kernel-file.ts';
import { interfacesOf, loadOf, memInfoBytes, numberOf, pressureOf, uptimeOf } from './parse.ts';

/** @param cgroupRoot Of cgroup v2. @param directory On the file system that is told of. */
export function nodeUsage(
  read: ReadKernelFile,
  cgroupRoot: string,
  directory: string,
  clock: Clock,
): NodeUsage {
  const pressure = (name: string) => read(`/proc/pressure/${name}`);
  const microseconds = numberOf(read(`${cgroupRoot}/cpu.stat`), 'usage_usec');
  const { monoMs } = clock.now();
  const cpuPsi = pressureOf(pressure('cpu'));
  const io = ioUsage(read(`${cgroupRoot}/io.stat`), pressure('io'));
  const memInfo = read('/proc/meminfo');
  const memoryBytes = memInfoBytes(memInfo, 'MemTotal');
  const memoryPsi = pressureOf(pressure('memory'));
  const memory = nodeMemory(read(`${cgroupRoot}/memory.stat`), memoryBytes, memoryPsi);
  const swapTotal = memInfoBytes(memInfo, 'SwapTotal');
  const swapFree = memInfoBytes(memInfo, 'SwapFree');
  const loaded = loadOf(read('/proc/loadavg'));
  const uptimeSeconds = uptimeOf(read('/proc/uptime'));
  const online = read('/sys/devices/system/cpu/online');
  const interfaces = interfacesOf(read('/proc/net/dev') ?? '').filter(isDevice);
  const fs = fsUsage(directory);
  return {
    monoMs,
    ...(microseconds !== undefined && {
      cpu: { usageCoreNanoSeconds: microseconds * 1000, ...(cpuPsi && { psi: cpuPsi }) },
    }),
    ...(memory !== undefined && { memory }),
    ...(swapTotal !== undefined &&
      swapFree !== undefined && { swap: { swapUsageBytes: swapTotal - swapFree } }),
    ...(io !== undefined && { io }),
    ...(loaded !== undefined && {
      process_stats: { process_count: loaded.tasks },
      load: loaded.load,
    }),
    ...(uptimeSeconds !== undefined && { uptimeSeconds }),
    capacity: {
      ...(online !== undefined && { cpus: parseCpuList(online) }),
      ...(memoryBytes !== undefined && { memoryBytes }),
    },
    network: { monoMs: clock.now().monoMs, interfaces },
    ...(fs !== undefined && { fs }),
  };
}

/** The root has no `memory.current`: as with the kubelet it is what processes and files take. */
function nodeMemory(
  stat: string | undefined,
  memoryBytes: number | undefined,
  psi: MemoryUsage['psi'],
): MemoryUsage | undefined {
  const [anon, file] = [numberOf(stat, 'anon'), numberOf(stat, 'file')];
  if (anon === undefined || file === undefined) return undefined;
  return memoryOf(anon + file, stat, memoryBytes, psi);
}

/** What is made of software (bridges, tunnels) would count the same bytes again. */
function isDevice({ name }: InterfaceUsage): boolean {
  // There is one for each pod, so it is not asked for.
  if (name.startsWith('veth')) return false;
  return existsSync(`/sys/class/net/${name}/device`);
}

/** How full the file system of `path` is; undefined when it does not say. */
export function fsUsage(path: string): FsUsage | undefined {
  try {
    const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(path);
    return {
      availableBytes: bavail * bsize,
      capacityBytes: blocks * bsize,
      usedBytes: (blocks - bfree) * bsize,
      // Some (btrfs) have no such number.
      ...(files > 0 && { inodesFree: ffree, inodes: files, inodesUsed: files - ffree }),
    };
  } catch {
    return undefined;
  }
}
