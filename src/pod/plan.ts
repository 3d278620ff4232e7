/**
 * What is to be done next for a pod: the difference between what is wanted and what is seen.
 * Total and pure; the order of its actions is stable. See model.ts for the contract.
 */
import { sinceMs } from '../base/clock.ts';
import type { Container } from '../kube/pod.ts';
import type { Draft } from './draft.ts';
import { isBusy, propose, wakeAt } from './draft.ts';
import { hasPostStarted, isUp, killMessage } from './health.ts';
import type {
  Action,
  ContainerLedger,
  ContainerSeen,
  Now,
  Outcome,
  Plan,
  SandboxSeen,
  Seen,
  Want,
} from './model.ts';
import {
  READY_STORE_MS,
  activeMs,
  activeStoreMs,
  backoffLeftMs,
  currentSandbox,
  initIsDone,
  initWasPassed,
  isAlive,
  isFresh,
  isOfEarlierBoot,
  ofAttempt,
  policyOf,
  restarts,
  roleOf,
  roleOfInit,
} from './seen.ts';
import type { Role } from './seen.ts';
import { attendHooks, awaitSignals, end, shortenStops, stop, stopContainers } from './stop.ts';

/** The next actions of a pod, and when to ask again at the latest. */
export function plan(want: Want, seen: Seen, now: Now): Plan {
  const draft: Draft = {
    want,
    seen,
    now,
    start: [],
    cancel: [],
    wakeAtMonoMs: Number.POSITIVE_INFINITY,
    done: false,
  };
  if (seen.ledger.ending === undefined && seen.ledger.terminal === undefined) planLife(draft);
  else planEnd(draft);
  awaitSignals(draft);
  const { start, cancel, wakeAtMonoMs, done } = draft;
  return wakeAtMonoMs === Number.POSITIVE_INFINITY
    ? { start, cancel, done }
    : { start, cancel, wakeAtMonoMs, done };
}

// ---- life ----

function planLife(draft: Draft): void {
  const { want, seen, now } = draft;
  const { ledger } = seen;
  attendHooks(draft);
  wakeToStoreReady(draft);
  const deadline = want.pod.spec.activeDeadlineSeconds;
  if (deadline !== undefined && ledger.started !== undefined) {
    const leftMs = deadline * 1000 - activeMs(ledger, now);
    const storeInMs =
      activeStoreMs(deadline) - (ledger.active ? sinceMs(ledger.active.at, now) : 0);
    wakeAt(draft, now.monoMs + Math.max(0, Math.min(leftMs, storeInMs)));
  }
  const fresh = isFresh(seen);
  if (!fresh) propose(draft, { type: 'Look', key: 'look' });
  if (ledger.admitted !== true || (seen.waitFor ?? seen.hold ?? seen.fence) !== undefined) {
    if (fresh) finishStops(draft);
    return;
  }
  const volumesUp = setUp(draft);
  if (!fresh) return;
  const current = currentSandbox(seen);
  const clean = clearStrays(draft, current);
  if (current === undefined) {
    const attempt = seen.inFlight['sandbox'] ? ledger.sandboxAttempt : ledger.sandboxAttempt + 1;
    if (volumesUp && clean) propose(draft, { type: 'RunPodSandbox', key: 'sandbox', attempt });
    ensureImagesOfStep(draft, 0, attempt);
    return;
  }
  if (!volumesUp || seen.inFlight['sandbox'] !== undefined) return;
  // It was a stray until the one before it died, and its stop is still on the way.
  if (seen.inFlight[`sandbox/${current.id}`] !== undefined) return;
  planContainers(draft, current);
  if (!isStartingUp(draft, current)) removeEarlierBoots(draft);
}

/**
 * Where nothing may be started, what has had its preStop hook or its signal still gets the rest of
 * its end. What is only condemned is kept: stopped, it could not be started again.
 */
function finishStops(draft: Draft): void {
  const { want, seen } = draft;
  const current = currentSandbox(seen);
  if (current === undefined) return;
  for (const container of [...want.pod.spec.initContainers, ...want.pod.spec.containers]) {
    const { name } = container;
    if (seen.ledger.containers[name]?.stopping === undefined) continue;
    if (!isBeingKilled(seen, name, current.id)) continue;
    ensure(draft, container, roleOf(want, name) ?? 'main', current);
  }
}

const BRINGS_UP: ReadonlySet<Action['type']> = new Set([
  'PullImage',
  'CreateContainer',
  'StartContainer',
  'RunPostStart',
]);

/**
 * Something is on its way to run, or an init container runs, or a sidecar that is not up yet, after
 * which more will be.
 */
function isStartingUp({ want, seen, start }: Draft, { id }: SandboxSeen): boolean {
  if (start.length > 0) return true;
  if (Object.values(seen.inFlight).some(({ action }) => BRINGS_UP.has(action.type))) return true;
  return want.pod.spec.initContainers.some(
    (c) => isRunning(seen, c.name, id) && (roleOfInit(c) === 'init' || !isStarted(seen, c, id)),
  );
}

/** Directories, cgroup and volumes; true when all is there. */
function setUp(draft: Draft): boolean {
  const { want, seen } = draft;
  if (seen.setUp !== 'up') {
    propose(draft, { type: 'SetUpPod', key: 'pod' });
    return false;
  }
  let up = true;
  for (const volume of want.pod.spec.volumes) {
    const isUp = seen.volumes[volume.name] === 'up';
    if (isUp && !seen.staleVolumes.includes(volume.name)) continue;
    if (!isUp) up = false;
    propose(draft, { type: 'SetUpVolume', key: `volume/${volume.name}`, volume });
  }
  return up;
}

const STRAY_FAILURES = 3;

/**
 * Ends what is left of former sandboxes: first the processes, with their grace, then the sandbox
 * itself. True when nothing is in the way of a new one: a sandbox that can't be removed time and
 * again is not in the way for ever, and one of an earlier boot not at all, since no port or address
 * is held by it.
 */
function clearStrays(draft: Draft, current: SandboxSeen | undefined): boolean {
  const { want, seen } = draft;
  const graceSeconds = want.pod.spec.terminationGracePeriodSeconds;
  let clean = true;
  for (const container of seen.view?.containers ?? []) {
    const inCurrent = container.podSandboxId === current?.id;
    if (!isAlive(container) || (inCurrent && isOfLedger(draft, container))) continue;
    clean = false;
    const message = inCurrent ? 'it is not part of the pod' : 'its pod sandbox changed';
    stop(draft, container, graceSeconds, message);
  }
  for (const sandbox of seen.view?.sandboxes ?? []) {
    if (sandbox.id === current?.id || isOfEarlierBoot(seen.ledger, sandbox, draft.now)) continue;
    if (seen.view?.containers.some((c) => c.podSandboxId === sandbox.id && isAlive(c))) continue;
    // What is being started in it is to be seen first, and has its grace then.
    if (isStartedIn(seen, sandbox.id)) continue;
    const key = `sandbox/${sandbox.id}`;
    if ((seen.retries[key]?.failures ?? 0) < STRAY_FAILURES) clean = false;
    const type = sandbox.state === 'SANDBOX_READY' ? 'StopPodSandbox' : 'RemovePodSandbox';
    propose(draft, { type, key, id: sandbox.id });
  }
  for (const container of seen.view?.containers ?? []) {
    const gone = !seen.view?.sandboxes.some((s) => s.id === container.podSandboxId);
    if (gone && container.state === 'CONTAINER_CREATED') removeContainer(draft, container);
  }
  if (current !== undefined) removeOldContainers(draft);
  return clean;
}

function isStartedIn({ inFlight, view }: Seen, sandboxId: string): boolean {
  const ids = view?.containers.filter((c) => c.podSandboxId === sandboxId).map(({ id }) => id);
  return Object.values(inFlight).some(
    ({ action }) => action.type === 'StartContainer' && ids?.includes(action.id) === true,
  );
}

/** After a power cut what is to run comes first, the records of what ran before last. */
function removeEarlierBoots(draft: Draft): void {
  const { seen, now } = draft;
  for (const sandbox of seen.view?.sandboxes ?? []) {
    if (!isOfEarlierBoot(seen.ledger, sandbox, now)) continue;
    propose(draft, { type: 'RemovePodSandbox', key: `sandbox/${sandbox.id}`, id: sandbox.id });
  }
}

function removeContainer(draft: Draft, { id, name }: ContainerSeen): void {
  propose(draft, { type: 'RemoveContainer', key: `remove/${id}`, name, id });
}

function isOfLedger(draft: Draft, container: ContainerSeen): boolean {
  const ledger = draft.seen.ledger.containers[container.name];
  if (ledger === undefined || roleOf(draft.want, container.name) === undefined) return false;
  return ledger.attempt === container.attempt && ledger.outcome === undefined;
}

/** Keeps the last ended container of each name, as the kubelet does, and none that can't start. */
function removeOldContainers(draft: Draft): void {
  for (const container of draft.seen.view?.containers ?? []) {
    if (isAlive(container)) continue;
    const ledger = draft.seen.ledger.containers[container.name];
    if (ledger === undefined) continue;
    const gaveUp = container.state === 'CONTAINER_CREATED' && ledger.outcome !== undefined;
    const old = container.attempt < ledger.attempt - 1;
    const leftover = container.state === 'CONTAINER_CREATED' && container.attempt < ledger.attempt;
    if (!gaveUp && !old && !leftover) continue;
    removeContainer(draft, container);
  }
}

function planContainers(draft: Draft, current: SandboxSeen): void {
  const { want, seen } = draft;
  const { initContainers, containers } = want.pod.spec;
  const passed = initWasPassed(want, seen.ledger, current.attempt);
  // What is to be stopped waits for nobody who is on the way up.
  for (const container of [...initContainers, ...containers]) {
    if (!isBeingKilled(seen, container.name, current.id)) continue;
    ensure(draft, container, roleOf(want, container.name) ?? 'main', current);
  }
  for (const [index, container] of initContainers.entries()) {
    const role = roleOfInit(container);
    if (role === 'init') {
      if (passed || initIsDone(want, seen.ledger, container.name, current.attempt)) continue;
      ensure(draft, container, role, current);
      return ensureImagesOfStep(draft, index + 1, current.attempt);
    }
    ensure(draft, container, role, current);
    if (passed || isStarted(seen, container, current.id)) continue;
    return ensureImagesOfStep(draft, index + 1, current.attempt);
  }
  for (const container of containers) {
    ensure(draft, container, 'main', current);
    if (isStarting(draft, container, current.id)) return;
  }
}

/**
 * Sees to the images of what is created next from an init container on: that one, or all main
 * containers when there is none. So they come while the sandbox is made, or the one before runs.
 */
function ensureImagesOfStep(draft: Draft, fromInit: number, sandboxAttempt: number): void {
  const { want, seen } = draft;
  const { initContainers, containers } = want.pod.spec;
  const next = initContainers
    .slice(fromInit)
    .find((c) => !initIsDone(want, seen.ledger, c.name, sandboxAttempt));
  for (const container of next === undefined ? containers : [next]) {
    const outcome = seen.ledger.containers[container.name]?.outcome;
    const role = roleOf(want, container.name) ?? 'main';
    if (outcome !== undefined && !startsAgain(want, role, outcome)) continue;
    ensureImage(draft, container);
  }
}

function startsAgain(want: Want, role: Role, outcome: Outcome): boolean {
  const policy = policyOf(want, role);
  // A new sandbox has none of what the init container did.
  return restarts(policy, outcome) || (role === 'init' && policy !== 'Never');
}

/** Whether a container runs in this sandbox: one that still ends in a former one is none to go by. */
function isRunning(seen: Seen, name: string, sandboxId: string): boolean {
  const attempt = seen.ledger.containers[name]?.attempt;
  if (attempt === undefined) return false;
  const found = ofAttempt(seen, name, attempt);
  return found?.state === 'CONTAINER_RUNNING' && found.podSandboxId === sandboxId;
}

function isBeingKilled(seen: Seen, name: string, sandboxId: string): boolean {
  return seen.ledger.containers[name]?.kill !== undefined && isRunning(seen, name, sandboxId);
}

function isStarted(seen: Seen, container: Container, sandboxId: string): boolean {
  const ledger = seen.ledger.containers[container.name];
  if (ledger === undefined || !isRunning(seen, container.name, sandboxId)) return false;
  return isUp(container, ledger);
}

/** A container with a postStart hook is on its way: those behind it wait, as with the kubelet. */
function isStarting({ seen, start }: Draft, container: Container, sandboxId: string): boolean {
  const { name, image, lifecycle } = container;
  if (lifecycle?.postStart === undefined) return false;
  const ledger = seen.ledger.containers[name];
  if (ledger?.kill !== undefined) return false;
  if (ledger !== undefined && isRunning(seen, name, sandboxId)) {
    return !hasPostStarted(container, ledger);
  }
  const flying = Object.values(seen.inFlight).map(({ action }) => action);
  return [...start, ...flying].some(
    ({ type, key }) =>
      (type === 'PullImage' && key === `image/${image}`) ||
      ((type === 'CreateContainer' || type === 'StartContainer') && key === `container/${name}`),
  );
}

/** Brings one container nearer to running: its image, its creation, its start. */
function ensure(draft: Draft, container: Container, role: Role, current: SandboxSeen): void {
  const { want, seen, now } = draft;
  const { name } = container;
  if (seen.inFlight[`container/${name}`] !== undefined) return;
  const ledger = seen.ledger.containers[name];
  if (ledger === undefined) return create(draft, container, 0, current);
  if (ledger.outcome !== undefined) {
    if (!startsAgain(want, role, ledger.outcome)) return;
    // An init container that succeeded runs again for a new sandbox's sake: that is no failure.
    const isFree =
      ledger.kill?.cause === 'changed' || (ledger.outcome.exitCode === 0 && role === 'init');
    const leftMs = isFree ? 0 : backoffLeftMs(ledger, now);
    if (leftMs > 0) return wakeAt(draft, now.monoMs + leftMs);
    return create(draft, container, ledger.attempt + 1, current);
  }
  const found = ofAttempt(seen, name, ledger.attempt);
  if (found === undefined) return create(draft, container, ledger.attempt, current);
  if (found.state === 'CONTAINER_CREATED') {
    // It never ran, and holds the name of what is to run; its sandbox may not be removed for long.
    if (found.podSandboxId !== current.id) return removeContainer(draft, found);
    propose(draft, {
      type: 'StartContainer',
      key: `container/${name}`,
      name,
      id: found.id,
      attempt: found.attempt,
      sandboxAttempt: current.attempt,
      epoch: seen.view?.epoch ?? '',
    });
  } else if (found.state === 'CONTAINER_RUNNING' && found.podSandboxId === current.id) {
    keep(draft, container, found, ledger);
  } else if (found.state === 'CONTAINER_UNKNOWN') {
    const graceSeconds = want.pod.spec.terminationGracePeriodSeconds;
    stop(draft, found, graceSeconds, 'the runtime lost track of it');
  }
}

/** Sees to a container that runs: its hook, or its end if it did something wrong. */
function keep(
  draft: Draft,
  container: Container,
  found: ContainerSeen,
  ledger: ContainerLedger,
): void {
  const { id, name, attempt } = found;
  if (ledger.kill !== undefined) {
    end(draft, found, killMessage(draft.want, container, ledger.kill));
  } else if (!hasPostStarted(container, ledger)) {
    propose(draft, { type: 'RunPostStart', key: `container/${name}`, name, id, attempt });
  }
}

/** What a readiness probe said lately is stored when a minute is over. */
function wakeToStoreReady(draft: Draft): void {
  const { seen, now } = draft;
  for (const [name, { attempt, is }] of Object.entries(seen.ready)) {
    const container = seen.ledger.containers[name];
    const stored = container?.ready;
    if (stored === undefined || container?.attempt !== attempt || stored.is === is) continue;
    if (container.outcome !== undefined) continue;
    wakeAt(draft, now.monoMs + Math.max(0, READY_STORE_MS - sinceMs(stored.at, now)));
  }
}

function create(draft: Draft, container: Container, attempt: number, current: SandboxSeen): void {
  const { name } = container;
  const imageRef = ensureImage(draft, container);
  if (imageRef === undefined) return;
  propose(draft, {
    type: 'CreateContainer',
    key: `container/${name}`,
    name,
    attempt,
    sandboxId: current.id,
    sandboxAttempt: current.attempt,
    imageRef,
  });
}

/** What the runtime calls a container's image; undefined while it is being seen to. */
function ensureImage(draft: Draft, { image, imagePullPolicy }: Container): string | undefined {
  const { ref, backoff } = draft.seen.images[image] ?? {};
  if (ref !== undefined) return ref;
  if (backoff !== undefined && backoff.untilMonoMs > draft.now.monoMs) {
    wakeAt(draft, backoff.untilMonoMs);
  } else {
    propose(draft, { type: 'PullImage', key: `image/${image}`, image, policy: imagePullPolicy });
  }
  return undefined;
}

// ---- end ----

/** What an ending pod does not wait for. */
const GIVEN_UP: ReadonlySet<Action['type']> = new Set([
  'PullImage',
  'RunPodSandbox',
  'RunPostStart',
]);

function planEnd(draft: Draft): void {
  const { seen } = draft;
  for (const { action } of Object.values(seen.inFlight)) {
    if (GIVEN_UP.has(action.type)) draft.cancel.push(action.key);
  }
  attendHooks(draft);
  if (!isFresh(seen)) {
    shortenStops(draft);
    propose(draft, { type: 'Look', key: 'look' });
    return;
  }
  if (stopContainers(draft)) return;
  if (isBusy(draft, 'RunPodSandbox', 'CreateContainer', 'StartContainer')) return;
  if (seen.ledger.terminal === undefined) return;
  if (!stopSandboxes(draft)) return;
  if (!releaseVolumes(draft)) return;
  const deleted = draft.want.deletion !== undefined;
  if (seen.setUp !== 'released' && seen.setUp !== 'gone') {
    propose(draft, { type: 'TearDownPod', key: 'pod', final: false });
    return;
  }
  if (!deleted) return;
  const sandboxes = seen.view?.sandboxes ?? [];
  for (const { id } of sandboxes) {
    propose(draft, { type: 'RemovePodSandbox', key: `sandbox/${id}`, id });
  }
  if (sandboxes.length > 0) return;
  // A power cut may have taken a sandbox's record and left those of its containers.
  const containers = seen.view?.containers ?? [];
  for (const container of containers) removeContainer(draft, container);
  if (containers.length > 0) return;
  if (seen.setUp !== 'gone') {
    propose(draft, { type: 'TearDownPod', key: 'pod', final: true });
    return;
  }
  draft.done = Object.keys(seen.inFlight).length === 0;
}

function stopSandboxes(draft: Draft): boolean {
  let stopped = true;
  for (const { id, state } of draft.seen.view?.sandboxes ?? []) {
    if (state !== 'SANDBOX_READY') continue;
    stopped = false;
    propose(draft, { type: 'StopPodSandbox', key: `sandbox/${id}`, id });
  }
  return stopped;
}

function releaseVolumes(draft: Draft): boolean {
  const { want, seen } = draft;
  let released = true;
  for (const volume of want.pod.spec.volumes) {
    if (seen.volumes[volume.name] === 'down') continue;
    released = false;
    propose(draft, { type: 'TearDownVolume', key: `volume/${volume.name}`, volume });
  }
  return released;
}
