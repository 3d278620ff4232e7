/**
 * The agent as the core knows it: a mailbox and a turn for each pod, the ledger made durable before
 * the effects of a turn begin, effects that answer by posting events. It mirrors what src/agent
 * does, without promises and on simulated time. Everything that can go wrong with an effect is
 * decided here by its fate.
 */
import type { Random } from '../../src/base/random.ts';
import { firstSeen } from '../../src/pod/model.ts';
import type {
  Action,
  ActionResult,
  Hold,
  Ledger,
  Now,
  Plan,
  PodEvent,
  SandboxSeen,
  Seen,
  View,
  Want,
} from '../../src/pod/model.ts';
import type { plan } from '../../src/pod/plan.ts';
import type { reduce } from '../../src/pod/reduce.ts';
import { between, chance } from './choose.ts';
import type { Disk } from './disk.ts';
import type { Entry } from './queue.ts';
import { callOff } from './queue.ts';
import type { Stopping, World } from './world.ts';
import { failed } from './world.ts';

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

/** What becomes of one effect. */
export type Fate =
  | 'well'
  | 'slow'
  /** Fails and did nothing. */
  | 'fails'
  /** Fails, and happened all the same. */
  | 'happens and fails'
  /** Nothing happens, and no answer comes until the deadline. */
  | 'lost'
  /** Happens, and no answer comes until the deadline. */
  | 'answer lost'
  /** Given up at the deadline, and happens after that. */
  | 'late'
  /** The answer comes twice. */
  | 'twice'
  /** Leaves a reserved name behind. */
  | 'half-written';

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

type Effect = {
  readonly action: Action;
  readonly epoch: number;
  readonly cuts: number;
  happening: Entry | undefined;
  isAnswered: boolean;
  isCancelled: boolean;
  isTwice: boolean;
  stopping: Stopping | undefined;
  happensAtMs: number;
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
  fate(action: Action): Fate;
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
  onForgotten(worker: Worker): void;
};

const DURATION_MS: Record<Action['type'], readonly [low: number, high: number]> = {
  Look: [4, 50],
  SetUpPod: [1, 30],
  TearDownPod: [1, 30],
  SetUpVolume: [1, 30],
  TearDownVolume: [1, 30],
  PullImage: [50, 4000],
  RunPodSandbox: [100, 800],
  StopPodSandbox: [50, 300],
  RemovePodSandbox: [20, 200],
  CreateContainer: [30, 300],
  StartContainer: [30, 300],
  StopContainer: [1, 20],
  RemoveContainer: [20, 100],
};
const IN_PROCESS: ReadonlySet<Action['type']> = new Set([
  'SetUpPod',
  'TearDownPod',
  'SetUpVolume',
  'TearDownVolume',
]);
const DEADLINE_MS = 10_000;
const RELIST_MS = 10_000;
const STORE_RETRY_MS = 5_000;
const NO_SPACE: Hold = { reason: 'NoSpace', message: 'the disk is full' };
const RUNTIME_AWAY: Hold = { reason: 'RuntimeAway', message: 'the runtime does not answer' };

export class Agent {
  readonly workers = new Map<string, Worker>();
  isDead = false;
  #lookSeq = 0;
  #isStoreFull = false;
  #isRuntimeAway = false;
  readonly #ports: AgentPorts;

  constructor(ports: AgentPorts) {
    this.#ports = ports;
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
    if (this.workers.has(uid)) this.#post(uid, { type: 'Hint', seq: this.#lookSeq });
  }

  runtimeChanged(isAway: boolean): void {
    if (this.#isRuntimeAway === isAway) return;
    this.#isRuntimeAway = isAway;
    for (const uid of this.workers.keys()) {
      this.#postHold(uid);
      if (!isAway) this.#post(uid, { type: 'RuntimeBack', seq: this.#lookSeq });
    }
  }

  /** The process ends without a word to anybody; what it had asked for may happen after that. */
  die(mayHappen: boolean): void {
    this.isDead = true;
    const { random, schedule } = this.#ports;
    for (const worker of this.workers.values()) {
      for (const effect of worker.effects.values()) {
        effect.stopping?.abandon();
        const { happening } = effect;
        const run = happening?.run;
        callOff(happening);
        if (!mayHappen || run === undefined || chance(random, 0.5)) continue;
        // What the agent does itself ends with it; what the runtime was asked for may still come.
        if (IN_PROCESS.has(effect.action.type)) run();
        else schedule(between(random, 0, 3000), run);
      }
    }
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
        this.#post(worker.uid, { type: 'Hint', seq: this.#lookSeq });
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
    if (worker === undefined) return;
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
      for (const action of plan.start) this.#begin(worker, action);
      const { ledger } = worker.seen;
      this.#later(2000, () => void this.#store(worker, ledger));
    } else {
      const isStored = this.#store(worker, worker.seen.ledger);
      boundary();
      for (const action of plan.start) {
        if (isStored || mayGoAhead(want, action)) this.#begin(worker, action);
        else this.#refuse(worker, action);
        boundary();
      }
    }
    for (const key of plan.cancel) this.#cancel(worker, key);
    if (plan.done) return this.#forget(worker);
    if (plan.wakeAtMonoMs === undefined) return;
    const inMs = Math.max(1, Math.ceil(plan.wakeAtMonoMs - now.monoMs));
    worker.wake = this.#later(inMs, () => this.#post(worker.uid, { type: 'Tick' }));
  }

  #store(worker: Worker, ledger: Ledger): boolean {
    const { disk, bugs, onStored } = this.#ports;
    if (ledger === worker.stored) return true;
    if (disk.isFull) {
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

  // ---- effects ----

  #refuse(worker: Worker, action: Action): void {
    const effect = effectOf(action, this.#ports.world);
    worker.effects.set(action.key, effect);
    this.#end(worker, effect, failed('NoSpace', 'the ledger could not be stored'));
  }

  #begin(worker: Worker, action: Action): void {
    const { random, world, fate, onBegun, trace } = this.#ports;
    const effect = effectOf(action, world);
    worker.effects.set(action.key, effect);
    const lot = fate(action);
    trace(
      () => `begin ${worker.uid}: ${describeAction(action)}${lot === 'well' ? '' : `, ${lot}`}`,
    );
    onBegun(worker, action);
    const [low, high] = DURATION_MS[action.type];
    const ms = between(random, low, high) * (lot === 'slow' ? 20 : 1);
    effect.isTwice = lot === 'twice';
    if (action.type === 'Look') return this.#look(worker, effect, lot, ms);
    if (action.type === 'StopContainer') return this.#stop(worker, effect, action, lot, ms);
    const end = (inMs: number, result: ActionResult) =>
      this.#later(inMs, () => this.#end(worker, effect, result));
    const broken = failed('Unknown', `${lot}`);
    const deadline = failed('DeadlineExceeded', 'no answer in time');
    if (lot === 'fails') return void end(ms, broken);
    if (lot === 'lost') return void end(DEADLINE_MS, deadline);
    if (lot === 'half-written') {
      const name = halfWrittenName(worker.uid, action);
      if (name !== undefined) world.halfWritten.add(name);
      return void end(ms, broken);
    }
    if (lot === 'answer lost') end(DEADLINE_MS, deadline);
    if (lot === 'late') end(ms, deadline);
    const happensInMs = lot === 'late' ? ms + between(random, 1, 3000) : Math.ceil(ms * 0.6);
    effect.happensAtMs = this.#ports.nowMs() + happensInMs;
    effect.happening = this.#ports.schedule(happensInMs, () => {
      const result = this.#happen(worker.uid, effect);
      effect.happening = undefined;
      if (lot === 'answer lost' || lot === 'late') return;
      end(ms - happensInMs, lot === 'happens and fails' ? broken : result);
    });
  }

  #look(worker: Worker, effect: Effect, lot: Fate, ms: number): void {
    const { world, random, nowMs } = this.#ports;
    const seq = ++this.#lookSeq;
    const away = failed('Unavailable', 'the runtime does not answer');
    if (lot === 'fails' || lot === 'lost' || lot === 'half-written') {
      const result = lot === 'lost' ? failed('DeadlineExceeded', 'no answer') : away;
      const inMs = lot === 'lost' ? DEADLINE_MS : ms;
      this.#later(inMs, () => this.#end(worker, effect, result));
      return;
    }
    let sandboxes: readonly SandboxSeen[] | undefined;
    let listedMs = 0;
    let version = 0;
    const firstMs = between(random, 0, ms);
    // Two lists, one after the other; both may be long before the answer.
    this.#later(firstMs, () => {
      if (world.isUp && world.epoch === effect.epoch) sandboxes = world.sandboxesOf(worker.uid);
      listedMs = nowMs();
      version = this.#ports.version(worker.uid);
    });
    this.#later(between(random, firstMs, ms), () => {
      const isGood = world.isUp && world.epoch === effect.epoch && sandboxes !== undefined;
      const view: View | undefined = isGood
        ? {
            ...{ seq, epoch: `e${effect.epoch}`, sandboxes: sandboxes! },
            containers: world.containersOf(worker.uid),
          }
        : undefined;
      const isLost = lot === 'answer lost' || lot === 'late';
      this.#later(isLost ? DEADLINE_MS : ms - firstMs, () => {
        if (view !== undefined && lot !== 'answer lost') {
          worker.viewMs = listedMs;
          worker.version = version;
          this.#post(worker.uid, { type: 'Looked', view });
          if (effect.isTwice) this.#again(worker.uid, { type: 'Looked', view });
        }
        this.#end(worker, effect, view === undefined ? away : { ok: true });
      });
    });
  }

  #stop(
    worker: Worker,
    effect: Effect,
    action: Action & { type: 'StopContainer' },
    lot: Fate,
    ms: number,
  ): void {
    const { world, random } = this.#ports;
    const end = (result: ActionResult) => this.#end(worker, effect, result);
    const graceMs = action.graceSeconds * 1000;
    if (lot === 'fails' || lot === 'half-written') {
      this.#later(ms, () => end(failed('Unknown', lot)));
      return;
    }
    if (lot === 'lost' || lot === 'answer lost') {
      const none = failed('DeadlineExceeded', 'no answer');
      this.#later(graceMs + DEADLINE_MS, () => end(none));
      if (lot === 'lost') return world.loseStop(action.id);
    }
    this.#later(ms, () => {
      if (effect.isCancelled) return;
      if (!world.isUp) return end(failed('Unavailable', 'the runtime does not answer'));
      effect.stopping = world.stopContainer(action.id, graceMs, (result) => {
        if (lot === 'answer lost' && result.ok) return;
        this.#later(between(random, 1, 20), () => end(result));
      });
      if (lot !== 'happens and fails') return;
      // The signal is sent, then the connection breaks: nobody is there to wait for the kill.
      effect.stopping.abandon();
      this.#later(20, () => end(failed('Unavailable', 'the connection broke')));
    });
  }

  #cancel(worker: Worker, key: string): void {
    const { random, nowMs, trace } = this.#ports;
    const effect = worker.effects.get(key);
    if (effect === undefined || effect.isAnswered || effect.isCancelled) return;
    trace(() => `cancel ${worker.uid}: ${describeAction(effect.action)}`);
    effect.isCancelled = true;
    effect.stopping?.abandon();
    let inMs = between(random, 1, 50);
    // Given up, and yet it happens.
    if (effect.happening !== undefined && chance(random, 0.3)) {
      inMs = Math.max(inMs, effect.happensAtMs - nowMs() + 1);
    } else callOff(effect.happening);
    const result = failed('Cancelled', 'given up');
    this.#later(inMs, () => this.#end(worker, effect, result));
  }

  #end(worker: Worker, effect: Effect, result: ActionResult): void {
    if (effect.isAnswered) return;
    effect.isAnswered = true;
    const { action } = effect;
    if (action.type === 'RunPodSandbox') worker.sandboxEndedMs = this.#ports.nowMs();
    if (worker.effects.get(action.key) === effect) worker.effects.delete(action.key);
    const event: PodEvent = { type: 'ActionEnded', action, seq: this.#lookSeq, result };
    this.#post(worker.uid, event);
    if (effect.isTwice) this.#again(worker.uid, event);
  }

  /** The same answer once more, up to ten seconds later. */
  #again(uid: string, event: PodEvent): void {
    this.#later(between(this.#ports.random, 0, 10_000), () => this.#post(uid, event));
  }

  #happen(uid: string, effect: Effect): ActionResult {
    const { world, disk } = this.#ports;
    const { action } = effect;
    if (world.cuts !== effect.cuts) return failed('Unavailable', 'the power was cut');
    switch (action.type) {
      case 'SetUpPod':
        if (disk.isFull) return failed('NoSpace', 'disk full');
        world.podDirs.add(uid);
        return { ok: true };
      case 'TearDownPod':
        if (action.final) world.podDirs.delete(uid);
        return { ok: true };
      case 'SetUpVolume':
        world.volumes.add(`${uid}/${action.volume.name}`);
        return { ok: true };
      case 'TearDownVolume':
        world.volumes.delete(`${uid}/${action.volume.name}`);
        return { ok: true };
      default:
    }
    if (!world.isUp || world.epoch !== effect.epoch) {
      return failed('Unavailable', 'the runtime went away');
    }
    switch (action.type) {
      case 'PullImage':
        return disk.isFull ? failed('NoSpace', 'disk full') : pull(world, action);
      case 'RunPodSandbox':
        return world.runPodSandbox(uid, action.attempt);
      case 'StopPodSandbox':
        return world.stopPodSandbox(action.id);
      case 'RemovePodSandbox':
        return world.removePodSandbox(action.id);
      case 'CreateContainer': {
        const { name, attempt, sandboxId, imageRef } = action;
        const image = imageRef.replace('sha256:', '');
        return world.createContainer(uid, name, attempt, sandboxId, image);
      }
      case 'StartContainer':
        return world.startContainer(action.id, this.isDead);
      case 'RemoveContainer':
        return world.removeContainer(action.id);
      case 'Look':
      case 'StopContainer':
        return { ok: true };
    }
  }
}

function pull(world: World, action: Action & { type: 'PullImage' }): ActionResult {
  return world.pullImage(action.image, action.policy);
}

/**
 * With a full disk nothing is begun that would need its record; ending things goes on, but for a
 * pod that stays nothing is removed that is the only record of what happened.
 */
function mayGoAhead(want: Want, action: Action): boolean {
  switch (action.type) {
    case 'Look':
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

function effectOf(action: Action, { epoch, cuts }: World): Effect {
  return {
    ...{ action, epoch, cuts, happening: undefined, stopping: undefined, happensAtMs: 0 },
    ...{ isAnswered: false, isCancelled: false, isTwice: false },
  };
}

function halfWrittenName(uid: string, action: Action): string | undefined {
  if (action.type === 'RunPodSandbox') return `${uid}/${action.attempt}`;
  if (action.type === 'CreateContainer') return `${uid}/${action.name}/${action.attempt}`;
  return undefined;
}

export function describeAction(action: Action): string {
  const { type, key, ...rest } = action;
  const details = Object.entries(rest)
    .filter(([name]) => name !== 'volume' && name !== 'message')
    .map(([name, value]) => ` ${name}=${String(value)}`)
    .join('');
  return `${type} [${key}]${details}`;
}

export function describeEvent(event: PodEvent): string {
  switch (event.type) {
    case 'Looked': {
      const { seq, epoch, sandboxes, containers } = event.view;
      const pods = sandboxes.map((s) => `${s.id}#${s.attempt}:${s.state.slice(8)}`);
      const all = containers.map((c) => {
        const end = c.state === 'CONTAINER_EXITED' ? `(${c.exitCode} ${c.reason})` : '';
        return `${c.name}#${c.attempt}@${c.podSandboxId}:${c.state.slice(10)}${end}`;
      });
      return `Looked ${seq} ${epoch} [${pods.join(' ')}] [${all.join(' ')}]`;
    }
    case 'ActionEnded': {
      const { result } = event;
      const how = result.ok ? 'ok' : `${result.fault.code}: ${result.fault.message}`;
      return `ended ${event.action.type} [${event.action.key}] ${how}`;
    }
    case 'ActionStarted':
      return `started ${describeAction(event.action)}`;
    default:
      return JSON.stringify(event);
  }
}
