/** Questions about one pod that `reduce`, `plan` and `status` ask alike. */
import { sinceMs } from '../base/clock.ts';
import type { Container, RestartPolicy } from '../kube/pod.ts';
import type {
  Action,
  ContainerLedger,
  ContainerSeen,
  Ledger,
  Now,
  Outcome,
  SandboxSeen,
  Seen,
  Stamp,
  Want,
} from './model.ts';

export type Role = 'init' | 'sidecar' | 'main';

/** Whether the view shows what is so after everything that limpet did. */
export function isFresh(seen: Seen): boolean {
  return seen.view !== undefined && seen.view.seq > seen.staleSeq;
}

/** The sandbox that containers are to run in, or undefined when a new one is needed. */
export function currentSandbox(seen: Seen): SandboxSeen | undefined {
  let current: SandboxSeen | undefined;
  for (const sandbox of seen.view?.sandboxes ?? []) {
    if (sandbox.state !== 'SANDBOX_READY') continue;
    if (current === undefined || sandbox.attempt > current.attempt) current = sandbox;
  }
  return current;
}

/**
 * Whether a sandbox ended with an earlier boot: its processes, network namespace and rules went with
 * the kernel, and only the runtime's records of it are left. False where that is not known.
 */
export function isOfEarlierBoot(ledger: Ledger, sandbox: SandboxSeen, now: Now): boolean {
  if (sandbox.state === 'SANDBOX_READY' || ledger.bootSandbox === undefined) return false;
  const { boot, attempt } = ledger.bootSandbox;
  return boot === now.boot ? sandbox.attempt < attempt : sandbox.attempt <= ledger.sandboxAttempt;
}

/** A process may be alive in it. */
export function isAlive(container: ContainerSeen): boolean {
  return container.state === 'CONTAINER_RUNNING' || container.state === 'CONTAINER_UNKNOWN';
}

export function roleOf(want: Want, name: string): Role | undefined {
  const init = want.pod.spec.initContainers.find((c) => c.name === name);
  if (init !== undefined) return init.restartPolicy === 'Always' ? 'sidecar' : 'init';
  return want.pod.spec.containers.some((c) => c.name === name) ? 'main' : undefined;
}

export function roleOfInit(container: Container): 'init' | 'sidecar' {
  return container.restartPolicy === 'Always' ? 'sidecar' : 'init';
}

/** The restart policy that holds for a container: a sidecar always restarts. */
export function policyOf(want: Want, role: Role): RestartPolicy {
  const policy = want.pod.spec.restartPolicy;
  if (role === 'sidecar') return 'Always';
  // An init container that succeeded is done; one that failed is tried again unless told Never.
  if (role === 'init') return policy === 'Never' ? 'Never' : 'OnFailure';
  return policy;
}

/** The newest container of a name in the view, by attempt. */
export function newestOf(seen: Seen, name: string): ContainerSeen | undefined {
  let newest: ContainerSeen | undefined;
  for (const container of seen.view?.containers ?? []) {
    if (container.name !== name) continue;
    if (newest === undefined || isNewer(container, newest)) newest = container;
  }
  return newest;
}

function isNewer(a: ContainerSeen, b: ContainerSeen): boolean {
  return a.attempt !== b.attempt ? a.attempt > b.attempt : a.createdAt > b.createdAt;
}

/** The container that the ledger's attempt made, if the view shows it. */
export function ofAttempt(seen: Seen, name: string, attempt: number): ContainerSeen | undefined {
  return seen.view?.containers.find((c) => c.name === name && c.attempt === attempt);
}

/** runc's words: it was to join the namespaces of a process 0. */
const NO_SANDBOX_PROCESS = /namespace path: lstat \/proc\/0\/ns\//;

/**
 * Whether nothing of the container can have run, and by no fault of its own. containerd 1.7 asks the
 * sandbox's shim for its process when it makes a container; if that takes longer than 2 s, as on a
 * board that is busy, it goes on with process 0, and the start fails. Source: containerd issue 9160.
 */
function hadNoSandbox({ exitCode, message }: Outcome): boolean {
  return exitCode === 128 && message !== undefined && NO_SANDBOX_PROCESS.test(message);
}

/** Whether a policy would start a container again after this outcome. */
export function restarts(policy: RestartPolicy, outcome: Outcome): boolean {
  if (policy === 'Always' || hadNoSandbox(outcome)) return true;
  return policy === 'OnFailure' && outcome.exitCode !== 0;
}

/**
 * Whether an init container needs to run no more. In a new sandbox the kubelet runs all of them
 * again; under `Never` nothing is started twice, so there a success counts for good.
 */
export function initIsDone(
  want: Want,
  ledger: Ledger,
  name: string,
  sandboxAttempt: number,
): boolean {
  const outcome = ledger.containers[name]?.outcome;
  if (outcome === undefined || outcome.exitCode !== 0) return false;
  return outcome.sandboxAttempt === sandboxAttempt || want.pod.spec.restartPolicy === 'Never';
}

/** Main containers are only created once all init containers of their sandbox are done. */
export function initWasPassed(want: Want, ledger: Ledger, sandboxAttempt: number): boolean {
  return want.pod.spec.containers.some(
    (c) => ledger.containers[c.name]?.sandboxAttempt === sandboxAttempt,
  );
}

/**
 * Milliseconds that a pod has been active, for activeDeadlineSeconds. Time without power is not
 * counted: after a reboot nothing but a clock that may be wrong could tell how long it was.
 */
export function activeMs(ledger: Ledger, now: Now): number {
  const active = ledger.active;
  if (active === undefined) return 0;
  return active.ms + (active.at.boot === now.boot ? sinceMs(active.at, now) : 0);
}

/** How often the active time is stored: each twentieth of the deadline, but not every minute. */
export function activeStoreMs(deadlineSeconds: number): number {
  return Math.max(60_000, (deadlineSeconds * 1000) / 20);
}

/** What a readiness probe says is stored no more often than this. */
export const READY_STORE_MS = 60_000;

/** A stop that has been in flight this long has reached the process. */
export const SIGNAL_SENT_MS = 1000;

/** An action that begins the end of a container. */
export type Stop = Action & { readonly type: 'StopContainer' | 'RunPreStop' };

/**
 * Whether it is still to be noted that an action has told a container of its end. Strays of a pod
 * that goes on have nothing noted.
 */
export function awaitsSignal(seen: Seen, action: Action): action is Stop {
  if (action.type !== 'StopContainer' && action.type !== 'RunPreStop') return false;
  const container = seen.ledger.containers[action.name];
  if (container === undefined) return false;
  const { stopping, outcome, kill, attempt } = container;
  if (stopping !== undefined || outcome !== undefined) return false;
  if (seen.ledger.ending !== undefined) return true;
  return kill !== undefined && ofAttempt(seen, action.name, attempt)?.id === action.id;
}

const FIRST_BACKOFF_MS = 10_000;
export const MAX_BACKOFF_MS = 300_000;
/** A container that ran this long before it failed starts over with the backoff. */
const BACKOFF_RESET_MS = 2 * MAX_BACKOFF_MS;

/** Milliseconds until a container that ended may start again; 0 when it may now. */
export function backoffLeftMs(container: ContainerLedger, now: Now): number {
  const { backoff, outcome } = container;
  if (backoff === undefined || outcome === undefined) return 0;
  // A power cut is no failure of the container.
  if (outcome.reason === 'NodePowerLoss') return 0;
  if (ranLong(container)) return 0;
  return Math.max(0, backoff.delayMs - sinceMs(outcome.seenAt, now));
}

/** From its start: between that and its creation its sandbox may have been long in coming. */
function ranLong({ attempt, backoff, intent, outcome }: ContainerLedger): boolean {
  const since = intent?.attempt === attempt ? intent.at : backoff?.at;
  if (since === undefined || outcome === undefined) return false;
  return sinceMs(since, outcome.seenAt) > BACKOFF_RESET_MS;
}

/** The backoff to store when a container is started again: 10 s, doubled up to 300 s. */
export function nextBackoff(container: ContainerLedger, now: Now): ContainerLedger['backoff'] {
  const { backoff, outcome } = container;
  if (outcome?.reason === 'NodePowerLoss') return backoff;
  const expired = backoff === undefined || ranLong(container);
  const delayMs = expired ? FIRST_BACKOFF_MS : Math.min(2 * backoff.delayMs, MAX_BACKOFF_MS);
  return { delayMs, at: now };
}

export function withLedger(seen: Seen, ledger: Ledger): Seen {
  return { ...seen, ledger };
}

export function withContainer(ledger: Ledger, name: string, container: ContainerLedger): Ledger {
  if (ledger.containers[name] === container) return ledger;
  return { ...ledger, containers: { ...ledger.containers, [name]: container } };
}

export function without<T>(record: Readonly<Record<string, T>>, key: string | undefined) {
  if (key === undefined || record[key] === undefined) return record;
  const { [key]: _, ...rest } = record;
  return rest;
}

/** A moment of this boot. */
export function stampAt(monoMs: number, now: Now): Stamp {
  return { ...now, monoMs, wallMs: now.wallMs - (now.monoMs - monoMs) };
}
