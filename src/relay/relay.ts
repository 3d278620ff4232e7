/**
 * The relay: tells an MQTT broker how this node is, and what has happened while nobody heard.
 *
 *   on connect: state, snap, events by priority (`h` when late), the last of each pod that is gone,
 *   then while connected: deltas, events, metrics; a snapshot when the set of pods has changed,
 *   when it is asked for, and once a day.
 *
 * What is told together goes in one packet of TCP: more than half of the bytes of a short message
 * are headers and acknowledgements. So an event waits a moment for others and for the status that
 * belongs to it, and then takes a delta along that would have waited longer. In CBOR events of a pod
 * that is there are part of its row in that delta: one message has one acknowledgement. JSON is for
 * other programs, and has each event as a message of its own.
 */
import type { Clock, Now } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { NewEvent } from '../kube/event.ts';
import type { BrokerConnection, BrokerOptions } from '../mqtt/client.ts';
import type { Outbox, OutboxRow } from '../store/outbox.ts';
import { decode, encode, type Encoding } from './codec.ts';
import { isNews, stepped } from './deadband.ts';
import { eventBody, readEventBody, withEvents } from './events.ts';
import { discovery, haOf } from './home-assistant.ts';
import {
  DELIVERY,
  MAJOR,
  MINOR,
  type Condition,
  type MessageKind,
  type Messages,
  type Met,
  type NodeFacts,
  type PodState,
  type State,
} from './message.ts';
import { topicOf, type NodeName } from './topic.ts';

/** What is true now. Conditions and figures are empty where nobody tells of them. */
export type RelayFacts = {
  readonly node: NodeFacts;
  readonly pods: readonly PodState[];
  readonly conditions: readonly Condition[];
  readonly met?: Met;
};

/** Makes a connection with this will. Throws a `Failure`. */
export type Connect = (
  session: Pick<BrokerOptions, 'will' | 'onMessage'>,
  signal: AbortSignal,
) => Promise<BrokerConnection>;

export type RelayOptions = {
  readonly name: NodeName;
  readonly encoding: Encoding;
  readonly homeAssistant: boolean;
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly connect: Connect;
  /** Resolves with true when this machine has got another way out; see `linux/links.ts`. */
  readonly linkGained: (signal: AbortSignal) => Promise<boolean>;
  readonly facts: () => RelayFacts;
};

export type RelayReport = {
  readonly connected: boolean;
  readonly sinceWallMs: number;
  readonly version?: string;
  /** Why it is not connected. */
  readonly message?: string;
  readonly waiting: number;
  readonly dropped: number;
  /** Commands that are none. */
  readonly ignored: number;
};

const MIN_BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 5 * 60_000;
/** A connection that goes on for so long was good. */
const GOOD_MS = 60_000;
/** All boards of a place get their link back at once. */
const AFTER_LINK_MS = 3000;
/** From the first change to its delta, unless there are events to be told. */
const COALESCE_MS = 10_000;
/** From the first event to all that have come meanwhile. */
const TOGETHER_MS = 1000;
const BETWEEN_SNAPS_MS = 60_000;
const SNAP_EVERY_MS = 24 * 3_600_000;
const GOODBYE_MS = 2000;
/** Of the outbox; a delta comes along. Brokers allow 20 and more messages. */
const IN_FLIGHT = 8;
const WILL_DELAY_SECONDS = 30;

type Told = {
  /** Of the snapshot. */
  readonly g: number;
  /** Of the last link of the chain. */
  q: number;
  readonly pods: Map<string, PodState>;
  readonly conditions: Map<string, Condition>;
};

/** Events that go within a delta, by the uid of their pod. */
type Carried = ReadonlyMap<string, readonly OutboxRow[]>;

export class Relay {
  readonly #options: RelayOptions;
  #told: Told | undefined;
  /** The pods as they were last put into the outbox, while nobody hears. */
  readonly #folded = new Map<string, PodState>();
  #toldMet: Met | undefined;
  #toldHa: string | undefined;
  #snapMonoMs = Number.NEGATIVE_INFINITY;
  #wantsSnap = true;
  /** When the first change since the last delta was heard of. */
  #changedMonoMs: number | undefined;
  /** When the first event since they were last told was heard of. */
  #eventMonoMs: number | undefined;
  /** When all was told for the first time in this connection, or in the last one. */
  #allToldMonoMs: number | undefined;
  #ignored = 0;
  #connection: BrokerConnection | undefined;
  #since: Now;
  #problem: string | undefined = 'not connected yet';
  #wake: () => void = () => undefined;
  #wasWoken = false;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#since = options.clock.now();
  }

  /** Something of the facts may have changed. */
  changed(): void {
    this.#changedMonoMs ??= this.#options.clock.now().monoMs;
    if (this.#connection === undefined) this.#foldPods();
    else this.#poke();
  }

  /** Takes an event up, to be told once. */
  event(event: NewEvent, now: Now): void {
    const body = eventBody(event);
    const text = JSON.stringify(body);
    this.#options.outbox.add({
      class: body.type === 'Warning' ? 'warning' : 'normal',
      key: `evt ${text}`,
      t: secondsOf(now),
      body: text,
    });
    this.#eventMonoMs ??= this.#options.clock.now().monoMs;
    this.#poke();
  }

  report(): RelayReport {
    const { outbox } = this.#options;
    const connection = this.#connection;
    return {
      connected: connection !== undefined,
      sinceWallMs: this.#since.wallMs,
      ...(connection !== undefined && { version: connection.version }),
      ...(this.#problem !== undefined && { message: this.#problem }),
      waiting: outbox.waiting,
      dropped: outbox.dropped,
      ignored: this.#ignored,
    };
  }

  /** Connects again and again until the signal is aborted; then says goodbye. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, random, outbox } = this.#options;
    signal.addEventListener('abort', () => this.#poke(), { once: true });
    let failures = 0;
    while (!signal.aborted) {
      try {
        await this.#session(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (!(error instanceof Failure)) throw error;
        const { message } = faultOf(error);
        if (message !== this.#problem) log.warn('the relay is not connected', { message });
        this.#ended(message);
        outbox.release();
        failures = this.#wasGood() ? 1 : failures + 1;
        const most = Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** failures);
        const ms = MIN_BACKOFF_MS + random.next() * (most - MIN_BACKOFF_MS);
        if (await this.#pause(ms, signal)) failures = 0;
      }
    }
    this.#ended('the agent is stopping');
    outbox.release();
    outbox.flush();
  }

  /** Ends early, and with true, when there is another way out. */
  async #pause(ms: number, signal: AbortSignal): Promise<boolean> {
    const { clock, random, linkGained } = this.#options;
    const over = new AbortController();
    const either = AbortSignal.any([signal, over.signal]);
    const slept = clock.sleep(ms, either).then(
      () => false,
      () => false,
    );
    const isLinked = await Promise.race([slept, linkGained(either)]);
    over.abort();
    if (isLinked) await clock.sleep(random.next() * AFTER_LINK_MS, signal).catch(() => undefined);
    return isLinked;
  }

  #ended(problem: string): void {
    if (this.#connection !== undefined) this.#since = this.#options.clock.now();
    this.#connection = undefined;
    this.#problem = problem;
  }

  /**
   * The last connection was one that goes on. One that breaks off at what we tell each time, or that
   * another client of our name takes away, is no reason to begin anew with short pauses.
   */
  #wasGood(): boolean {
    const { clock } = this.#options;
    return clock.now().monoMs - (this.#allToldMonoMs ?? Infinity) >= GOOD_MS;
  }

  async #session(signal: AbortSignal): Promise<void> {
    const { clock, connect, name, outbox, log } = this.#options;
    const begin = clock.now();
    this.#allToldMonoMs = undefined;
    const sid = `${begin.boot.slice(0, 8)}-${outbox.number().toString(36)}`;
    const state = (s: State['s']): State => ({ s, sid, t: secondsOf(clock.now()) });
    const will = {
      topic: topicOf(name, 'state'),
      payload: encode('state', state('offline'), this.#options.encoding),
      delaySeconds: WILL_DELAY_SECONDS,
    };
    const onMessage = ({ payload }: { readonly payload: Uint8Array }) => this.#command(payload);
    const connection = await connect({ will, onMessage }, signal);
    try {
      await connection.subscribe(topicOf(name, 'cmd'));
      await this.#publish(connection, 'state', state('online'));
      this.#connection = connection;
      this.#since = clock.now();
      this.#problem = undefined;
      this.#wantsSnap = true;
      [this.#toldHa, this.#toldMet] = [undefined, undefined];
      this.#folded.clear();
      log.info('the relay is connected', { version: connection.version });
      let closed: Failure | undefined;
      void connection.closed.then((reason) => {
        closed = reason;
        this.#poke();
      });
      while (!signal.aborted) {
        if (closed !== undefined) throw closed;
        const waitMs = await this.#tell(connection, sid);
        this.#allToldMonoMs ??= clock.now().monoMs;
        await this.#rest(waitMs, signal);
      }
      const patience = clock.at(clock.now().monoMs + GOODBYE_MS, () =>
        connection.destroy(new Failure('DeadlineExceeded', 'the broker did not take our goodbye')),
      );
      await this.#publish(connection, 'state', state('leaving')).finally(() => patience.cancel());
      await connection.end();
    } catch (error) {
      connection.destroy(error instanceof Failure ? error : new Failure('Unknown', String(error)));
      throw error;
    }
  }

  /** Tells all that is due. Returns in how many milliseconds more of it will be. */
  async #tell(connection: BrokerConnection, sid: string): Promise<number> {
    const { clock } = this.#options;
    const sinceSnap = () => clock.now().monoMs - this.#snapMonoMs;
    if (sinceSnap() >= (this.#wantsSnap ? BETWEEN_SNAPS_MS : SNAP_EVERY_MS)) {
      await this.#snap(connection, sid);
    }
    const togetherMs = (this.#eventMonoMs ?? 0) + TOGETHER_MS - clock.now().monoMs;
    if (this.#eventMonoMs !== undefined && togetherMs > 0) return togetherMs;
    this.#eventMonoMs = undefined;
    for (let isAll = false; !isAll;) {
      const rows = this.#takeRows();
      isAll = rows.length < IN_FLIGHT;
      await this.#tellRows(connection, rows);
    }
    await this.#figures(connection);
    const snapMs = (this.#wantsSnap ? BETWEEN_SNAPS_MS : SNAP_EVERY_MS) - sinceSnap();
    return Math.min(snapMs, this.#deltaInMs());
  }

  /** The next rows of the outbox, of more than one class if there is room. */
  #takeRows(): readonly OutboxRow[] {
    const { outbox } = this.#options;
    const rows: OutboxRow[] = [];
    let more = outbox.take(IN_FLIGHT);
    while (more.length > 0) {
      rows.push(...more);
      more = outbox.take(IN_FLIGHT - rows.length);
    }
    return rows;
  }

  /** In one packet, with the delta when it is due or some of the rows go within it. */
  async #tellRows(connection: BrokerConnection, rows: readonly OutboxRow[]): Promise<void> {
    const carriers = this.#carriersOf(rows);
    const alone = rows.filter((row) => !carriers.has(row));
    const carried = Map.groupBy(carriers.keys(), (row) => carriers.get(row)!);
    const isDue = rows.length > 0 ? this.#changedMonoMs !== undefined : this.#deltaInMs() <= 0;
    await Promise.all([
      ...alone.map((row) => this.#row(connection, row)),
      ...(isDue || carried.size > 0 ? [this.#delta(connection, this.#told!, carried)] : []),
    ]);
  }

  /** Which of the rows go within a delta, and the uids of their pods. */
  #carriersOf(rows: readonly OutboxRow[]): ReadonlyMap<OutboxRow, string> {
    const { encoding, facts, clock } = this.#options;
    if (encoding === 'json' || rows.length === 0) return new Map();
    const here = new Set(facts().pods.map(({ uid }) => uid));
    const now = secondsOf(clock.now());
    return new Map(
      rows.flatMap((row) => {
        // A delta tells how long ago: not of what is late, nor of a time to come of a clock set back.
        if (row.class === 'status' || this.#isLate(row) || row.t > now) return [];
        const { uid } = readEventBody(row).object;
        return uid !== undefined && here.has(uid) ? [[row, uid] as const] : [];
      }),
    );
  }

  /** It happened before this connection. */
  #isLate({ t }: OutboxRow): boolean {
    return t < secondsOf(this.#since);
  }

  /** Until the next delta is due. */
  #deltaInMs(): number {
    if (this.#changedMonoMs === undefined) return Infinity;
    return this.#changedMonoMs + COALESCE_MS - this.#options.clock.now().monoMs;
  }

  async #snap(connection: BrokerConnection, sid: string): Promise<void> {
    const { clock, facts, outbox } = this.#options;
    const { node, pods, conditions } = facts();
    const now = clock.now();
    const g = outbox.number();
    const q = outbox.number();
    this.#wantsSnap = false;
    this.#changedMonoMs = undefined;
    const v = `${MAJOR}.${MINOR}`;
    await this.#publish(connection, 'snap', {
      ...{ v, g, q, t: secondsOf(now), sid, node, pods, conditions },
    });
    this.#snapMonoMs = now.monoMs;
    this.#told = { g, q, pods: byUid(pods), conditions: byType(conditions) };
  }

  async #row(connection: BrokerConnection, row: OutboxRow): Promise<void> {
    const { outbox } = this.#options;
    const { q, t, count } = row;
    if (row.class === 'status') {
      const pod = JSON.parse(row.body) as PodState;
      await this.#publish(connection, 'delta', { q, t, pods: [pod], h: 1 }, false);
    } else {
      const late = this.#isLate(row);
      const event = readEventBody(row);
      const id = q.toString(36);
      await this.#publish(connection, 'evt', { id, q, t, ...(late && { h: 1 }), ...event, count });
    }
    outbox.acknowledge(q);
  }

  async #delta(connection: BrokerConnection, told: Told, carried: Carried): Promise<void> {
    const { clock, facts, outbox } = this.#options;
    const { pods, conditions } = facts();
    this.#changedMonoMs = undefined;
    const isNews = (pod: PodState) => carried.has(pod.uid) || !isSame(told.pods.get(pod.uid), pod);
    const news = pods.filter(isNews);
    const turned = conditions.filter((one) => !isSame(told.conditions.get(one.type), one));
    const here = new Set(pods.map(({ uid }) => uid));
    const gone = [...told.pods.keys()].filter((uid) => !here.has(uid));
    if (news.length + turned.length + gone.length === 0) return;
    if (gone.length > 0 || news.some(({ uid }) => !told.pods.has(uid))) this.#wantsSnap = true;
    const [q, t] = [outbox.number(), secondsOf(clock.now())];
    const skip = q - 1 - told.q;
    // Whether it arrives or not, the next one builds on it: a reader then sees the gap.
    told.q = q;
    for (const pod of news) told.pods.set(pod.uid, pod);
    for (const one of turned) told.conditions.set(one.type, one);
    for (const uid of gone) told.pods.delete(uid);
    await this.#publish(connection, 'delta', {
      ...{ q, t, b: q - told.g },
      ...(skip > 0 && { skip }),
      ...(news.length > 0 && {
        pods: news.map((pod) => withEvents(pod, carried.get(pod.uid), { q, t })),
      }),
      ...(turned.length > 0 && { conditions: turned }),
      ...(gone.length > 0 && { gone }),
    });
    for (const rows of carried.values()) for (const row of rows) outbox.acknowledge(row.q);
  }

  /** Metrics, and what Home Assistant is shown. */
  async #figures(connection: BrokerConnection): Promise<void> {
    const { clock, facts, homeAssistant, name } = this.#options;
    const { met, node, pods, conditions } = facts();
    const figures = met && stepped(met);
    if (figures !== undefined && isNews(this.#toldMet, figures)) {
      this.#toldMet = figures;
      await this.#publish(connection, 'met', figures);
    }
    if (!homeAssistant) return;
    const ha = haOf(secondsOf(clock.now()), pods, conditions, figures);
    const { t: _, ...shown } = ha;
    const text = JSON.stringify(shown);
    if (text === this.#toldHa) return;
    const { topic, config } = discovery(name, node, ha);
    const payload = new TextEncoder().encode(JSON.stringify(config));
    if (this.#toldHa === undefined)
      await connection.publish(topic, payload, { qos: 1, retain: true });
    this.#toldHa = text;
    await this.#publish(connection, 'ha', ha);
  }

  async #publish<K extends MessageKind>(
    connection: BrokerConnection,
    kind: K,
    message: Messages[K],
    retain: boolean = DELIVERY[kind].retain,
  ): Promise<void> {
    const { name, encoding } = this.#options;
    const { qos } = DELIVERY[kind];
    const expiry = 'ttl' in message ? { expirySeconds: message.ttl } : {};
    const payload = encode(kind, message, encoding);
    await connection.publish(topicOf(name, kind), payload, { qos, retain, ...expiry });
  }

  #command(payload: Uint8Array): void {
    const decoded = decode('cmd', payload);
    if (!decoded.ok) {
      this.#ignored += 1;
      return;
    }
    // At most once a minute: `#tell` sees to that.
    this.#wantsSnap = true;
    this.#poke();
  }

  /** While nobody hears: what has changed since the last snapshot, the last of each pod. */
  #foldPods(): void {
    const { facts, outbox, clock } = this.#options;
    for (const pod of facts().pods) {
      const before = this.#folded.get(pod.uid) ?? this.#told?.pods.get(pod.uid);
      if (isSame(before, pod)) continue;
      this.#folded.set(pod.uid, pod);
      const t = secondsOf(clock.now());
      outbox.add({ class: 'status', key: `pod ${pod.uid}`, t, body: JSON.stringify(pod) });
    }
  }

  #poke(): void {
    this.#wasWoken = true;
    this.#wake();
  }

  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    if (!this.#wasWoken && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const timer = clock.at(clock.now().monoMs + Math.max(0, ms), resolve);
      await promise;
      timer.cancel();
    }
    this.#wasWoken = false;
  }
}

function secondsOf({ wallMs }: Now): number {
  return Math.floor(wallMs / 1000);
}

function byUid(pods: readonly PodState[]): Map<string, PodState> {
  return new Map(pods.map((pod) => [pod.uid, pod]));
}

function byType(conditions: readonly Condition[]): Map<string, Condition> {
  return new Map(conditions.map((condition) => [condition.type, condition]));
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
