/**
 * What this node should run: the pods of the manifest folder, of `limpet apply` and of the API
 * server, as they stand in the store. Stored first, then the workers are told.
 *
 * A pod of the API server that has ended for good is kept in the store until the API server knows:
 * so its last status is told also after a reboot.
 *
 * Invariant: only news ends a pod. A source that has not reported, or can't, ends none.
 */
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { NewEvent } from '../kube/event.ts';
import type { ApiPodResult } from '../kube/parse-api.ts';
import type { Pod } from '../kube/pod.ts';
import { REASON } from '../kube/reason.ts';
import { specHash } from '../kube/static-uid.ts';
import type { Neighbour, NodeCapacity } from '../node/admit.ts';
import { admit } from '../node/admit.ts';
import { objectOf } from '../pod/events.ts';
import type { Deletion, Want } from '../pod/model.ts';
import { withDoubt } from '../pod/doubt.ts';
import type { Store } from '../store/store.ts';
import type { Turns, Worker } from './turns.ts';

export type DesiredOptions = {
  readonly store: Store;
  readonly turns: Turns;
  readonly clock: Clock;
  readonly log: Log;
  readonly node: NodeCapacity;
  readonly onEvent: (event: NewEvent) => void;
  /** A pod of the API server is gone from this node: its object can go. */
  readonly onOver: (worker: Worker) => void;
  /** The pods of the API server, whenever there are others. */
  readonly onPods: (pods: readonly Pod[]) => void;
};

export class Desired {
  readonly #options: DesiredOptions;
  /** What the manifest folder wants, once it has said so. */
  #manifests: readonly Pod[] | undefined;
  /** Pods of the API server that are gone from this node, until the API server knows. */
  readonly #over = new Map<string, Worker>();

  constructor(options: DesiredOptions) {
    this.#options = options;
  }

  /** Takes up what was stored, as it was when the power went. */
  load(): void {
    const { store, turns } = this.#options;
    const uncertain = new Set(store.opening.uncertain);
    for (const { pod, source, order, deletion, ledger } of store.pods()) {
      const believed = uncertain.has(pod.metadata.uid) ? withDoubt(pod, ledger) : ledger;
      turns.add(wantOf(pod, source, order, deletion), believed);
    }
    this.#tellPods();
    this.admitAll();
  }

  /** Makes the pods of the manifest folder those and no others. */
  setManifests(pods: readonly Pod[]): void {
    const { store, turns, log } = this.#options;
    this.#manifests = pods;
    const wanted = new Map(pods.map((pod) => [pod.metadata.uid, pod]));
    for (const worker of [...turns.workers.values()]) {
      if (worker.want.source !== 'file' || wanted.has(worker.uid)) continue;
      if (worker.want.deletion === undefined) this.remove(worker);
    }
    for (const pod of wanted.values()) {
      if (turns.workers.has(pod.metadata.uid)) continue;
      const order = store.putPod(pod, 'file', specHash(pod));
      log.info('new pod from a manifest', podFields(pod));
      turns.add(wantOf(pod, 'file', order), undefined);
    }
    this.admitAll();
  }

  /** The pods of the API server that this node has, also those that are about to be forgotten. */
  apiPods(): readonly Worker[] {
    const { turns } = this.#options;
    const workers = [...turns.workers.values()].filter(({ want }) => want.source === 'api');
    return [...workers, ...this.#over.values()];
  }

  /** A pod of the API server that is on this node; undefined when nothing is left of it here. */
  apiPod(uid: string): Worker | undefined {
    const worker = this.#options.turns.workers.get(uid);
    return worker?.want.source === 'api' ? worker : undefined;
  }

  /**
   * Takes a pod of the API server as it is now. `graceSeconds` is set when it is being deleted.
   * What can't be carried out is refused, and its object left as it is. Durable when it returns.
   *
   * @returns the worker; undefined of a pod that is gone from this node already
   */
  setApiPod(read: ApiPodResult, graceSeconds: number | undefined): Worker | undefined {
    const { store, turns, log } = this.#options;
    const { pod } = read;
    const { uid } = pod.metadata;
    if (this.#over.has(uid)) return undefined;
    let worker = turns.workers.get(uid);
    if (worker === undefined) {
      this.#endNamesakes(pod);
      const order = store.putPod(pod, 'api', specHash(pod));
      log.info('new pod from the API server', podFields(pod));
      worker = turns.add(wantOf(pod, 'api', order), undefined);
      this.#tellPods();
      if (!read.ok) this.#refuse(worker, read.problems);
    } else if (read.ok) {
      this.#change(worker, pod, graceSeconds);
    } else if (isStandIn(worker.want)) {
      // The power may have gone before that was stored.
      if (worker.seen.ledger.ending === undefined) this.#refuse(worker, read.problems);
    } else {
      const message = `the pod goes on as it was: ${read.problems.join('; ')}`;
      const object = objectOf(worker.want);
      const reason = REASON.featureUnsupported;
      this.#options.onEvent({ type: 'Warning', reason, message, object });
    }
    if (graceSeconds !== undefined && isShorter(worker.want, graceSeconds)) {
      this.remove(worker, graceSeconds);
    }
    this.admitAll();
    return worker;
  }

  /** Two pods of one name are never in a cluster at a time: the earlier is gone there. */
  #endNamesakes({ metadata: { namespace, name } }: Pod): void {
    for (const { uid, want } of this.apiPods()) {
      const { metadata } = want.pod;
      if (metadata.namespace === namespace && metadata.name === name) this.endApiPod(uid);
    }
  }

  #refuse({ uid }: Worker, problems: readonly string[]): void {
    const message = `Pod can't be run by limpet: ${problems.join('; ')}`;
    this.#options.turns.post(uid, { type: 'Rejected', reason: REASON.featureUnsupported, message });
  }

  /** What is wanted of a pod, and that it is to end, in one step of the store. */
  #change(worker: Worker, pod: Pod, graceSeconds: number | undefined): void {
    const { store, turns, log } = this.#options;
    const before = worker.want.pod;
    const hash = specHash(pod);
    const isSame =
      before.metadata.generation === pod.metadata.generation && specHash(before) === hash;
    if (isSame) return;
    const isEnding = graceSeconds !== undefined && isShorter(worker.want, graceSeconds);
    const deletion = isEnding ? this.#deletionOf(worker, graceSeconds) : undefined;
    store.replacePods({
      add: [{ pod, source: 'api', specHash: hash }],
      delete: deletion === undefined ? [] : [{ uid: worker.uid, deletion }],
    });
    worker.want = { ...worker.want, pod };
    this.#tellPods();
    if (deletion !== undefined) return this.#end(worker, deletion);
    log.info('a pod was changed', podFields(pod));
    turns.post(worker.uid, { type: 'Tick' });
  }

  /** The API server has this pod no more. Durable when it returns. */
  endApiPod(uid: string): void {
    const { store, turns } = this.#options;
    if (this.#over.has(uid)) return this.forgetApiPod(uid);
    const worker = turns.workers.get(uid);
    if (worker?.want.source !== 'api' || worker.want.deletion?.gone) return;
    const deletion: Deletion = { ...this.#deletionOf(worker, undefined), gone: true };
    store.putDeletion(uid, deletion);
    this.#end(worker, deletion);
  }

  /** The API server knows that the pod is gone. */
  forgetApiPod(uid: string): void {
    const { store, log } = this.#options;
    const worker = this.#over.get(uid);
    if (worker === undefined) return;
    store.forget(uid);
    this.#over.delete(uid);
    log.info('pod is gone', podFields(worker.want.pod));
  }

  /** Adds pods and ends others in one step; durable when it returns. */
  apply(add: readonly Pod[], replaced: readonly Worker[]): void {
    const { store, turns, log } = this.#options;
    const deletions = replaced.map((worker) => ({
      worker,
      deletion: this.#deletionOf(worker, undefined),
    }));
    const orders = store.replacePods({
      add: add.map((pod) => ({ pod, source: 'local' as const, specHash: specHash(pod) })),
      delete: deletions.map(({ worker, deletion }) => ({ uid: worker.uid, deletion })),
    });
    for (const { worker, deletion } of deletions) this.#end(worker, deletion);
    for (const [index, pod] of add.entries()) {
      log.info('new pod from apply', podFields(pod));
      turns.add(wantOf(pod, 'local', orders[index] ?? 0), undefined);
    }
    this.admitAll();
  }

  /** Ends a pod for good; the deletion is durable when it returns. */
  remove(worker: Worker, graceSeconds?: number): void {
    const { store } = this.#options;
    const deletion = this.#deletionOf(worker, graceSeconds);
    try {
      store.putDeletion(worker.uid, deletion);
    } catch (error) {
      // What nobody wants is being ended without having been stored.
      const isLeftOver = error instanceof Failure && error.code === 'NotFound';
      if (!isLeftOver || worker.want.deletion === undefined) throw error;
    }
    this.#end(worker, deletion);
  }

  #deletionOf(worker: Worker, graceSeconds: number | undefined): Deletion {
    const { pod, deletion } = worker.want;
    const grace = graceSeconds ?? pod.spec.terminationGracePeriodSeconds;
    if (deletion === undefined) return { graceSeconds: grace, at: this.#options.clock.now() };
    return { ...deletion, graceSeconds: Math.min(grace, deletion.graceSeconds) };
  }

  #end(worker: Worker, deletion: Deletion): void {
    this.#options.log.info('ending a pod', {
      ...podFields(worker.want.pod),
      graceSeconds: deletion.graceSeconds,
    });
    worker.want = { ...worker.want, deletion };
    this.#options.turns.post(worker.uid, { type: 'Tick' });
  }

  /** A pod is gone: forget it, and let in who waited for it. */
  forget(worker: Worker): void {
    const { source, deletion, pod } = worker.want;
    if (source === 'api' && deletion?.gone === undefined) {
      this.#over.set(worker.uid, worker);
      this.#options.onOver(worker);
    } else {
      this.#options.store.forget(worker.uid);
      this.#options.log.info('pod is gone', podFields(pod));
    }
    if (source === 'api') this.#tellPods();
    // A file that came back unchanged while its pod was ending wants the same pod again.
    if (this.#manifests !== undefined) this.setManifests(this.#manifests);
    else this.admitAll();
  }

  #tellPods(): void {
    const { turns, onPods } = this.#options;
    const wants = [...turns.workers.values()].map(({ want }) => want);
    const isCarriedOut = (want: Want) => want.source === 'api' && !isStandIn(want);
    onPods(wants.filter(isCarriedOut).map(({ pod }) => pod));
  }

  /**
   * Lets pods in, in the order in which they were accepted: one that was in before is never
   * displaced by one that came later, and one that waits keeps its place in the queue.
   */
  admitAll(): void {
    const { turns, node } = this.#options;
    const workers = [...turns.workers.values()]
      .filter(({ want, seen }) => seen.ledger.ending?.cause !== 'rejected' && !isStandIn(want))
      .sort((a, b) => a.want.order - b.want.order);
    // Who was let in while an earlier one waited is in as well.
    const inside = workers.filter(isSettled).map(neighbourOf);
    for (const worker of workers) {
      if (isSettled(worker)) continue;
      const verdict = admit(worker.want.pod, inside, node);
      if ('wait' in verdict) {
        const waitFor = { reason: verdict.wait, message: verdict.message };
        turns.post(worker.uid, { type: 'Waiting', waitFor });
      } else if (!verdict.ok) {
        const { reason, message } = verdict;
        turns.post(worker.uid, { type: 'Rejected', reason, message });
        continue;
      } else turns.post(worker.uid, { type: 'Admitted' });
      inside.push(neighbourOf(worker));
    }
  }
}

/** Without containers it only stands for an object that can't be carried out, and uses nothing. */
function isStandIn({ source, pod }: Want): boolean {
  return source === 'api' && pod.spec.containers.length === 0;
}

/** Nothing is to be decided of it any more. */
function isSettled({ want, seen: { ledger } }: Worker): boolean {
  return ledger.admitted === true || ledger.terminal !== undefined || want.deletion !== undefined;
}

function neighbourOf({ want, seen }: Worker): Neighbour {
  return {
    pod: want.pod,
    order: want.order,
    // One that was deleted before it was let in holds nothing either.
    terminal:
      seen.ledger.terminal !== undefined ||
      (want.deletion !== undefined && seen.ledger.admitted !== true),
    deleting: want.deletion !== undefined,
  };
}

/** Only a shorter grace is news. */
function isShorter({ deletion }: Want, graceSeconds: number): boolean {
  return deletion === undefined || graceSeconds < deletion.graceSeconds;
}

function wantOf(pod: Pod, source: Want['source'], order: number, deletion?: Deletion): Want {
  return { pod, source, order, ...(deletion !== undefined && { deletion }) };
}

function podFields({ metadata }: Pod) {
  return { pod: `${metadata.namespace}/${metadata.name}`, uid: metadata.uid };
}
