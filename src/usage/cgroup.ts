/** What a cgroup uses, by the files of cgroup v2. Figures are worked out as the kubelet does. */
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import type { MemoryUsage, Usage } from '../node/usage.ts';
import type { ReadKernelFile } from './kernel-file.ts';
import { ioBytes, numberOf, oneNumber, pressureOf } from './parse.ts';

const FILES = [
  'cpu.stat',
  'cpu.pressure',
  'memory.current',
  'memory.stat',
  'memory.max',
  'memory.swap.current',
  'memory.pressure',
  'io.stat',
  'io.pressure',
  'pids.current',
] as const;

export type CgroupFile = (typeof FILES)[number];

/** The files that are there to read at `path`: a kernel may lack a controller, or pressures. */
export function cgroupFiles(read: ReadKernelFile, path: string): readonly CgroupFile[] {
  return FILES.filter((name) => read(join(path, name)) !== undefined);
}

/**
 * Undefined when there is no such cgroup.
 *
 * @param files Those that are worth a try: `cgroupFiles` of a cgroup further up.
 */
export function cgroupUsage(
  read: ReadKernelFile,
  path: string,
  files: readonly CgroupFile[],
  clock: Clock,
): Usage | undefined {
  const text = (name: CgroupFile) => (files.includes(name) ? read(`${path}/${name}`) : undefined);
  const cpuStat = text('cpu.stat');
  if (cpuStat === undefined) return undefined;
  const { monoMs } = clock.now();
  const microseconds = numberOf(cpuStat, 'usage_usec');
  const cpuPsi = pressureOf(text('cpu.pressure'));
  const memory = memoryUsage(text);
  const io = ioUsage(text('io.stat'), text('io.pressure'));
  const swap = oneNumber(text('memory.swap.current'));
  const processes = oneNumber(text('pids.current'));
  return {
    monoMs,
    ...(microseconds !== undefined && {
      cpu: { usageCoreNanoSeconds: microseconds * 1000, ...(cpuPsi && { psi: cpuPsi }) },
    }),
    ...(memory !== undefined && { memory }),
    ...(swap !== undefined && { swap: { swapUsageBytes: swap } }),
    ...(io !== undefined && { io }),
    ...(processes !== undefined && { process_stats: { process_count: processes } }),
  };
}

/** By the texts of `io.stat` and of the pressure. */
export function ioUsage(stat: string | undefined, pressure: string | undefined): Usage['io'] {
  const [bytes, psi] = [ioBytes(stat), pressureOf(pressure)];
  if (bytes === undefined && psi === undefined) return undefined;
  return { ...bytes, ...(psi && { psi }) };
}

function memoryUsage(text: (name: CgroupFile) => string | undefined): MemoryUsage | undefined {
  const usage = oneNumber(text('memory.current'));
  if (usage === undefined) return undefined;
  const psi = pressureOf(text('memory.pressure'));
  return memoryOf(usage, text('memory.stat'), oneNumber(text('memory.max')), psi);
}

/** @param limit What `availableBytes` counts up to; undefined when there is none. */
export function memoryOf(
  usage: number,
  stat: string | undefined,
  limit: number | undefined,
  psi: MemoryUsage['psi'],
): MemoryUsage {
  const inactive = numberOf(stat, 'inactive_file');
  const workingSet = inactive === undefined ? undefined : Math.max(0, usage - inactive);
  const rss = numberOf(stat, 'anon');
  const faults = numberOf(stat, 'pgfault');
  const majorFaults = numberOf(stat, 'pgmajfault');
  return {
    usageBytes: usage,
    ...(workingSet !== undefined && { workingSetBytes: workingSet }),
    ...(rss !== undefined && { rssBytes: rss }),
    ...(limit !== undefined &&
      workingSet !== undefined && { availableBytes: Math.max(0, limit - workingSet) }),
    ...(faults !== undefined && { pageFaults: faults }),
    ...(majorFaults !== undefined && { majorPageFaults: majorFaults }),
    ...(psi !== undefined && { psi }),
  };
}
