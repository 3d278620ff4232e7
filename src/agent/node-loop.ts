/**
 * Our Node object: registered, and its status kept true.
 *
 *   unregistered ──get or create, ours──> registered ──changed, or 5 min are over──> patched
 *        ^   └── another living machine has the name: told, and looked at again          │
 *        └──────────────── deleted, or another object has the name <─────────────────────┘
 *
 * Nothing is polled: whoever knows of a change pokes.
 */
import type { ApiClient } from '../apiserver/client.ts';
import { ApiFailure } from '../apiserver/errors.ts';
import { createObject, getObject, patchObject } from '../apiserver/objects.ts';
import { NODES, type Stored } from '../apiserver/resource.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf, type Fault } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { EventRecord } from '../kube/event.ts';
import {
  defaultLabels,
  missingLabels,
  newNode,
  ownerOf,
  type NodeObject,
  type Registration,
} from '../node/object.ts';
import { statusPatch } from '../node/status-patch.ts';
import {
  isReady,
  nodeStatus,
  type MachineFacts,
  type NodeFacts,
  type NodeSettings,
  type NodeStatus,
} from '../node/status.ts';
import type { Poke } from './poke.ts';

export type NodeLoopOptions = {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly registration: Registration;
  readonly machine: MachineFacts;
  readonly settings: NodeSettings;
  /** @throws Failure when the node has no address that can be told */
  readonly facts: (signal: AbortSignal) => Promise<NodeFacts>;
  /** Of the Node that was ours the last time. */
  readonly knownUid: () => string | undefined;
  readonly onRegistered: (uid: string) => void;
  /** Whether, since it was asked last, something happened that a deletion of the Node explains. */
  readonly mayBeGone: () => boolean;
  /** Whether, since it was asked last, we were silent: others have written our status then. */
  readonly wasSilent: () => boolean;
  readonly onEvent: (type: EventRecord['type'], reason: string, message: string) => void;
  /** After each try, with what is wrong. */
  readonly onResult: (fault: Fault | undefined) => void;
};

const REPORT_MS = 5 * 60_000;
const DEADLINE_MS = 30_000;
const MIN_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 30_000;
/** Until another machine that has our name is looked at again. */
const CLASH_MS = 60_000;

type Registered = {
  readonly uid: string;
  /** As the server has it. */
  status: NodeStatus;
  reportedMonoMs: number;
  reportAfterMs: number;
};

/** Runs until the signal is aborted. */
export async function keepNode(
  options: NodeLoopOptions,
  poke: Poke,
  signal: AbortSignal,
): Promise<void> {
  const { random, onResult } = options;
  let registered: Registered | undefined;
  let failures = 0;
  while (!signal.aborted) {
    let waitMs: number;
    try {
      // A node that is not heard is called not ready; only a look at the object shows that.
      if (options.wasSilent()) registered = undefined;
      if (options.mayBeGone() && registered !== undefined) registered.reportAfterMs = 0;
      registered ??= await register(options, signal);
      await report(options, registered, signal);
      failures = 0;
      onResult(undefined);
      waitMs = leftMs(options, registered);
    } catch (error) {
      if (signal.aborted) return;
      const fault = faultOf(error);
      onResult(fault);
      if (registered !== undefined && isGone(error)) {
        const text = `the Node was deleted (${fault.message}): it is registered again`;
        options.onEvent('Warning', 'NodeDeleted', text);
        registered = undefined;
        waitMs = 0;
      } else {
        failures += 1;
        waitMs = backoff(error, failures, random);
      }
    }
    if (waitMs > 0) await poke.wait(waitMs, signal);
  }
}

function leftMs({ clock }: NodeLoopOptions, of: Registered): number {
  return Math.max(1, of.reportedMonoMs + of.reportAfterMs - clock.now().monoMs);
}

/** The object is not there any more, or it is another one. */
function isGone(error: unknown): boolean {
  return error instanceof Failure && (error.code === 'NotFound' || error.code === 'Conflict');
}

function backoff(error: unknown, failures: number, random: Random): number {
  const spread = 0.8 + 0.4 * random.next();
  if (error instanceof Failure && error.reason === NAME_CLASH) return CLASH_MS * spread;
  const askedMs = error instanceof ApiFailure ? (error.retryAfterMs ?? 0) : 0;
  const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);
  return Math.max(backoffMs * spread, askedMs);
}

const NAME_CLASH = 'NodeNameTaken';

/** Finds our Node or makes it. @throws Failure, also when another machine has the name */
async function register(options: NodeLoopOptions, signal: AbortSignal): Promise<Registered> {
  const { client, clock, log, registration, machine, onEvent } = options;
  const { nodeName } = registration;
  const call = { signal, deadlineMs: DEADLINE_MS };
  const key = { name: nodeName };
  let node: Stored<NodeObject> | undefined;
  try {
    node = await getObject(client, NODES, key, call);
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'NotFound')) throw error;
  }
  const isNew = node === undefined;
  if (node === undefined) {
    const status = await statusOfNow(options, undefined, signal);
    const object = newNode(registration, machine.architecture, status);
    node = await createObject(client, NODES, {}, object, call);
    log.info('the node is registered', { node: nodeName, uid: node.metadata.uid });
  } else {
    claim(options, node);
    const missing = missingLabels(defaultLabels(nodeName, machine.architecture), node);
    if (missing !== undefined) {
      const { uid } = node.metadata;
      const patch = { metadata: { uid, labels: missing } };
      await patchObject(client, NODES, key, 'strategic', patch, { ...call, metadataOnly: true });
    }
    const before = node.status?.nodeInfo?.bootID ?? '';
    if (before !== '' && before !== machine.bootId) {
      const text = `Node ${nodeName} has been rebooted, boot id: ${machine.bootId}`;
      onEvent('Warning', 'Rebooted', text);
    }
  }
  options.onRegistered(node.metadata.uid);
  return {
    uid: node.metadata.uid,
    status: node.status ?? {},
    reportedMonoMs: clock.now().monoMs,
    // What was there before may be old: that we are back is told at once.
    reportAfterMs: isNew ? REPORT_MS : 0,
  };
}

/** @throws Failure when the object is another machine's that is alive */
function claim(options: NodeLoopOptions, node: Stored<NodeObject>): void {
  const owner = ownerOf(node, options.machine, options.knownUid());
  if (owner.whose === 'ours') return;
  options.onEvent('Warning', owner.whose === 'others' ? NAME_CLASH : 'NodeReplaced', owner.message);
  if (owner.whose === 'forsaken') {
    options.log.warn(owner.message);
    return;
  }
  throw new Failure('AlreadyExists', owner.message, { reason: NAME_CLASH });
}

/** Tells what has changed, if anything has, and in any case that we are there every 5 minutes. */
async function report(
  options: NodeLoopOptions,
  registered: Registered,
  signal: AbortSignal,
): Promise<void> {
  const { client, clock, random, log, registration, onEvent } = options;
  const status = await statusOfNow(options, registered.status, signal);
  const { patch, changed } = statusPatch(registered.status, status);
  const now = clock.now().monoMs;
  const isDue = now - registered.reportedMonoMs >= registered.reportAfterMs;
  if (!changed && !isDue) return;
  const { nodeName } = registration;
  const body = JSON.stringify({ metadata: { uid: registered.uid }, status: patch });
  const key = { name: nodeName, subresource: 'status' };
  const call = { signal, deadlineMs: DEADLINE_MS, metadataOnly: true };
  await patchObject(client, NODES, key, 'strategic', body, call);
  log.debug('the node status is told', { bytes: Buffer.byteLength(body), changed });
  if (isReady(status) !== isReady(registered.status)) {
    const reason = isReady(status) ? 'NodeReady' : 'NodeNotReady';
    onEvent('Normal', reason, `Node ${nodeName} status is now: ${reason}`);
  }
  registered.status = status;
  registered.reportedMonoMs = now;
  registered.reportAfterMs = REPORT_MS * (changed ? 0.5 + random.next() : 1);
}

async function statusOfNow(
  { clock, machine, settings, facts }: NodeLoopOptions,
  before: NodeStatus | undefined,
  signal: AbortSignal,
): Promise<NodeStatus> {
  const found = await facts(signal);
  const now = new Date(clock.now().wallMs).toISOString().replace(/\.\d+/, '');
  return nodeStatus(machine, found, settings, before, now);
}
