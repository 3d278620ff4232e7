/** The PodStatus that people and the API see, from what is wanted and seen. Total and pure. */
import type {
  Container,
  ContainerState,
  ContainerStateTerminated,
  ContainerStatus,
  Pod,
  PodCondition,
  PodPhase,
  PodStatus,
} from '../kube/pod.ts';
import { LIMITS } from '../base/limits.ts';
import { qosClass } from '../kube/qos.ts';
import { REASON } from '../kube/reason.ts';
import { hasPostStarted, isUp, lastReady } from './health.ts';
import type { Now, Outcome, Seen, Want } from './model.ts';
import { rfc3339, rfc3339OfMs } from './reduce.ts';
import {
  backoffLeftMs,
  currentSandbox,
  initIsDone,
  initWasPassed,
  ofAttempt,
  policyOf,
  restarts,
  roleOfInit,
} from './seen.ts';
import type { Role } from './seen.ts';

/** What the status needs to know of the node. */
export type NodeFacts = { readonly hostIP?: string };

/**
 * The status of a pod at `now`. `before` is the status that was shown last: a condition that did
 * not change keeps its lastTransitionTime.
 */
export function statusOf(
  want: Want,
  seen: Seen,
  now: Now,
  node: NodeFacts,
  before?: PodStatus,
): PodStatus {
  const { spec } = want.pod;
  const { ledger } = seen;
  const rejected = ledger.ending?.cause === 'rejected';
  const sandbox = currentSandbox(seen);
  const attempt = sandbox?.attempt ?? ledger.sandboxAttempt;
  const passed = initWasPassed(want, ledger, attempt);
  const shown = (c: Container, role: Role) =>
    withShareOfMessages(want, containerStatus(want, seen, c, role, now));
  const initContainerStatuses = rejected
    ? []
    : spec.initContainers.map((c) => shown(c, roleOfInit(c)));
  const containerStatuses = rejected ? [] : spec.containers.map((c) => shown(c, 'main'));
  const initialized =
    passed ||
    spec.initContainers.every((c, i) =>
      c.restartPolicy === 'Always'
        ? initContainerStatuses[i]?.started === true
        : initIsDone(want, ledger, c.name, attempt),
    );
  const phase = phaseOf(seen, initialized, containerStatuses, before?.phase);
  const ips = spec.hostNetwork ? [node.hostIP ?? ''] : (sandbox?.ips ?? []);
  // Like the kubelet, a pod that is over keeps the addresses that it had.
  const former = ledger.terminal === undefined ? [] : (before?.podIPs ?? []);
  const podIPs = sandbox === undefined ? former : ips.filter(Boolean).map((ip) => ({ ip }));
  const conditions = conditionsOf(
    {
      ...{ initialized, phase, sandboxReady: sandbox !== undefined },
      readyWallMs: before === undefined ? readySinceMs(want, seen) : undefined,
    },
    [
      ...initContainerStatuses.filter((_, i) => isSidecar(spec.initContainers[i])),
      ...containerStatuses,
    ],
    now,
    before,
  );
  const because = whyOf(seen);
  return {
    phase,
    ...because,
    ...(ledger.started && { startTime: rfc3339OfMs(ledger.started.wallMs) }),
    ...(node.hostIP !== undefined && { hostIP: node.hostIP }),
    ...(podIPs[0] !== undefined && { podIP: podIPs[0].ip, podIPs }),
    qosClass: qosClass(want.pod),
    conditions,
    containerStatuses,
    initContainerStatuses,
  };
}

/** What counts for a pod being ready, and its restarts: sidecars do, other init containers do not. */
export function countedContainers(
  { spec }: Pod,
  { initContainerStatuses, containerStatuses }: PodStatus,
): { readonly total: number; readonly statuses: readonly ContainerStatus[] } {
  const sidecars = spec.initContainers.filter(isSidecar);
  const isCounted = ({ name }: ContainerStatus) => sidecars.some((one) => one.name === name);
  return {
    total: sidecars.length + spec.containers.length,
    statuses: [...initContainerStatuses.filter(isCounted), ...containerStatuses],
  };
}

function isSidecar(container: Container | undefined): boolean {
  return container?.restartPolicy === 'Always';
}

function whyOf(seen: Seen): { reason?: string; message?: string } {
  const { ledger } = seen;
  const why = ledger.terminal ?? ledger.ending ?? seen.hold ?? seen.fence ?? seen.waitFor;
  return {
    ...(why?.reason !== undefined && { reason: why.reason }),
    ...(why?.message !== undefined && { message: why.message }),
  };
}

function phaseOf(
  seen: Seen,
  initialized: boolean,
  main: readonly ContainerStatus[],
  before: PodPhase | undefined,
): PodPhase {
  const { terminal } = seen.ledger;
  if (terminal !== undefined) return terminal.phase;
  // Also when the runtime has lost track of what has run.
  if (before === 'Running') return before;
  // A start that was decided before the runtime was last restarted may have happened.
  const mayHaveRun = (name: string): boolean => {
    const intent = seen.ledger.containers[name]?.intent;
    return intent !== undefined && seen.view !== undefined && intent.epoch !== seen.view.epoch;
  };
  const hasRun = ({ name, state, lastState }: ContainerStatus) =>
    state.waiting === undefined || lastState.terminated !== undefined || mayHaveRun(name);
  // Init containers run again in a new sandbox: a pod that has run is not Pending because of that.
  if ((!initialized && !main.some(hasRun)) || seen.ledger.admitted !== true) return 'Pending';
  const neverRan = !main.every(hasRun);
  return neverRan ? 'Pending' : 'Running';
}

function containerStatus(
  want: Want,
  seen: Seen,
  container: Container,
  role: Role,
  now: Now,
): ContainerStatus {
  const { name, image } = container;
  const ledger = seen.ledger.containers[name];
  const found = ledger === undefined ? undefined : ofAttempt(seen, name, ledger.attempt);
  // Until its postStart hook has ended a container counts as being created.
  const running =
    found?.state === 'CONTAINER_RUNNING' &&
    ledger?.outcome === undefined &&
    (ledger === undefined || hasPostStarted(container, ledger));
  const started = running && (ledger === undefined || isUp(container, ledger));
  const last = ledger?.lastOutcome && { terminated: terminated(ledger.lastOutcome) };
  const outcome = ledger?.outcome;
  const state: ContainerState = running
    ? { running: { startedAt: rfc3339(found.startedAt) } }
    : outcome !== undefined && !isWaitingAgain(want, seen, role, outcome)
      ? { terminated: terminated(outcome) }
      : isOverWithout(want, seen, role)
        ? { terminated: NOT_LOCATED }
        : { waiting: waitingOf(want, seen, container, role, now) };
  const lastState =
    state.waiting !== undefined && outcome !== undefined
      ? { terminated: terminated(outcome) }
      : (last ?? {});
  const id = found?.id ?? outcome?.containerID;
  const done = role === 'init' && outcome?.exitCode === 0;
  return {
    name,
    image,
    imageID: found?.imageRef ?? outcome?.imageRef ?? '',
    ...(id !== undefined && { containerID: `containerd://${id}` }),
    ready: done || (started && isReady(seen, container)),
    started,
    restartCount: ledger?.attempt ?? 0,
    state,
    lastState,
  };
}

/** As the kubelet does it, the messages of a pod have their limit in equal shares. */
function withShareOfMessages(want: Want, status: ContainerStatus): ContainerStatus {
  const { initContainers, containers } = want.pod.spec;
  const maxBytes = Math.floor(
    LIMITS.podTerminationMessageBytes / (initContainers.length + containers.length),
  );
  const cut = (state: ContainerState): ContainerState => {
    const message = state.terminated?.message;
    if (state.terminated === undefined || message === undefined) return state;
    return { terminated: { ...state.terminated, message: firstBytes(message, maxBytes) } };
  };
  return { ...status, state: cut(status.state), lastState: cut(status.lastState) };
}

/** The characters that have room in so many bytes of UTF-8. */
function firstBytes(text: string, maxBytes: number): string {
  // No character has more than three bytes for each of its UTF-16 units.
  if (text.length * 3 <= maxBytes) return text;
  const { read } = new TextEncoder().encodeInto(text, new Uint8Array(maxBytes));
  return text.slice(0, read);
}

function isReady(seen: Seen, { name, readinessProbe }: Container): boolean {
  return readinessProbe === undefined || lastReady(seen, name)?.is === true;
}

/** When the last of a pod's containers became ready; undefined while one is not. */
function readySinceMs(want: Want, seen: Seen): number | undefined {
  let sinceWallMs = 0;
  const { initContainers, containers } = want.pod.spec;
  for (const container of [...initContainers.filter(isSidecar), ...containers]) {
    const { name, readinessProbe } = container;
    const attempt = seen.ledger.containers[name]?.attempt;
    const found = attempt === undefined ? undefined : ofAttempt(seen, name, attempt);
    const startedMs = found === undefined ? undefined : Number(found.startedAt / 1_000_000n);
    const readyMs = readinessProbe === undefined ? startedMs : lastReady(seen, name)?.at.wallMs;
    if (readyMs === undefined) return undefined;
    sinceWallMs = Math.max(sinceWallMs, readyMs);
  }
  return sinceWallMs;
}

/** Whether an ended container is shown as waiting for its next start. */
function isWaitingAgain(want: Want, seen: Seen, role: Role, outcome: Outcome): boolean {
  const { ledger } = seen;
  if (ledger.terminal !== undefined || ledger.ending !== undefined) return false;
  if (role === 'init' && outcome.exitCode === 0) return false;
  return restarts(policyOf(want, role), outcome);
}

/**
 * A pod that is over has nothing that waits: like the kubelet, a main container that never ran is
 * shown as one whose end is not known, unless the init containers never let it begin.
 */
function isOverWithout(want: Want, { ledger }: Seen, role: Role): boolean {
  if (ledger.terminal === undefined || role !== 'main') return false;
  const { sandboxAttempt } = ledger;
  return (
    initWasPassed(want, ledger, sandboxAttempt) ||
    want.pod.spec.initContainers.every(
      (c) => c.restartPolicy === 'Always' || initIsDone(want, ledger, c.name, sandboxAttempt),
    )
  );
}

const NOT_LOCATED: ContainerStateTerminated = {
  exitCode: 137,
  reason: REASON.containerStatusUnknown,
  message: 'The container could not be located when the pod was terminated',
};

function terminated(outcome: Outcome): ContainerStateTerminated {
  const { exitCode, reason, message, startedAt, finishedAt, containerID } = outcome;
  return {
    exitCode,
    reason,
    ...(message !== undefined && { message }),
    ...(startedAt !== undefined && { startedAt }),
    ...(finishedAt !== undefined && { finishedAt }),
    ...(containerID !== undefined && { containerID: `containerd://${containerID}` }),
  };
}

function waitingOf(want: Want, seen: Seen, container: Container, role: Role, now: Now) {
  const { name, image } = container;
  const ledger = seen.ledger.containers[name];
  const pull = seen.images[image];
  if (pull?.fault !== undefined && pull.fault.code !== 'Cancelled') {
    const waits = (pull.backoff?.untilMonoMs ?? 0) > now.monoMs;
    const pulling = seen.inFlight[`image/${image}`] !== undefined;
    const reason = pull.fault.reason ?? REASON.errImagePull;
    return waits && !pulling && reason === REASON.errImagePull
      ? {
          reason: REASON.imagePullBackOff,
          message: `Back-off pulling image "${image}": ${pull.fault.message}`,
        }
      : { reason, message: pull.fault.message };
  }
  // A start that failed is known as an end: what holds it up now is the pause after it.
  if (ledger?.outcome !== undefined && ledger.backoff !== undefined) {
    const leftMs = backoffLeftMs(ledger, now);
    if (leftMs > 0) {
      return {
        reason: REASON.crashLoopBackOff,
        message: backoffMessage(want, name, ledger.backoff),
      };
    }
  }
  if (ledger?.kill?.cause === 'postStart') {
    const { message } = ledger.kill;
    return { reason: REASON.postStartHookError, ...(message !== undefined && { message }) };
  }
  const retry = seen.retries[`container/${name}`];
  if (retry !== undefined) {
    return {
      reason: retry.fault.reason ?? REASON.createContainerError,
      message: retry.fault.message,
    };
  }
  const waitsForInit = role === 'main' && want.pod.spec.initContainers.length > 0;
  return { reason: waitsForInit ? REASON.podInitializing : REASON.containerCreating };
}

/** As the kubelet words it. */
export function backoffMessage(want: Want, name: string, backoff: { delayMs: number }): string {
  const { metadata } = want.pod;
  const pod = `${metadata.name}_${metadata.namespace}(${metadata.uid})`;
  const seconds = backoff.delayMs / 1000;
  const delay = seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  return `back-off ${delay} restarting failed container=${name} pod=${pod}`;
}

type Facts = {
  readonly initialized: boolean;
  readonly phase: PodPhase;
  readonly sandboxReady: boolean;
  /** Since when the pod has been ready, if that is known from what was stored. */
  readonly readyWallMs: number | undefined;
};

function conditionsOf(
  facts: Facts,
  containers: readonly ContainerStatus[],
  now: Now,
  before: PodStatus | undefined,
): readonly PodCondition[] {
  const unready = containers.filter((c) => !c.ready).map((c) => c.name);
  const over = facts.phase === 'Succeeded' || facts.phase === 'Failed';
  const why = over
    ? { reason: facts.phase === 'Succeeded' ? 'PodCompleted' : 'PodFailed' }
    : {
        reason: 'ContainersNotReady',
        message: `containers with unready status: [${unready.join(' ')}]`,
      };
  const ready = !over && unready.length === 0 && facts.initialized;
  const condition = (type: string, is: boolean, otherwise: object = {}): PodCondition => ({
    type,
    status: is ? 'True' : 'False',
    ...(is ? {} : otherwise),
  });
  const all = [
    condition('PodReadyToStartContainers', facts.sandboxReady),
    condition('Initialized', facts.initialized || facts.phase === 'Succeeded', {
      reason: 'ContainersNotInitialized',
    }),
    condition('Ready', ready, why),
    condition('ContainersReady', ready, why),
    condition('PodScheduled', true),
  ];
  const isSince = ({ type, status }: PodCondition) =>
    facts.readyWallMs !== undefined && status === 'True' && type.endsWith('Ready');
  return all.map((next) => {
    const old = before?.conditions.find((c) => c.type === next.type);
    const lastTransitionTime =
      old?.status === next.status && old.lastTransitionTime !== undefined
        ? old.lastTransitionTime
        : rfc3339OfMs(isSince(next) ? facts.readyWallMs! : now.wallMs);
    return { ...next, lastTransitionTime };
  });
}

/**
 * What `kubectl get pods` shows in its column STATUS, but for the reason of a pod that is over,
 * which says more. Source: pkg/printers/internalversion printPod.
 */
export function summaryOf(want: Want, status: PodStatus): string {
  if (want.deletion !== undefined) return 'Terminating';
  const over = status.phase === 'Succeeded' || status.phase === 'Failed';
  if (over && status.reason !== undefined) return status.reason;
  // A sidecar that fails later, or is killed when the pod has succeeded, is no part of this.
  const init = isTrue(status, 'Initialized')
    ? undefined
    : initSummary(want.pod.spec.initContainers, status);
  if (init !== undefined) return init;
  if (status.reason !== undefined) return status.reason;
  let summary: string = status.phase;
  let problem: string | undefined;
  let running = false;
  for (const { state, ready } of status.containerStatuses.toReversed()) {
    if (state.waiting !== undefined) summary = state.waiting.reason;
    else if (state.terminated !== undefined) {
      summary = state.terminated.reason;
      if (state.terminated.exitCode !== 0) problem = summary;
    } else if (ready) running = true;
  }
  if (summary !== REASON.completed) return summary;
  if (running && isTrue(status, 'Ready')) return 'Running';
  return problem ?? (running ? 'NotReady' : summary);
}

function isTrue(status: PodStatus, type: string): boolean {
  return status.conditions.find((c) => c.type === type)?.status === 'True';
}

function initSummary(init: readonly Container[], status: PodStatus): string | undefined {
  for (const [index, container] of status.initContainerStatuses.entries()) {
    const { state, started } = container;
    if (state.terminated?.exitCode === 0) continue;
    if (isSidecar(init[index]) && started) continue;
    if (state.terminated !== undefined) return `Init:${state.terminated.reason}`;
    const reason = state.waiting?.reason;
    if (
      reason !== undefined &&
      reason !== REASON.podInitializing &&
      reason !== REASON.containerCreating
    ) {
      return `Init:${reason}`;
    }
    return `Init:${index}/${init.length}`;
  }
  return undefined;
}
