/** What of a step of a pod is worth an event, worded as the kubelet words it. Pure. */
import type { EventObject, NewEvent } from '../kube/event.ts';
import { REASON } from '../kube/reason.ts';
import type { Action, ActionResult, ContainerLedger, Now, PodEvent, Seen, Want } from './model.ts';
import { IN_DOUBT } from './probed.ts';
import { backoffLeftMs, policyOf, restarts, roleOf } from './seen.ts';

/** The events of one step from `before` to `after`. */
export function eventsOf(
  want: Want,
  before: Seen,
  after: Seen,
  event: PodEvent,
  now: Now,
): readonly NewEvent[] {
  const events: NewEvent[] = [];
  const add = (type: NewEvent['type'], reason: string, message: string, container?: string) => {
    events.push({ type, reason, message, object: objectOf(want, container) });
  };
  if (event.type === 'ActionStarted') started(event.action, add);
  if (event.type === 'ActionEnded') ended(event.action, event.result, add);
  if (event.type === 'Rejected') add('Warning', event.reason, event.message);
  if (event.type === 'Looked') {
    const ready = (seen: Seen) => seen.view?.sandboxes.some((s) => s.state === 'SANDBOX_READY');
    if (ready(before) === true && ready(after) === false && after.ledger.ending === undefined) {
      add(
        'Normal',
        REASON.sandboxChanged,
        'Pod sandbox changed, it will be killed and re-created.',
      );
    }
  }
  for (const [name, container] of Object.entries(after.ledger.containers)) {
    const was = before.ledger.containers[name];
    if (container !== was) ledgerEvents(want, after, name, was, container, now, add);
  }
  const { terminal, ending } = after.ledger;
  if (ending !== undefined && before.ledger.ending === undefined) {
    const { cause, message = '' } = ending;
    if (cause === 'deadline') add('Normal', REASON.deadlineExceeded, message);
    if (cause === 'offline') add('Warning', REASON.nodeOffline, message);
  }
  if (terminal?.reason === REASON.nodePowerLoss && before.ledger.terminal === undefined) {
    add('Warning', REASON.nodePowerLoss, terminal.message ?? '');
  }
  return events;
}

type Add = (type: NewEvent['type'], reason: string, message: string, container?: string) => void;

/** The object that events of a pod, or of one of its containers, are about. */
export function objectOf(want: Want, container?: string): EventObject {
  const { namespace, name, uid } = want.pod.metadata;
  if (container === undefined) return { kind: 'Pod', namespace, name, uid };
  const init = want.pod.spec.initContainers.some((c) => c.name === container);
  const fieldPath = `spec.${init ? 'initContainers' : 'containers'}{${container}}`;
  return { kind: 'Pod', namespace, name, uid, fieldPath };
}

function started(action: Action, add: Add): void {
  if (action.type !== 'StopContainer' && action.type !== 'RunPreStop') return;
  if (action.message !== undefined) add('Normal', REASON.killing, action.message, action.name);
}

function ended(action: Action, result: ActionResult, add: Add): void {
  if (result.ok) {
    if (action.type === 'CreateContainer') {
      add('Normal', REASON.created, `Container created: ${action.name}`, action.name);
    } else if (action.type === 'StartContainer') {
      add('Normal', REASON.started, `Container started: ${action.name}`, action.name);
    } else if (action.type === 'PullImage') {
      add('Normal', REASON.pulled, result.note ?? `Pulled image "${action.image}"`);
    } else if (action.type === 'RunPostStart' || action.type === 'RunPreStop') {
      if (result.note === undefined) return;
      add('Warning', REASON.lifecycleHttpFallback, result.note, action.name);
    } else if (result.note !== undefined) {
      add('Warning', REASON.failed, result.note);
    }
    return;
  }
  const { message, code, reason } = result.fault;
  if (code === 'Cancelled') return;
  switch (action.type) {
    case 'Look':
      return;
    case 'SetUpPod':
    case 'TearDownPod':
      return add('Warning', reason ?? REASON.failedSetUpPod, message);
    case 'SetUpVolume':
      return add(
        'Warning',
        REASON.failedMount,
        `MountVolume.SetUp failed for volume "${action.volume.name}": ${message}`,
      );
    case 'TearDownVolume':
      return add(
        'Warning',
        'FailedUnMount',
        `UnmountVolume.TearDown failed for volume "${action.volume.name}": ${message}`,
      );
    case 'PullImage':
      if (reason === REASON.errImageNeverPull) return add('Warning', reason, message);
      add(
        'Warning',
        REASON.failed,
        `Failed to pull image "${action.image}": ${message} (${reason ?? REASON.errImagePull})`,
      );
      return add('Normal', REASON.backOff, `Back-off pulling image "${action.image}"`);
    case 'RunPodSandbox':
      return add(
        'Warning',
        REASON.failedCreatePodSandBox,
        `Failed to create pod sandbox: ${message}`,
      );
    case 'StopPodSandbox':
    case 'RemovePodSandbox':
      return add('Warning', REASON.failedKillPod, `error killing pod: ${message}`);
    // What a hook said may be secret; it does not belong into an event.
    case 'RunPostStart':
      if (IN_DOUBT.has(code)) return;
      return add('Warning', REASON.failedPostStartHook, 'PostStartHook failed', action.name);
    case 'RunPreStop':
      return add('Warning', REASON.failedPreStopHook, 'PreStopHook failed', action.name);
    case 'CreateContainer':
    case 'StartContainer':
    case 'StopContainer':
    case 'RemoveContainer':
      return add('Warning', REASON.failed, `Error: ${message}`, action.name);
  }
}

function ledgerEvents(
  want: Want,
  after: Seen,
  name: string,
  was: ContainerLedger | undefined,
  is: ContainerLedger,
  now: Now,
  add: Add,
): void {
  if (is.outcome === undefined || was?.outcome !== undefined) return;
  const { reason, message } = is.outcome;
  if (reason === REASON.nodePowerLoss || reason === REASON.containerStatusUnknown) {
    add('Warning', reason, message ?? '', name);
  }
  const role = roleOf(want, name);
  const again = role !== undefined && restarts(policyOf(want, role), is.outcome);
  if (again && after.ledger.ending === undefined && backoffLeftMs(is, now) > 0) {
    const { metadata } = want.pod;
    const pod = `${metadata.name}_${metadata.namespace}(${metadata.uid})`;
    add(
      'Warning',
      REASON.backOff,
      `Back-off restarting failed container ${name} in pod ${pod}`,
      name,
    );
  }
}
