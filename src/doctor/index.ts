/** All checks of `limpet doctor`, in the order in which they are shown. */
import { faultOf } from '../base/failure.ts';
import type { Finding } from '../server/api.ts';
import { cgroupCheck } from './cgroup.ts';
import { clockCheck } from './clock.ts';
import { clusterCheck } from './cluster.ts';
import { cniCheck } from './cni.ts';
import { spaceCheck, speedCheck } from './disk.ts';
import { forwardingCheck, kernelCheck } from './kernel.ts';
import type { Check, Machine } from './machine.ts';
import { pagesCheck, swapCheck } from './memory.ts';
import { manifestsCheck, rivalsCheck } from './neighbours.ts';
import { directoriesCheck, runtimeCheck, socketCheck } from './runtime.ts';

export const CHECKS: readonly Check[] = [
  cgroupCheck,
  kernelCheck,
  socketCheck,
  runtimeCheck,
  directoriesCheck,
  cniCheck,
  forwardingCheck,
  rivalsCheck,
  manifestsCheck,
  spaceCheck,
  speedCheck,
  clockCheck,
  clusterCheck,
  pagesCheck,
  swapCheck,
];

/** Runs all checks, one after the other. A check that breaks is a finding of its own. */
export async function examine(
  machine: Machine,
  checks: readonly Check[] = CHECKS,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const check of checks) {
    try {
      findings.push(...(await check.run(machine)));
    } catch (error) {
      const message = `the check itself failed: ${faultOf(error).message}`;
      findings.push({ check: check.name, health: 'degraded', message });
    }
  }
  return findings;
}
