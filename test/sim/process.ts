/** A process in the world, and what probes and hooks find in it. */
import type { Probe } from '../../src/kube/pod.ts';
import type { ProbeName } from '../../src/pod/model.ts';
import type { Health } from './pods.ts';

/** A process that really ran, or runs. */
export type Process = {
  readonly uid: string;
  readonly name: string;
  readonly attempt: number;
  readonly containerId: string;
  readonly sandboxId: string;
  readonly sandboxAttempt: number;
  readonly startedMs: number;
  /** Its start was on its way when the agent died: nobody that lives knows of it. */
  readonly late: boolean;
  termMs?: number;
  /** When the agent set out to run its preStop hook. */
  preStopMs?: number;
  /** The agent died so soon after that or the SIGTERM that it may not know of it. */
  isUnsure?: boolean;
  /** When a stop of it was first asked for that never reached the runtime. */
  stopLostMs?: number;
  hasPostStarted?: boolean;
  hasStarted?: boolean;
  /** How often in a row each of its probes failed. */
  readonly failures: { startup: number; liveness: number };
  /** A probe failed often enough, or its postStart hook did. */
  mayBeKilled?: boolean;
  ended?: { readonly atMs: number; readonly exitCode: number; readonly cause: EndCause };
};
export type EndCause = 'exit' | 'term' | 'kill' | 'power';

/** When its end began: with its preStop hook or its first SIGTERM; `Infinity` while it did not. */
export function endBeganMs({ preStopMs = Infinity, termMs = Infinity }: Process): number {
  return Math.min(preStopMs, termMs);
}

export type HookName = 'RunPostStart' | 'RunPreStop';

export type Conditions = {
  readonly health: Health;
  readonly nowMs: number;
  readonly isCalm: boolean;
};

/** What a probe of a process that runs finds. */
export function answerOf(
  process: Process,
  { health, nowMs, isCalm }: Conditions,
  probe: ProbeName,
  { failureThreshold }: Probe,
): 'success' | 'failure' {
  const runMs = nowMs - process.startedMs;
  if (probe === 'readiness') {
    return isCalm || Math.floor(runMs / health.flapMs) % 2 === 0 ? 'success' : 'failure';
  }
  const isWell =
    isCalm || (probe === 'startup' ? runMs >= health.startingMs : runMs < health.sickMs);
  process.failures[probe] = isWell ? 0 : process.failures[probe] + 1;
  if (probe === 'startup' && isWell) process.hasStarted = true;
  if (process.failures[probe] >= failureThreshold) process.mayBeKilled = true;
  return isWell ? 'success' : 'failure';
}

/** How long a hook of a process that runs takes, and whether it fails. */
export function hookOf(
  { health, isCalm }: Conditions,
  name: HookName,
): { readonly ms: number; readonly fails: boolean } {
  if (name === 'RunPreStop') return { ms: health.preStopMs, fails: false };
  const ms = isCalm ? Math.min(health.postStartMs, 1000) : health.postStartMs;
  return { ms, fails: health.postStartFails && !isCalm };
}
