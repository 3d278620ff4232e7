/** Gives the cluster what the agent knows of the machine. */
import { hostname } from 'node:os';

import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { systemRandom } from '../base/random.ts';
import { KUBERNETES_VERSION } from '../base/version.ts';
import type { CriRuntime } from '../cri/open.ts';
import type { Image } from '../kube/cri.ts';
import { fileSystemBytes, machineFacts, nodeAddresses } from '../linux/machine.ts';
import type { BoardHealth } from '../node/board.ts';
import type { NodeFacts } from '../node/status.ts';
import type { Store } from '../store/store.ts';
import { createCluster, type Cluster, type ClusterParts } from './cluster.ts';
import type { AgentOptions } from './options.ts';
import type { RuntimeState } from './runtime-watch.ts';

export type Membership = Cluster;

export type MembershipParts = {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Store;
  readonly runtime: RuntimeState;
  readonly cri: CriRuntime;
  readonly board: BoardHealth;
  readonly onLaterThan: (wallMs: number) => void;
  readonly onLease: ClusterParts['onLease'];
  readonly onSession: NonNullable<ClusterParts['onSession']>;
};

/** What nobody tells of, addresses and the disk, is looked at this often: it costs no request. */
const LOOK_MS = 10_000;

/** Undefined when the node belongs to no cluster. */
export function createMembership(
  options: AgentOptions,
  parts: MembershipParts,
): Membership | undefined {
  const { nodeName, maxPods, nodeIPs, rootDirectory, kubelet } = options;
  if (options.cluster === undefined) return undefined;
  const { clock, log, store, runtime, cri, board, onLaterThan, onLease, onSession } = parts;
  const storeProblem = () => {
    const health = store.health();
    return health.ok ? undefined : health.fault.message;
  };
  const facts = async (signal: AbortSignal): Promise<NodeFacts> => ({
    hostname: hostname(),
    addresses: nodeAddresses(nodeIPs),
    storageBytes: fileSystemBytes(rootDirectory),
    runtime,
    storeProblem: storeProblem(),
    board: board.conditions(),
    images: runtime.connected ? await imagesOf(cri, signal) : undefined,
  });
  const registration = { nodeName, ...options.cluster.registration };
  const cluster = createCluster(
    { ...options.cluster, registration },
    {
      ...{ clock, log, store, onLaterThan, onLease, onSession, facts },
      random: systemRandom(),
      machine: machineFacts(),
      settings: { kubeletVersion: KUBERNETES_VERSION, maxPods, port: kubelet.port },
    },
  );
  const look = () => {
    try {
      return JSON.stringify([nodeAddresses(nodeIPs), storeProblem()]);
    } catch (error) {
      return String(error);
    }
  };
  const keepLooking = async (signal: AbortSignal): Promise<void> => {
    let seen = look();
    while (!signal.aborted) {
      await clock.sleep(LOOK_MS, signal).catch(() => undefined);
      const now = look();
      if (now !== seen) cluster.poke();
      seen = now;
    }
  };
  return {
    ...cluster,
    run: async (signal) => {
      using _turns = board.onTurn(() => cluster.poke());
      await Promise.all([cluster.run(signal), keepLooking(signal)]);
    },
  };
}

/** The status does not wait for a runtime that has just gone. */
async function imagesOf(
  cri: CriRuntime,
  signal: AbortSignal,
): Promise<readonly Image[] | undefined> {
  try {
    return await cri.images.listImages(signal);
  } catch (error) {
    if (error instanceof Failure) return undefined;
    throw error;
  }
}
