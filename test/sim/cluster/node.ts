/**
 * One run of the agent: what src/agent does with the pods of a cluster, connected as `core.ts` and
 * `cluster-work.ts` connect it, on simulated time, with a simulated runtime, store and network.
 */
import { abortable } from '../../../src/base/abortable.ts';
import { createRecovery } from '../../../src/base/recovery.ts';
import type { Log } from '../../../src/base/log.ts';
import type { Random } from '../../../src/base/random.ts';
import type { ApiClient } from '../../../src/apiserver/client.ts';
import { followApiPods } from '../../../src/agent/api-pods.ts';
import type { Session } from '../../../src/agent/cluster.ts';
import { createClusterCheck, storedCluster } from '../../../src/agent/cluster-check.ts';
import { Desired } from '../../../src/agent/desired.ts';
import { MirrorPods } from '../../../src/agent/mirror-pods.ts';
import { orphansOf } from '../../../src/agent/orphans.ts';
import { objectUidOf, PodStatuses } from '../../../src/agent/pod-statuses.ts';
import { bringUpToDate } from '../../../src/agent/report.ts';
import { Turns } from '../../../src/agent/turns.ts';
import type { NodeCapacity } from '../../../src/node/admit.ts';
import { POD_NAMESPACE_LABEL, POD_NAME_LABEL, POD_UID_LABEL } from '../../../src/pod/names.ts';
import type { Store } from '../../../src/store/store.ts';
import type { World } from '../world.ts';
import { createEffects } from './effects.ts';
import type { StoreUsed } from './store.ts';
import type { Life, Time } from './time.ts';

export const NODE_NAME = 'pi1';

/** The parts under test, for a planted bug to change. */
export type Parts = {
  readonly desired: Desired;
  readonly statuses: PodStatuses;
  readonly mirrors: MirrorPods;
  readonly turns: Turns;
};

/** A bug planted on purpose; nothing of it is in the product. */
export type Bug = {
  readonly store?: (store: StoreUsed) => StoreUsed;
  readonly parts?: (parts: Parts, store: StoreUsed) => void;
  readonly client?: (client: ApiClient) => ApiClient;
  readonly session?: (session: Session) => Session;
};

export type NodePorts = {
  readonly time: Time;
  readonly random: Random;
  readonly log: Log;
  readonly world: World;
  readonly store: StoreUsed;
  readonly client: (life: Life) => ApiClient;
  readonly capacity: NodeCapacity;
  readonly bug: Bug;
  readonly badLuck: () => number;
  readonly nameOf: (uid: string) => { readonly name: string; readonly namespace: string };
  /** Pods of which something changed in the runtime since they were taken from here. */
  readonly changed: Set<string>;
  readonly onError: (error: unknown) => void;
};

const RELIST_MS = 10_000;
const HOLD = { reason: 'RuntimeNotReady', message: 'waiting for the container runtime' };

export type Node = Parts & {
  readonly life: Life;
  /** New credentials: all that talks to the cluster begins anew. */
  newSession(): void;
  /** The lease was renewed after a time in which it could not be. */
  answersAgain(): void;
  runtimeChanged(isUp: boolean): void;
  hint(uid: string): void;
};

export function startNode(ports: NodePorts): Node {
  const { time, world, bug, changed } = ports;
  const store = bug.store?.(ports.store) ?? ports.store;
  const life: Life = { isDead: false };
  const clock = time.clock(life);
  const parts = connect(ports, life, store);
  const recovery = createRecovery();
  const { turns, desired } = parts;
  bug.parts?.(parts, store);
  turns.hold(world.isUp ? undefined : HOLD);
  desired.load();
  let session = new AbortController();
  const begin = () => {
    session = new AbortController();
    void talk({ ...ports, recovery }, life, store, parts, session.signal).catch(ports.onError);
  };
  begin();
  const later = (ms: number, run: () => void) =>
    time.schedule(ms, () => {
      if (!life.isDead) run();
    });
  const relist = () => {
    if (world.isUp) {
      for (const uid of changed) turns.post(uid, { type: 'Hint', seq: parts.lookSeq() });
      changed.clear();
      const isKnown = (uid: string) => turns.workers.has(uid);
      for (const want of orphansOf(everything(ports), isKnown, clock)) turns.add(want, undefined);
    }
    later(RELIST_MS, relist);
  };
  later(RELIST_MS, relist);
  return {
    ...parts,
    life,
    newSession: () => {
      session.abort(new Error('new credentials'));
      later(1, begin);
    },
    answersAgain: () => void later(1, () => recovery.tell()),
    runtimeChanged: (isUp) => {
      turns.hold(isUp ? undefined : HOLD);
      if (isUp) turns.postAll({ type: 'RuntimeBack', seq: parts.lookSeq() });
    },
    hint: (uid) => turns.post(uid, { type: 'Hint', seq: parts.lookSeq() }),
  };
}

function connect(
  { time, random, log, world, capacity, badLuck }: NodePorts,
  life: Life,
  store: StoreUsed,
): Parts & { lookSeq: () => number } {
  const clock = time.clock(life);
  const effects = createEffects({
    ...{ time, random, world, life, badLuck },
    mayHappenLate: () => random.next() < 0.5,
    onView: (uid, view) => turns.post(uid, { type: 'Looked', view }),
  });
  const onEvent = () => undefined;
  const turns: Turns = new Turns({
    clock,
    store: (ledgers) => void store.putLedgers(ledgers),
    execute: effects.execute,
    lookSeq: effects.lookSeq,
    onEvent,
    onDone: (worker) => desired.forget(worker),
    onTurn: (workers) => {
      if (life.isDead) return;
      for (const worker of workers) bringUpToDate(worker, clock.now(), '10.0.0.9');
      statuses.changed(workers);
      mirrors.changed(workers);
    },
    onStored: () => undefined,
  });
  const mirrors = new MirrorPods({
    ...{ clock, log, nodeName: NODE_NAME, random: random.fork(`mirrors ${time.steps}`) },
    workers: () => turns.workers.values(),
    onMade: (worker) => statuses.anew(worker),
    onHeard: (worker, status) => statuses.heard(worker, status),
  });
  const statuses = new PodStatuses({
    ...{ clock, log, random: random.fork(`statuses ${time.steps}`) },
    hostIPs: () => ['10.0.0.9'],
    uidOf: (worker) => objectUidOf(worker, mirrors),
    onDeleted: (uid) => desired.forgetApiPod(uid),
  });
  const desired = new Desired({
    ...{ store: store as unknown as Store, turns, clock, log, node: capacity, onEvent },
    onOver: (worker) => statuses.over(worker),
    onPods: () => undefined,
  });
  return { desired, statuses, mirrors, turns, lookSeq: effects.lookSeq };
}

/** As `clusterWork`. */
async function talk(
  { time, random, log, client: clientOf, bug, recovery }: NodePorts & Pick<Session, 'recovery'>,
  life: Life,
  used: StoreUsed,
  { desired, statuses, mirrors }: Parts,
  signal: AbortSignal,
): Promise<void> {
  const clock = time.clock(life);
  const store = used as unknown as Store;
  const bare = clientOf(life);
  const client = bug.client?.(bare) ?? bare;
  // A certificate takes no part in the comparison here: the UIDs tell one cluster from another.
  const credentials = {
    server: new URL('https://10.0.0.1:6443'),
    current: () => Promise.resolve({ ca: '' }),
  } as unknown as Session['credentials'];
  const check = { client, credentials, clock, log, store, nodeName: NODE_NAME, signal };
  const sound: Session = { client, credentials, recovery, ...createClusterCheck(check) };
  const session = bug.session?.(sound) ?? sound;
  const synced = Promise.withResolvers<undefined>();
  const nodeUid = () => storedCluster(store)?.nodeUid;
  const pods = {
    ...{ clock, log, store, desired, statuses, mirrors, nodeName: NODE_NAME },
    random: random.fork(`watch ${time.steps}`),
    onSynced: () => synced.resolve(undefined),
    onCaughtUp: () => undefined,
  };
  const afterList = async () => {
    await abortable(synced.promise, signal);
    await Promise.all([statuses.run(session, signal), mirrors.run(session, nodeUid, signal)]);
  };
  await Promise.all([
    followApiPods(pods, session, signal),
    afterList().catch((error: unknown) => {
      if (!signal.aborted) throw error;
    }),
  ]);
}

/** What a listing of the whole runtime shows, as far as orphans need it. */
function everything({ world, nameOf }: NodePorts): Parameters<typeof orphansOf>[0] {
  const sandboxes = [...world.sandboxes.values()].map(({ id, uid, attempt, status }) => ({
    ...{ id, state: status.state, createdAt: 0n, labels: {}, annotations: {} },
    metadata: { ...nameOf(uid), uid, attempt },
  }));
  const containers = [...world.containers.values()].map((c) => ({
    ...{ id: c.id, podSandboxId: c.sandboxId, name: c.name, attempt: c.attempt },
    ...{ state: c.status.state, createdAt: BigInt(c.createdMs), imageRef: '' },
    labels: {
      [POD_UID_LABEL]: c.uid,
      [POD_NAME_LABEL]: nameOf(c.uid).name,
      [POD_NAMESPACE_LABEL]: nameOf(c.uid).namespace,
    },
    annotations: c.annotations,
  }));
  const none = { seq: 0, epoch: '', sandboxes: [], containers: [] };
  return { uids: new Set<string>(), viewOf: () => none, sandboxes, containers };
}
