/** The way back of a pod that was stopped because its node was cut off for too long. Pure. */
import { offlinePolicy } from '../kube/offline-policy.ts';
import type { ContainerLedger, Ledger, Want } from './model.ts';

/**
 * What the ledger of such a pod is when it starts again: as of one that has not run, but for the
 * counts of its restarts. Undefined when it does not start again.
 */
export function reborn({ pod, deletion }: Want, ledger: Ledger): Ledger | undefined {
  const { restartPolicy } = pod.spec;
  const mayRunAgain =
    restartPolicy !== 'Never' && offlinePolicy(pod.metadata.annotations).onReturn === 'restart';
  const isOver = ledger.ending?.cause === 'offline' && ledger.terminal !== undefined;
  if (!isOver || !mayRunAgain || deletion !== undefined) return undefined;
  const { ending: _ending, terminal: _terminal, containers, ...rest } = ledger;
  const again = Object.entries(containers).map(([name, one]): [string, ContainerLedger] => {
    const { attempt, sandboxAttempt, outcome } = one;
    if (outcome === undefined) return [name, { attempt, sandboxAttempt }];
    return [name, { attempt: attempt + 1, sandboxAttempt, lastOutcome: outcome }];
  });
  return { ...rest, containers: Object.fromEntries(again) };
}
