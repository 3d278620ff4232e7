/**
 * One seed: a machine, an agent on it, pods, and faults of all kinds for a number of steps; then
 * calm, in which everything has to come right; then all pods are deleted, and nothing may be left.
 * The same seed gives the same trace, to the letter.
 */
import { seededRandom, type Random } from '../../src/base/random.ts';
import type { Action, Now, Want } from '../../src/pod/model.ts';
import { plan } from '../../src/pod/plan.ts';
import { reduce } from '../../src/pod/reduce.ts';
import { Agent, type Core, type GlueBugs } from './agent.ts';
import { between, chance, pick } from './choose.ts';
import { Disk } from './disk.ts';
import type { Fate } from './effects.ts';
import { isSettled, isWell } from './expected.ts';
import { FAULTS, type FaultKind } from './faults.ts';
import { Invariants } from './invariants.ts';
import { IMAGES, randomPod, type Behaviour } from './pods.ts';
import { Queue, type Entry } from './queue.ts';
import type { Finding, Report } from './report.ts';
import { Violation } from './violation.ts';
import { World } from './world.ts';

export type Options = {
  readonly seed: number;
  readonly steps: number;
  /** Prints each line of the trace. */
  readonly print?: (line: string) => void;
  /** Wraps the core with a planted bug. */
  readonly wrap?: (core: Core) => Core;
  readonly bugs?: GlueBugs;
};

/** Thrown at a boundary: the agent's process is gone. */
class Crash extends Error {}

const DECADE_MS = 10 * 365 * 86_400_000;
const START_WALL_MS = Date.UTC(2026, 0, 1);
const TRACE_LINES = 30;
/** Three of the longest pauses that the core may make after a failure. */
const SETTLE_MS = 15 * 60_000;
const EMPTY_MS = 10 * 60_000;
const SYNC_MS = 5_000;
const MAX_PODS = 4;

export function simulate(options: Options): Report {
  return new Simulation(options).run();
}

class Simulation {
  readonly #options: Options;
  readonly #random: Random;
  readonly #queue = new Queue();
  readonly #world: World;
  readonly #disk = new Disk();
  readonly #core: Core;
  readonly #invariants: Invariants;
  readonly #behaviours = new Map<string, Behaviour>();
  readonly #refused = new Set<string>();
  readonly #predecessors = new Map<string, string>();
  readonly #versions = new Map<string, number>();
  readonly #rates: ReadonlyMap<FaultKind, number>;
  /** How often an effect does not go well, and how often the agent dies at a boundary. */
  readonly #badLuck: number;
  readonly #crashRate: number;
  readonly #lines: string[] = [];
  #agent: Agent | undefined;
  #nowMs = 1_000_000;
  #bootMs = 0;
  #boots = 0;
  #wallOffsetMs = START_WALL_MS;
  /** A wall time that had passed when the agent started, and when that was. */
  #floor = { wallMs: 0, atMs: 0 };
  #isCalm = false;
  #isOn = false;
  #pods = 0;
  #steps = 0;
  #processes = 0;
  #settleMs = 0;
  #hash = 0x811c9dc5;

  constructor(options: Options) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    const { wrap } = options;
    this.#core = wrap === undefined ? { reduce, plan } : wrap({ reduce, plan });
    const setting = this.#random.fork('rates');
    this.#rates = new Map(
      FAULTS.map((kind) => [kind, chance(setting, 0.6) ? setting.next() : 0] as const),
    );
    this.#badLuck = pick(setting, [0, 0.02, 0.1, 0.3]);
    this.#crashRate = chance(setting, 0.5) ? pick(setting, [0.001, 0.01]) : 0;
    this.#world = this.#newWorld();
    this.#invariants = new Invariants({
      world: this.#world,
      core: this.#core,
      nowMs: () => this.#nowMs,
      bootMs: () => this.#bootMs,
      isRefused: (uid) => this.#refused.has(uid),
    });
  }

  run(): Report {
    let finding: Finding | undefined;
    try {
      this.#live();
    } catch (error) {
      finding = this.#findingOf(error);
    }
    return {
      ...{ finding, hash: this.#hash >>> 0, steps: this.#steps, simulatedMs: this.#nowMs },
      ...{
        processes: this.#processes,
        mostBegun: this.#invariants.mostBegun,
        mostTurns: this.#invariants.mostTurns,
      },
      settleMs: this.#settleMs,
    };
  }

  #live(): void {
    this.#boot();
    this.#every(SYNC_MS, () => this.#world.sync());
    this.#every(60_000, () => this.#disk.backUp());
    for (let i = between(this.#random, 1, MAX_PODS); i > 0; i -= 1) this.#apply();
    const { steps } = this.#options;
    while (this.#steps < steps && this.#step()) {
      if (this.#steps > steps / 100 && chance(this.#random, 0.05)) this.#mischief();
    }
    this.#calmDown();
    const calmMs = this.#nowMs;
    // A relist at least: what the runtime said last may have been lost.
    while (this.#nowMs < calmMs + SYNC_MS * 3 && this.#step());
    this.#until(SETTLE_MS, 'I-04', 'is not settled', () => this.#unsettled());
    this.#settleMs = this.#nowMs - calmMs;
    for (const worker of this.#agent?.workers.values() ?? []) this.#invariants.settled(worker);
    for (const want of [...this.#disk.desired.values()]) this.#delete(want);
    this.#until(EMPTY_MS, 'I-12', 'is not gone', () => [...this.#disk.desired.keys()][0]);
    // One more relist, for what came late and belongs to nobody.
    const endMs = this.#nowMs + 60_000;
    while (this.#nowMs < endMs && this.#step());
    this.#isEmpty();
  }

  // ---- steps ----

  #step(): boolean {
    const entry = this.#queue.pop();
    if (entry === undefined) return false;
    this.#nowMs = Math.max(this.#nowMs, entry.atMs);
    this.#steps += 1;
    try {
      entry.run!();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.#agentDies(true);
    }
    return true;
  }

  /** Steps until there is nobody left to wait for, or fails after the given time. */
  #until(ms: number, invariant: string, what: string, missing: () => string | undefined): void {
    const endMs = this.#nowMs + ms;
    for (let uid = missing(); uid !== undefined; uid = missing()) {
      if (this.#nowMs > endMs) throw new Violation(invariant, uid, `${what} after ${ms / 1000} s`);
      for (let i = 0; i < 20; i += 1) this.#step();
    }
  }

  #schedule(inMs: number, run: () => void): Entry {
    return this.#queue.push(this.#nowMs + inMs, run);
  }

  #every(ms: number, run: () => void): void {
    this.#schedule(ms, () => {
      run();
      this.#every(ms, run);
    });
  }

  #now(): Now {
    const floorMs = this.#floor.wallMs + this.#nowMs - this.#floor.atMs;
    const wallMs = Math.max(this.#nowMs + this.#wallOffsetMs, floorMs);
    return { monoMs: this.#nowMs - this.#bootMs, wallMs, boot: `boot-${this.#boots}` };
  }

  #trace(line: string): void {
    let hash = this.#hash;
    for (let i = 0; i < line.length; i += 1) {
      hash = Math.imul(hash ^ line.charCodeAt(i), 0x01000193);
    }
    this.#hash = Math.imul(hash ^ this.#nowMs, 0x01000193);
    const full = `${this.#steps} ${(this.#nowMs / 1000).toFixed(3)}s ${line}`;
    this.#options.print?.(full);
    this.#lines.push(full);
    if (this.#lines.length > 2 * TRACE_LINES) this.#lines.splice(0, TRACE_LINES);
  }

  #findingOf(error: unknown): Finding {
    const { seed } = this.#options;
    const invariant = error instanceof Violation ? error.invariant : 'core';
    const where = error instanceof Violation ? `pod ${error.uid} ` : '';
    const text = error instanceof Violation ? error.message : String((error as Error).stack);
    const lines = this.#lines.slice(-TRACE_LINES).map((line) => `    ${line}`);
    const head = `seed ${seed}, step ${this.#steps}: ${invariant} broken: ${where}${text}`;
    return { seed, invariant, message: [head, ...lines].join('\n') };
  }

  // ---- the machine ----

  #newWorld(): World {
    return new World({
      random: this.#random.fork('world'),
      nowMs: () => this.#nowMs,
      schedule: (inMs, run) => this.#schedule(inMs, run),
      behaviour: (uid, name) => this.#behaviours.get(`${uid}/${name}`)!,
      isCalm: () => this.#isCalm,
      trace: (line) => this.#trace(line),
      onStarted: (process) => {
        this.#processes += 1;
        this.#invariants.started(process);
      },
      onBlow: (process, blow) => {
        this.#invariants.blow(process, blow, this.#agent?.workers.get(process.uid));
      },
      onEnded: (process) => this.#invariants.ended(process),
      onChange: (uid) => this.#changed(uid),
      onEvidenceLost: (uid, name) => this.#invariants.evidenceLost(uid, name),
    });
  }

  #changed(uid: string): void {
    this.#versions.set(uid, (this.#versions.get(uid) ?? 0) + 1);
    // Events of the runtime come a little later, or not at all.
    if (!this.#world.isUp || (!this.#isCalm && chance(this.#random, 0.2))) return;
    this.#schedule(between(this.#random, 1, 40), () => this.#agent?.hint(uid));
  }

  #boot(): void {
    this.#boots += 1;
    this.#bootMs = this.#nowMs - between(this.#random, 1000, 5000);
    this.#isOn = true;
    this.#trace(`boot ${this.#boots}`);
    this.#schedule(between(this.#random, 0, 3000), () => this.#runtimeStarts());
    this.#schedule(between(this.#random, 0, 3000), () => this.#agentStarts());
  }

  #powerCut(): void {
    if (!this.#isOn || this.#isCalm) return;
    this.#trace('POWER CUT');
    this.#isOn = false;
    this.#agentDies(false);
    this.#invariants.powerCut();
    this.#world.powerCut();
    this.#disk.isFull = false;
    // Without a battery the clock starts where it likes.
    if (chance(this.#random, 0.5)) this.#wallOffsetMs -= between(this.#random, 0, DECADE_MS);
    this.#schedule(between(this.#random, 5000, 60_000), () => {
      this.#boot();
      // It may come back for a moment only.
      if (!chance(this.#random, 0.25)) return;
      this.#schedule(between(this.#random, 0, 8000), () => this.#powerCut());
    });
  }

  #runtimeStarts(): void {
    if (!this.#isOn || this.#world.isUp) return;
    this.#world.runtimeStarts();
    this.#trace(`runtime starts, epoch ${this.#world.epoch}`);
    this.#invariants.trouble();
    for (const uid of this.#disk.desired.keys()) {
      this.#versions.set(uid, (this.#versions.get(uid) ?? 0) + 1);
    }
    this.#schedule(between(this.#random, 50, 2000), () => this.#agent?.runtimeChanged(false));
  }

  #runtimeRestarts(): void {
    if (!this.#world.isUp) return;
    this.#trace('RUNTIME KILLED');
    this.#invariants.trouble();
    this.#world.runtimeStops();
    this.#schedule(between(this.#random, 50, 2000), () => {
      if (!this.#world.isUp) this.#agent?.runtimeChanged(true);
    });
    const downMs = pick(this.#random, [300, 3000, 30_000]);
    this.#schedule(downMs, () => this.#runtimeStarts());
  }

  #agentStarts(): void {
    if (!this.#isOn || this.#agent !== undefined) return;
    this.#trace('agent starts');
    this.#floor = { wallMs: this.#disk.floorMs, atMs: this.#nowMs };
    this.#invariants.agentStarts();
    this.#invariants.onDisk(this.#disk.desired);
    this.#agent = new Agent({
      core: this.#core,
      bugs: this.#options.bugs ?? {},
      random: this.#random,
      world: this.#world,
      disk: this.#disk,
      now: () => this.#now(),
      nowMs: () => this.#nowMs,
      schedule: (inMs, run) => this.#schedule(inMs, run),
      trace: (line) => this.#trace(line()),
      fate: (uid, action) => this.#fate(uid, action),
      boundary: () => this.#boundary(),
      version: (uid) => this.#versions.get(uid) ?? 0,
      refusal: (uid) =>
        this.#refused.has(uid) ? { reason: 'OutOfmemory', message: 'no room' } : undefined,
      predecessor: (uid) => this.#predecessors.get(uid),
      onTurn: (worker, next, now) => this.#invariants.turn(worker, next, now),
      onBegun: (worker, action) => this.#invariants.begun(worker, action),
      onStored: (worker, ledger) => this.#invariants.stored(worker, ledger),
      onNotStored: (worker) => this.#invariants.notStored(worker),
      onForgotten: (worker) => this.#invariants.forgotten(worker),
    });
  }

  #agentDies(mayHappen: boolean): void {
    if (this.#agent === undefined) return;
    this.#trace('AGENT DIES');
    this.#agent.die(mayHappen);
    this.#world.agentDied(this.#disk.isFull ? this.#disk.ledgers : undefined);
    this.#agent = undefined;
    if (this.#isOn) this.#schedule(between(this.#random, 100, 5000), () => this.#agentStarts());
  }

  // ---- orders ----

  #apply(): void {
    if (this.#agent === undefined) {
      if (this.#steps < 50) this.#schedule(500, () => this.#apply());
      return;
    }
    const order = ++this.#pods;
    const uid = `p${order}`;
    const { pod, behaviours } = randomPod(this.#random.fork(uid), uid);
    for (const [name, behaviour] of Object.entries(behaviours)) {
      this.#behaviours.set(`${uid}/${name}`, behaviour);
    }
    if (chance(this.#random, 0.04)) this.#refused.add(uid);
    const others = [...this.#disk.desired.values()].filter((w) => w.deletion !== undefined);
    const taken = others[0]?.pod.metadata.uid;
    if (taken !== undefined && chance(this.#random, 0.5)) this.#predecessors.set(uid, taken);
    const want: Want = { pod, source: 'local', order };
    this.#agent.accept(want, () => this.#invariants.acknowledged(want));
  }

  #delete(want: Want, graceSeconds = pick(this.#random, [0, 1, 5, 30, 100])): void {
    if (this.#agent === undefined) {
      this.#schedule(500, () => {
        if (this.#disk.desired.has(want.pod.metadata.uid)) this.#delete(want, graceSeconds);
      });
      return;
    }
    const known = this.#agent.workers.get(want.pod.metadata.uid)?.want;
    if (known === undefined || (known.deletion?.graceSeconds ?? Infinity) <= graceSeconds) return;
    const next: Want = { ...known, deletion: { graceSeconds, at: this.#now() } };
    this.#agent.accept(next, () => this.#invariants.acknowledged(next));
    if (this.#isCalm) this.#world.letGo((uid) => uid === want.pod.metadata.uid);
    if (this.#isCalm || graceSeconds < 30) return;
    // Over a long grace the agent may end, and who asked for it may lose patience.
    if (chance(this.#random, 0.3)) {
      this.#schedule(between(this.#random, 8000, 25_000), () => this.#agentDies(false));
    } else if (chance(this.#random, 0.5)) {
      this.#schedule(between(this.#random, 1500, 15_000), () => this.#delete(next, 1));
    }
  }

  // ---- faults ----

  #fate(uid: string, action: Action): Fate {
    if (this.#isCalm || !chance(this.#random, this.#badLuck)) return 'well';
    this.#invariants.trouble(uid);
    const fates: Fate[] = ['slow', 'fails', 'happens and fails', 'lost', 'answer lost', 'twice'];
    if (action.type === 'RunPodSandbox' || action.type === 'CreateContainer') {
      fates.push('late', 'half-written');
    }
    return pick(this.#random, fates);
  }

  #boundary(): void {
    if (!this.#isCalm && chance(this.#random, this.#crashRate)) throw new Crash('at a boundary');
  }

  #mischief(): void {
    if (chance(this.#random, 0.25)) return this.#order();
    const kind = pick(this.#random, FAULTS);
    if (!chance(this.#random, this.#rates.get(kind)!)) return;
    this.#strike(kind);
  }

  #order(): void {
    const wants = [...this.#disk.desired.values()];
    if (wants.length < MAX_PODS && chance(this.#random, 0.6)) this.#apply();
    else if (wants.length > 0 && chance(this.#random, 0.5)) this.#delete(pick(this.#random, wants));
  }

  #strike(kind: FaultKind): void {
    const random = this.#random;
    switch (kind) {
      case 'agent crash':
        return this.#agentDies(true);
      case 'power cut':
        return this.#powerCut();
      case 'runtime restart':
        return this.#runtimeRestarts();
      case 'clock jump':
        this.#wallOffsetMs += between(random, -3, 3) * DECADE_MS + between(random, -9999, 9999);
        return this.#trace(`CLOCK JUMP to ${this.#now().wallMs}`);
      case 'disk full':
        this.#disk.isFull = true;
        this.#trace('DISK FULL');
        this.#schedule(between(random, 1000, 60_000), () => {
          this.#disk.isFull = false;
          this.#invariants.trouble();
        });
        return this.#invariants.trouble();
      case 'sandbox dies':
      case 'sandbox stays': {
        const sandboxes = [...this.#world.sandboxes.keys()];
        if (sandboxes.length === 0) return;
        const id = pick(random, sandboxes);
        if (kind === 'sandbox dies') return this.#world.sandboxDies(id);
        this.#world.lingering.set(id, this.#nowMs + between(random, 1000, 3_600_000));
        return this.#trace(`SANDBOX ${id} STAYS`);
      }
      case 'process dies': {
        const alive = [...this.#world.alive];
        if (alive.length > 0) this.#world.end(pick(random, alive), 137, 'exit');
        return;
      }
      case 'image missing': {
        const image = pick(random, IMAGES);
        this.#world.images.delete(image);
        this.#world.missing.set(image, this.#nowMs + between(random, 1000, 120_000));
        return this.#trace(`IMAGE MISSING ${image}`);
      }
      case 'ledger lost':
        return this.#loseLedgers();
      case 'runtime wiped':
        this.#powerCut();
        this.#world.wipe();
        return this.#trace('RUNTIME WIPED');
      case 'shorter grace': {
        const wants = [...this.#disk.desired.values()].filter((w) => w.deletion !== undefined);
        if (wants.length > 0) this.#delete(pick(random, wants), pick(random, [0, 1, 2, 5]));
      }
    }
  }

  #loseLedgers(): void {
    // A rare thing, and the most that can be asked of the agent is then much less.
    if (!chance(this.#random, 0.3)) return;
    this.#agentDies(true);
    this.#disk.loseLedgers(chance(this.#random, 0.5));
    this.#invariants.ledgersLost(this.#disk.ledgers);
    this.#world.ledgersLost(this.#disk.ledgers);
    this.#trace(`LEDGERS LOST, backup of ${this.#disk.ledgers.size}`);
  }

  // ---- calm ----

  #calmDown(): void {
    this.#trace('CALM');
    this.#isCalm = true;
    this.#disk.isFull = false;
    this.#world.missing.clear();
    const { desired } = this.#disk;
    this.#world.letGo((uid) => !desired.has(uid) || desired.get(uid)!.deletion !== undefined);
    for (const process of [...this.#world.alive]) {
      const { kind } = this.#behaviours.get(`${process.uid}/${process.name}`)!;
      if (kind === 'task') this.#schedule(5000, () => this.#world.end(process, 0, 'exit'));
    }
  }

  #unsettled(): string | undefined {
    if (this.#agent === undefined) return [...this.#disk.desired.keys()][0] ?? 'agent';
    for (const { uid, seen, want, mailbox, effects, version } of this.#agent.workers.values()) {
      const isBlind = version !== (this.#versions.get(uid) ?? 0);
      const isBusy = mailbox.length > 0 || effects.size > 0 || isBlind;
      const { ending, terminal } = seen.ledger;
      const isOver = ending !== undefined && terminal !== undefined;
      const isDone = isOver ? this.#world.isPutAway(uid) : !ending && isSettled(want, seen, isWell);
      if (want.deletion !== undefined || isBusy || !isDone) return uid;
    }
    return undefined;
  }

  #isEmpty(): void {
    const { sandboxes, containers, volumes, podDirs, alive } = this.#world;
    const left = sandboxes.size + containers.size + volumes.size + podDirs.size + alive.size;
    if (left === 0 && this.#disk.ledgers.size === 0) return;
    const what = JSON.stringify({
      ...{ sandboxes: [...sandboxes.keys()], containers: [...containers.keys()] },
      ...{ volumes: [...volumes], podDirs: [...podDirs], ledgers: [...this.#disk.ledgers.keys()] },
    });
    throw new Violation('I-12', '-', `all pods are gone, and this is left: ${what}`);
  }
}
