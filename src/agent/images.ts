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
   * some of their files never reached the disk. They are pulled again when they are wanted. What
   * was there before the pull stays, under whatever name: without a network nothing brings it back.
   */
  repair(signal: AbortSignal): Promise<readonly string[]>;
};

/** A pull that has begun. */
export type PullRecord = {
  readonly name: string;
  /** The boot in which it began: until that ends, nothing that was written is lost. */
  readonly boot: string;
  /** The ids of the images that were whole before it, or became so meanwhile. */
  readonly before: readonly string[];
};

/** Remembers pulls that have begun, so that one cut short is known after the next start. */
export type PullRecords = {
  /** Durable when it returns. A record that is there already stays: its pull may have come far. */
  begin(record: PullRecord): void;
  /**
   * Syncs what was pulled to the disk, then forgets the pull. To other pulls, which may bring the
   * same image under another name, it was there before.
   */
  finish(name: string, id: string): Promise<void>;
  unfinished(): readonly PullRecord[];
  /** Forgets the pull, of which nothing is there. */
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
  readonly done: Promise<Image>;
  readonly controller: AbortController;
  waiters: number;
};

/** With a copy at hand, a registry that does not answer is waited for only this long. */
const PULL_WITH_COPY_MS = 20_000;

/** Nothing is kept between pulls but the pulls that are under way. */
export function createImages(options: ImagesOptions): Images {
  const { service, clock } = options;
  const pulls = new Map<string, Pull>();

  const pull = async (
    name: string,
    auths: readonly AuthConfig[],
    order: number,
    signal: AbortSignal,
  ): Promise<Image> => {
    const key = JSON.stringify([name, auths]);
    let current = pulls.get(key);
    if (current === undefined) {
      const controller = new AbortController();
      const done = options.slots
        .run(order, controller.signal, () => {
          const isAlone = () => pullsOf(pulls, name) === 1;
          return pullOnRecord(options, name, auths, isAlone, controller.signal);
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
    repair: (signal) => repair(options, pulls, signal),
    ensure: async (name, policy, order, signal, auths = () => []) => {
      // A pull that was given up may have come to its end all the same.
      await mendOpen(options, name, () => pullsOf(pulls, name) === 0, signal);
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
        const image = await pull(name, auths(), order, limited);
        const seconds = ((clock.now().monoMs - beganMs) / 1000).toFixed(1);
        return { image, note: `Successfully pulled image "${name}" in ${seconds}s` };
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
    },
  };
}

/** How many pulls of an image are under way: with other credentials it is another pull. */
function pullsOf(pulls: ReadonlyMap<string, Pull>, name: string): number {
  return [...pulls.values()].filter((pull) => pull.name === name).length;
}

/** After these the runtime may still be at it. */
const IN_DOUBT: ReadonlySet<Fault['code']> = new Set([
  'Cancelled',
  'DeadlineExceeded',
  'Unavailable',
]);

/** Pulls; the record says so until all of it is on the disk or nothing came of it. */
async function pullOnRecord(
  options: ImagesOptions,
  name: string,
  auths: readonly AuthConfig[],
  /** No other pull of the image is under way. */
  isAlone: () => boolean,
  signal: AbortSignal,
): Promise<Image> {
  const { service, clock, records } = options;
  const before = (await service.listImages(signal)).map(({ id }) => id);
  records.begin({ name, boot: clock.now().boot, before });
  try {
    await pullWith(service, name, auths, signal);
    const image = await service.imageStatus(name, signal);
    if (image === undefined) throw new Failure('NotFound', 'it is not there after the pull');
    await records.finish(name, image.id);
    return image;
  } catch (error) {
    if (!IN_DOUBT.has(faultOf(error).code)) {
      await mendOpen(options, name, isAlone, signal).catch(() => undefined);
    }
    throw error;
  }
}

async function repair(
  options: ImagesOptions,
  pulls: ReadonlyMap<string, Pull>,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const removed: string[] = [];
  for (const record of options.records.unfinished()) {
    const isQuiet = () => pullsOf(pulls, record.name) === 0;
    try {
      if (await mend(options, record, isQuiet, signal)) removed.push(record.name);
    } catch (error) {
      // The pods of all other images wait for this.
      if (IN_DOUBT.has(faultOf(error).code)) throw error;
    }
  }
  return removed;
}

async function mendOpen(
  options: ImagesOptions,
  name: string,
  isQuiet: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  const record = options.records.unfinished().find((open) => open.name === name);
  if (record !== undefined) await mend(options, record, isQuiet, signal);
}

/** Decides on an image of which a former pull may have brought a part; whether it was removed. */
async function mend(
  { service, clock, records }: ImagesOptions,
  { name, boot, before }: PullRecord,
  /** Whether no other pull of the image is under way, whose record this then is. */
  isQuiet: () => boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const image = await service.imageStatus(name, signal);
  if (!isQuiet()) return false;
  if (image === undefined || before.includes(image.id)) records.drop(name);
  else if (boot === clock.now().boot) {
    await records.finish(name, image.id).catch((error: unknown) => {
      // It stays on record, and can be used until the power goes.
      if (!(error instanceof Failure)) throw error;
    });
  } else {
    await service.removeImage(name, signal);
    records.drop(name);
    return true;
  }
  return false;
}

/** With the first credentials that the registry takes; without any where there are none. */
async function pullWith(
  service: ImageService,
  name: string,
  auths: readonly AuthConfig[],
  signal: AbortSignal,
): Promise<void> {
  const problems: Failure[] = [];
  for (const auth of auths.length === 0 ? [undefined] : auths) {
    try {
      await service.pullImage(name, undefined, auth, signal);
      return;
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
