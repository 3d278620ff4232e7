/**
 * Images are the node's, not a pod's: one pull serves all pods that wait for the image with the same
 * credentials, and goes on while one of them still waits.
 */
import type { Fault } from '../base/failure.ts';
import { Failure, faultOf } from '../base/failure.ts';
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import type { AuthConfig, Image, ImageService } from '../kube/cri.ts';
import type { PullPolicy } from '../kube/pod.ts';
import { REASON } from '../kube/reason.ts';
import type { Slots } from './slots.ts';

export type EnsuredImage = {
  /** What to create containers from. */
  readonly image: Image;
  /** For people. */
  readonly note: string;
};

export type Images = {
  /** Makes sure that an image is here, as its pull policy says. Fails with a `Failure`. */
  ensure(
    name: string,
    policy: PullPolicy,
    order: number,
    signal: AbortSignal,
    /** Asked for when the image has to be pulled; they are tried in order. @throws Failure */
    auths?: () => readonly AuthConfig[],
  ): Promise<EnsuredImage>;
  /**
   * Removes images whose pull was cut short by a power cut: the runtime may list them although
   * some of their files never reached the disk. They are pulled again when they are wanted.
   */
  repair(signal: AbortSignal): Promise<readonly string[]>;
};

/** Remembers pulls that have begun, so that one cut short is known after the next start. */
export type PullRecords = {
  /** Durable when it returns. */
  begin(name: string): void;
  /** Syncs what was pulled to the disk, then forgets the pull. */
  finish(name: string): Promise<void>;
  unfinished(): readonly string[];
  /** Forgets the pull, whose image is gone. */
  drop(name: string): void;
};

export type ImagesOptions = {
  readonly service: ImageService;
  readonly slots: Slots;
  readonly clock: Clock;
  readonly records: PullRecords;
};

type Pull = {
  readonly name: string;
  readonly done: Promise<string>;
  readonly controller: AbortController;
  waiters: number;
};

/** With a copy at hand, a registry that does not answer is waited for only this long. */
const PULL_WITH_COPY_MS = 20_000;

/** Nothing is kept between pulls but the pulls that are under way. */
export function createImages(options: ImagesOptions): Images {
  const { service, clock, records } = options;
  const pulls = new Map<string, Pull>();

  const pull = async (
    name: string,
    auths: readonly AuthConfig[],
    order: number,
    signal: AbortSignal,
  ): Promise<string> => {
    const key = JSON.stringify([name, auths]);
    let current = pulls.get(key);
    if (current === undefined) {
      const controller = new AbortController();
      const done = options.slots
        .run(order, controller.signal, async () => {
          records.begin(name);
          const ref = await pullWith(service, name, auths, controller.signal);
          await records.finish(name);
          return ref;
        })
        .finally(() => pulls.delete(key));
      // Every waiter may have gone by the time it fails.
      done.catch(() => undefined);
      current = { name, done, controller, waiters: 0 };
      pulls.set(key, current);
    }
    current.waiters += 1;
    try {
      return await abortable(current.done, signal);
    } finally {
      current.waiters -= 1;
      if (current.waiters === 0) current.controller.abort(new Failure('Cancelled', 'nobody waits'));
    }
  };

  return {
    repair: async (signal) => {
      const broken = records.unfinished().filter((name) => !isPulled(pulls, name));
      for (const name of broken) {
        await service.removeImage(name, signal);
        records.drop(name);
      }
      return broken;
    },
    ensure: async (name, policy, order, signal, auths = () => []) => {
      const present = await service.imageStatus(name, signal);
      if (present !== undefined && policy !== 'Always') {
        return { image: present, note: `Container image "${name}" already present on machine` };
      }
      if (policy === 'Never') {
        throw new Failure(
          'NotFound',
          `Container image "${name}" is not present with pull policy of Never`,
          { reason: REASON.errImageNeverPull },
        );
      }
      const beganMs = clock.now().monoMs;
      const limited =
        present === undefined
          ? signal
          : AbortSignal.any([signal, AbortSignal.timeout(PULL_WITH_COPY_MS)]);
      try {
        await pull(name, auths(), order, limited);
      } catch (error) {
        if (signal.aborted) throw error;
        // Offline, an old copy is better than no pod: the kubelet would wait for the registry.
        if (present !== undefined) {
          const note =
            `Using the copy of image "${name}" that is on this machine, ` +
            `since it could not be pulled: ${faultOf(error).message}`;
          return { image: present, note };
        }
        throw pullFailure(name, faultOf(error));
      }
      const image = await service.imageStatus(name, signal);
      if (image === undefined) {
        throw pullFailure(name, { code: 'NotFound', message: 'it is not there after the pull' });
      }
      const seconds = ((clock.now().monoMs - beganMs) / 1000).toFixed(1);
      return { image, note: `Successfully pulled image "${name}" in ${seconds}s` };
    },
  };
}

function isPulled(pulls: ReadonlyMap<string, Pull>, name: string): boolean {
  return [...pulls.values()].some((pull) => pull.name === name);
}

/** With the first credentials that the registry takes; without any where there are none. */
async function pullWith(
  service: ImageService,
  name: string,
  auths: readonly AuthConfig[],
  signal: AbortSignal,
): Promise<string> {
  const problems: Failure[] = [];
  for (const auth of auths.length === 0 ? [undefined] : auths) {
    try {
      return await service.pullImage(name, undefined, auth, signal);
    } catch (error) {
      if (signal.aborted || !(error instanceof Failure)) throw error;
      problems.push(error);
    }
  }
  const [first, ...others] = problems;
  if (first !== undefined && others.length === 0) throw first;
  const messages = [...new Set(problems.map(({ message }) => message))];
  throw new Failure(first?.code ?? 'Unknown', `[${messages.join(', ')}]`, { cause: first });
}

function pullFailure(name: string, fault: Fault): Failure {
  const invalid =
    fault.code === 'InvalidArgument' || /invalid reference format/.test(fault.message);
  return new Failure(invalid ? 'InvalidArgument' : fault.code, fault.message, {
    reason: invalid ? REASON.invalidImageName : REASON.errImagePull,
    cause: name,
  });
}
