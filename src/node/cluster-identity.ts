/**
 * Whether the cluster that answers is the one whose pods run here. Another one may sit behind the
 * same address: built anew, or restored from a backup. Its lists say nothing of our pods.
 */

/** What a node may read and what stays the same for as long as a cluster lives. */
export type ClusterIdentity = {
  /** SHA-256 of each certificate of the authority that the API server is known by. */
  readonly caFingerprints: readonly string[];
  /** Of our own Node object; undefined when there is none or it may not be read. */
  readonly nodeUid: string | undefined;
  /** Of the service `kubernetes` in the namespace `default`; undefined as above. */
  readonly serviceUid: string | undefined;
  /** Of a list of the same kind of objects each time; undefined before the first. */
  readonly resourceVersion: string | undefined;
};

export type Comparison = {
  /** `restored`: it is ours, at an earlier time than it was before. */
  readonly verdict: 'same' | 'restored' | 'other' | 'unknown';
  /** For people. */
  readonly reason: string;
};

/**
 * Compares what was stored when the cluster was last seen with what answers now. UIDs are random: one
 * that is the same proves that both clusters come from the same data. The authority alone proves
 * nothing, as it may be renewed, or used for several clusters.
 *
 * Only `same` allows to take a list as the truth about what is not to run any more. What a restored
 * cluster has forgotten nobody has ended. `unknown` is to be asked again.
 */
export function compareClusters(stored: ClusterIdentity, seen: ClusterIdentity): Comparison {
  const service = compareUid(stored.serviceUid, seen.serviceUid);
  const node = compareUid(stored.nodeUid, seen.nodeUid);
  if (service === 'equal' || node === 'equal') return compareAge(stored, seen);
  if (service === 'different') {
    const changed = node === 'different' ? ', and so has our Node' : '';
    return {
      verdict: 'other',
      reason: `the service default/kubernetes has another UID${changed}: it is another cluster`,
    };
  }
  const isKnownCa = seen.caFingerprints.some((print) => stored.caFingerprints.includes(print));
  if (!isKnownCa && node === 'different') {
    return { verdict: 'other', reason: 'our Node has another UID, and the CA is another one' };
  }
  const why =
    node === 'different'
      ? 'our Node has another UID, and the service default/kubernetes could not be compared'
      : 'neither our Node nor the service default/kubernetes could be compared';
  return { verdict: 'unknown', reason: why };
}

function compareUid(
  stored: string | undefined,
  seen: string | undefined,
): 'equal' | 'different' | undefined {
  if (stored === undefined || seen === undefined) return undefined;
  return stored === seen ? 'equal' : 'different';
}

/**
 * The same data, but perhaps of an earlier time. Versions are decimal numbers that grow since
 * Kubernetes 1.35 says so; what is no number is not compared, and nothing but caution follows.
 */
function compareAge(stored: ClusterIdentity, seen: ClusterIdentity): Comparison {
  const before = stored.resourceVersion;
  const now = seen.resourceVersion;
  if (isEarlier(now, before)) {
    return {
      verdict: 'restored',
      reason: `the cluster is at version ${now}, but was at ${before}: it was restored from a backup`,
    };
  }
  return { verdict: 'same', reason: 'it has the same UIDs' };
}

/** The later one of two versions; what can't be compared is taken for the later. */
export function later(before: string | undefined, version: string): string {
  return before !== undefined && isEarlier(version, before) ? before : version;
}

function isEarlier(a: string | undefined, b: string | undefined): boolean {
  const isNumber = (version: string | undefined) => /^\d{1,20}$/.test(version ?? '');
  return isNumber(a) && isNumber(b) && BigInt(a!) < BigInt(b!);
}
