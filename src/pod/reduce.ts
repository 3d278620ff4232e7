/**
 * What an event changes in what is seen of a pod. Total and pure. See model.ts for the contract.
 */
import { sinceMs } from '../base/clock.ts';
import type { Fault } from '../base/failure.ts';
import { invariant } from '../base/failure.ts';
import { REASON } from '../kube/reason.ts';
import { containerOf } from './health.ts';
import type {
  Action,
  ActionResult,
  ContainerLedger,
  ContainerSeen,
  EndingCause,
  Ledger,
  Now,
  Outcome,
  PodEvent,
  Seen,
  View,
  Want,
} from './model.ts';
import { noteChanged, noteReady, postStartEnded, preStopEnded, probed } from './probed.ts';
import { imageAfter, retryAfter, withoutTransient } from './retry.ts';
import {
  SIGNAL_SENT_MS,
  awaitsSignal,
  activeMs,
  activeStoreMs,
  isAlive,
  isFresh,
  newestOf,
  nextBackoff,
  ofAttempt,
  policyOf,
  roleOf,
  stampAt,
  withContainer,
  withLedger,
  without,
} from './seen.ts';
import type { Role } from './seen.ts';
import { settle } from './settle.ts';
import { objectsChanged, volumeBegan, volumeFailed } from './stale.ts';

/** Folds one event into what is seen. */
export function reduce(want: Want, seen: Seen, event: PodEvent, now: Now): Seen {
  const absorbed = absorb(want, apply(want, seen, event, now), now);
  const settled = noteChanged(want, settle(want, absorbed, now));
  const next = noteReady(noteStops(settled, now), seen.ledger, now);
  return next.ledger === seen.ledger && !isActiveDue(want, next, now)
    ? next
    : withActive(want, next, now);
}

function apply(want: Want, seen: Seen, event: PodEvent, now: Now): Seen {
  switch (event.type) {
    case 'Tick':
      return seen;
    case 'Looked':
      return seen.view !== undefined && event.view.seq <= seen.view.seq
        ? seen
        : { ...seen, view: event.view };
    case 'Hint':
      return { ...seen, staleSeq: Math.max(seen.staleSeq, event.seq) };
    case 'RuntimeBack':
      return {
        ...seen,
        staleSeq: Math.max(seen.staleSeq, event.seq),
        retries: withoutTransient(seen.retries),
      };
    case 'ActionStarted':
      return actionStarted(want, seen, event.action, now);
    case 'ActionEnded':
      return actionEnded(seen, event.action, event.seq, event.result, now);
    case 'ObjectsChanged':
      return objectsChanged(want, seen);
    case 'Probed':
      return probed(seen, event, now);
    case 'Admitted': {
      const free = withOptional(seen, 'waitFor', undefined);
      return free.ledger.admitted === true
        ? free
        : withLedger(free, { ...free.ledger, admitted: true });
    }
    case 'Rejected':
      return ended(want, seen, 'rejected', event, now);
    case 'OfflineTooLong':
      return ended(want, seen, 'offline', { ...event, reason: REASON.nodeOffline }, now);
    case 'Fenced':
      return withOptional(seen, 'fence', event.fence);
    case 'Waiting':
      return withOptional(seen, 'waitFor', event.waitFor);
    case 'Held':
      return withOptional(seen, 'hold', event.hold);
  }
}

function ended(
  want: Want,
  seen: Seen,
  cause: EndingCause,
  { reason, message }: { readonly reason: string; readonly message: string },
  now: Now,
): Seen {
  if (seen.ledger.ending !== undefined) return seen;
  const graceSeconds = want.pod.spec.terminationGracePeriodSeconds;
  const ending = { cause, graceSeconds, since: now, reason, message };
  return withLedger(seen, { ...seen.ledger, ending });
}

function withOptional<K extends 'waitFor' | 'hold' | 'fence'>(
  seen: Seen,
  key: K,
  value: Seen[K] | undefined,
): Seen {
  if (value !== undefined) return { ...seen, [key]: value };
  if (seen[key] === undefined) return seen;
  const { [key]: _, ...rest } = seen;
  return rest as Seen;
}

// ---- actions ----

function actionStarted(want: Want, seen: Seen, action: Action, now: Now): Seen {
  invariant(seen.inFlight[action.key] === undefined, `two actions with the key ${action.key}`);
  const next = {
    ...seen,
    inFlight: { ...seen.inFlight, [action.key]: { action, sinceMonoMs: now.monoMs } },
  };
  const { ledger } = seen;
  switch (action.type) {
    case 'SetUpPod':
      return ledger.started === undefined ? withLedger(next, { ...ledger, started: now }) : next;
    case 'SetUpVolume':
      return volumeBegan(next, action.volume.name);
    case 'RunPodSandbox':
      return withLedger(next, {
        ...ledger,
        sandboxAttempt: action.attempt,
        bootSandbox:
          ledger.bootSandbox?.boot === now.boot
            ? ledger.bootSandbox
            : { boot: now.boot, attempt: action.attempt },
      });
    case 'CreateContainer': {
      const created = withContainer(
        ledger,
        action.name,
        creationOf(ledger, action, roleOf(want, action.name), now),
      );
      // Each start ensures its image anew, as the pull policy and image removal demand.
      const image = containerOf(want, action.name)?.image;
      const ready = without(seen.ready, action.name);
      return withLedger({ ...next, images: without(seen.images, image), ready }, created);
    }
    case 'StartContainer': {
      const container = ledger.containers[action.name];
      invariant(container !== undefined, `start of ${action.name}, which was never created`);
      invariant(ledger.terminal === undefined, `start of ${action.name} in a pod that has ended`);
      const { attempt, epoch } = action;
      const before = container.intent;
      const isKnown =
        before?.attempt === attempt && before.epoch === epoch && before.at.boot === now.boot;
      if (isKnown) return next;
      const intent = { attempt, epoch, at: now };
      return withLedger(next, withContainer(ledger, action.name, { ...container, intent }));
    }
    default:
      return next;
  }
}

/** What is known of a run; it ends with the run, also with one of which nothing is left. */
const OF_RUN = ['stopping', 'postStart', 'started', 'ready', 'kill', 'preStop'] as const;

function creationOf(
  ledger: Ledger,
  action: Action & { type: 'CreateContainer' },
  role: Role | undefined,
  now: Now,
): ContainerLedger {
  const { attempt, sandboxAttempt } = action;
  const before = ledger.containers[action.name];
  if (before === undefined) return { attempt, sandboxAttempt };
  if (before.outcome === undefined) {
    const { intent, lastOutcome } = before;
    const isSame = before.attempt === attempt && before.sandboxAttempt === sandboxAttempt;
    if (isSame && OF_RUN.every((key) => before[key] === undefined)) return before;
    return {
      ...{ attempt, sandboxAttempt },
      ...(intent && { intent }),
      ...(lastOutcome && { lastOutcome }),
      ...(before.backoff && { backoff: before.backoff }),
    };
  }
  const isFailure =
    before.kill?.cause !== 'changed' && (before.outcome.exitCode !== 0 || role !== 'init');
  const backoff = isFailure ? nextBackoff(before, now) : before.backoff;
  return {
    attempt,
    sandboxAttempt,
    lastOutcome: before.outcome,
    ...(backoff === undefined ? {} : { backoff }),
  };
}

function actionEnded(
  seen: Seen,
  action: Action,
  seq: number,
  result: ActionResult,
  now: Now,
): Seen {
  const flying = seen.inFlight[action.key];
  // An answer that comes twice, or for an action given up with a former life of the agent.
  if (flying === undefined || flying.action !== action) return seen;
  const next: Seen = {
    ...seen,
    inFlight: without(seen.inFlight, action.key),
    staleSeq: IN_RUNTIME.has(action.type) ? Math.max(seen.staleSeq, seq) : seen.staleSeq,
  };
  if (action.type === 'PullImage') {
    const image = imageAfter(seen.images[action.image], result, now);
    return { ...next, images: { ...seen.images, [action.image]: image } };
  }
  if (action.type === 'RunPreStop') return preStopEnded(next, action, flying.sinceMonoMs, now);
  if (action.type === 'RunPostStart') {
    const after = postStartEnded(next, action, result);
    if (after !== undefined) return after;
  }
  if (!result.ok) {
    const retry = retryAfter(seen.retries[action.key], result.fault, action, now);
    const failed = { ...next, retries: { ...seen.retries, [action.key]: retry } };
    if (action.type === 'SetUpVolume') return volumeFailed(failed, action.volume.name);
    return bumpReserved(graceAnew(failed, action, result.fault), action);
  }
  const done = { ...next, retries: without(seen.retries, action.key) };
  switch (action.type) {
    case 'SetUpPod':
      return { ...done, setUp: 'up' };
    case 'TearDownPod':
      return { ...done, setUp: action.final ? 'gone' : 'released' };
    case 'SetUpVolume':
      return { ...done, volumes: { ...seen.volumes, [action.volume.name]: 'up' } };
    case 'TearDownVolume':
      return { ...done, volumes: { ...seen.volumes, [action.volume.name]: 'down' } };
    case 'StopContainer':
      return graceOver(done, action);
    default:
      return done;
  }
}

/** Actions that change what a look at the runtime would show. */
const IN_RUNTIME: ReadonlySet<Action['type']> = new Set([
  'RunPodSandbox',
  'StopPodSandbox',
  'RemovePodSandbox',
  'CreateContainer',
  'StartContainer',
  'StopContainer',
  'RemoveContainer',
]);

/**
 * A stop that has been on its way for a while has sent its signal: from then on what is left of
 * the grace outlives the agent. Before that the agent may die and the signal never be sent.
 */
function noteStops(seen: Seen, now: Now): Seen {
  let { ledger } = seen;
  for (const { action, sinceMonoMs } of Object.values(seen.inFlight)) {
    if (now.monoMs - sinceMonoMs < SIGNAL_SENT_MS || !awaitsSignal(seen, action)) continue;
    const container = ledger.containers[action.name];
    if (container === undefined) continue;
    const stopping = stampAt(sinceMonoMs, now);
    ledger = withContainer(ledger, action.name, { ...container, stopping });
  }
  return ledger === seen.ledger ? seen : withLedger(seen, ledger);
}

/** Its grace is over with the stop; one that the pod's end is given later begins anew. */
function graceOver(seen: Seen, { name, id }: Action & { type: 'StopContainer' }): Seen {
  const container = seen.ledger.containers[name];
  if (seen.ledger.ending !== undefined || container?.stopping === undefined) return seen;
  if (ofAttempt(seen, name, container.attempt)?.id !== id) return seen;
  const { stopping: _, ...rest } = container;
  return withLedger(seen, withContainer(seen.ledger, name, rest));
}

/**
 * A stop that failed may never have sent its signal: the process keeps its whole grace, unless its
 * preStop hook was there to tell it.
 */
function graceAnew(seen: Seen, action: Action, fault: Fault): Seen {
  if (action.type !== 'StopContainer' || fault.code === 'Cancelled') return seen;
  const container = seen.ledger.containers[action.name];
  if (container?.stopping === undefined || container.preStop === 'done') return seen;
  const { stopping: _, ...rest } = container;
  return withLedger(seen, withContainer(seen.ledger, action.name, rest));
}

const RESERVED_FAILURES = 3;

/**
 * A half-written container that the runtime neither lists nor gives up would hold its name for
 * ever; the next attempt has another name.
 */
function bumpReserved(seen: Seen, action: Action): Seen {
  if (action.type !== 'CreateContainer') return seen;
  const retry = seen.retries[action.key];
  if (retry?.fault.code !== 'NameReserved' || retry.failures < RESERVED_FAILURES) return seen;
  const container = seen.ledger.containers[action.name];
  if (container === undefined || container.attempt !== action.attempt) return seen;
  const bumped = { ...container, attempt: container.attempt + 1 };
  return withLedger(
    { ...seen, retries: without(seen.retries, action.key) },
    withContainer(seen.ledger, action.name, bumped),
  );
}

// ---- the view ----

/** Takes over into the ledger what the view shows of the ends of containers. */
function absorb(want: Want, seen: Seen, now: Now): Seen {
  const { view } = seen;
  if (view === undefined || seen.ledger.terminal !== undefined) return seen;
  let { ledger } = seen;
  let sandboxAttempt = ledger.sandboxAttempt;
  for (const sandbox of view.sandboxes) sandboxAttempt = Math.max(sandboxAttempt, sandbox.attempt);
  if (sandboxAttempt !== ledger.sandboxAttempt) {
    // The ledger was lost or is a backup: which sandboxes are of this boot is not known any more.
    const { bootSandbox: _, ...rest } = ledger;
    ledger = { ...rest, sandboxAttempt };
  }
  const { initContainers, containers } = want.pod.spec;
  for (const { name } of initContainers)
    ledger = absorbContainer(want, seen, view, ledger, name, now);
  for (const { name } of containers) ledger = absorbContainer(want, seen, view, ledger, name, now);
  return ledger === seen.ledger ? seen : withLedger(seen, ledger);
}

function absorbContainer(
  want: Want,
  seen: Seen,
  view: View,
  ledger: Ledger,
  name: string,
  now: Now,
): Ledger {
  const newest = newestOf(seen, name);
  const spec = containerOf(want, name);
  let container = ledger.containers[name];
  // The runtime knows of a later attempt than the ledger: the ledger was lost or is a backup.
  if (newest !== undefined && newest.attempt > (container?.attempt ?? -1)) {
    container = {
      attempt: newest.attempt,
      sandboxAttempt: sandboxAttemptOf(view, newest) ?? ledger.sandboxAttempt,
      ...(container?.outcome === undefined ? {} : { lastOutcome: container.outcome }),
      ...(container?.backoff === undefined ? {} : { backoff: container.backoff }),
      // To run a hook again could end what runs well.
      ...(spec?.lifecycle?.postStart === undefined ? {} : { postStart: 'done' }),
    };
  }
  if (container === undefined) return ledger;
  if (container.outcome === undefined) {
    const outcome = outcomeOf(want, seen, view, container, name, now);
    if (outcome !== undefined) container = { ...container, outcome };
  }
  return container === ledger.containers[name] ? ledger : withContainer(ledger, name, container);
}

function sandboxAttemptOf(view: View, container: ContainerSeen): number | undefined {
  return view.sandboxes.find((s) => s.id === container.podSandboxId)?.attempt;
}

/** How the container of the ledger's attempt ended, or undefined while it has not. */
function outcomeOf(
  want: Want,
  seen: Seen,
  view: View,
  container: ContainerLedger,
  name: string,
  now: Now,
): Outcome | undefined {
  const { attempt, sandboxAttempt } = container;
  const intent = container.intent?.attempt === attempt ? container.intent : undefined;
  const rebooted = intent !== undefined && intent.at.boot !== now.boot;
  const base = { attempt, sandboxAttempt, seenAt: now };
  const found = view.containers.find((c) => c.name === name && c.attempt === attempt);
  if (found?.state === 'CONTAINER_EXITED') {
    const lost = rebooted && found.exitCode === 255 && found.reason === 'Unknown';
    return lost ? { ...base, ...powerLoss(want, name), ...endOf(found) } : outcomeFrom(found, base);
  }
  if (intent === undefined) return undefined;
  // Only a view that began after everything we did can show that something is not there.
  if (!isFresh(seen) || seen.inFlight[`container/${name}`] !== undefined) return undefined;
  const neverRan = found?.state === 'CONTAINER_CREATED' && intent.epoch === view.epoch;
  if (found !== undefined && (isAlive(found) || neverRan)) return undefined;
  if (rebooted) return { ...base, ...powerLoss(want, name) };
  return {
    ...base,
    exitCode: 137,
    reason: REASON.containerStatusUnknown,
    message: 'The container could not be located when the pod was looked at; it may have run.',
  };
}

function powerLoss(want: Want, name: string): Pick<Outcome, 'exitCode' | 'reason' | 'message'> {
  const role = roleOf(want, name) ?? 'main';
  const never = policyOf(want, role) === 'Never';
  return {
    exitCode: 137,
    reason: REASON.nodePowerLoss,
    message: never
      ? 'The node went down while the container was started or running, so it may have run; ' +
        'it is not started again because restartPolicy is Never.'
      : 'The node went down while the container was started or running.',
  };
}

function endOf(c: ContainerSeen): Pick<Outcome, 'containerID' | 'imageRef' | 'startedAt'> {
  return {
    containerID: c.id,
    imageRef: c.imageRef,
    ...(c.startedAt > 0n ? { startedAt: rfc3339(c.startedAt) } : {}),
  };
}

function outcomeFrom(
  c: ContainerSeen,
  base: Pick<Outcome, 'attempt' | 'sandboxAttempt' | 'seenAt'>,
): Outcome {
  const reason = c.reason !== '' ? c.reason : c.exitCode === 0 ? REASON.completed : REASON.error;
  return {
    ...base,
    ...endOf(c),
    exitCode: c.exitCode,
    reason,
    ...(c.message !== '' ? { message: c.message } : {}),
    ...(c.finishedAt > 0n ? { finishedAt: rfc3339(c.finishedAt) } : {}),
  };
}

/** A CRI time as RFC 3339, in seconds as Kubernetes shows them. */
export function rfc3339(nanoseconds: bigint): string {
  return rfc3339OfMs(Number(nanoseconds / 1_000_000n));
}

/** Milliseconds since 1970 as RFC 3339, in whole seconds. */
export function rfc3339OfMs(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

// ---- the active time ----

/** The active time is stored now and then, else each power cut would take it back to nothing. */
function isActiveDue({ pod }: Want, { ledger }: Seen, now: Now): boolean {
  const { active, terminal } = ledger;
  const { activeDeadlineSeconds } = pod.spec;
  if (active === undefined || terminal !== undefined || activeDeadlineSeconds === undefined) {
    return false;
  }
  return (
    active.at.boot !== now.boot || sinceMs(active.at, now) >= activeStoreMs(activeDeadlineSeconds)
  );
}

/** Brings the active time up to date whenever the ledger is stored anyway. */
function withActive(want: Want, seen: Seen, now: Now): Seen {
  const { ledger } = seen;
  if (want.pod.spec.activeDeadlineSeconds === undefined || ledger.started === undefined)
    return seen;
  const ms = ledger.active === undefined ? 0 : activeMs(ledger, now);
  return withLedger(seen, { ...ledger, active: { ms, at: now } });
}
