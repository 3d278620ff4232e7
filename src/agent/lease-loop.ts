/**
 * The node's heartbeat: a Lease in kube-node-lease, renewed every 10 s on a connection of its own,
 * so that nothing else can be in its way.
 * Source: k8s.io/component-helpers apimachinery/lease, k8s.io/kubernetes pkg/kubelet, v1.36.
 */
import type { ApiClient, CallOptions } from '../apiserver/client.ts';
import { ApiFailure } from '../apiserver/errors.ts';
import { createObject, getObject, patchObject, updateObject } from '../apiserver/objects.ts';
import { LEASES, type Stored } from '../apiserver/resource.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf, type Fault } from '../base/failure.ts';
import type { Random } from '../base/random.ts';
import type { Poke } from './poke.ts';

export type LeaseOptions = {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly nodeName: string;
  /** Of the Node; the lease goes when it goes. */
  readonly nodeUid: () => string | undefined;
  /** After each try. */
  readonly onResult: (fault: Fault | undefined) => void;
  /** The version of the lease as the server has it. */
  readonly onVersion: (resourceVersion: string) => void;
  /** The lease, and so the Node, was deleted under our feet. */
  readonly onLost: () => void;
};

type Lease = Stored<NonNullable<(typeof LEASES)['of']>>;

const NAMESPACE = 'kube-node-lease';
const LEASE = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease' };
/**
 * Makes the server forget who has written which field, and it does not begin anew: nobody asks that
 * of a lease, and it is half of each answer to a heartbeat.
 * Source: k8s.io/apimachinery pkg/util/managedfields, isResetManagedFields.
 */
const UNTRACKED = [{}];
const DURATION_SECONDS = 40;
const RENEW_MS = 10_000;
const JITTER = 0.04;
const DEADLINE_MS = 10_000;
const MIN_BACKOFF_MS = 200;
const MAX_BACKOFF_MS = 7_000;
/** From so many failures on, connections are not trusted any more. */
const DOUBTFUL_FAILURES = 2;

/** Runs until the signal is aborted. `poke` makes it renew at once. */
export async function keepLease(
  options: LeaseOptions,
  poke: Poke,
  signal: AbortSignal,
): Promise<void> {
  const { client, random, onResult } = options;
  let lease: Lease | undefined;
  let failures = 0;
  while (!signal.aborted) {
    let waitMs = RENEW_MS * (1 + JITTER * random.next());
    try {
      lease = await renew(options, lease, signal);
      options.onVersion(lease.metadata.resourceVersion);
      failures = 0;
      onResult(undefined);
    } catch (error) {
      if (signal.aborted) return;
      // Somebody else has written it, or it is not known whether we have.
      lease = undefined;
      failures += 1;
      // A server that refuses in order is on a connection that is good.
      const isAnswer = error instanceof ApiFailure && error.status !== undefined;
      if (failures >= DOUBTFUL_FAILURES && !isAnswer) client.close();
      waitMs = backoff(error, failures, random);
      onResult(faultOf(error));
    }
    await poke.wait(waitMs, signal);
  }
}

function backoff(error: unknown, failures: number, random: Random): number {
  const askedMs = error instanceof ApiFailure ? (error.retryAfterMs ?? 0) : 0;
  const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** (failures - 1), MAX_BACKOFF_MS);
  return Math.max(backoffMs * (0.8 + 0.4 * random.next()), askedMs);
}

async function renew(
  options: LeaseOptions,
  last: Lease | undefined,
  signal: AbortSignal,
): Promise<Lease> {
  const { client, clock, nodeName, nodeUid, onLost } = options;
  const call = { signal, deadlineMs: DEADLINE_MS };
  const key = { namespace: NAMESPACE, name: nodeName };
  const uid = nodeUid();
  const owner = { apiVersion: 'v1', kind: 'Node', name: nodeName, uid: uid ?? '' };
  const spec = (before: Lease | undefined) => ({
    holderIdentity: nodeName,
    leaseDurationSeconds: DURATION_SECONDS,
    renewTime: renewTime(before?.spec?.renewTime, clock.now().wallMs),
  });
  if (last !== undefined) {
    try {
      return await extend(options, last, spec(last), call);
    } catch (error) {
      if (!isNotFound(error)) throw error;
      onLost();
    }
  }
  const stored = await getObject(client, LEASES, key, call).catch((error: unknown) => {
    if (!isNotFound(error)) throw error;
    const metadata = { ...key, ...(uid !== undefined && { ownerReferences: [owner] }) };
    const lease = { ...LEASE, metadata, spec: spec(undefined) };
    return createObject(client, LEASES, { namespace: NAMESPACE }, lease, call);
  });
  options.onVersion(stored.metadata.resourceVersion);
  const { resourceVersion, ownerReferences: owners } = stored.metadata;
  const ownerReferences = uid === undefined ? owners : [owner];
  const metadata = {
    ...{ ...key, resourceVersion, ...(ownerReferences && { ownerReferences }) },
    managedFields: UNTRACKED,
  };
  const renewed = { ...stored, metadata, spec: { ...stored.spec, ...spec(stored) } };
  return await updateObject(client, LEASES, key, renewed, call);
}

function isNotFound(error: unknown): boolean {
  return error instanceof Failure && error.code === 'NotFound';
}

/**
 * Tells the new time and no more, which is a third of the whole lease: it is most of what a node at
 * rest sends. Nobody else writes our lease; if somebody has, the version is another one.
 */
async function extend(
  { client, nodeName }: LeaseOptions,
  last: Lease,
  spec: NonNullable<Lease['spec']>,
  call: CallOptions,
): Promise<Lease> {
  const { uid, resourceVersion } = last.metadata;
  const patch = { metadata: { uid, resourceVersion }, spec: { renewTime: spec.renewTime } };
  const key = { namespace: NAMESPACE, name: nodeName };
  const answer = { ...call, metadataOnly: true };
  const { metadata } = await patchObject(client, LEASES, key, 'merge', patch, answer);
  return { ...last, metadata, spec };
}

/** Now, or if that is not later than the last time, a moment after it: only news is a heartbeat. */
function renewTime(last: string | undefined, wallMs: number): string {
  const lastMs = last === undefined ? 0 : Date.parse(last) || 0;
  const ms = Math.max(wallMs, lastMs + 1);
  return new Date(ms).toISOString().replace('Z', '000Z');
}
