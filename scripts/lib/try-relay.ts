// What scripts/try shows of the relay: a broker on the host, and all that mosquitto_sub hears there.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { NodeReport, PodReport } from '../../src/server/api.ts';
import { decode } from '../../src/relay/codec.ts';
import { fold, isBehind, NOTHING, type Message, type View } from '../../src/relay/fold.ts';
import type { Delta, Evt, Messages } from '../../src/relay/message.ts';
import { parseTopic } from '../../src/relay/topic.ts';
import { askAgent, until } from './install-limpet.ts';
import { startNodeBroker } from './node-broker.ts';
import type { VirtualNode } from './virtual-node.ts';

export type TryRelay = AsyncDisposable & {
  /** Before limpet is installed. */
  configure(node: VirtualNode): Promise<void>;
  /** Waits until the messages have these pods, all well. */
  running(pods: readonly PodReport[]): Promise<void>;
  /** Waits for the last will. */
  offline(): Promise<void>;
  /** Plugs the cable in, and waits until all that happened without it was told, and how. */
  plug(node: VirtualNode, pods: readonly PodReport[]): Promise<void>;
};

type Console = {
  readonly say: (line: string) => void;
  /** Throws when it is not so. */
  readonly check: (what: string, so: boolean) => void;
};

type Heard = {
  view: View;
  /** Of the past, as they came. */
  readonly late: (Evt | Delta)[];
  /** Of all events: the id and the count. */
  readonly events: string[];
  readonly wrong: string[];
};

const FLEET = 'try';
/** Of each message; the rest of a long one is not shown. */
const COLUMNS = 160;
/** Changes are gathered for 10 s, and a snapshot comes at most once a minute. */
const TELLS_MS = 90_000;
/** A will waits for 30 s, a lost link is noticed within 15 s. */
const WILL_MS = 60_000;
/** After some failures the relay may wait for a minute; then it takes up what is due. */
const CONNECTS_MS = 180_000;

export async function startTryRelay({ say, check }: Console): Promise<TryRelay> {
  const broker = await startNodeBroker(say);
  const heard: Heard = { view: NOTHING, late: [], events: [], wrong: [] };
  const filter = `limpet/v1/${FLEET}/#`;
  const args = [...broker.readerArguments, '-q', '1', '-v', '-t', filter];
  const reader = spawn('mosquitto_sub', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  createInterface({ input: reader.stdout }).on('line', (line) => {
    const columns = line.indexOf(' ') + 1 + COLUMNS;
    say(`mqtt  ${line.length > columns ? `${line.slice(0, columns)}…` : line}`);
    take(heard, line);
  });
  say(`an MQTT broker for it on port ${broker.broker.port}: mosquitto, TLS, client certificates`);
  say(`$ mosquitto_sub -v -t '${filter}'     (below as "mqtt")`);
  const view = () => heard.view;
  const asSeen = (seen: View) => JSON.stringify({ ...seen, pods: [...podsOf(seen)], heard });
  const untilView = async (what: string, so: (seen: View) => boolean, timeoutMs: number) => {
    await until(`MQTT: ${what}`, async () => view(), so, { timeoutMs, show: asSeen });
    if (heard.wrong.length > 0) throw new Error(`MQTT: ${heard.wrong.join('; ')}`);
  };
  return {
    configure: async (node) => {
      await broker.configure(node, { fleet: FLEET, format: 'json', keepAlive: '10s' });
    },
    running: async (pods) => {
      const so = (seen: View) => seen.state?.s === 'online' && hasAll(seen, pods);
      await untilView('the board is online and its pods run', so, TELLS_MS);
      check('MQTT: the board is online, its three pods are as they should be', true);
    },
    offline: async () => {
      const sid = view().state?.sid;
      await untilView('the last will', ({ state }) => state?.s === 'offline', WILL_MS);
      check(`MQTT: the broker told the last will of session ${sid}`, sid === view().state?.sid);
    },
    plug: async (node, pods) => {
      const [sid, number] = [view().state?.sid, view().base?.q ?? 0];
      const waiting = await waitingRows(node);
      heard.late.length = 0;
      await node.plug();
      const so = (seen: View) => {
        const { state, base } = seen;
        const isNew = state?.s === 'online' && state.sid !== sid && base?.sid === state.sid;
        return isNew && hasAll(seen, pods) && heard.late.length >= waiting;
      };
      await untilView(`online again, with the ${waiting} rows that waited`, so, CONNECTS_MS);
      checkReturn(heard, number, check);
    },
    [Symbol.asyncDispose]: async () => {
      const ended = once(reader, 'exit');
      if (reader.exitCode === null && reader.kill()) await ended;
      await broker[Symbol.asyncDispose]();
    },
  };
}

/** One line of `mosquitto_sub -v`. */
function take(heard: Heard, line: string): void {
  const space = line.indexOf(' ');
  const kind = parseTopic(line.slice(0, space))?.kind;
  if (kind === undefined || kind === 'cmd' || kind === 'ha') return;
  const decoded = decode(kind, new TextEncoder().encode(line.slice(space + 1)));
  if (!decoded.ok) {
    heard.wrong.push(decoded.fault.message);
    return;
  }
  heard.view = fold(heard.view, { kind, message: decoded.message } as Message);
  if (kind === 'evt') heard.events.push(eventKey(decoded.message as Evt));
  if (kind === 'evt' || kind === 'delta') {
    const message = decoded.message as Messages['evt' | 'delta'];
    if (message.h === 1) heard.late.push(message);
  }
}

function eventKey({ id, count }: Evt): string {
  return `${id} ${count}`;
}

function podsOf(view: View) {
  return view.base?.pods.values() ?? [];
}

/** The messages show these pods and no others, each done or ready. */
function hasAll(view: View, reports: readonly PodReport[]): boolean {
  const pods = view.base?.pods;
  if (isBehind(view) || pods?.size !== reports.length) return false;
  return reports.every(({ pod }) => {
    const told = pods.get(pod.metadata.uid);
    if (told === undefined) return false;
    if (pod.spec.restartPolicy === 'Never') return told.phase === 'Succeeded';
    return told.phase === 'Running' && told.ready === told.containers;
  });
}

/** What waits on the board to be told. */
async function waitingRows(node: VirtualNode): Promise<number> {
  const report = await askAgent<NodeReport>(node, '/v1/status');
  if (report?.relay === undefined) throw new Error('the agent does not tell of its relay');
  return report.relay.waiting;
}

/** `number`: the last one that was heard before the power cut. */
function checkReturn({ view, late, events }: Heard, number: number, check: Console['check']): void {
  const { state, base } = view;
  const onlineS = state?.t ?? 0;
  const times = late.map(({ t }) => t);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  check(`MQTT: online again at ${clock(onlineS)}, and the snapshot has the same pods`, true);
  const told = late.filter((message) => 'id' in message).length;
  check(
    `MQTT: ${told} events and the last of ${late.length - told} pods came late, marked "h":1, ` +
      `with their own times: ${clock(first)} to ${clock(last)}`,
    told > 0 && late.length > told && last < onlineS,
  );
  check('MQTT: no event came twice', new Set(events).size === events.length);
  check(`MQTT: the numbers go on: ${number}, then ${base?.q}`, (base?.q ?? 0) > number);
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(11, 19);
}
