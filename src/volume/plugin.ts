/** What a kind of volume has to be able to do. One file per kind, all listed in `index.ts`. */
import type { Objects, Token, TokenRequest } from '../kube/objects.ts';
import type { Pod, Volume } from '../kube/pod.ts';
import type { Allocatable } from '../pod/resources.ts';

export type VolumePlace = {
  /** Absolute; may be reached through links. */
  readonly rootDirectory: string;
  readonly podUid: string;
};

export type VolumeContext = VolumePlace & {
  readonly pod: Pod;
  readonly allocatable: Allocatable;
  readonly objects: Objects;
  /** A token that is valid now, the same one until it has to be renewed. @throws Failure */
  token(request: TokenRequest, signal: AbortSignal): Promise<Token>;
  readonly wallMs: number;
};

export type VolumeReady = {
  readonly hostPath: string;
  /** When the first of its tokens ends, in milliseconds since 1970. */
  readonly expiresAtMs?: number;
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
  /**
   * Makes the volume ready. What is in it already stays, but for the files that the agent fills:
   * these become what the objects say now, and if that fails they stay as they were.
   */
  setUp(context: VolumeContext, volume: VolumeOf<K>, signal: AbortSignal): Promise<VolumeReady>;
  /** Takes it away for good. Needs no more than its name: the pod may be forgotten. */
  tearDown(
    place: VolumePlace,
    volume: { readonly name: string },
    signal: AbortSignal,
  ): Promise<void>;
};
