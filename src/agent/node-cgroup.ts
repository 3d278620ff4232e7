/** The cgroups of this node's pods, opened once the runtime has told its cgroup driver. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { createSystemd } from '../cgroup/systemd.ts';
import type { Cgroups } from '../cgroup/tree.ts';
import { createCgroups } from '../cgroup/tree.ts';
import type { CgroupDriver, RuntimeService } from '../kube/cri.ts';
import type { AgentOptions } from './options.ts';

export type NodeCgroup = {
  driver(): CgroupDriver;
  /** Asks the runtime for its driver, and makes the cgroups that all pods share. */
  open(signal: AbortSignal): Promise<void>;
  /** Whether the kernel can keep pods from swapping. */
  hasSwapControl(): boolean;
  /** Fails with `Unavailable` before `open`. */
  pods(): Cgroups;
};

/** `options.cgroupDriver` holds where the runtime does not tell its own. */
export function createNodeCgroup(
  options: AgentOptions,
  clock: Clock,
  runtime: RuntimeService,
): NodeCgroup {
  let driver = options.cgroupDriver;
  let cgroups: Cgroups | undefined;
  return {
    driver: () => driver,
    open: async (signal) => {
      driver = (await runtime.cgroupDriver(signal)) ?? options.cgroupDriver;
      const systemd = driver === 'systemd' ? createSystemd(process.getuid?.() ?? 0) : undefined;
      const opened = createCgroups({
        driver,
        clock,
        root: options.cgroupRoot,
        ...(systemd !== undefined && { systemd }),
      });
      await opened.ensureNode(0, signal);
      cgroups = opened;
    },
    hasSwapControl: () => {
      const path = cgroups?.podCgroup('Guaranteed', '').path;
      return path !== undefined && existsSync(join(dirname(path), 'memory.swap.max'));
    },
    pods: () => {
      if (cgroups === undefined) {
        throw new Failure('Unavailable', 'the container runtime has not answered yet');
      }
      return cgroups;
    },
  };
}
