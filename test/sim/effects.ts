/**
 * The effects of the agent model: when each begins, happens and is answered, and what its fate
 * makes of that. The answers are events for the pod's mailbox.
 */
import type { Action, ActionResult, PodEvent, SandboxSeen, View } from '../../src/pod/model.ts';
import type { AgentPorts, Worker } from './agent.ts';
import { between, chance } from './choose.ts';
import { describeAction } from './describe.ts';
import type { Entry } from './queue.ts';
import { callOff } from './queue.ts';
import { perform } from './perform.ts';
import type { Stopping, World } from './world.ts';
import { failed } from './world.ts';

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

export type Effect = {
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
  RunPostStart: [1, 20],
  RunPreStop: [1, 20],
  RemoveContainer: [20, 100],
};
const IN_PROCESS: ReadonlySet<Action['type']> = new Set([
  'SetUpPod',
  'TearDownPod',
  'SetUpVolume',
  'TearDownVolume',
]);
const DEADLINE_MS = 10_000;
/** Answers that don't tell whether a hook was run. */
const IN_DOUBT: ReadonlySet<string> = new Set(['Cancelled', 'Unavailable', 'NoSpace']);

export class Effects {
  /** The number of the last look that has begun. */
  lookSeq = 0;
  #isDead = false;
  readonly #ports: AgentPorts;
  readonly #post: (uid: string, event: PodEvent) => void;

  constructor(ports: AgentPorts, post: (uid: string, event: PodEvent) => void) {
    this.#ports = ports;
    this.#post = post;
  }

  /** The agent died. What it had asked for may still happen. */
  abandon(workers: Iterable<Worker>, mayHappen: boolean): void {
    this.#isDead = true;
    const { random, schedule } = this.#ports;
    for (const worker of workers) {
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
      if (!this.#isDead) run();
    });
  }

  refuse(worker: Worker, action: Action): void {
    const effect = effectOf(action, this.#ports.world);
    worker.effects.set(action.key, effect);
    this.#end(worker, effect, failed('NoSpace', 'the ledger could not be stored'));
  }

  begin(worker: Worker, action: Action): void {
    const { random, world, fate, onBegun, trace } = this.#ports;
    const effect = effectOf(action, world);
    worker.effects.set(action.key, effect);
    const lot = fate(worker.uid, action);
    trace(
      () => `begin ${worker.uid}: ${describeAction(action)}${lot === 'well' ? '' : `, ${lot}`}`,
    );
    onBegun(worker, action);
    const [low, high] = DURATION_MS[action.type];
    const ms = between(random, low, high) * (lot === 'slow' ? 20 : 1);
    effect.isTwice = lot === 'twice';
    if (action.type === 'Look') return this.#look(worker, effect, lot, ms);
    if (action.type === 'StopContainer') return this.#stop(worker, effect, action, lot, ms);
    if (action.type === 'RunPostStart' || action.type === 'RunPreStop') {
      return this.#hook(worker, effect, action, lot, ms);
    }
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
    const seq = ++this.lookSeq;
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

  #hook(
    worker: Worker,
    effect: Effect,
    { id, type }: Action & { type: 'RunPostStart' | 'RunPreStop' },
    lot: Fate,
    ms: number,
  ): void {
    const { world, nowMs } = this.#ports;
    const process = world.processOf(id);
    if (process !== undefined && type === 'RunPreStop') process.preStopMs ??= nowMs();
    const end = (result: ActionResult) => {
      if (type === 'RunPostStart' && process !== undefined && !effect.isAnswered) {
        if (result.ok) process.hasPostStarted = true;
        else if (!IN_DOUBT.has(result.fault.code)) process.mayBeKilled = true;
      }
      this.#end(worker, effect, result);
    };
    if (lot === 'lost' || lot === 'answer lost') {
      const none = failed('DeadlineExceeded', 'no answer');
      return void this.#later(DEADLINE_MS, () => end(none));
    }
    this.#later(ms, () => {
      if (effect.isCancelled) return;
      if (lot === 'fails' || lot === 'half-written') return end(failed('Unknown', lot));
      if (!world.isUp) return end(failed('Unavailable', 'the runtime does not answer'));
      const hook = world.hook(id, type);
      if (hook.ms === Infinity) return;
      this.#later(hook.ms, () => {
        if (world.epoch !== effect.epoch) end(failed('Unavailable', 'the runtime went away'));
        else end(lot === 'happens and fails' ? failed('Unknown', lot) : hook.result);
      });
    });
  }

  cancel(worker: Worker, key: string): void {
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
    const event: PodEvent = { type: 'ActionEnded', action, seq: this.lookSeq, result };
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
    const fills = action.type === 'SetUpPod' || action.type === 'PullImage';
    const isOfRuntime = !WITHOUT_RUNTIME.has(action.type);
    if (isOfRuntime && (!world.isUp || world.epoch !== effect.epoch)) {
      return failed('Unavailable', 'the runtime went away');
    }
    if (fills && disk.isFull) return failed('NoSpace', 'disk full');
    return perform(world, uid, action, this.#isDead);
  }
}

const WITHOUT_RUNTIME: ReadonlySet<Action['type']> = new Set([
  'SetUpPod',
  'TearDownPod',
  'SetUpVolume',
  'TearDownVolume',
]);

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
