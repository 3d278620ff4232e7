/** What the pod specification says, worked out once more and apart from the core. */
import type { Container, Probe, RestartPolicy } from '../../src/kube/pod.ts';
import type { ActionType, Ledger, Seen, Stamp, Want } from '../../src/pod/model.ts';
import type { History } from './history.ts';
import type { Process } from './process.ts';
import { Violation } from './violation.ts';

/** Actions that bring something up. */
export const STARTS: ReadonlySet<ActionType> = new Set([
  'SetUpPod',
  'SetUpVolume',
  'PullImage',
  'RunPodSandbox',
  'CreateContainer',
  'StartContainer',
]);

export function graceMsOf(want: Want): number {
  return want.pod.spec.terminationGracePeriodSeconds * 1000;
}

/** The grace of a pod that is ending. */
export function endingGraceMsOf({ want, deletionGraceMs }: History, ledger?: Ledger): number {
  const specMs = ledger?.ending?.cause === 'deleted' ? Infinity : graceMsOf(want);
  return Math.min(specMs, deletionGraceMs);
}

/** A pod has succeeded if the last run of each of its containers did; throws if it has not. */
export function hasSucceeded(history: History, uid: string): void {
  const { want, starts, isLedgerLost, evidenceLost } = history;
  for (const { name } of want.pod.spec.containers) {
    const exitCode = starts.get(name)?.at(-1)?.ended?.exitCode;
    // With the ledger and the runtime's record both gone nobody can know of the last run.
    if (exitCode === 0 || (isLedgerLost && evidenceLost.has(name))) continue;
    throw new Violation('phase', uid, `Succeeded, but ${name} ended with ${exitCode}`);
  }
}

/** The shortest and the longest grace of a container that is stopped because of a probe or a hook. */
export function killGracesMsOf(want: Want, name: string): { min: number; max: number } {
  const { containers, initContainers } = want.pod.spec;
  const container = [...initContainers, ...containers].find((c) => c.name === name);
  const of = (probe: Probe | undefined) =>
    probe?.terminationGracePeriodSeconds ?? want.pod.spec.terminationGracePeriodSeconds;
  const all = [of(container?.startupProbe), of(container?.livenessProbe)];
  if (container?.lifecycle?.postStart !== undefined) all.push(of(undefined));
  return { min: 1000 * Math.min(...all), max: 1000 * Math.max(...all) };
}

/** What stands behind a sidecar may start after this run of it: its hook and startup probe are over. */
export function isPast({ startupProbe, lifecycle }: Container, process: Process): boolean {
  if (lifecycle?.postStart !== undefined && process.hasPostStarted !== true) return false;
  return startupProbe === undefined || process.hasStarted === true;
}

export function roleIn(want: Want, name: string): 'init' | 'sidecar' | 'main' | undefined {
  const { initContainers, containers } = want.pod.spec;
  const init = initContainers.find((c) => c.name === name);
  if (init !== undefined) return init.restartPolicy === 'Always' ? 'sidecar' : 'init';
  return containers.some((c) => c.name === name) ? 'main' : undefined;
}

export function policyIn(want: Want, name: string): RestartPolicy {
  const role = roleIn(want, name);
  const { restartPolicy } = want.pod.spec;
  if (role === 'sidecar') return 'Always';
  return role === 'init' && restartPolicy === 'Always' ? 'OnFailure' : restartPolicy;
}

/** All moments in a ledger that a decision may be measured from. */
export function stampsOf(ledger: Ledger): Stamp[] {
  const stamps: (Stamp | undefined)[] = [ledger.ending?.since, ledger.active?.at];
  for (const c of Object.values(ledger.containers)) {
    stamps.push(c.outcome?.seenAt, c.backoff?.at, c.intent?.at);
  }
  return stamps.filter((stamp) => stamp !== undefined);
}

/** Nothing to do but wait for the end of a process. */
export function isResting(want: Want, seen: Seen): boolean {
  const isInit = want.pod.spec.initContainers.some(
    (c) => c.restartPolicy !== 'Always' && isRunning(seen, c.name),
  );
  return isInit || isAsked(want, seen) || isSettled(want, seen);
}

/** A container that runs waits for its startup probe to say something. */
function isAsked({ pod }: Want, seen: Seen): boolean {
  return [...pod.spec.initContainers, ...pod.spec.containers].some(({ name, startupProbe }) => {
    const ledger = seen.ledger.containers[name];
    const isOpen = ledger?.started === undefined && ledger?.kill === undefined;
    return startupProbe !== undefined && isOpen && isRunning(seen, name);
  });
}

/** It runs, its hook and its startup probe are behind it, and it is ready. */
export function isWell(seen: Seen, container: Container): boolean {
  const { name, startupProbe, readinessProbe, lifecycle } = container;
  const ledger = seen.ledger.containers[name];
  return (
    isRunning(seen, name) &&
    ledger?.kill === undefined &&
    (lifecycle?.postStart === undefined || ledger?.postStart === 'done') &&
    (startupProbe === undefined || ledger?.started === true) &&
    (readinessProbe === undefined || (seen.ready[name] ?? ledger?.ready)?.is === true)
  );
}

function isRunning({ view }: Seen, name: string): boolean {
  if (view === undefined) return false;
  return view.containers.some((c) => {
    const sandbox = view.sandboxes.find((s) => s.id === c.podSandboxId);
    const isReady = sandbox?.state === 'SANDBOX_READY';
    return c.name === name && c.state === 'CONTAINER_RUNNING' && isReady;
  });
}

/** Everything that should run does, and what does not run has ended for good. */
export function isSettled(want: Want, seen: Seen, isGood = isRunningOne): boolean {
  const { initContainers, containers } = want.pod.spec;
  const isFinal = (name: string) => {
    const outcome = seen.ledger.containers[name]?.outcome;
    const policy = policyIn(want, name);
    if (outcome === undefined || policy === 'Always') return false;
    return policy === 'Never' || outcome.exitCode === 0;
  };
  const sidecars = initContainers.filter((c) => c.restartPolicy === 'Always');
  return (
    containers.every((c) => isGood(seen, c) || isFinal(c.name)) &&
    sidecars.every((c) => isGood(seen, c))
  );
}

function isRunningOne(seen: Seen, { name }: Container): boolean {
  return isRunning(seen, name);
}
