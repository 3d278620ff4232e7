/** What probes, hooks and changes of the spec change in what is seen of a pod. Part of `reduce`. */
import { sinceMs } from '../base/clock.ts';
import type { FailureCode } from '../base/failure.ts';
import { containerHash, HASH_ANNOTATION } from '../kube/container-hash.ts';
import { containerOf, lastReady } from './health.ts';
import type {
  Action,
  ActionResult,
  ContainerLedger,
  Ledger,
  Now,
  PodEvent,
  Seen,
  Want,
} from './model.ts';
import {
  READY_STORE_MS,
  ofAttempt,
  policyOf,
  roleOf,
  stampAt,
  withContainer,
  withLedger,
  without,
} from './seen.ts';

/** What a probe says of a run that is over, or of a container that is none, counts for nothing. */
export function probed(seen: Seen, event: PodEvent & { type: 'Probed' }, now: Now): Seen {
  const { name, id, probe, result } = event;
  const { ledger } = seen;
  const container = ledger.containers[name];
  if (container === undefined || container.outcome !== undefined) return seen;
  if (ledger.terminal !== undefined) return seen;
  if (ofAttempt(seen, name, container.attempt)?.id !== id) return seen;
  const is = result === 'success';
  if (probe === 'readiness') {
    if ((lastReady(seen, name)?.is ?? false) === is) return seen;
    const { attempt } = container;
    return { ...seen, ready: { ...seen.ready, [name]: { attempt, is, at: now } } };
  }
  if (is && probe === 'startup' && container.started === undefined) {
    return withLedger(seen, withContainer(ledger, name, { ...container, started: true }));
  }
  if (is || ledger.ending !== undefined || container.kill !== undefined) return seen;
  const kill = { cause: probe };
  return withLedger(seen, withContainer(ledger, name, { ...container, kill }));
}

/**
 * Stores what readiness probes said, so that it outlives the agent: at once, but not more often than
 * once a minute, for a probe that can't make up its mind must not wear the card out.
 */
export function noteReady(seen: Seen, before: Ledger, now: Now): Seen {
  let { ledger } = seen;
  const isStoredAnyway = ledger !== before;
  for (const [name, { attempt, is, at }] of Object.entries(seen.ready)) {
    const container = ledger.containers[name];
    if (container?.attempt !== attempt || container.outcome !== undefined) continue;
    const stored = container.ready;
    if ((stored?.is ?? false) === is) continue;
    const isDue = stored === undefined || sinceMs(stored.at, now) >= READY_STORE_MS;
    if (!isDue && !isStoredAnyway) continue;
    ledger = withContainer(ledger, name, { ...container, ready: { is, at } });
  }
  return ledger === seen.ledger ? seen : withLedger(seen, ledger);
}

/**
 * A container that was made of another definition than the pod has now is to be made anew: its
 * image is all that may change. One that is never restarted stays as it is.
 * Source: pkg/kubelet/kuberuntime computePodActions, containerChanged.
 */
export function noteChanged(want: Want, seen: Seen): Seen {
  let { ledger } = seen;
  // Pods of this node's own are replaced as a whole.
  if (want.source !== 'api') return seen;
  if (ledger.ending !== undefined || ledger.terminal !== undefined) return seen;
  for (const { name, attempt, state, annotations } of seen.view?.containers ?? []) {
    const hash = annotations[HASH_ANNOTATION];
    if (hash === undefined || state !== 'CONTAINER_RUNNING') continue;
    const container = ledger.containers[name];
    if (container?.attempt !== attempt || container.outcome !== undefined) continue;
    const role = roleOf(want, name);
    const spec = containerOf(want, name);
    if (role === undefined || spec === undefined || container.kill !== undefined) continue;
    if (policyOf(want, role) === 'Never' || containerHash(spec) === hash) continue;
    ledger = withContainer(ledger, name, { ...container, kill: { cause: 'changed' } });
  }
  return ledger === seen.ledger ? seen : withLedger(seen, ledger);
}

type Hook = Action & { type: 'RunPostStart' | 'RunPreStop' };

/** The stored container that a hook was run for; undefined when that run is over. */
function runOf({ ledger }: Seen, { name, attempt }: Hook): ContainerLedger | undefined {
  const container = ledger.containers[name];
  return container?.attempt === attempt && container.outcome === undefined ? container : undefined;
}

/** However it ended, the signal comes next; what the hook took of the grace is gone. */
export function preStopEnded(seen: Seen, action: Hook, sinceMonoMs: number, now: Now): Seen {
  const container = runOf(seen, action);
  if (container === undefined) return seen;
  const stopping = container.stopping ?? stampAt(sinceMonoMs, now);
  const next = { ...container, stopping, preStop: 'done' } as const;
  return withLedger(seen, withContainer(seen.ledger, action.name, next));
}

/** It was given up, the runtime was lost, or the ledger could not be stored before it. */
export const IN_DOUBT: ReadonlySet<FailureCode> = new Set(['Cancelled', 'Unavailable', 'NoSpace']);

/** Undefined when it is to be tried again: nobody knows how it ended. */
export function postStartEnded(seen: Seen, action: Hook, result: ActionResult): Seen | undefined {
  const isUnknown = !result.ok && IN_DOUBT.has(result.fault.code);
  if (isUnknown) return undefined;
  const container = runOf(seen, action);
  const done = { ...seen, retries: without(seen.retries, action.key) };
  if (container === undefined || container.kill !== undefined) return done;
  const next: ContainerLedger = result.ok
    ? { ...container, postStart: 'done' }
    : { ...container, kill: { cause: 'postStart', message: result.fault.message } };
  return withLedger(done, withContainer(seen.ledger, action.name, next));
}
