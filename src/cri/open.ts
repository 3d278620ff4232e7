/**
 * The container runtime behind a CRI v1 socket: containerd 1.7 and 2.x, CRI-O.
 */
import { statSync } from 'node:fs';

import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Random } from '../base/random.ts';
import type { ImageService, RuntimeService, StreamingService } from '../kube/cri.ts';
import { Channel } from './channel.ts';
import { createImageService } from './image.ts';
import { createRuntimeService, createStreamingService } from './runtime.ts';

export type CriRuntime = {
  readonly runtime: RuntimeService;
  readonly images: ImageService;
  readonly streaming: StreamingService;
  /**
   * Differs after each start of the runtime, and after each boot; undefined while there is no
   * socket. A runtime makes its socket anew when it starts.
   */
  epoch(): string | undefined;
  /** Closes the connection. Calls under way fail with `Unavailable`. */
  [Symbol.asyncDispose](): Promise<void>;
};

export type OpenOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly maxMessageBytes?: number;
};

/**
 * The runtime at `endpoint`, a path or a `unix://` address. Nothing is connected yet: the first
 * call does that, and fails with `Unavailable` while there is nobody.
 *
 * @throws Failure `InvalidArgument` when the endpoint is no path of a unix socket.
 */
export function open(endpoint: string, options: OpenOptions): CriRuntime {
  const path = socketPath(endpoint);
  const { clock, random, maxMessageBytes = LIMITS.criMessageBytes } = options;
  const channel = new Channel(path, { clock, random, maxMessageBytes });
  return {
    runtime: createRuntimeService(channel),
    images: createImageService(channel),
    streaming: createStreamingService(channel),
    epoch: () => epochOf(path, clock.now().boot),
    [Symbol.asyncDispose]: () => channel[Symbol.asyncDispose](),
  };
}

/**
 * The path in `unix:///run/containerd/containerd.sock`, `unix:/run/…` or `/run/…`.
 *
 * @throws Failure `InvalidArgument`.
 */
export function socketPath(endpoint: string): string {
  const path = /^(?:unix:(?:\/\/)?)?(\/[^/\0][^\0]*)$/.exec(endpoint)?.[1];
  if (path !== undefined) return path;
  throw new Failure(
    'InvalidArgument',
    `${JSON.stringify(endpoint)} is no container runtime endpoint: ` +
      'write unix:///run/containerd/containerd.sock',
  );
}

/** The modification time of a socket is when it was made; a chmod leaves it alone. */
function epochOf(path: string, boot: string): string | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat?.isSocket() === true ? `${boot}:${stat.ino}:${stat.mtimeNs}` : undefined;
}
