/** What the node and its pods use, for all who ask here; the pods are those of the workers. */
import type { Clock } from '../base/clock.ts';
import { qosClass } from '../kube/qos.ts';
import { createUsage, type KnownPod, type ReadUsage } from '../usage/usage.ts';
import type { Core } from './core.ts';
import type { AgentOptions } from './options.ts';
import type { Worker } from './turns.ts';

export function usageOf(
  { rootDirectory, cgroupRoot }: AgentOptions,
  clock: Clock,
  { nodeCgroup, turns }: Pick<Core, 'nodeCgroup' | 'turns'>,
): ReadUsage {
  return createUsage({
    ...{ clock, directory: rootDirectory, cgroupRoot },
    driver: () => nodeCgroup.driver(),
    pods: () => [...turns.workers.values()].flatMap(knownPod),
  });
}

/** None for a pod that has no sandbox. */
function knownPod({ want: { pod }, seen }: Worker): readonly KnownPod[] {
  const { view } = seen;
  if (view === undefined || view.sandboxes.length === 0) return [];
  const { name, namespace, uid } = pod.metadata;
  const sandbox = view.sandboxes.find(({ state }) => state === 'SANDBOX_READY');
  return [
    {
      podRef: { name, namespace, uid },
      qos: qosClass(pod),
      hostNetwork: pod.spec.hostNetwork,
      ...(sandbox !== undefined && { sandboxId: sandbox.id }),
      containers: view.containers.filter(({ state }) => state === 'CONTAINER_RUNNING'),
    },
  ];
}
