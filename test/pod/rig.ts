/**
 * One pod, the core and the simulated world, without chance: effects happen at once and go well
 * unless a test says otherwise. What the core did is a list of lines, `<seconds> <action>`; looks
 * are left out. Tests are scripts: something happens, then the lines that must follow.
 */
import type { FailureCode } from '../../src/base/failure.ts';
import type { Pod } from '../../src/kube/pod.ts';
import type {
  Action,
  ActionResult,
  Now,
  PodEvent,
  ProbeName,
  Seen,
  Want,
} from '../../src/pod/model.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { plan } from '../../src/pod/plan.ts';
import { reduce } from '../../src/pod/reduce.ts';
import type { Behaviour } from '../sim/pods.ts';
import { WELL } from '../sim/pods.ts';
import { perform } from '../sim/perform.ts';
import type { Process } from '../sim/process.ts';
import type { Entry } from '../sim/queue.ts';
import { callOff, Queue } from '../sim/queue.ts';
import type { Stopping } from '../sim/world.ts';
import { failed, World } from '../sim/world.ts';

const SERVICE: Behaviour = {
  ...{ kind: 'service', minRunMs: 0, maxRunMs: 0, exitCodes: [0], ignoresTerm: false, termMs: 0 },
  health: WELL,
};
const START_WALL_MS = Date.UTC(2026, 0, 1);

export class Rig {
  readonly world: World;
  readonly starts: string[] = [];
  want: Want;
  seen: Seen = firstSeen(undefined);
  /** Clock error of the wall clock. */
  wallOffsetMs = 0;
  readonly #behaviours: Readonly<Record<string, Partial<Behaviour>>>;
  readonly #queue = new Queue();
  readonly #failures: { what: string; code: FailureCode; times: number; happens: boolean }[] = [];
  readonly #startErrors: string[] = [];
  #stops = new Map<string, Stopping>();
  #mailbox: PodEvent[] = [];
  #lines: string[] = [];
  #turn: Entry | undefined;
  #wake: Entry | undefined;
  #seq = 0;
  #life = 0;
  #boots = 1;
  #bootMs = -5000;
  #nowMs = 0;
  #zeroMs = 0;
  /** Below a half keeps what was not synced at a power cut, above loses it. */
  #luck = 0.1;
  #isAway = false;

  constructor(pod: Pod, behaviours: Readonly<Record<string, Partial<Behaviour>>> = {}) {
    this.want = { pod, source: 'local', order: 1 };
    this.#behaviours = behaviours;
    const nothing = () => {};
    this.world = new World({
      random: { next: () => this.#luck, fork: () => unused(), uuid: () => '' },
      nowMs: () => this.#nowMs,
      schedule: (inMs, run) => this.#queue.push(this.#nowMs + inMs, run),
      behaviour: (_, name) => ({ ...SERVICE, ...this.#behaviours[name] }),
      isCalm: () => false,
      onStarted: ({ name, attempt }) => this.starts.push(`${name}#${attempt}`),
      onBlow: ({ name, attempt }, { signal, by }) => {
        if (signal === 'KILL') this.#line(`SIGKILL ${name}#${attempt} by ${by}`);
      },
      onChange: () => this.#post({ type: 'Hint', seq: this.#seq }),
      ...{ trace: nothing, onEnded: nothing, onEvidenceLost: nothing },
    });
    this.world.runtimeStarts();
    this.#post({ type: 'Admitted' });
  }

  // ---- what happens ----

  /** Lets time pass, and gives the lines since the last time. */
  after(seconds: number): string[] {
    const endMs = this.#nowMs + seconds * 1000;
    for (let entry = this.#queue.pop(endMs); entry; entry = this.#queue.pop(endMs)) {
      this.#nowMs = Math.max(this.#nowMs, entry.atMs);
      entry.run!();
    }
    this.#nowMs = endMs;
    return this.lines();
  }

  lines(): string[] {
    return this.#lines.splice(0);
  }

  /** Counts the seconds of the lines from here on. */
  zero(): void {
    this.#zeroMs = this.#nowMs;
    this.#lines = [];
  }

  exit(name: string, exitCode: number): void {
    this.world.end(this.process(name), exitCode, 'exit');
  }

  process(name: string): Process {
    const found = [...this.world.alive].filter((p) => p.name === name);
    if (found.length !== 1) throw new Error(`${found.length} processes of ${name} are alive`);
    return found[0]!;
  }

  /** The next effects named like this fail; they don't happen unless `happens`. */
  fail(what: string, code: FailureCode, times = 1, happens = false): void {
    this.#failures.push({ what, code, times, happens });
  }

  /** The next starts fail in the runtime, with these words: it then has an ended container. */
  startErrors(...messages: readonly string[]): void {
    this.#startErrors.push(...messages);
  }

  post(event: PodEvent): void {
    this.#post(event);
  }

  /** A probe of the container that runs has said this often enough. */
  probed(name: string, probe: ProbeName, result: 'success' | 'failure'): void {
    this.#post({ type: 'Probed', name, id: this.process(name).containerId, probe, result });
  }

  delete(graceSeconds: number): void {
    this.want = { ...this.want, deletion: { graceSeconds, at: this.now() } };
    this.#post({ type: 'Tick' });
  }

  /** The agent is killed and starts again: only the ledger is left of what it knew. */
  restartAgent(awaySeconds = 0): void {
    this.#agentDies();
    this.after(awaySeconds);
    this.#agentStarts();
  }

  killAgent(): void {
    this.#agentDies();
  }

  startAgent(): void {
    this.#agentStarts();
  }

  /** `loses`: the runtime's records that were not synced are gone; `wiped`: all of them. */
  powerCut(options: { loses?: boolean; wiped?: boolean; clockBackMs?: number } = {}): void {
    this.#agentDies();
    this.#luck = options.loses === true ? 0.9 : 0.1;
    this.world.powerCut();
    if (options.wiped === true) this.world.wipe();
    this.#nowMs += 30_000;
    this.wallOffsetMs -= options.clockBackMs ?? 0;
    this.#boots += 1;
    this.#bootMs = this.#nowMs - 5000;
    this.#luck = 0.9;
    this.world.runtimeStarts();
    this.zero();
    this.#agentStarts();
  }

  /** `kill -9` of the runtime. `loses`: statuses that were not synced are gone. */
  restartRuntime(loses = false, awayMs = 0): void {
    this.world.runtimeStops();
    this.#nowMs += awayMs;
    this.#luck = loses ? 0.1 : 0.9;
    this.world.runtimeStarts();
    this.#post({ type: 'RuntimeBack', seq: this.#seq });
  }

  runtimeAway(): void {
    this.#isAway = true;
    this.world.runtimeStops();
  }

  runtimeBack(): void {
    this.#isAway = false;
    this.#luck = 0.9;
    this.world.runtimeStarts();
    this.#post({ type: 'RuntimeBack', seq: this.#seq });
  }

  now(): Now {
    const monoMs = this.#nowMs - this.#bootMs;
    const wallMs = START_WALL_MS + this.#nowMs + this.wallOffsetMs;
    return { monoMs, wallMs, boot: `boot-${this.#boots}` };
  }

  // ---- the agent ----

  #agentDies(): void {
    this.#life += 1;
    for (const stop of this.#stops.values()) stop.abandon();
    this.#stops = new Map();
    callOff(this.#turn);
    callOff(this.#wake);
    this.#turn = undefined;
    this.#mailbox = [];
  }

  #agentStarts(): void {
    const stored = JSON.parse(JSON.stringify(this.seen.ledger)) as Seen['ledger'];
    this.seen = firstSeen(stored);
    this.#post({ type: 'Admitted' });
  }

  #post(event: PodEvent): void {
    this.#mailbox.push(event);
    this.#turn ??= this.#later(0, () => this.#turns());
  }

  #later(inMs: number, run: () => void): Entry {
    const life = this.#life;
    return this.#queue.push(this.#nowMs + inMs, () => {
      if (life === this.#life) run();
    });
  }

  #turns(): void {
    const now = this.now();
    this.#turn = undefined;
    callOff(this.#wake);
    const before = this.seen.ledger.terminal;
    for (const event of this.#mailbox.splice(0)) {
      this.seen = reduce(this.want, this.seen, event, now);
    }
    const { terminal } = this.seen.ledger;
    if (terminal !== undefined && before === undefined) {
      this.#line([terminal.phase, terminal.reason].filter((word) => word !== undefined).join(' '));
    }
    const { start, cancel, wakeAtMonoMs, done } = plan(this.want, this.seen, now);
    for (const action of start) {
      this.seen = reduce(this.want, this.seen, { type: 'ActionStarted', action }, now);
    }
    for (const action of start) this.#begin(action);
    for (const key of cancel) this.#cancel(key);
    if (done) this.#line('done');
    if (wakeAtMonoMs === undefined) return;
    const inMs = Math.max(0, Math.ceil(wakeAtMonoMs - now.monoMs));
    this.#wake = this.#later(inMs, () => this.#post({ type: 'Tick' }));
  }

  #cancel(key: string): void {
    const flying = this.seen.inFlight[key]?.action;
    if (flying === undefined) return;
    this.#line(`cancel ${this.#named(flying)}`);
    this.#stops.get(key)?.abandon();
    this.#stops.delete(key);
    this.#later(0, () => this.#end(flying, failed('Cancelled', 'given up')));
  }

  #begin(action: Action): void {
    const name = this.#named(action);
    if (action.type !== 'Look') this.#line(name);
    const failure = this.#failures.find((f) => f.times > 0 && name.startsWith(f.what));
    if (failure !== undefined) {
      failure.times -= 1;
      if (failure.happens) this.#happen(action);
      this.#later(0, () => this.#end(action, failed(failure.code, failure.code)));
      return;
    }
    if (this.#isAway && !LOCAL.has(action.type)) {
      this.#later(0, () => this.#end(action, failed('Unavailable', 'away')));
      return;
    }
    if (action.type === 'Look') return this.#look(action);
    if (action.type === 'StopContainer') {
      const graceMs = action.graceSeconds * 1000;
      const stopping = this.world.stopContainer(action.id, graceMs, (result) =>
        this.#later(0, () => this.#end(action, result)),
      );
      this.#stops.set(action.key, stopping);
      return;
    }
    if (action.type === 'RunPostStart' || action.type === 'RunPreStop') {
      const { ms, result } = this.world.hook(action.id, action.type);
      if (ms !== Infinity) this.#later(ms, () => this.#end(action, result));
      return;
    }
    if (action.type === 'StartContainer' && this.#startErrors.length > 0) {
      const message = this.#startErrors.shift()!;
      const times = { startedMs: 0, finishedMs: this.#nowMs };
      this.world.containers.get(action.id)!.status = {
        ...{ state: 'CONTAINER_EXITED', exitCode: 128, reason: 'StartError', message, ...times },
      };
      this.#later(0, () => this.#end(action, failed('Unknown', message)));
      return;
    }
    this.#later(0, () => this.#end(action, this.#happen(action)));
  }

  #look(action: Action): void {
    const { uid } = this.want.pod.metadata;
    const seq = ++this.#seq;
    this.#later(0, () => {
      const view = {
        ...{ seq, epoch: `e${this.world.epoch}`, sandboxes: this.world.sandboxesOf(uid) },
        containers: this.world.containersOf(uid),
      };
      this.#post({ type: 'Looked', view });
      this.#end(action, { ok: true });
    });
  }

  #end(action: Action, result: ActionResult): void {
    this.#post({ type: 'ActionEnded', action, seq: this.#seq, result });
  }

  #happen(action: Action): ActionResult {
    return perform(this.world, this.want.pod.metadata.uid, action, false);
  }

  // ---- words ----

  #line(text: string): void {
    this.#lines.push(`${(this.#nowMs - this.#zeroMs) / 1000} ${text}`);
  }

  #named(action: Action): string {
    const { containers, sandboxes } = this.world;
    switch (action.type) {
      case 'SetUpVolume':
      case 'TearDownVolume':
        return `${action.type} ${action.volume.name}`;
      case 'TearDownPod':
        return action.final ? 'TearDownPod final' : 'TearDownPod';
      case 'PullImage':
        return `PullImage ${action.image}`;
      case 'RunPodSandbox':
        return `RunPodSandbox ${action.attempt}`;
      case 'StopPodSandbox':
      case 'RemovePodSandbox':
        return `${action.type} ${sandboxes.get(action.id)?.attempt}`;
      case 'CreateContainer':
      case 'StartContainer':
      case 'RunPostStart':
      case 'RunPreStop':
        return `${action.type} ${action.name}#${action.attempt}`;
      case 'StopContainer':
        return `StopContainer ${action.name}#${containers.get(action.id)?.attempt} ${action.graceSeconds}s`;
      case 'RemoveContainer':
        return `RemoveContainer ${action.name}#${containers.get(action.id)?.attempt}`;
      default:
        return action.type;
    }
  }
}

const LOCAL: ReadonlySet<Action['type']> = new Set([
  'SetUpPod',
  'TearDownPod',
  'SetUpVolume',
  'TearDownVolume',
]);

function unused(): never {
  throw new Error('a rig has no chance in it');
}
