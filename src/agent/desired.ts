/**
 * What this node should run: the pods of the manifest folder and those of `limpet apply`, as they
 * stand in the store. Stored first, then the workers are told.
 *
 * Invariant: only news ends a pod. A source that has not reported, or can't, ends none.
 */
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Pod } from '../kube/pod.ts';
import { specHash } from '../kube/static-uid.ts';
import type { Neighbour, NodeCapacity } from '../node/admit.ts';
import { admit } from '../node/admit.ts';
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
};

export class Desired {
  readonly #options: DesiredOptions;
  /** What the manifest folder wants, once it has said so. */
  #manifests: readonly Pod[] | undefined;

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
    store.putDeletion(worker.uid, deletion);
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
    this.#options.store.forget(worker.uid);
    this.#options.log.info('pod is gone', podFields(worker.want.pod));
    // A file that came back unchanged while its pod was ending wants the same pod again.
    if (this.#manifests !== undefined) this.setManifests(this.#manifests);
    else this.admitAll();
  }

  /**
   * Lets pods in, in the order in which they were accepted: one that was in before is never
   * displaced by one that came later.
   */
  admitAll(): void {
    const { turns, node } = this.#options;
    const workers = [...turns.workers.values()].sort((a, b) => a.want.order - b.want.order);
    const inside: Neighbour[] = [];
    for (const worker of workers) {
      const { want, seen } = worker;
      if (seen.ledger.ending?.cause === 'rejected') continue;
      const ended = seen.ledger.terminal !== undefined;
      const settled = seen.ledger.admitted === true || ended || want.deletion !== undefined;
      if (!settled) {
        const verdict = admit(want.pod, inside, node);
        if ('wait' in verdict) {
          const waitFor = { reason: verdict.wait, message: verdict.message };
          turns.post(worker.uid, { type: 'Waiting', waitFor });
          continue;
        }
        if (!verdict.ok) {
          const { reason, message } = verdict;
          turns.post(worker.uid, { type: 'Rejected', reason, message });
          continue;
        }
        turns.post(worker.uid, { type: 'Admitted' });
      }
      inside.push({
        pod: want.pod,
        order: want.order,
        terminal: ended,
        deleting: want.deletion !== undefined,
      });
    }
  }
}

function wantOf(pod: Pod, source: Want['source'], order: number, deletion?: Deletion): Want {
  return { pod, source, order, ...(deletion !== undefined && { deletion }) };
}

function podFields({ metadata }: Pod) {
  return { pod: `${metadata.namespace}/${metadata.name}`, uid: metadata.uid };
}
