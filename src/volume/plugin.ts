/** What a kind of volume has to be able to do. One file per kind, all listed in `index.ts`. */
import type { Pod, Volume } from '../kube/pod.ts';

export type VolumePlace = {
  /** Absolute; may be reached through links. */
  readonly rootDirectory: string;
  readonly podUid: string;
};

export type VolumeContext = VolumePlace & {
  readonly pod: Pod;
  /** What pods may use of the node's memory, in bytes. */
  readonly allocatableMemoryBytes?: number;
};

export type VolumeOf<K extends Volume['kind']> = Extract<Volume, { readonly kind: K }>;

/**
 * Both calls may be repeated, and may be broken off anywhere: "already so" is success. Neither may
 * touch anything outside the volume, whatever a container has put into it.
 */
export type VolumePlugin<K extends Volume['kind'] = Volume['kind']> = {
  readonly kind: K;
  /** Folder in the pod's `volumes`, for kinds that keep something there: `kubernetes.io~empty-dir`. */
  readonly folder?: string;
  /** Makes the volume ready. What is in it already stays. */
  setUp(
    context: VolumeContext,
    volume: VolumeOf<K>,
    signal: AbortSignal,
  ): Promise<{ readonly hostPath: string }>;
  /** Takes it away for good. Needs no more than its name: the pod may be forgotten. */
  tearDown(
    place: VolumePlace,
    volume: { readonly name: string },
    signal: AbortSignal,
  ): Promise<void>;
};
