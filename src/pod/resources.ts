/**
 * What a container may use, in the runtime's words.
 * Source: pkg/kubelet/kuberuntime/kuberuntime_container_linux.go, pkg/volume/emptydir.
 */
import type { LinuxContainerResources } from '../kube/cri.ts';
import type { Container, Pod } from '../kube/pod.ts';
import { CPU_PERIOD_US, cpuQuota, cpuShares, oomScoreAdj, podResources } from '../kube/qos.ts';
import { quantityBytes, quantityMilli } from '../kube/quantity.ts';

/** What pods may use of the node. */
export type Allocatable = { readonly cpuMilli: number; readonly memoryBytes: number };

export type ResourceFacts = {
  /** All memory of the machine. */
  readonly memoryCapacityBytes: number;
  /** The kernel accounts for swap (`memory.swap.max` is there): then pods get none. */
  readonly swapControlled?: boolean;
};

/** @throws Failure InvalidArgument on a quantity that is none; parsing refuses those. */
export function containerResources(
  pod: Pod,
  container: Container,
  { memoryCapacityBytes, swapControlled = false }: ResourceFacts,
): LinuxContainerResources {
  const { requests, limits } = container.resources;
  return {
    cpuPeriod: CPU_PERIOD_US,
    // 0: no quota.
    cpuQuota: cpuQuota(quantityMilli(limits['cpu'] ?? '0'), CPU_PERIOD_US),
    // A limit without a request is a request too.
    cpuShares: cpuShares(quantityMilli(requests['cpu'] ?? limits['cpu'] ?? '0')),
    // 0: no limit.
    memoryLimitInBytes: quantityBytes(limits['memory'] ?? '0'),
    oomScoreAdj: oomScoreAdj(pod, container, memoryCapacityBytes),
    unified: {
      // A container that lost one of its processes is in no state that anybody has thought of.
      'memory.oom.group': '1',
      ...(swapControlled ? { 'memory.swap.max': '0' } : {}),
    },
  };
}

/**
 * How large a tmpfs of the pod may become: the least of the volume's own limit, the pod's memory
 * limit and the memory that pods may use. Undefined when none of them is above zero.
 *
 * @param sizeLimit A quantity.
 */
export function tmpfsSizeBytes(
  pod: Pod,
  sizeLimit: string | undefined,
  allocatable: Pick<Allocatable, 'memoryBytes'>,
): number | undefined {
  const limits = [
    quantityBytes(sizeLimit ?? '0'),
    podResources(pod).limits.memoryBytes ?? 0,
    allocatable.memoryBytes,
  ].filter((bytes) => bytes > 0);
  return limits.length === 0 ? undefined : Math.min(...limits);
}
