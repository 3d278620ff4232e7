/** What to believe of a pod whose ledger is lost or may be out of date. Pure. */
import type { Pod } from '../kube/pod.ts';
import type { ContainerLedger, Ledger } from './model.ts';

/** A boot that is none: nothing can be known of what happened in it. */
const UNKNOWN_BOOT = 'unknown';

/**
 * The ledger with a start intent for each container that must not be started twice and of which no
 * end is known: unless the runtime knows better, it may have run.
 */
export function withDoubt(pod: Pod, ledger: Ledger | undefined): Ledger | undefined {
  const { restartPolicy, initContainers, containers } = pod.spec;
  if (restartPolicy !== 'Never' || ledger?.terminal !== undefined) return ledger;
  const once = [...initContainers.filter((c) => c.restartPolicy !== 'Always'), ...containers];
  const doubted: Record<string, ContainerLedger> = { ...ledger?.containers };
  for (const { name } of once) {
    const known = doubted[name];
    if (known?.outcome !== undefined) continue;
    const attempt = known?.attempt ?? 0;
    const at = { boot: UNKNOWN_BOOT, monoMs: 0, wallMs: 0 };
    doubted[name] = {
      ...known,
      attempt,
      sandboxAttempt: known?.sandboxAttempt ?? 0,
      intent: { attempt, epoch: UNKNOWN_BOOT, at },
    };
  }
  return { ...(ledger ?? { sandboxAttempt: 0 }), containers: doubted };
}
