/** What limits a cgroup, and how cgroup v2 writes it. Pure. Source: kernel cgroup-v2.rst. */
import { CPU_PERIOD_US, cpuQuota, cpuShares, cpuWeight, type PodResources } from '../kube/qos.ts';

export type Settings = {
  readonly cpuWeight?: number;
  readonly cpuQuotaUs?: number;
  readonly cpuPeriodUs?: number;
  readonly memoryMaxBytes?: number;
  readonly pidsMax?: number;
};

/** The limits of a pod's cgroup. `pidsMax` undefined: as many processes as the node can have. */
export function podSettings(resources: PodResources, pidsMax: number | undefined): Settings {
  const { qosClass, requests, limits } = resources;
  const shares = qosClass === 'BestEffort' ? 0 : requests.cpuMilli;
  return {
    cpuWeight: cpuWeight(cpuShares(shares)),
    ...(limits.cpuMilli === undefined
      ? {}
      : { cpuQuotaUs: cpuQuota(limits.cpuMilli, CPU_PERIOD_US), cpuPeriodUs: CPU_PERIOD_US }),
    ...(limits.memoryBytes === undefined ? {} : { memoryMaxBytes: limits.memoryBytes }),
    ...(pidsMax === undefined ? {} : { pidsMax }),
  };
}

/** The shares of a QoS class: those of all its pods' requests; BestEffort always has the least. */
export function qosSettings(requestsCpuMilli: number): Settings {
  return { cpuWeight: cpuWeight(cpuShares(requestsCpuMilli)) };
}

/** The files of a cgroup and what they hold under these settings. */
export function settingFiles(settings: Settings): Readonly<Record<string, string>> {
  const { cpuWeight, cpuQuotaUs, cpuPeriodUs, memoryMaxBytes, pidsMax } = settings;
  return {
    ...(cpuWeight === undefined ? {} : { 'cpu.weight': String(cpuWeight) }),
    ...(cpuQuotaUs === undefined || cpuPeriodUs === undefined
      ? {}
      : { 'cpu.max': `${cpuQuotaUs} ${cpuPeriodUs}` }),
    ...(memoryMaxBytes === undefined ? {} : { 'memory.max': String(memoryMaxBytes) }),
    ...(pidsMax === undefined ? {} : { 'pids.max': String(pidsMax) }),
  };
}
