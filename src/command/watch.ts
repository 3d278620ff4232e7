/** A live table of all boards of a fleet, from MQTT alone: no agent, no cluster, no root. */
import { readFile } from 'node:fs/promises';
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { systemRandom } from '../base/random.ts';
import { decode, encode } from '../relay/codec.ts';
import { fold, isBehind, NOTHING, type Message, type View } from '../relay/fold.ts';
import { fleetFilter, nameProblem, parseTopic, topicOf, type Topic } from '../relay/topic.ts';
import { boardLine, boardOf, boardTable, type Board } from './board-table.ts';
import { defineCommand, type Io } from './command.ts';
import { CommandFailed, EXIT, usageError } from './exit.ts';
import type { Broker } from './fleet-feed.ts';
import { OUTPUT_OPTION, outputFormat } from './output.ts';
import { printable } from './table.ts';

const OPTIONS = {
  broker: { type: 'string', short: 'b', value: 'URL', help: 'mqtt://HOST or mqtts://HOST' },
  fleet: { type: 'string', value: 'FLEET', help: 'boards of this fleet only' },
  ca: { type: 'string', value: 'FILE', help: 'certificate authority of the broker (PEM)' },
  cert: { type: 'string', value: 'FILE', help: 'client certificate (PEM)' },
  key: { type: 'string', value: 'FILE', help: 'its key (PEM)' },
  username: { type: 'string', short: 'u', value: 'NAME', help: 'user name at the broker' },
  'password-file': { type: 'string', value: 'FILE', help: 'file with the password' },
  output: { ...OUTPUT_OPTION, help: 'json: one line for each change of a board' },
} as const;

export const command = defineCommand({
  name: 'watch',
  usage: '--broker URL [--fleet FLEET] [--output json]',
  summary: 'Show all boards of a fleet as they tell of themselves over MQTT, until interrupted.',
  details: `
It needs neither root nor an agent on this machine. A board that is offline was last heard at SINCE.
A "?" behind the pods: messages are missing; the board is asked for all of it, at most once a minute.`,
  options: OPTIONS,
  examples: [
    ['limpet watch --broker mqtt://10.0.0.2', 'all boards of all fleets'],
    [
      'limpet watch --broker mqtts://broker.example --ca ca.pem --username me --password-file pw',
      'over TLS, with a password',
    ],
    ['limpet watch --broker mqtt://10.0.0.2 --fleet home -o json', 'for machines'],
  ],
  async run({ options, words }, io) {
    if (words.length > 0) throw usageError(`watch takes no ${words[0]}: it shows all boards`);
    const format = outputFormat(options.output, ['json']);
    const { fleet } = options;
    const problem = fleet === undefined ? undefined : nameProblem(fleet);
    if (problem !== undefined) throw usageError(`--fleet ${problem}`);
    const url = brokerUrl(options.broker);
    const broker: Broker = {
      host: url.hostname.replace(/^\[|\]$/g, ''),
      tls: url.protocol === 'mqtts:',
      port: url.port === '' ? DEFAULT_PORTS[url.protocol]! : Number(url.port),
      clientId: `limpet-watch-${systemRandom().uuid().slice(0, 13)}`,
      credentials: await credentials(options),
    };
    await watch(broker, fleet, format === 'json' ? 'json' : screenKind(), io);
    return EXIT.ok;
  },
});

type Show = 'json' | 'screen' | 'lines';

function screenKind(): Show {
  return process.stdout.isTTY ? 'screen' : 'lines';
}

const DEFAULT_PORTS: Readonly<Record<string, number>> = { 'mqtt:': 1883, 'mqtts:': 8883 };

function brokerUrl(given: string | undefined): URL {
  if (given === undefined) throw usageError('which broker? Give --broker mqtt://HOST');
  const url = URL.parse(given.includes('://') ? given : `mqtt://${given}`);
  if (url === null || url.hostname === '' || !Object.hasOwn(DEFAULT_PORTS, url.protocol)) {
    throw usageError(`--broker is mqtt://HOST[:PORT] or mqtts://HOST[:PORT], not "${given}"`);
  }
  if (url.username !== '' || url.password !== '') {
    throw usageError('a password in the URL can be seen by all: use --username, --password-file');
  }
  return url;
}

async function credentials(options: {
  readonly [K in 'ca' | 'cert' | 'key' | 'username' | 'password-file']: string | undefined;
}): Promise<Broker['credentials']> {
  const { ca, cert, key, username, 'password-file': passwordFile } = options;
  if ((cert === undefined) !== (key === undefined)) {
    throw usageError('--cert and --key belong together');
  }
  const password = passwordFile === undefined ? undefined : await content(passwordFile);
  return {
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password: password.toString('utf8').replace(/\r?\n$/, '') }),
    ...(ca !== undefined && { authority: (await content(ca)).toString('utf8') }),
    ...(cert !== undefined && { certificate: (await content(cert)).toString('utf8') }),
    ...(key !== undefined && { key: (await content(key)).toString('utf8') }),
  };
}

async function content(path: string): Promise<Buffer> {
  try {
    const bytes = await readFile(path);
    if (bytes.length <= LIMITS.credentialBytes) return bytes;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CommandFailed(EXIT.failed, `can't read ${path}: ${why}`);
  }
  throw new CommandFailed(EXIT.failed, `${path} is larger than a certificate or password can be`);
}

/** A board, and when it was last asked for its snapshot. */
type Watched = { readonly topic: Topic; view: View; behindMs: number | undefined; askedMs: number };

/** Boards that are shown; more than that are left out. */
const MAX_BOARDS = 10_000;
const TICK_MS = 1_000;
/** Retained messages come at once; what has not come by then does not come unasked. */
const PATIENCE_MS = 5_000;
const ASK_AGAIN_MS = 60_000;

async function watch(broker: Broker, fleet: string | undefined, show: Show, io: Io): Promise<void> {
  const end = endOf(io.signal);
  const boards = new Map<string, Watched>();
  const changed = new Set<Watched>();
  let trouble: string | undefined;
  const { openFeed } = await import('./fleet-feed.ts');
  const heard = {
    message: (topic: string, payload: Uint8Array) => {
      const board = take(boards, topic, payload);
      if (board !== undefined) changed.add(board);
    },
    connection: (why?: string) => {
      if (why !== undefined && why !== trouble && show !== 'screen') io.err(`limpet: ${why}\n`);
      trouble = why;
    },
  };
  const filter = fleetFilter(fleet);
  const link = await openFeed(broker, filter, heard, io.clock, end.signal).catch(
    (error: unknown) => {
      if (error instanceof Failure) throw new CommandFailed(EXIT.unreachable, error.message);
      throw error;
    },
  );
  try {
    while (!end.signal.aborted) {
      ask(boards.values(), io.clock.now().monoMs, (topic, cmd) => link.publish(topic, cmd));
      await draw(show, boards, changed, trouble, io);
      changed.clear();
      await io.clock.sleep(TICK_MS, end.signal).catch(() => undefined);
    }
  } finally {
    end.dispose();
    await link.close();
  }
}

/** Ends by Ctrl-C or SIGTERM, with the connection closed. */
function endOf(outer: AbortSignal): { readonly signal: AbortSignal; dispose(): void } {
  const end = new AbortController();
  const stop = () => end.abort();
  const names = ['SIGINT', 'SIGTERM'] as const;
  for (const name of names) process.once(name, stop);
  return {
    signal: AbortSignal.any([outer, end.signal]),
    dispose: () => {
      for (const name of names) process.off(name, stop);
    },
  };
}

/** The board that a message changes; undefined when it is no message of ours, or no news. */
function take(
  boards: Map<string, Watched>,
  name: string,
  payload: Uint8Array,
): Watched | undefined {
  const topic = parseTopic(name);
  if (topic === undefined || topic.kind === 'cmd' || topic.kind === 'ha') return undefined;
  const decoded = decode(topic.kind, payload);
  if (!decoded.ok) return undefined;
  const key = `${topic.fleet}/${topic.node}`;
  const board = boards.get(key) ?? {
    topic,
    view: NOTHING,
    behindMs: undefined,
    askedMs: -Infinity,
  };
  if (!boards.has(key) && boards.size >= MAX_BOARDS) return undefined;
  boards.set(key, board);
  const next = fold(board.view, { kind: topic.kind, message: decoded.message } as Message);
  if (next === board.view) return undefined;
  board.view = next;
  return board;
}

/** Asks boards that are there and whose messages have a gap. */
function ask(
  boards: Iterable<Watched>,
  nowMs: number,
  publish: (topic: string, cmd: Uint8Array) => void,
): void {
  for (const board of boards) {
    const lacks = isBehind(board.view) && board.view.state?.s === 'online';
    board.behindMs = lacks ? (board.behindMs ?? nowMs) : undefined;
    if (board.behindMs === undefined || nowMs - board.behindMs < PATIENCE_MS) continue;
    if (nowMs - board.askedMs < ASK_AGAIN_MS) continue;
    board.askedMs = nowMs;
    const id = `watch-${Math.round(nowMs)}`;
    publish(topicOf(board.topic, 'cmd'), encode('cmd', { id, do: 'rebirth' }, 'json'));
  }
}

const HOME_AND_CLEAR = '\u001b[H\u001b[2J';

async function draw(
  show: Show,
  boards: ReadonlyMap<string, Watched>,
  changed: ReadonlySet<Watched>,
  trouble: string | undefined,
  io: Io,
): Promise<void> {
  const nowMs = io.clock.now().wallMs;
  const of = ({ topic: { fleet, node }, view }: Watched): Board => boardOf({ fleet, node }, view);
  if (show === 'json') {
    for (const board of changed) await io.out(`${JSON.stringify(of(board))}\n`);
  } else if (show === 'lines') {
    for (const board of changed) await io.out(`${printable(boardLine(of(board), nowMs))}\n`);
  } else {
    const sorted = [...boards].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, b]) => of(b));
    const text =
      sorted.length === 0 ? 'No board has been heard of yet.\n' : boardTable(sorted, nowMs);
    const note = trouble === undefined ? '' : `\n${printable(trouble)}; trying again\n`;
    await io.out(`${HOME_AND_CLEAR}${text}${note}`);
  }
}
