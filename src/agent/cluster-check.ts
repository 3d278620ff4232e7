/**
 * Whether it is still our cluster that answers: asked before a list of it is believed. What it was
 * known by is kept in the store.
 */
import type { ApiClient } from '../apiserver/client.ts';
import type { Credentials } from '../apiserver/credentials.ts';
import { readClusterIdentity } from '../apiserver/identity.ts';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { compareClusters, later, type ClusterIdentity } from '../node/cluster-identity.ts';
import type { Store } from '../store/store.ts';

export type ClusterCheckOptions = {
  readonly client: ApiClient;
  readonly credentials: Credentials;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Pick<Store, 'meta' | 'setMeta'>;
  readonly nodeName: string;
  readonly signal: AbortSignal;
};

const KEY = 'cluster.identity';
const DEADLINE_MS = 15_000;
/** Many watches begin at the same time. */
const FRESH_MS = 10_000;

const RESTORED_KEY = 'cluster.restored';
/** Versions grow all the time: they are not stored more often than this, for the card's sake. */
const STORE_MS = 10 * 60_000;

/**
 * Why the pods that a list does not have are not taken for deleted: the cluster was restored from a
 * backup since they were listed. Stays until `settleRestored`.
 */
export function restoredWhy(store: Pick<Store, 'meta'>): string | undefined {
  return store.meta(RESTORED_KEY);
}

/** What the restored cluster does not know of has been dealt with. */
export function settleRestored(store: Pick<Store, 'setMeta'>): void {
  store.setMeta(RESTORED_KEY, undefined);
}

/** What the cluster was known by when it was last seen; undefined before the first time. */
export function storedCluster(store: Pick<Store, 'meta'>): ClusterIdentity | undefined {
  const text = store.meta(KEY);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as ClusterIdentity;
  } catch {
    return undefined;
  }
}

/** For a node that joins anew: whatever cluster answers next is ours. */
export function forgetCluster(store: Pick<Store, 'setMeta'>): void {
  store.setMeta(KEY, undefined);
}

export type ClusterCheck = {
  /**
   * The `verify` of `watchObjects`. It stores what it has seen of our own cluster.
   *
   * @throws Failure `Conflict` when another cluster answers, `Unavailable` when that can't be told,
   *   as `ApiClient.json` when it could not be asked, as `Store.setMeta`
   */
  readonly verify: (listVersion: string | undefined) => Promise<void>;
  /**
   * An object of this version is about to be stored: a cluster that is at an earlier one when it is
   * listed next was restored from a backup. Throws as `Store.setMeta`.
   */
  readonly reached: (resourceVersion: string) => void;
  /**
   * The version of our lease. @returns whether the cluster was restored from a backup: only then does
   * an object of ours come back older than it was
   */
  readonly leased: (resourceVersion: string) => boolean;
  /** Whether it is our cluster that answers now, asked anew. Throws as `verify`. */
  readonly confirm: () => Promise<void>;
};

export function createClusterCheck(options: ClusterCheckOptions): ClusterCheck {
  const { client, credentials, clock, log, store, nodeName, signal } = options;
  let seen: ClusterIdentity | undefined;
  let seenMonoMs = 0;
  let asking: Promise<ClusterIdentity> | undefined;
  const look = async (): Promise<ClusterIdentity> => {
    const call = { signal, deadlineMs: DEADLINE_MS };
    seen = await readClusterIdentity(client, credentials, nodeName, undefined, call);
    seenMonoMs = clock.now().monoMs;
    return seen;
  };
  const lookUnlessFresh = (): Promise<ClusterIdentity> => {
    const isFresh = seen !== undefined && clock.now().monoMs - seenMonoMs < FRESH_MS;
    asking ??= (isFresh ? Promise.resolve(seen!) : look()).finally(() => (asking = undefined));
    return asking;
  };
  /** Newer than what is stored, but for the UIDs. */
  let latest: ClusterIdentity | undefined;
  let storedMonoMs = Number.NEGATIVE_INFINITY;
  const save = (identity: ClusterIdentity) => {
    store.setMeta(KEY, JSON.stringify(identity));
    storedMonoMs = clock.now().monoMs;
  };
  const remember = (identity: ClusterIdentity) => {
    const isOld = clock.now().monoMs - storedMonoMs > STORE_MS;
    latest = identity;
    if (isOld || !isSameButAge(identity, storedCluster(store))) save(identity);
  };
  let leaseVersion: string | undefined;
  const restored = (reason: string) => {
    log.warn('nothing is deleted because of what the cluster has forgotten', { reason });
    store.setMeta(RESTORED_KEY, reason);
    storedMonoMs = Number.NEGATIVE_INFINITY;
  };
  const compare = (now: ClusterIdentity): void => {
    const stored = latest ?? storedCluster(store);
    if (stored === undefined) {
      if (now.nodeUid === undefined && now.serviceUid === undefined) {
        throw new Failure('Unavailable', 'neither our Node nor the service kubernetes can be read');
      }
      return remember(now);
    }
    const { verdict, reason } = compareClusters(stored, now);
    if (verdict === 'restored') {
      restored(reason);
    } else if (verdict !== 'same') {
      seen = undefined;
      const text = `what answers at ${credentials.server.origin} is not taken for our cluster: ${reason}`;
      throw new Failure(verdict === 'other' ? 'Conflict' : 'Unavailable', text);
    }
    remember({
      caFingerprints: now.caFingerprints,
      nodeUid: now.nodeUid ?? stored.nodeUid,
      serviceUid: now.serviceUid ?? stored.serviceUid,
      resourceVersion: now.resourceVersion ?? stored.resourceVersion,
    });
  };
  return {
    verify: async (listVersion) => {
      // Who gave a list is asked after it: the address may have become another cluster's meanwhile.
      const identity = await (listVersion === undefined ? lookUnlessFresh() : look());
      compare({ ...identity, resourceVersion: listVersion });
    },
    reached: (resourceVersion) => {
      const identity = latest ?? storedCluster(store);
      if (identity === undefined) return;
      latest = { ...identity, resourceVersion: later(identity.resourceVersion, resourceVersion) };
      save(latest);
    },
    leased: (resourceVersion) => {
      const before = leaseVersion;
      leaseVersion = resourceVersion;
      if (before === undefined || later(before, resourceVersion) === resourceVersion) return false;
      restored(`our lease is at version ${resourceVersion}, but was at ${before}`);
      return true;
    },
    confirm: async () => compare({ ...(await look()), resourceVersion: undefined }),
  };
}

function isSameButAge(a: ClusterIdentity, b: ClusterIdentity | undefined): boolean {
  const rest = ({ resourceVersion: _, ...others }: ClusterIdentity) => JSON.stringify(others);
  return b !== undefined && rest(a) === rest(b);
}
