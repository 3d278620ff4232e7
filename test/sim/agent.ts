/**
 * The agent as the core knows it: a mailbox and a turn for each pod, the ledger made durable before
 * the effects of a turn begin, effects that answer by posting events. It mirrors what src/agent
 * does, without promises and on simulated time. Everything that can go wrong with an effect is
 * decided here by its fate.
 */
import type { Random } from '../../src/base/random.ts';
import { firstSeen } from '../../src/pod/model.ts';
import type { Action, Hold, Ledger, Now, Plan, PodEvent, Seen, Want } from '../../src/pod/model.ts';
import type { plan } from '../../src/pod/plan.ts';
import type { reduce } from '../../src/pod/reduce.ts';
import { describeEvent } from './describe.ts';
import type { Disk } from './disk.ts';
import type { Effect, Fate } from './effects.ts';
import { Effects } from './effects.ts';
import { Probing } from './probing.ts';
import type { Entry } from './queue.ts';
import { callOff } from './queue.ts';
import type { World } from './world.ts';

/** The core under test, so that a planted bug can wrap it. */
export type Core = { readonly reduce: typeof reduce; readonly plan: typeof plan };

/** Bugs of the glue around the core; all absent in a sound agent. */
export type GlueBugs = {
  /** The effects of a turn begin before its ledger is stored. */
  readonly beginsBeforeStoring?: boolean;
  /** An apply or delete is acknowledged before it is stored. */
  readonly acknowledgesBeforeStoring?: boolean;
  readonly onLoad?: (ledger: Ledger, now: Now) => Ledger;
  readonly onStore?: (ledger: Ledger) => Ledger;
};

export type Worker = {
  readonly uid: string;
  want: Want;
  seen: Seen;
  mailbox: PodEvent[];
  turn: Entry | undefined;
  wake: Entry | undefined;
  stored: Ledger | undefined;
  readonly effects: Map<string, Effect>;
  /** When the sandboxes of the newest view were listed, and the pod's version at that time. */
  viewMs: number;
  version: number;
  /** When the last attempt to run a sandbox ended. */
  sandboxEndedMs: number;
};

export type AgentPorts = {
  readonly core: Core;
  readonly bugs: GlueBugs;
  readonly random: Random;
  readonly world: World;
  readonly disk: Disk;
  now(): Now;
  nowMs(): number;
  schedule(inMs: number, run: () => void): Entry;
  trace(line: () => string): void;
  fate(uid: string, action: Action): Fate;
  /** A place where the agent may die; throws if it does. */
  boundary(): void;
  /** Changes with everything that the runtime would show of the pod. */
  version(uid: string): number;
  refusal(uid: string): Hold | undefined;
  /** The pod that has to be gone before this one may start. */
  predecessor(uid: string): string | undefined;
  onTurn(worker: Worker, plan: Plan, now: Now): void;
  onBegun(worker: Worker, action: Action): void;
  onStored(worker: Worker, ledger: Ledger): void;
  /** The disk was full. */
  onNotStored(worker: Worker): void;
  onForgotten(worker: Worker): void;
};

const RELIST_MS = 10_000;
const STORE_RETRY_MS = 5_000;
const NO_SPACE: Hold = { reason: 'NoSpace', message: 'the disk is full' };
const RUNTIME_AWAY: Hold = { reason: 'RuntimeAway', message: 'the runtime does not answer' };

export class Agent {
  readonly workers = new Map<string, Worker>();
  isDead = false;
  #isStoreFull = false;
  #isRuntimeAway = false;
  readonly #ports: AgentPorts;
  readonly #effects: Effects;
  readonly #probing: Probing;

  constructor(ports: AgentPorts) {
    this.#ports = ports;
    this.#effects = new Effects(ports, (uid, event) => this.#post(uid, event));
    this.#probing = new Probing(ports, (uid, event) => this.#post(uid, event));
    this.#isRuntimeAway = !ports.world.isUp;
    for (const want of ports.disk.desired.values()) this.#take(want);
    this.#later(RELIST_MS, () => this.#relist());
  }

  // ---- orders ----

  /** Takes a pod, or a newer want of it. False when it could not be made durable. */
  accept(want: Want, acknowledge: () => void): void {
    const { disk, bugs, trace } = this.#ports;
    const { uid } = want.pod.metadata;
    if (disk.isFull) return;
    if (bugs.acknowledgesBeforeStoring === true) {
      this.#later(300, () => disk.desired.set(uid, want));
    } else {
      disk.desired.set(uid, want);
    }
    const deletion = want.deletion;
    trace(() => `order ${uid}: ${deletion ? `delete, grace ${deletion.graceSeconds}` : 'apply'}`);
    acknowledge();
    this.#take(want);
  }

  /** The runtime's event of a change. */
  hint(uid: string): void {
    if (this.workers.has(uid)) this.#post(uid, { type: 'Hint', seq: this.#effects.lookSeq });
  }

  runtimeChanged(isAway: boolean): void {
    if (this.#isRuntimeAway === isAway) return;
    this.#isRuntimeAway = isAway;
    for (const uid of this.workers.keys()) {
      this.#postHold(uid);
      if (!isAway) this.#post(uid, { type: 'RuntimeBack', seq: this.#effects.lookSeq });
    }
  }

  /** The process ends without a word to anybody; what it had asked for may happen after that. */
  die(mayHappen: boolean): void {
    this.isDead = true;
    this.#effects.abandon(this.workers.values(), mayHappen);
    this.#probing.abandon();
  }

  #later(inMs: number, run: () => void): Entry {
    return this.#ports.schedule(inMs, () => {
      if (!this.isDead) run();
    });
  }

  #take(want: Want): void {
    const { uid } = want.pod.metadata;
    const known = this.workers.get(uid);
    if (known !== undefined) {
      known.want = want;
      this.#post(uid, { type: 'Tick' });
      return;
    }
    const { disk, bugs, now, refusal, predecessor } = this.#ports;
    // Through text and back, as the store does it.
    const text = JSON.stringify(disk.ledgers.get(uid));
    let stored = text === undefined ? undefined : (JSON.parse(text) as Ledger);
    if (stored !== undefined && bugs.onLoad !== undefined) stored = bugs.onLoad(stored, now());
    this.workers.set(uid, {
      ...{ uid, want, seen: firstSeen(stored), mailbox: [], stored, effects: new Map() },
      ...{ turn: undefined, wake: undefined, viewMs: -1, version: -1, sandboxEndedMs: -1 },
    });
    this.#postHold(uid);
    const refused = refusal(uid);
    const first = predecessor(uid);
    if (refused !== undefined) this.#post(uid, { type: 'Rejected', ...refused });
    else if (first !== undefined && disk.desired.has(first)) {
      const waitFor = { reason: 'NameTaken', message: `waits for ${first}` };
      this.#post(uid, { type: 'Waiting', waitFor });
    } else this.#post(uid, { type: 'Admitted' });
  }

  #postHold(uid: string): void {
    const hold = this.#isRuntimeAway ? RUNTIME_AWAY : this.#isStoreFull ? NO_SPACE : undefined;
    this.#post(uid, { type: 'Held', hold });
  }

  #relist(): void {
    const { world, version, disk } = this.#ports;
    for (const worker of this.workers.values()) {
      if (version(worker.uid) !== worker.version) {
        this.#post(worker.uid, { type: 'Hint', seq: this.#effects.lookSeq });
      }
    }
    // What belongs to nobody (something late of a pod that was forgotten) is cleared away.
    for (const { id, uid } of [...world.sandboxes.values()]) {
      if (world.isUp && !disk.desired.has(uid)) world.removePodSandbox(id);
    }
    for (const { id, uid } of [...world.containers.values()]) {
      if (world.isUp && !disk.desired.has(uid)) world.removeContainer(id);
    }
    this.#later(RELIST_MS, () => this.#relist());
  }

  // ---- the turn ----

  #post(uid: string, event: PodEvent): void {
    const worker = this.workers.get(uid);
    if (worker === undefined || this.isDead) return;
    worker.mailbox.push(event);
    worker.turn ??= this.#later(0, () => this.#turn(worker));
  }

  #turn(worker: Worker): void {
    const { core, bugs, boundary, onTurn } = this.#ports;
    const now = this.#ports.now();
    worker.turn = undefined;
    callOff(worker.wake);
    const { want, mailbox } = worker;
    worker.mailbox = [];
    for (const event of mailbox) {
      this.#ports.trace(() => `event ${worker.uid}: ${describeEvent(event)}`);
      worker.seen = core.reduce(want, worker.seen, event, now);
    }
    const plan = core.plan(want, worker.seen, now);
    onTurn(worker, plan, now);
    for (const action of plan.start) {
      const event: PodEvent = { type: 'ActionStarted', action };
      worker.seen = core.reduce(want, worker.seen, event, now);
    }
    boundary();
    if (bugs.beginsBeforeStoring === true) {
      for (const action of plan.start) this.#effects.begin(worker, action);
      const { ledger } = worker.seen;
      this.#later(2000, () => void this.#store(worker, ledger));
    } else {
      const isStored = this.#store(worker, worker.seen.ledger);
      boundary();
      for (const action of plan.start) {
        if (isStored || mayGoAhead(want, action)) this.#effects.begin(worker, action);
        else this.#effects.refuse(worker, action);
        boundary();
      }
    }
    this.#probing.follow(worker);
    for (const key of plan.cancel) this.#effects.cancel(worker, key);
    if (plan.done) return this.#forget(worker);
    if (plan.wakeAtMonoMs === undefined) return;
    const inMs = Math.max(1, Math.ceil(plan.wakeAtMonoMs - now.monoMs));
    worker.wake = this.#later(inMs, () => this.#post(worker.uid, { type: 'Tick' }));
  }

  #store(worker: Worker, ledger: Ledger): boolean {
    const { disk, bugs, onStored } = this.#ports;
    if (ledger === worker.stored) return true;
    if (disk.isFull) {
      this.#ports.onNotStored(worker);
      this.#storeIsFull();
      return false;
    }
    const kept = bugs.onStore === undefined ? ledger : bugs.onStore(ledger);
    disk.storeLedger(worker.uid, kept, this.#ports.now().wallMs);
    worker.stored = ledger;
    onStored(worker, kept);
    return true;
  }

  #storeIsFull(): void {
    if (this.#isStoreFull) return;
    this.#isStoreFull = true;
    for (const uid of this.workers.keys()) this.#postHold(uid);
    this.#later(STORE_RETRY_MS, () => this.#storeAgain());
  }

  #storeAgain(): void {
    if (this.#ports.disk.isFull) {
      this.#later(STORE_RETRY_MS, () => this.#storeAgain());
      return;
    }
    this.#isStoreFull = false;
    for (const worker of this.workers.values()) {
      this.#store(worker, worker.seen.ledger);
      this.#postHold(worker.uid);
    }
  }

  #forget(worker: Worker): void {
    const { disk, onForgotten } = this.#ports;
    const { uid } = worker;
    if (disk.isFull) {
      worker.wake = this.#later(STORE_RETRY_MS, () => this.#post(uid, { type: 'Tick' }));
      return;
    }
    disk.desired.delete(uid);
    disk.ledgers.delete(uid);
    this.workers.delete(uid);
    onForgotten(worker);
    for (const other of this.workers.keys()) {
      if (this.#ports.predecessor(other) === uid) this.#post(other, { type: 'Admitted' });
    }
  }
}

/**
 * With a full disk nothing is begun that would need its record; ending things goes on, but for a
 * pod that stays nothing is removed that is the only record of what happened.
 */
function mayGoAhead(want: Want, action: Action): boolean {
  switch (action.type) {
    case 'Look':
    case 'RunPreStop':
    case 'StopContainer':
    case 'StopPodSandbox':
    case 'TearDownVolume':
    case 'TearDownPod':
      return true;
    case 'RemoveContainer':
    case 'RemovePodSandbox':
      return want.deletion !== undefined;
    default:
      return false;
  }
}
