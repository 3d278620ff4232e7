/** What has to hold when the agent ends a pod or stops a process. Part of the invariants. */
import type { ActionType, Ledger, Seen, Want } from '../../src/pod/model.ts';
import type { Worker } from './agent.ts';
import { roleIn } from './expected.ts';
import type { History, StopCause } from './history.ts';
import type { Process } from './process.ts';
import { Violation } from './violation.ts';
import type { Blow, World } from './world.ts';

/** Actions that begin the end of a process. */
export const STOPS: ReadonlySet<ActionType> = new Set(['StopContainer', 'RunPreStop']);

/** Why the agent begins to stop a container. */
export function causeOf({ ledger, view }: Seen, name: string, id: string): StopCause {
  if (ledger.ending !== undefined) return 'ending';
  const found = view?.containers.find((c) => c.id === id);
  const sandbox = view?.sandboxes.find((s) => s.id === found?.podSandboxId);
  const isInPlace = sandbox?.state === 'SANDBOX_READY' && found?.state === 'CONTAINER_RUNNING';
  return isInPlace && ledger.containers[name]?.kill !== undefined ? 'kill' : 'stray';
}

/** Of a pod that goes on, only what is too much may be ended. */
export function onlyStrays(
  world: World,
  history: History,
  process: Process,
  blow: Blow,
  worker: Worker | undefined,
): void {
  const { uid, name, sandboxId, containerId } = process;
  const { sandboxes, containers } = world;
  const ready = [...sandboxes.values()].filter(
    (s) => s.uid === uid && s.status.state === 'SANDBOX_READY',
  );
  if (ready.length !== 1 || ready[0]!.id !== sandboxId) return;
  // A restart of the runtime may have cleared that up since the agent looked.
  const shown = worker?.seen.view?.containers.find((c) => c.id === containerId)?.state;
  const state = containers.get(containerId)?.status.state;
  if (state === 'CONTAINER_UNKNOWN' || shown === 'CONTAINER_UNKNOWN') return;
  const isOlder = [...containers.values()].some(
    (c) => c.uid === uid && c.name === name && c.attempt > process.attempt,
  );
  if (isOlder || roleIn(history.want, name) === undefined || process.mayBeKilled) return;
  if (worker?.seen.ledger.containers[name]?.kill !== undefined) {
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
  // One that has its signal already is told no more.
  if (process.termMs !== undefined) return;
  if (graceMs < 5000 || process.stopLostMs !== undefined || history.isLedgerLost) return;
  if (world.containers.get(containerId)?.status.state !== 'CONTAINER_RUNNING') return;
  throw new Violation('hook', uid, `${name} gets SIGTERM before its preStop hook was begun`);
}

export function sidecarsLast(world: World, history: History, process: Process): void {
  const { uid, name } = process;
  if (roleIn(history.want, name) !== 'sidecar') return;
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
  const { containers } = want.pod.spec;
  const isRunning = [...world.alive].some(
    (p) => p.uid === uid && containers.some((c) => c.name === p.name) && !p.late,
  );
  if (hasReason(want, seen.ledger, isRunning, isRefused)) return;
  throw new Violation('I-20', uid, `ends as ${seen.ledger.ending?.cause} without a reason`);
}

/** Whether a pod has a reason to end as its ledger says. */
function hasReason(
  want: Want,
  { ending, active }: Ledger,
  isRunning: boolean,
  isRefused: boolean,
): boolean {
  const { activeDeadlineSeconds } = want.pod.spec;
  switch (ending?.cause) {
    case 'deleted':
      return want.deletion !== undefined;
    case 'rejected':
      return isRefused;
    case 'completed':
      return !isRunning;
    case 'deadline':
      return (active?.ms ?? 0) >= (activeDeadlineSeconds ?? Infinity) * 1000;
    // The simulation has no API server that could be out of reach.
    case 'offline':
    case undefined:
      return false;
  }
}
