/**
 * What the node, its pods and their containers use, in the words of the kubelet's Summary API
 * (k8s.io/kubelet/pkg/apis/stats/v1alpha1) where it has one. What the kernel does not tell is absent.
 *
 * Counters grow from when their cgroup, interface or boot began. What is used a second comes from
 * two reports, each reader's own, so that none has to know of the others.
 */

/** How far down a report goes: the node alone, its pods too, their containers, their volumes. */
export const USAGE_DEPTHS = ['node', 'pods', 'containers', 'volumes'] as const;
export type UsageDepth = (typeof USAGE_DEPTHS)[number];

/** How much of the time tasks waited, in percent over so many seconds. */
export type PressureData = {
  /** Nanoseconds. */
  readonly total: number;
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
};

/** `some`: at least one task waited; `full`: all did. */
export type Pressure = { readonly some?: PressureData; readonly full?: PressureData };

export type CpuUsage = {
  readonly usageCoreNanoSeconds: number;
  /** Nanoseconds of a core a second: 500 000 000 is half a core. */
  readonly usageNanoCores?: number;
  readonly psi?: Pressure;
};

export type MemoryUsage = {
  readonly usageBytes: number;
  /** Without what the kernel gives back first: inactive pages of files. */
  readonly workingSetBytes?: number;
  /** Anonymous memory, as the kubelet has it. */
  readonly rssBytes?: number;
  /** Up to the limit of a cgroup that has one, or all of the node's memory. */
  readonly availableBytes?: number;
  readonly pageFaults?: number;
  readonly majorPageFaults?: number;
  readonly psi?: Pressure;
};

/** Of block devices. */
export type IoUsage = {
  readonly readBytes?: number;
  readonly writeBytes?: number;
  readonly readBytesPerSecond?: number;
  readonly writeBytesPerSecond?: number;
  readonly psi?: Pressure;
};

export type Usage = {
  /** When it was read, on the monotonic clock. */
  readonly monoMs: number;
  readonly cpu?: CpuUsage;
  readonly memory?: MemoryUsage;
  readonly swap?: { readonly swapUsageBytes: number };
  readonly io?: IoUsage;
  readonly process_stats?: { readonly process_count: number };
};

export type InterfaceUsage = {
  readonly name: string;
  readonly rxBytes: number;
  readonly rxErrors: number;
  readonly txBytes: number;
  readonly txErrors: number;
  readonly rxBytesPerSecond?: number;
  readonly txBytesPerSecond?: number;
};

export type NetworkUsage = {
  readonly monoMs: number;
  /** Without the loopback interface; of the node only those with a device behind them. */
  readonly interfaces: readonly InterfaceUsage[];
};

export type FsUsage = {
  readonly availableBytes: number;
  readonly capacityBytes: number;
  readonly usedBytes: number;
  readonly inodesFree?: number;
  readonly inodes?: number;
  readonly inodesUsed?: number;
};

/** What has no file system of its own has no room of its own either. */
export type VolumeUsage = Partial<FsUsage> & {
  readonly name: string;
  readonly usedBytes: number;
  /** There are more files than were counted. */
  readonly isPartial?: boolean;
};

export type ContainerUsage = Usage & {
  readonly name: string;
  /** A container that starts again is another one to the runtime and to the kernel. */
  readonly id: string;
};

export type PodUsage = Usage & {
  readonly podRef: { readonly name: string; readonly namespace: string; readonly uid: string };
  /** Interfaces live as long as the sandbox. */
  readonly sandboxId?: string;
  /** Absent for pods in the node's own network. */
  readonly network?: NetworkUsage;
  /** Only where it was asked for. */
  readonly containers?: readonly ContainerUsage[];
  /** Only where it was asked for; up to a minute old. Those of the host are not among them. */
  readonly volumes?: readonly VolumeUsage[];
};

/** The node and what has a cgroup of its own on it. */
export type NodeUsage = Usage & {
  readonly uptimeSeconds?: number;
  /** Of 1, 5 and 15 minutes. */
  readonly load?: readonly [number, number, number];
  readonly capacity?: { readonly cpus?: number; readonly memoryBytes?: number };
  readonly network?: NetworkUsage;
  /** Where limpet keeps its state, pods their logs and their volumes. */
  readonly fs?: FsUsage;
};

export type UsageReport = {
  readonly kind: 'UsageReport';
  /** RFC 3339: when it was begun. */
  readonly time: string;
  readonly depth: UsageDepth;
  readonly node: NodeUsage;
  /** All pods together. */
  readonly kubepods?: Usage;
  /** Guaranteed pods have no cgroup of their own. */
  readonly qosClasses?: { readonly Burstable?: Usage; readonly BestEffort?: Usage };
  readonly pods?: readonly PodUsage[];
};

/**
 * `now` with what was used a second since `before`. Without a figure where a counter is new or has
 * begun anew: a container, a sandbox, a boot.
 */
export function withRates(before: UsageReport, now: UsageReport): UsageReport {
  const pods = new Map(before.pods?.map((pod) => [pod.podRef.uid, pod]));
  const { kubepods, qosClasses } = now;
  return {
    ...now,
    node: { ...usageRates(before.node, now.node), ...networkRates(before.node, now.node) },
    ...(kubepods !== undefined && { kubepods: usageRates(before.kubepods, kubepods) }),
    ...(qosClasses !== undefined && {
      qosClasses: Object.fromEntries(
        Object.entries(qosClasses).map(([name, usage]) => [
          name,
          usageRates(before.qosClasses?.[name as keyof typeof qosClasses], usage),
        ]),
      ),
    }),
    ...(now.pods !== undefined && {
      pods: now.pods.map((pod) => podRates(pods.get(pod.podRef.uid), pod)),
    }),
  };
}

function podRates(before: PodUsage | undefined, now: PodUsage): PodUsage {
  const containers = new Map(before?.containers?.map((one) => [one.id, one]));
  const isSame = before?.sandboxId === now.sandboxId;
  return {
    ...usageRates(before, now),
    ...networkRates(isSame ? before : undefined, now),
    ...(now.containers !== undefined && {
      containers: now.containers.map((one) => usageRates(containers.get(one.id), one)),
    }),
  };
}

function usageRates<T extends Usage>(before: Usage | undefined, now: T): T {
  if (before === undefined) return now;
  const ms = now.monoMs - before.monoMs;
  const { cpu, io } = now;
  const cores = rate(before.cpu?.usageCoreNanoSeconds, cpu?.usageCoreNanoSeconds, ms);
  const read = rate(before.io?.readBytes, io?.readBytes, ms);
  const written = rate(before.io?.writeBytes, io?.writeBytes, ms);
  return {
    ...now,
    ...(cpu !== undefined && cores !== undefined && { cpu: { ...cpu, usageNanoCores: cores } }),
    ...(io !== undefined && {
      io: {
        ...io,
        ...(read !== undefined && { readBytesPerSecond: read }),
        ...(written !== undefined && { writeBytesPerSecond: written }),
      },
    }),
  };
}

type Networked = { readonly network?: NetworkUsage };

function networkRates(before: Networked | undefined, { network }: Networked): Networked {
  if (network === undefined) return {};
  const earlier = before?.network;
  if (earlier === undefined) return { network };
  const ms = network.monoMs - earlier.monoMs;
  const interfaces = network.interfaces.map((one) => {
    const old = earlier.interfaces.find(({ name }) => name === one.name);
    const rx = rate(old?.rxBytes, one.rxBytes, ms);
    const tx = rate(old?.txBytes, one.txBytes, ms);
    return {
      ...one,
      ...(rx !== undefined && { rxBytesPerSecond: rx }),
      ...(tx !== undefined && { txBytesPerSecond: tx }),
    };
  });
  return { network: { ...network, interfaces } };
}

/** What a counter has grown by a second. */
function rate(before: number | undefined, now: number | undefined, ms: number): number | undefined {
  if (before === undefined || now === undefined || now < before || ms <= 0) return undefined;
  return Math.round(((now - before) * 1000) / ms);
}
