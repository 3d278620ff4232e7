/**
 * A subscriber with a session that lasts, over all that is done to its broker: it keeps what it hears
 * of one node and finds what may never be.
 */
import mqtt from 'mqtt';
import type { NodeBroker } from '../../scripts/lib/node-broker.ts';
import { decode } from '../../src/relay/codec.ts';
import { eventsIn } from '../../src/relay/events.ts';
import { fold, NOTHING, type Message, type View } from '../../src/relay/fold.ts';
import type { Delta, Evt } from '../../src/relay/message.ts';
import { fleetFilter, parseTopic } from '../../src/relay/topic.ts';

export type RelayReader = AsyncDisposable & {
  readonly heard: Heard;
  /** Resolves with the next message of an event. */
  nextEvent(): Promise<void>;
};

export type Heard = {
  view: View;
  /** By their numbers, as they came first. */
  readonly events: Map<number, Evt>;
  /** The highest count of each event. */
  readonly counts: Map<number, number>;
  /** Statuses of the past, by their numbers. */
  readonly statuses: Map<number, Delta>;
  /** What each number stands for. */
  readonly numbers: Map<number, string>;
  highest: number;
  /** The last number of each class of events, as they came first. */
  readonly last: { Warning: number; Normal: number };
  sessions: number;
  repeated: number;
  readonly wrong: string[];
};

export async function startRelayReader(broker: NodeBroker, fleet: string): Promise<RelayReader> {
  const { reader } = broker;
  const heard: Heard = {
    ...{ view: NOTHING, events: new Map(), counts: new Map(), statuses: new Map() },
    ...{ numbers: new Map(), highest: 0, last: { Warning: 0, Normal: 0 } },
    ...{ sessions: 0, repeated: 0, wrong: [] },
  };
  const client = await mqtt.connectAsync(`mqtts://127.0.0.1:${broker.broker.port}`, {
    ...{ ca: reader.authority, cert: reader.certificate, key: reader.key },
    ...{ protocolVersion: 5, clean: false, clientId: 'reader', keepalive: 10 },
    ...{ reconnectPeriod: 100, connectTimeout: 2000 },
    properties: { sessionExpiryInterval: 86_400 },
  });
  client.on('error', () => undefined);
  let onEvent: () => void = () => undefined;
  client.on('message', (topic, payload, { retain }) => {
    const kind = parseTopic(topic)?.kind;
    // What is retained it has heard before.
    if (retain || kind === undefined || kind === 'cmd' || kind === 'ha') return;
    const decoded = decode(kind, payload);
    if (!decoded.ok) return void heard.wrong.push(decoded.fault.message);
    take(heard, { kind, message: decoded.message } as Message);
    if (kind === 'evt' || (kind === 'delta' && eventsIn(decoded.message as Delta).length > 0)) {
      onEvent();
    }
  });
  await client.subscribeAsync(fleetFilter(fleet), { qos: 1 });
  return {
    heard,
    nextEvent: () => new Promise((resolve) => (onEvent = resolve)),
    [Symbol.asyncDispose]: async () => await client.endAsync(true),
  };
}

function take(heard: Heard, given: Message): void {
  heard.view = fold(heard.view, given);
  const { kind, message } = given;
  if (kind === 'evt') takeEvent(heard, message);
  else if (kind === 'snap') {
    const isNew = number(heard, message.g, `generation ${message.sid}`, true);
    number(heard, message.q, JSON.stringify(message), isNew);
  } else if (kind === 'delta') {
    for (const event of eventsIn(message)) takeEvent(heard, event);
    if (message.h === 1) heard.statuses.set(message.q, message);
    number(heard, message.q, JSON.stringify(message), message.h !== 1);
  } else if (kind === 'state' && message.s === 'online') {
    const [, digits = ''] = message.sid.split('-');
    if (number(heard, Number.parseInt(digits, 36), `session ${message.sid}`, true)) {
      heard.sessions += 1;
    }
  }
}

function takeEvent(heard: Heard, { h: _, count, ...event }: Evt): void {
  const { id, q, type, reason } = event;
  if (Number.parseInt(id, 36) !== q) heard.wrong.push(`the event ${id} has the number ${q}`);
  if (number(heard, q, JSON.stringify(event), false)) {
    heard.events.set(q, { ...event, count });
    if (q < heard.last[type]) {
      heard.wrong.push(`${type} ${reason} ${q} came first after ${heard.last[type]}`);
    }
    heard.last[type] = q;
  } else heard.repeated += 1;
  heard.counts.set(q, Math.max(count, heard.counts.get(q) ?? 0));
}

/**
 * A number stands for one thing for ever. `isFresh`: it was given when the message was made, so that
 * it is higher than all that were heard before. Returns whether it is new.
 */
function number(heard: Heard, n: number, what: string, isFresh: boolean): boolean {
  const known = heard.numbers.get(n);
  if (known !== undefined) {
    if (known !== what) heard.wrong.push(`${n} stands for two: ${known} and ${what}`);
    return false;
  }
  if (isFresh && n < heard.highest) heard.wrong.push(`${n} came after ${heard.highest}: ${what}`);
  heard.numbers.set(n, what);
  heard.highest = Math.max(heard.highest, n);
  return true;
}
