/**
 * Keeps an eye on the runtime: its event stream tells when to look at a pod, and a listing of
 * everything now and then is the safety net. Without the stream the listing comes often.
 */
import { abortable } from '../base/abortable.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { ContainerEvent, RuntimeService, RuntimeStatus, RuntimeVersion } from '../kube/cri.ts';
import type { Everything, Looks } from './looks.ts';

export type RuntimeState = {
  connected: boolean;
  version: RuntimeVersion | undefined;
  networkReady: boolean;
  message: string | undefined;
  /** What the runtime offers, as it said last. */
  status: RuntimeStatus | undefined;
};

export type RuntimeWatchOptions = {
  readonly runtime: RuntimeService;
  readonly looks: Looks;
  readonly clock: Clock;
  readonly log: Log;
  /** Something happened to a container or sandbox; the pod is unknown when no look has shown it. */
  readonly onChange: (podUid: string | undefined) => void;
  /** The runtime answers for the first time, or again. */
  readonly onBack: () => Promise<void>;
  /** `state` may have changed. */
  readonly onState: () => void;
  readonly onEverything: (everything: Everything) => void;
  /** Resolves when the runtime's socket may have come; never, where nobody can tell. */
  readonly comes: (signal: AbortSignal) => Promise<void>;
  /** The first listing of everything waits for it: the pods look for themselves. */
  readonly podsFirst: Promise<void>;
};

/** With the event stream up, a relist only has to catch what the stream lost. */
const RELIST_MS = 60_000;
const RELIST_WITHOUT_STREAM_MS = 5_000;
/**
 * containerd 1.7 hands each event to one stream, and to one whose reader is gone (we were restarted)
 * before ours. What is heard on ours tells that no such stream is left.
 */
const RELIST_UNHEARD_MS = 10_000;
/** Soon at first: after a boot the runtime is being started beside us. */
const FIRST_RETRY_MS = 50;
const RETRY_GROWTH = 1.5;
const MAX_RETRY_MS = 10_000;
/** From the making of its socket until it listens. */
const LISTENS_MS = 20;
/** While the runtime says that it has no network, it is asked again this often. */
const NOT_READY_MS = 2_000;

/** Runs until the signal is aborted. `state` is kept up to date for people. */
export async function watchRuntime(
  options: RuntimeWatchOptions,
  state: RuntimeState,
  signal: AbortSignal,
): Promise<void> {
  const { log } = options;
  let retryMs = FIRST_RETRY_MS;
  while (!signal.aborted) {
    try {
      await connect(options, state, signal);
      retryMs = FIRST_RETRY_MS;
      await attend(options, state, signal);
    } catch (error) {
      if (signal.aborted) return;
      const { message } = faultOf(error);
      if (state.connected || state.message !== message) {
        log.warn('the container runtime does not answer', { message });
      }
      state.connected = false;
      state.message = message;
      options.onState();
    }
    const hasCome = await pause(options, retryMs, signal);
    // It listens before it can answer.
    retryMs = hasCome ? FIRST_RETRY_MS : Math.min(retryMs * RETRY_GROWTH, MAX_RETRY_MS);
  }
}

/** Waits before the next attempt, less when the runtime's socket comes meanwhile: then true. */
async function pause(
  { clock, comes }: RuntimeWatchOptions,
  waitMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const controller = new AbortController();
  const both = AbortSignal.any([signal, controller.signal]);
  let hasCome = false;
  const come = comes(both).then(() => {
    hasCome = true;
    return clock.sleep(LISTENS_MS, both);
  });
  await Promise.race([clock.sleep(waitMs, both), come]).catch(() => undefined);
  controller.abort();
  return hasCome;
}

async function connect(
  { runtime, log, onBack, onState }: RuntimeWatchOptions,
  state: RuntimeState,
  signal: AbortSignal,
): Promise<void> {
  state.version = await runtime.version(signal);
  // A runtime that has just been started takes its time to tell its conditions.
  await Promise.all([readConditions(runtime, state, signal), onBack()]);
  if (!state.connected) {
    const { runtimeName, runtimeVersion } = state.version;
    log.info('the container runtime answers', { name: runtimeName, version: runtimeVersion });
  }
  state.connected = true;
  onState();
}

async function readConditions(
  runtime: RuntimeService,
  state: RuntimeState,
  signal: AbortSignal,
): Promise<boolean> {
  state.status = await runtime.status(signal);
  const bad = state.status.conditions.filter((c) => !c.status);
  const wasReady = state.networkReady;
  state.networkReady = !bad.some((c) => c.type === 'NetworkReady');
  state.message =
    bad.length === 0 ? undefined : bad.map((c) => `${c.type}: ${c.message || c.reason}`).join('; ');
  return state.networkReady && !wasReady;
}

/** Follows events and relists, until the runtime goes away. */
async function attend(
  options: RuntimeWatchOptions,
  state: RuntimeState,
  signal: AbortSignal,
): Promise<void> {
  const { runtime, looks, clock, log, onEverything, onBack, podsFirst } = options;
  const controller = new AbortController();
  const both = AbortSignal.any([signal, controller.signal]);
  let wake = new AbortController();
  let streaming = true;
  let heard = false;
  let streamError: unknown;
  const closed = () => new Failure('Unavailable', 'the runtime closed its event stream');
  const stream = runtime
    .containerEvents((event) => {
      heard = true;
      onContainerEvent(options, event);
    }, both)
    .catch((error: unknown) => {
      streamError = error;
    })
    .finally(() => {
      streaming = false;
      wake.abort();
    });
  try {
    await abortable(Promise.race([podsFirst, stream]), both);
    for (;;) {
      onEverything(await looks.everything(both));
      const waitMs = !state.networkReady
        ? NOT_READY_MS
        : !streaming
          ? RELIST_WITHOUT_STREAM_MS
          : heard
            ? RELIST_MS
            : RELIST_UNHEARD_MS;
      await clock.sleep(waitMs, AbortSignal.any([both, wake.signal])).catch(() => undefined);
      both.throwIfAborted();
      if (wake.signal.aborted) {
        wake = new AbortController();
        if (!isUnimplemented(streamError)) {
          throw streamError instanceof Error ? streamError : closed();
        }
        log.warn('the runtime has no event stream; it is listed every 5 s instead');
      }
      if (await readConditions(runtime, state, both)) {
        options.onState();
        await onBack();
      }
    }
  } finally {
    controller.abort(new Failure('Cancelled', 'the event stream is given up'));
    await stream;
  }
}

function isUnimplemented(error: unknown): boolean {
  return error instanceof Failure && error.code === 'Unimplemented';
}

function onContainerEvent({ looks, onChange }: RuntimeWatchOptions, event: ContainerEvent): void {
  onChange(event.podUid ?? looks.podOf(event.containerId));
}
