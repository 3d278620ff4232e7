/**
 * What a pod sends and receives, from `/proc/PID/net/dev` of a process in its network. The kernel
 * shows it to everybody who may see the process; no namespace is entered and no capability used.
 */
import type { Clock } from '../base/clock.ts';
import type { NetworkUsage } from '../node/usage.ts';
import type { ReadKernelFile } from './kernel-file.ts';
import { interfacesOf } from './parse.ts';

/** @param sandbox The cgroup of the pod's sandbox. Undefined when no process is left in it. */
export function networkUsage(
  read: ReadKernelFile,
  sandbox: string,
  clock: Clock,
): NetworkUsage | undefined {
  // Asked for each time: the number of a process that has ended may be another's by now.
  const pid = /^\d+/.exec(read(`${sandbox}/cgroup.procs`) ?? '')?.[0];
  const text = pid === undefined ? undefined : read(`/proc/${pid}/net/dev`);
  if (text === undefined) return undefined;
  return { monoMs: clock.now().monoMs, interfaces: interfacesOf(text) };
}
