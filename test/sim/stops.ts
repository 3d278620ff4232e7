/** What has to hold when the agent ends a pod or stops a process. Part of the invariants. */
import type { Worker } from './agent.ts';
import { roleIn } from './expected.ts';
import type { History } from './history.ts';
import { Violation } from './violation.ts';
import type { Blow, Process, World } from './world.ts';

/** Of a pod that goes on, only what is too much may be ended. */
export function onlyStrays(
  world: World,
  history: History,
  process: Process,
  blow: Blow,
  isKilled: boolean,
): void {
  const { uid, name, sandboxId, containerId } = process;
  const { sandboxes, containers } = world;
  const ready = [...sandboxes.values()].filter(
    (s) => s.uid === uid && s.status.state === 'SANDBOX_READY',
  );
  if (ready.length !== 1 || ready[0]!.id !== sandboxId) return;
  if (containers.get(containerId)?.status.state === 'CONTAINER_UNKNOWN') return;
  const isOlder = [...containers.values()].some(
    (c) => c.uid === uid && c.name === name && c.attempt > process.attempt,
  );
  if (isOlder || roleIn(history.want, name) === undefined || process.mayBeKilled) return;
  if (isKilled) {
    throw new Violation('probe', uid, `${name} is stopped, and no probe or hook of it failed`);
  }
  const text = `${name} was running well and got SIG${blow.signal} by ${blow.by}`;
  throw new Violation('I-20', uid, text);
}

/** A main container with time for its preStop hook gets its signal after it. */
export function hookFirst(world: World, history: History, process: Process, graceMs: number): void {
  const { uid, name, containerId, preStopMs } = process;
  const container = history.want.pod.spec.containers.find((c) => c.name === name);
  if (container?.lifecycle?.preStop === undefined || preStopMs !== undefined) return;
  const isFirst = (history.stops.get(containerId) ?? 0) >= history.endingMs;
  if (!isFirst || graceMs < 5000 || process.isStopLost || history.isLedgerLost) return;
  if (world.containers.get(containerId)?.status.state !== 'CONTAINER_RUNNING') return;
  throw new Violation('hook', uid, `${name} gets SIGTERM before its preStop hook was begun`);
}

export function sidecarsLast(
  world: World,
  history: History,
  process: Process,
  isEnding: boolean,
): void {
  const { uid, name } = process;
  if (!isEnding || roleIn(history.want, name) !== 'sidecar') return;
  const sidecars = history.want.pod.spec.initContainers.map((c) => c.name);
  for (const other of world.alive) {
    if (other.uid !== uid || other.name === name || other.late) continue;
    const isLater = sidecars.indexOf(other.name) > sidecars.indexOf(name);
    if (roleIn(history.want, other.name) === 'sidecar' && !isLater) continue;
    throw new Violation('I-07', uid, `sidecar ${name} is stopped while ${other.name} runs`);
  }
}

/** A pod ends because it was told to, or because it is done. */
export function mayEnd(
  world: World,
  { want }: History,
  { uid, seen }: Worker,
  isRefused: boolean,
): void {
  const { ending, active } = seen.ledger;
  const { activeDeadlineSeconds, containers } = want.pod.spec;
  const isRunning = [...world.alive].some(
    (p) => p.uid === uid && containers.some((c) => c.name === p.name) && !p.late,
  );
  const isRight =
    (ending?.cause === 'deleted' && want.deletion !== undefined) ||
    (ending?.cause === 'rejected' && isRefused) ||
    (ending?.cause === 'completed' && !isRunning) ||
    (ending?.cause === 'deadline' &&
      activeDeadlineSeconds !== undefined &&
      (active?.ms ?? 0) >= activeDeadlineSeconds * 1000);
  if (!isRight) throw new Violation('I-20', uid, `ends as ${ending?.cause} without a reason`);
}
