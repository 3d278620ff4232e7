/** Decides whether a pod begins to end, and whether it has ended. Part of `reduce`. */
import { REASON } from '../kube/reason.ts';
import type { Ending, Ledger, Now, Seen, Terminal, Want } from './model.ts';
import {
  activeMs,
  initWasPassed,
  isAlive,
  isFresh,
  policyOf,
  restarts,
  withLedger,
} from './seen.ts';

/** Decides whether the pod begins to end, and whether it has ended. */
export function settle(want: Want, seen: Seen, now: Now): Seen {
  const { ledger } = seen;
  if (ledger.terminal !== undefined) return seen;
  const ending = endingOf(want, seen, now);
  const next =
    ending === ledger.ending ? seen : withLedger(seen, { ...ledger, ...(ending && { ending }) });
  if (ending === undefined || !isQuiet(next)) return next;
  return withLedger(next, { ...next.ledger, terminal: terminalOf(want, next.ledger, ending, now) });
}

function endingOf(want: Want, seen: Seen, now: Now): Ending | undefined {
  const { ledger } = seen;
  const { deletion } = want;
  const before = ledger.ending;
  if (before !== undefined) {
    // A later, shorter grace counts; a longer one does not give back what was taken.
    return deletion !== undefined && deletion.graceSeconds < before.graceSeconds
      ? { ...before, graceSeconds: deletion.graceSeconds }
      : before;
  }
  if (deletion !== undefined) {
    return { cause: 'deleted', graceSeconds: deletion.graceSeconds, since: deletion.at };
  }
  const graceSeconds = want.pod.spec.terminationGracePeriodSeconds;
  const deadline = want.pod.spec.activeDeadlineSeconds;
  if (deadline !== undefined && activeMs(ledger, now) >= deadline * 1000) {
    return {
      cause: 'deadline',
      graceSeconds,
      since: now,
      reason: REASON.deadlineExceeded,
      message: 'Pod was active on the node longer than the specified deadline',
    };
  }
  return isComplete(want, ledger) ? { cause: 'completed', graceSeconds, since: now } : undefined;
}

/** Nothing is left to run: all main containers are done for good, or an init container failed. */
function isComplete(want: Want, ledger: Ledger): boolean {
  const { initContainers, containers } = want.pod.spec;
  // A pod without any only stands for one that can't be carried out: its end is told.
  if (containers.length === 0) return false;
  if (containers.every((c) => isFinal(want, ledger, c.name, 'main'))) return true;
  if (initWasPassed(want, ledger, ledger.sandboxAttempt)) return false;
  return initContainers.some((c) => {
    const outcome = ledger.containers[c.name]?.outcome;
    if (c.restartPolicy === 'Always' || outcome === undefined) return false;
    return outcome.exitCode !== 0 && !restarts(policyOf(want, 'init'), outcome);
  });
}

function isFinal(want: Want, ledger: Ledger, name: string, role: 'main'): boolean {
  const outcome = ledger.containers[name]?.outcome;
  return outcome !== undefined && !restarts(policyOf(want, role), outcome);
}

/** No process of the pod is left, and none is on its way. */
function isQuiet(seen: Seen): boolean {
  if (!isFresh(seen) || seen.view === undefined) return false;
  if (seen.view.containers.some(isAlive)) return false;
  return Object.values(seen.inFlight).every(
    ({ action }) =>
      action.type !== 'RunPodSandbox' &&
      action.type !== 'CreateContainer' &&
      action.type !== 'StartContainer' &&
      action.type !== 'StopContainer',
  );
}

function terminalOf(want: Want, ledger: Ledger, ending: Ending, now: Now): Terminal {
  const { reason, message } = ending;
  if (reason !== undefined) {
    return { phase: 'Failed', reason, ...(message !== undefined && { message }), at: now };
  }
  const succeeded = want.pod.spec.containers.every(
    (c) => ledger.containers[c.name]?.outcome?.exitCode === 0,
  );
  const lost = want.pod.spec.containers
    .map((c) => ledger.containers[c.name]?.outcome)
    .find((outcome) => outcome?.reason === REASON.nodePowerLoss);
  if (succeeded) return { phase: 'Succeeded', at: now };
  if (ending.cause === 'completed' && lost !== undefined) {
    return {
      phase: 'Failed',
      reason: REASON.nodePowerLoss,
      ...(lost.message !== undefined && { message: lost.message }),
      at: now,
    };
  }
  return { phase: 'Failed', at: now };
}
