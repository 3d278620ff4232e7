/**
 * How containers are stopped: preStop hook, signal, kill; with what grace, and in which order. Part
 * of `plan`.
 *
 * Invariant: from the beginning of its hook or its signal on, whichever comes first, a container has
 * the grace that it was given, and no more but the two seconds after a hook. The ledger knows since
 * when, so this holds over restarts of the agent.
 */
import { sinceMs } from '../base/clock.ts';
import type { Draft } from './draft.ts';
import { isBusy, propose, wakeAt } from './draft.ts';
import { containerOf, killGraceSeconds } from './health.ts';
import type { ContainerSeen } from './model.ts';
import {
  SIGNAL_SENT_MS,
  awaitsSignal,
  currentSandbox,
  isAlive,
  ofAttempt,
  roleOf,
} from './seen.ts';

const MIN_GRACE_SECONDS = 2;

export function stop(
  draft: Draft,
  container: ContainerSeen,
  graceSeconds: number,
  why: string,
): void {
  const { id, name } = container;
  const message = `Stopping container ${name}: ${why}`;
  const key = `container/${name}`;
  propose(draft, { type: 'StopContainer', key, name, id, graceSeconds, message });
}

/** Asks again when a stop has surely sent its signal: then what is left of the grace is stored. */
export function awaitSignals(draft: Draft): void {
  const { seen, start, now } = draft;
  const begun = start.map((action) => ({ action, sinceMonoMs: now.monoMs }));
  for (const { action, sinceMonoMs } of [...begun, ...Object.values(seen.inFlight)]) {
    if (awaitsSignal(seen, action)) wakeAt(draft, sinceMonoMs + SIGNAL_SENT_MS);
  }
}

/** Ends a container: its preStop hook first if there is time for it, then its signal. */
export function end(draft: Draft, container: ContainerSeen, message: string): void {
  if (runPreStop(draft, container, message)) return;
  const { id, name, attempt } = container;
  const key = `container/${name}`;
  const graceSeconds = graceSecondsOf(draft, name);
  const ledger = draft.seen.ledger.containers[name];
  const wasTold = ledger?.attempt === attempt && ledger.preStop === 'done';
  const why = wasTold ? {} : { message };
  propose(draft, { type: 'StopContainer', key, name, id, graceSeconds, ...why });
}

/** True when a container has a preStop hook that is to be run, or is being run. */
function runPreStop(draft: Draft, container: ContainerSeen, message: string): boolean {
  const { want, seen } = draft;
  const { id, name, attempt, state } = container;
  if (state !== 'CONTAINER_RUNNING') return false;
  if (containerOf(want, name)?.lifecycle?.preStop === undefined) return false;
  const ledger = seen.ledger.containers[name];
  if (ledger?.attempt !== attempt || ledger.preStop === 'done') return false;
  const leftMs = graceLeftMs(draft, name);
  if (leftMs <= 0) return false;
  propose(draft, { type: 'RunPreStop', key: `container/${name}`, name, id, attempt, message });
  wakeAt(draft, draft.now.monoMs + leftMs);
  return true;
}

/** Gives up hooks whose time is over, or whose container has ended or is in the way of another. */
export function attendHooks(draft: Draft): void {
  const { seen, now } = draft;
  for (const { action } of Object.values(seen.inFlight)) {
    if (action.type !== 'RunPreStop' && action.type !== 'RunPostStart') continue;
    const ledger = seen.ledger.containers[action.name];
    const isOver = ledger?.attempt !== action.attempt || ledger.outcome !== undefined;
    if (action.type === 'RunPostStart') {
      const found = ofAttempt(seen, action.name, action.attempt);
      const isAstray = found?.podSandboxId !== currentSandbox(seen)?.id;
      if (isOver || isAstray) draft.cancel.push(action.key);
      continue;
    }
    const leftMs = graceLeftMs(draft, action.name);
    if (isOver || leftMs <= 0) draft.cancel.push(action.key);
    else wakeAt(draft, now.monoMs + leftMs);
  }
}

/** Seconds of grace that a container has in all: of its pod's end, or of its own. */
function wholeGraceSeconds({ want, seen }: Draft, name: string): number {
  const { ending, containers } = seen.ledger;
  if (ending !== undefined) return ending.graceSeconds;
  const kill = containers[name]?.kill;
  const container = containerOf(want, name);
  if (kill === undefined || container === undefined) return MIN_GRACE_SECONDS;
  return killGraceSeconds(want, container, kill);
}

/**
 * Milliseconds of grace that a container has left. Those that are stopped together each have the
 * pod's whole grace from their hook or first signal on; sidecars share what the others left of it.
 * What had ended before the pod began to end took nothing of it.
 */
function graceLeftMs(draft: Draft, name: string): number {
  const { want, seen, now } = draft;
  const { ending, containers } = seen.ledger;
  const own = containers[name]?.stopping;
  const flying = seen.inFlight[`container/${name}`];
  let passedMs = own === undefined ? 0 : sinceMs(own, now);
  if (own === undefined && flying?.action.type === 'RunPreStop') {
    passedMs = now.monoMs - flying.sinceMonoMs;
  }
  if (ending !== undefined && roleOf(want, name) === 'sidecar') {
    const endingMs = sinceMs(ending.since, now);
    for (const { stopping, outcome } of Object.values(containers)) {
      const isBefore = outcome !== undefined && sinceMs(outcome.seenAt, now) >= endingMs;
      if (stopping === undefined || isBefore) continue;
      passedMs = Math.max(passedMs, Math.min(sinceMs(stopping, now), endingMs));
    }
  }
  return wholeGraceSeconds(draft, name) * 1000 - passedMs;
}

/** Seconds of grace that a container gets now. It is never none unless asked for. */
function graceSecondsOf(draft: Draft, name: string): number {
  const whole = wholeGraceSeconds(draft, name);
  const hadHook = draft.seen.ledger.containers[name]?.preStop === 'done';
  const least = hadHook && whole > 0 ? MIN_GRACE_SECONDS : Math.min(MIN_GRACE_SECONDS, whole);
  return Math.max(Math.ceil(graceLeftMs(draft, name) / 1000), least);
}

/**
 * Stops what is alive: main and init containers together, then the sidecars one by one from the
 * last to the first; but all preStop hooks are run at once. True while something is alive.
 */
export function stopContainers(draft: Draft): boolean {
  const { want, seen } = draft;
  const alive = (seen.view?.containers ?? []).filter(isAlive);
  if (alive.length === 0) return false;
  shortenStops(draft);
  const why = seen.ledger.ending?.reason ?? 'its pod is ending';
  const messageOf = (name: string) => `Stopping container ${name}: ${why}`;
  const first = alive.filter((c) => roleOf(want, c.name) !== 'sidecar');
  for (const c of first) end(draft, c, messageOf(c.name));
  for (const c of alive) runPreStop(draft, c, messageOf(c.name));
  if (first.length > 0) return true;
  // What is being started is not seen yet, and sidecars outlive it.
  if (isBusy(draft, 'StartContainer')) return true;
  for (const { name } of want.pod.spec.initContainers.toReversed()) {
    const sidecars = alive.filter((c) => c.name === name);
    for (const c of sidecars) end(draft, c, messageOf(c.name));
    if (sidecars.length > 0) return true;
  }
  return true;
}

const GRACE_SLACK_MS = 1500;

/** Sees to stops on their way: gives up those whose grace is longer than what is left, so that a shorter one can follow. */
export function shortenStops(draft: Draft): void {
  const { seen, now } = draft;
  if (seen.ledger.ending === undefined) return;
  for (const { action, sinceMonoMs } of Object.values(seen.inFlight)) {
    if (action.type !== 'StopContainer') continue;
    const allowedMs = graceSecondsOf(draft, action.name) * 1000;
    const leftMs = sinceMonoMs + action.graceSeconds * 1000 - now.monoMs;
    if (leftMs > allowedMs + GRACE_SLACK_MS) draft.cancel.push(action.key);
  }
}
