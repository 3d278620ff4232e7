/**
 * The pod workers. Each pod has a mailbox; a turn drains the mailboxes of all woken pods, plans,
 * stores what has to be stored of all of them in one transaction, and only then begins effects.
 *
 * Invariants
 * - A turn has no await. Effects answer by posting events.
 * - No action begins before the ledger that it was planned with is durable. When it can't be
 *   stored (the disk is full) nothing is created or started; stopping and removing go on.
 */
import type { Clock, Timer } from '../base/clock.ts';
import type { Fault } from '../base/failure.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { NewEvent } from '../kube/event.ts';
import type { PodStatus } from '../kube/pod.ts';
import { eventsOf } from '../pod/events.ts';
import type { Action, ActionResult, Hold, Ledger, PodEvent, Seen, Want } from '../pod/model.ts';
import { firstSeen } from '../pod/model.ts';
import { plan } from '../pod/plan.ts';
import { reduce } from '../pod/reduce.ts';

/** Makes an action an effect. */
export type Execute = (
  worker: Worker,
  action: Action,
  signal: AbortSignal,
) => Promise<ActionResult>;

export type Worker = {
  readonly uid: string;
  want: Want;
  seen: Seen;
  /** The status that was shown last. */
  status: PodStatus | undefined;
  readonly mailbox: PodEvent[];
  stored: Ledger | undefined;
  timer: Timer | undefined;
  readonly aborts: Map<string, AbortController>;
};

export type TurnsOptions = {
  readonly clock: Clock;
  /** Stores ledgers in one transaction; throws a `Failure` when it can't. */
  readonly store: (ledgers: readonly { uid: string; ledger: Ledger }[]) => void;
  readonly execute: Execute;
  readonly lookSeq: () => number;
  readonly onEvent: (event: NewEvent) => void;
  /** The pod is gone for good. Throws a `Failure` when that can't be stored. */
  readonly onDone: (worker: Worker) => void;
  /** After each turn, with the pods that had one. */
  readonly onTurn: (workers: readonly Worker[]) => void;
  /** The outcome of the last attempt to store, when it changes. */
  readonly onStored: (fault: Fault | undefined) => void;
};

/** Actions that may begin although the ledger could not be stored: they only take away. */
const TAKES_AWAY: ReadonlySet<Action['type']> = new Set([
  'Look',
  'RunPreStop',
  'StopContainer',
  'StopPodSandbox',
  'TearDownVolume',
  'TearDownPod',
]);

/**
 * These take away the runtime's record of how a container ended. While the ledger can't be stored
 * that is the only record, so it is kept unless the whole pod is to be forgotten anyway.
 */
const TAKES_RECORD: ReadonlySet<Action['type']> = new Set(['RemoveContainer', 'RemovePodSandbox']);

function mayBeginUnstored({ want }: Worker, { type }: Action): boolean {
  return TAKES_AWAY.has(type) || (want.deletion !== undefined && TAKES_RECORD.has(type));
}

export class Turns {
  readonly #options: TurnsOptions;
  readonly #workers = new Map<string, Worker>();
  readonly #woken = new Set<Worker>();
  /** Those whose end could not be stored. */
  readonly #unforgotten = new Set<Worker>();
  #hold: Hold | undefined;
  #scheduled = false;
  #stopped = false;

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  get workers(): ReadonlyMap<string, Worker> {
    return this.#workers;
  }

  /** Takes up a pod that is already durable. */
  add(want: Want, ledger: Ledger | undefined): Worker {
    const worker: Worker = {
      uid: want.pod.metadata.uid,
      want,
      seen: firstSeen(ledger),
      status: undefined,
      mailbox: [{ type: 'Held', hold: this.#hold }],
      stored: ledger,
      timer: undefined,
      aborts: new Map(),
    };
    this.#workers.set(worker.uid, worker);
    this.#wake(worker);
    return worker;
  }

  /** Tells a pod what happened. Unknown pods are ignored: they are gone. */
  post(uid: string, event: PodEvent): void {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return;
    worker.mailbox.push(event);
    this.#wake(worker);
  }

  /** Begins a pod anew that is over, with another ledger. */
  restart(worker: Worker, ledger: Ledger): void {
    const { hold, view } = worker.seen;
    worker.seen = { ...firstSeen(ledger), ...(hold && { hold }), ...(view && { view }) };
    this.post(worker.uid, { type: 'Hint', seq: this.#options.lookSeq() });
  }

  postAll(event: PodEvent): void {
    for (const uid of this.#workers.keys()) this.post(uid, event);
  }

  /** Starts nothing new in any pod while there is a hold. */
  hold(hold: Hold | undefined): void {
    this.#hold = hold;
    this.postAll({ type: 'Held', hold });
  }

  /** Tries again to store what could not be stored. */
  storeAgain(): void {
    for (const worker of this.#workers.values()) {
      const isDue = worker.seen.ledger !== worker.stored || this.#unforgotten.has(worker);
      if (isDue) this.post(worker.uid, { type: 'Tick' });
    }
  }

  /** Decides nothing any more; effects that have begun go on. */
  halt(): void {
    this.#stopped = true;
    for (const worker of this.#workers.values()) worker.timer?.cancel();
  }

  /** Ends all timers and gives up all effects; the containers go on. */
  stop(reason: Error): void {
    this.halt();
    for (const worker of this.#workers.values()) {
      for (const controller of worker.aborts.values()) controller.abort(reason);
    }
  }

  #wake(worker: Worker): void {
    this.#woken.add(worker);
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    this.#options.clock.soon(() => this.#turn());
  }

  #turn(): void {
    this.#scheduled = false;
    if (this.#stopped) return;
    const workers = [...this.#woken].sort((a, b) => a.want.order - b.want.order);
    this.#woken.clear();
    const effects: { worker: Worker; action: Action }[] = [];
    for (const worker of workers) this.#decide(worker, effects);
    const fault = this.#store(workers);
    for (const { worker, action } of effects) {
      if (fault === undefined || mayBeginUnstored(worker, action)) this.#begin(worker, action);
      else this.#ended(worker, action, { ok: false, fault });
    }
    this.#options.onTurn(workers);
  }

  #decide(worker: Worker, effects: { worker: Worker; action: Action }[]): void {
    const now = this.#options.clock.now();
    const events = worker.mailbox.splice(0);
    for (const event of events) this.#reduce(worker, event);
    const { start, cancel, wakeAtMonoMs, done } = plan(worker.want, worker.seen, now);
    for (const key of cancel) worker.aborts.get(key)?.abort(new Error('the pod is ending'));
    for (const action of start) {
      this.#reduce(worker, { type: 'ActionStarted', action });
      effects.push({ worker, action });
    }
    worker.timer?.cancel();
    worker.timer =
      wakeAtMonoMs === undefined
        ? undefined
        : this.#options.clock.at(wakeAtMonoMs, () => this.post(worker.uid, { type: 'Tick' }));
    if (done) this.#forget(worker);
  }

  #forget(worker: Worker): void {
    worker.timer?.cancel();
    this.#workers.delete(worker.uid);
    try {
      this.#options.onDone(worker);
      this.#unforgotten.delete(worker);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      // Nothing is left of it but its row; `storeAgain` tries again.
      this.#workers.set(worker.uid, worker);
      this.#unforgotten.add(worker);
      this.#options.onStored(faultOf(error));
    }
  }

  #reduce(worker: Worker, event: PodEvent): void {
    const now = this.#options.clock.now();
    const before = worker.seen;
    worker.seen = reduce(worker.want, before, event, now);
    for (const told of eventsOf(worker.want, before, worker.seen, event, now)) {
      this.#options.onEvent(told);
    }
  }

  #store(workers: readonly Worker[]): Fault | undefined {
    const changed = workers.filter((w) => w.seen.ledger !== w.stored && this.#workers.has(w.uid));
    if (changed.length === 0) return undefined;
    try {
      this.#options.store(changed.map(({ uid, seen }) => ({ uid, ledger: seen.ledger })));
      for (const worker of changed) worker.stored = worker.seen.ledger;
      this.#options.onStored(undefined);
      return undefined;
    } catch (error) {
      const fault = faultOf(error);
      this.#options.onStored(fault);
      return fault;
    }
  }

  #begin(worker: Worker, action: Action): void {
    const controller = new AbortController();
    worker.aborts.set(action.key, controller);
    const given = (error: unknown): ActionResult => ({
      ok: false,
      fault: controller.signal.aborted
        ? { code: 'Cancelled', message: 'given up' }
        : faultOf(error),
    });
    void this.#options
      .execute(worker, action, controller.signal)
      .catch(given)
      .then((result) => {
        worker.aborts.delete(action.key);
        this.#ended(worker, action, result);
      });
  }

  #ended(worker: Worker, action: Action, result: ActionResult): void {
    this.post(worker.uid, { type: 'ActionEnded', action, seq: this.#options.lookSeq(), result });
  }
}
