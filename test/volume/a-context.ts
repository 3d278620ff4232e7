/** What a volume is set up with, to be varied. */
import { NO_OBJECTS } from '../../src/kube/objects.ts';
import type { VolumeContext } from '../../src/volume/plugin.ts';
import { aPod } from '../pod/a-pod.ts';

export const MEMORY_BYTES = 2 ** 32;

export function aContext(
  rootDirectory: string,
  changes: Partial<VolumeContext> = {},
): VolumeContext {
  return {
    rootDirectory,
    podUid: '1f0a-22',
    pod: aPod(),
    allocatable: { cpuMilli: 4000, memoryBytes: MEMORY_BYTES },
    objects: NO_OBJECTS,
    token: ({ serviceAccountName, audiences }) =>
      Promise.resolve({
        token: `token-of-${serviceAccountName}-for-${audiences.join('+')}`,
        expiresAtMs: 5_000_000,
      }),
    wallMs: Date.UTC(2026, 10, 22, 10, 15, 30, 120),
    ...changes,
  };
}
