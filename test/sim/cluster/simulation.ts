/**
 * One seed: a node and its cluster, people who create, change and delete pods, and faults of the
 * network, the API server, the agent and the board between them; then calm, in which both sides have
 * to come to agree; then all is deleted, and nothing may be left on either side.
 * The same seed gives the same trace, to the letter.
 */
import { createLog } from '../../../src/base/log.ts';
import { seededRandom, type Random } from '../../../src/base/random.ts';
import { between, chance, pick } from '../choose.ts';
import type { Behaviour } from '../pods.ts';
import type { Finding } from '../report.ts';
import { Violation } from '../violation.ts';
import { World } from '../world.ts';
import { FAULTS, type FaultKind } from './faults.ts';
import { left, unsettled, type Sides } from './agreement.ts';
import { ApiServer, isMirror, type PodObject, type Snapshot } from './api-server.ts';
import { Facts } from './facts.ts';
import { Invariants } from './invariants.ts';
import { badFate, Network, type Fate } from './network.ts';
import { NODE_NAME, startNode, type Bug, type Node } from './node.ts';
import { People } from './people.ts';
import { CPU_MILLI } from './pods.ts';
import { Record } from './record.ts';
import { Card, openCard } from './store.ts';
import { Crash, Time } from './time.ts';

export type Options = {
  readonly seed: number;
  /** How often something happens before the calm. */
  readonly rounds: number;
  readonly print?: (line: string) => void;
  readonly bug?: Bug;
};

export type ClusterReport = {
  readonly finding: Finding | undefined;
  readonly hash: number;
  readonly steps: number;
  readonly simulatedMs: number;
  readonly requests: number;
  readonly mostRequests: number;
  readonly settleMs: number;
};

const SETTLE_MS = 20 * 60_000;
const EMPTY_MS = 10 * 60_000;
/** After this without a word from the node its pods count as not ready. */
const NODE_GRACE_MS = 50_000;
const LEASE_MS = 5000;
const DECADE_MS = 10 * 365 * 86_400_000;

export async function simulateCluster(options: Options): Promise<ClusterReport> {
  return await new Simulation(options).run();
}

class Simulation {
  readonly #options: Options;
  readonly #random: Random;
  readonly #time = new Time();
  readonly #card = new Card();
  readonly #facts = new Facts();
  readonly #changed = new Set<string>();
  readonly #world: World;
  readonly #server: ApiServer;
  readonly #other: ApiServer;
  readonly #network: Network;
  readonly #invariants: Invariants;
  readonly #people: People;
  readonly #behaviours = new Map<string, Behaviour>();
  readonly #rates: ReadonlyMap<FaultKind, number>;
  readonly #badLuck: { readonly network: number; readonly runtime: number; readonly crash: number };
  readonly #record: Record;
  #snapshots: Snapshot[] = [];
  #node: Node | undefined;
  #broken: unknown;
  #isOn = false;
  #isCalm = false;
  #isNodeLost = false;
  /** Until the node has listed the restored cluster. */
  #isRestored = false;
  #isListed = true;
  #lastHeardMs = 0;
  #uids = 0;
  #requests = 0;
  #settleMs = 0;

  constructor(options: Options) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#record = new Record(options.seed, this.#time, options.print);
    const setting = this.#random.fork('rates');
    this.#rates = new Map(FAULTS.map((kind) => [kind, chance(setting, 0.6) ? setting.next() : 0]));
    this.#badLuck = {
      network: pick(setting, [0, 0.02, 0.1, 0.3]),
      runtime: pick(setting, [0, 0, 0.05]),
      crash: pick(setting, [0, 0, 0.005]),
    };
    this.#server = this.#newServer('ours', between(setting, 1000, 9000));
    this.#other = this.#newServer('other', pick(setting, [500, 5000, 50_000]));
    this.#world = this.#newWorld();
    this.#invariants = new Invariants({
      ...{ world: this.#world, facts: this.#facts, server: this.#server, cpuMilli: CPU_MILLI },
      nowMs: () => this.#time.nowMs,
    });
    this.#network = this.#newNetwork();
    this.#people = new People({
      ...{ random: this.#random, time: this.#time, server: this.#server, facts: this.#facts },
      ...{ behaviours: this.#behaviours, node: () => this.#node },
    });
  }

  async run(): Promise<ClusterReport> {
    let finding: Finding | undefined;
    try {
      await this.#live();
    } catch (error) {
      finding = this.#record.finding(error);
    }
    if (this.#node !== undefined) this.#node.life.isDead = true;
    const { steps, nowMs } = this.#time;
    return {
      ...{ finding, hash: this.#record.hash, steps, simulatedMs: nowMs },
      ...{ requests: this.#requests, settleMs: this.#settleMs },
      mostRequests: this.#invariants.mostRequests,
    };
  }

  async #live(): Promise<void> {
    this.#boot();
    this.#time.every(2000, () => this.#tick());
    this.#time.every(5000, () => this.#world.sync());
    this.#snapshots.push(this.#server.snapshot());
    for (let i = 0; i < this.#options.rounds; i += 1) {
      // Most things happen close together; now and then there is peace for a while.
      await this.#run(chance(this.#random, 0.1) ? 120_000 : between(this.#random, 10, 12_000));
      if (chance(this.#random, 0.55)) this.#people.order();
      else this.#strike();
    }
    this.#calmDown();
    const calmMs = this.#time.nowMs;
    await this.#until(SETTLE_MS, 'agreement', () => unsettled(this.#sides()));
    this.#settleMs = this.#time.nowMs - calmMs;
    for (const object of [...this.#server.objects.values()]) {
      if (!isMirror(object)) this.#people.delete(object, pick(this.#random, [0, 1, 30]));
    }
    for (const { uid } of this.#facts.all.values()) this.#facts.all.get(uid)!.mayEnd = true;
    this.#people.setManifests([]);
    await this.#until(EMPTY_MS, 'I-12', () => left(this.#sides()));
  }

  #sides(): Sides {
    const [server, facts, world, node] = [this.#server, this.#facts, this.#world, this.#node];
    return { server, facts, world, node, card: this.#card, manifests: this.#people.manifests };
  }

  async #run(ms: number): Promise<void> {
    let isOver = false;
    this.#time.schedule(ms, () => void (isOver = true));
    while (!isOver) await this.#step();
  }

  async #step(): Promise<void> {
    try {
      await this.#time.step();
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
    }
    if (this.#broken !== undefined) throw this.#broken as Error;
  }

  async #until(ms: number, invariant: string, missing: () => string | undefined): Promise<void> {
    const endMs = this.#time.nowMs + ms;
    for (let what = missing(); what !== undefined; what = missing()) {
      if (this.#time.nowMs > endMs) throw new Violation(invariant, '', `after ${ms} ms: ${what}`);
      await this.#run(2000);
    }
  }

  #trace(line: string): void {
    this.#record.line(line);
  }

  /** What is thrown inside of the agent may be caught there: it is kept. */
  #judge(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      this.#broken ??= error;
    }
  }

  // ---- the parts ----

  #newServer(name: string, version: number): ApiServer {
    const random = this.#random.fork(`server ${name}`);
    const ports = {
      name,
      rfc3339: () => new Date(this.#time.nowMs + Date.UTC(2026, 0, 1)).toISOString(),
      newUid: () => `${name === 'ours' ? '' : `${name}-`}u${(this.#uids += 1)}`,
      pageObjects: () => pick(random, [500, 500, 2, 1]),
      onChange: (type: string, object: PodObject, before: PodObject | undefined) => {
        const { uid, deletionTimestamp } = object.metadata;
        const phase = String(object.status['phase']);
        const was = before === undefined ? '' : ` (was ${String(before.status['phase'])})`;
        const at = `${object.metadata.namespace}/${object.metadata.name} ${uid}`;
        this.#trace(
          `server ${name}: ${type} ${at} ${phase}${was}${deletionTimestamp ? ' deleting' : ''}`,
        );
        const fact = this.#facts.all.get(uid);
        if (name === 'ours') this.#passes();
        if (fact === undefined || name !== 'ours') return;
        if (type === 'DELETED') fact.wasGone = true;
        // Of what went before the node heard of the restored cluster it can't tell why.
        if (type === 'DELETED' && this.#isRestored) {
          fact.mustEndMs = undefined;
          return void (fact.mayEnd = true);
        }
        if (type !== 'DELETED' && deletionTimestamp === undefined) return;
        fact.mayEnd = true;
        fact.mustEndMs ??= this.#time.nowMs;
        const { deletionGracePeriodSeconds = Infinity } = object.metadata;
        fact.graceSeconds = Math.min(fact.graceSeconds, deletionGracePeriodSeconds);
      },
    };
    return new ApiServer(ports, version);
  }

  #newWorld(): World {
    return new World({
      random: this.#random.fork('world'),
      nowMs: () => this.#time.nowMs,
      schedule: (inMs, run) => this.#time.schedule(inMs, run),
      behaviour: (uid, name) => this.#behaviours.get(`${uid}/${name}`)!,
      isCalm: () => this.#isCalm,
      trace: (line) => this.#trace(line),
      onStarted: (process) => this.#judge(() => this.#invariants.started(process)),
      onBlow: (process, blow) => this.#judge(() => this.#invariants.blow(process, blow)),
      onEnded: () => undefined,
      onChange: (uid) => {
        this.#changed.add(uid);
        // Events of the runtime come a little later, or not at all.
        if (!this.#world.isUp || (!this.#isCalm && chance(this.#random, 0.2))) return;
        this.#time.schedule(between(this.#random, 1, 40), () => {
          if (this.#node?.life.isDead === false) this.#node.hint(uid);
        });
      },
      onEvidenceLost: () => undefined,
    });
  }

  #newNetwork(): Network {
    return new Network(this.#server, {
      time: this.#time,
      random: this.#random.fork('network'),
      fate: () => this.#fate(),
      trace: (line) => this.#trace(line),
      onSent: (request, life) => {
        this.#requests += 1;
        this.#judge(() => this.#invariants.sent(request, life));
      },
      onRequest: (server, request) => {
        const { path } = request;
        const isList = path.startsWith('/api/v1/pods') && !path.includes('watch=');
        if (isList && server === this.#server) this.#isListed = true;
        this.#judge(() => this.#invariants.request(server, request));
      },
      onRetryAfter: (request, life, untilMs) => this.#invariants.retryAfter(request, life, untilMs),
      onWatching: (server, is) => {
        const isOurs = is && server === this.#server;
        this.#invariants.watchingMs = isOurs ? this.#time.nowMs : undefined;
        if (isOurs && this.#isListed) this.#isRestored = false;
      },
    });
  }

  #fate(): Fate {
    if (this.#isCalm || !chance(this.#random, this.#badLuck.network)) return 'well';
    this.#invariants.trouble();
    return badFate(this.#random);
  }

  // ---- the board ----

  #boot(): void {
    this.#time.boot();
    this.#isOn = true;
    this.#trace(`boot ${this.#time.boots}`);
    this.#invariants.trouble();
    this.#time.schedule(between(this.#random, 0, 3000), () => this.#runtimeStarts());
    this.#time.schedule(between(this.#random, 0, 3000), () => this.#nodeStarts());
  }

  #powerCut(): void {
    if (!this.#isOn) return;
    this.#trace('POWER CUT');
    this.#isOn = false;
    this.#nodeDies();
    this.#world.powerCut();
    if (chance(this.#random, 0.5)) this.#time.wallOffsetMs -= between(this.#random, 0, DECADE_MS);
    this.#time.schedule(between(this.#random, 5000, 90_000), () => this.#boot());
  }

  #runtimeStarts(): void {
    if (!this.#isOn || this.#world.isUp) return;
    this.#world.runtimeStarts();
    this.#trace(`runtime starts, epoch ${this.#world.epoch}`);
    this.#invariants.trouble();
    for (const uid of this.#facts.all.keys()) this.#changed.add(uid);
    this.#time.schedule(between(this.#random, 50, 2000), () => {
      if (this.#world.isUp) this.#node?.runtimeChanged(true);
    });
  }

  #runtimeRestarts(): void {
    if (!this.#world.isUp) return;
    this.#trace('RUNTIME KILLED');
    this.#invariants.trouble();
    this.#world.runtimeStops();
    this.#time.schedule(between(this.#random, 50, 2000), () => {
      if (!this.#world.isUp) this.#node?.runtimeChanged(false);
    });
    this.#time.schedule(pick(this.#random, [300, 3000, 30_000]), () => this.#runtimeStarts());
  }

  #nodeStarts(): void {
    if (!this.#isOn || this.#node !== undefined) return;
    this.#trace('agent starts');
    this.#invariants.trouble();
    const onWrite = () => {
      if (this.#node?.life.isDead) throw new Crash('written by a dead agent');
      if (this.#isCalm || this.#node === undefined) return;
      if (!chance(this.#random, this.#badLuck.crash)) return;
      this.#nodeDies();
      throw new Crash('the agent died');
    };
    const log = createLog('debug', (line) => this.#trace(`log ${line.trimEnd()}`));
    this.#node = startNode({
      ...{ time: this.#time, random: this.#random.fork('node'), log, world: this.#world },
      store: openCard(this.#card, {
        onWrite,
        onForgotten: (uid) => this.#judge(() => this.#invariants.forgotten(uid)),
      }),
      client: (life) => this.#network.client(life),
      capacity: {
        name: NODE_NAME,
        maxPods: 110,
        allocatable: { cpuMilli: CPU_MILLI, memoryBytes: 2 ** 32 },
      },
      bug: this.#options.bug ?? {},
      badLuck: () => (this.#isCalm ? 0 : this.#badLuck.runtime),
      nameOf: (uid) => this.#facts.all.get(uid)!,
      changed: this.#changed,
      onError: (error) => {
        if (!(error instanceof Crash)) this.#broken ??= error;
      },
    });
    this.#time.schedule(between(this.#random, 1, 2000), () =>
      this.#people.setManifests(this.#people.manifests),
    );
  }

  #nodeDies(): void {
    if (this.#node === undefined) return;
    this.#trace('AGENT DIES');
    this.#invariants.trouble();
    this.#node.life.isDead = true;
    this.#node = undefined;
    this.#network.break();
    this.#world.agentDied();
    if (this.#isOn) this.#time.schedule(between(this.#random, 100, 5000), () => this.#nodeStarts());
  }

  // ---- faults ----

  #strike(): void {
    const kind = pick(this.#random, FAULTS);
    if (!chance(this.#random, this.#rates.get(kind)!)) return;
    // The first cluster that it meets is its own.
    if (kind === 'other cluster' && !this.#card.meta.has('cluster.identity')) return;
    const { network, invariants } = { network: this.#network, invariants: this.#invariants };
    const passes = () => this.#time.schedule(this.#awayMs(), () => this.#networkHeals());
    invariants.trouble();
    if (kind !== 'agent killed' && kind !== 'power cut') this.#trace(kind.toUpperCase());
    switch (kind) {
      case 'agent killed':
        return this.#nodeDies();
      case 'power cut':
        return this.#powerCut();
      case 'runtime restart':
        return this.#runtimeRestarts();
      case 'cable out':
        network.set(pick(this.#random, ['silent', 'refused']), this.#server);
        return void passes();
      case 'server down':
        network.set('refused', this.#server);
        return void passes();
      case 'other cluster':
        this.#fillOther();
        network.set('up', this.#other);
        return void passes();
      case 'connections reset':
        return network.break();
      case 'compaction':
        this.#snapshots = [...this.#snapshots, this.#server.snapshot()].slice(-3);
        return this.#server.compact();
      case 'backup restored':
        return this.#restore(pick(this.#random, this.#snapshots));
      case 'clock jump':
        this.#time.wallOffsetMs += between(this.#random, -DECADE_MS, DECADE_MS);
        return;
      case 'new credentials':
        invariants.newSession();
        return this.#node?.newSession();
    }
  }

  #awayMs(): number {
    return pick(this.#random, [2000, 20_000, 70_000, 400_000]);
  }

  #networkHeals(): void {
    if (this.#network.link === 'up' && this.#network.server === this.#server) return;
    this.#trace('the network is well');
    this.#invariants.trouble();
    this.#network.set('up', this.#server);
    this.#time.schedule(LEASE_MS, () => this.#node?.answersAgain());
  }

  /** It may even have pods of our names on a node of our name. */
  #fillOther(): void {
    for (const object of [...this.#other.objects.values()]) this.#other.remove(object, 0);
    if (chance(this.#random, 0.5)) return;
    const some = [...this.#server.objects.values()].find((object) => !isMirror(object));
    if (some !== undefined) this.#other.create(some.metadata.name, some.spec);
  }

  #restore(snapshot: Snapshot): void {
    this.#trace(`restored to version ${snapshot.version}`);
    this.#isRestored = true;
    this.#facts.isRestored = true;
    this.#isListed = false;
    this.#server.restore(snapshot);
    this.#snapshots = this.#snapshots.filter(({ version }) => version <= snapshot.version);
    this.#network.break();
    for (const fact of this.#facts.all.values()) {
      const object = this.#server.find(fact.uid);
      if (object?.metadata.deletionTimestamp === undefined) fact.mustEndMs = undefined;
      const namesake = this.#server.objects.get(`${fact.namespace}/${fact.name}`);
      if (namesake !== undefined && object === undefined) fact.mayEnd = true;
    }
  }

  /**
   * A restored cluster that has come past the version of the newest pod that the node had of it
   * can't be told from one that was never restored: what it does not have counts as deleted.
   */
  #passes(): void {
    if (!this.#isRestored) return;
    for (const fact of this.#facts.all.values()) {
      const isPast = this.#server.version >= fact.version;
      if (isPast && this.#server.find(fact.uid) === undefined) fact.mayEnd = true;
    }
  }

  /** A controller of the cluster: pods of a node that says nothing are not ready. */
  #tick(): void {
    this.#judge(() => this.#invariants.tick(this.#node !== undefined));
    const { link, server } = this.#network;
    const isHeard = this.#node !== undefined && link === 'up' && server === this.#server;
    if (isHeard) this.#lastHeardMs = this.#time.nowMs;
    const isLost = this.#time.nowMs - this.#lastHeardMs > NODE_GRACE_MS;
    if (isLost && !this.#isNodeLost) {
      for (const object of [...this.#server.objects.values()]) this.#notReady(object);
    }
    this.#isNodeLost = isLost;
  }

  #notReady(object: PodObject): void {
    const { conditions } = object.status as { conditions?: readonly { type: string }[] };
    if (conditions === undefined) return;
    const next = conditions.map((one) =>
      one.type === 'Ready' ? { ...one, status: 'False' } : one,
    );
    this.#server.setStatus(object, { ...object.status, conditions: next });
  }

  // ---- calm ----

  #calmDown(): void {
    this.#trace('CALM');
    this.#isCalm = true;
    this.#networkHeals();
    if (!this.#isOn) return;
    this.#runtimeStarts();
    for (const process of [...this.#world.alive]) {
      const { kind } = this.#behaviours.get(`${process.uid}/${process.name}`)!;
      if (kind === 'task') this.#time.schedule(5000, () => this.#world.end(process, 0, 'exit'));
    }
  }
}
