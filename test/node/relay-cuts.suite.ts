/**
 * Power cuts with the relay on, while its broker is killed, stands still, or can't be reached: what
 * the outbox had on the disk is told in the end, in order; no number stands for two things; and at the
 * end a reader has the truth.
 *
 *   LIMPET_CUTS=20 LIMPET_SEED=7 scripts/test node relay-cuts
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { until } from '../../scripts/lib/install-limpet.ts';
import { startNodeBroker, type NodeBroker } from '../../scripts/lib/node-broker.ts';
import { run } from '../../scripts/lib/process.ts';
import { seededRandom, type Random } from '../../src/base/random.ts';
import { isBehind } from '../../src/relay/fold.ts';
import type { PodState } from '../../src/relay/message.ts';
import type { OutboxRow } from '../../src/store/outbox.ts';
import { clear, container, openBoard, pause, podText, type Board } from './board.ts';
import { startRelayReader, type RelayReader } from './relay-reader.ts';

const CUTS = Number(process.env['LIMPET_CUTS'] ?? 2);
const SEED = Number(process.env['LIMPET_SEED'] ?? 1);
const FLEET = 'cuts';
const CONNECT_MS = 240_000;
const CHURN_MS = 1500;
/** The broker keeps the reader's session, also when it is killed, and hands on all at once. */
const BROKER = [
  ...['persistence true', 'persistence_location $dir/', 'autosave_on_changes true'],
  ...['autosave_interval 1', 'max_queued_messages 0', 'max_inflight_messages 0'],
];

type Kind = 'dead' | 'message' | 'hung' | 'back' | 'unplugged' | 'calm';
const KINDS: readonly Kind[] = ['dead', 'message', 'hung', 'back', 'unplugged', 'calm'];

type Rig = {
  readonly board: Board;
  readonly broker: NodeBroker['broker'];
  readonly reader: RelayReader;
  readonly random: Random;
  /** All rows that were ever seen on the board's disk. */
  readonly durable: Map<number, OutboxRow>;
};

function between(random: Random, from: number, to: number): number {
  return from + random.next() * (to - from);
}

/** What is on the board's disk: a copy of the outbox is read here. */
async function readOutbox({ board, durable }: Rig): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'limpet-outbox-'));
  try {
    const pack = 'cd /var/lib/limpet && tar -c outbox.db outbox.db-wal | base64 -w 0';
    const input = Buffer.from(await board.sh(pack), 'base64');
    await run('tar', ['-x', '-C', folder], { input });
    const database = new Database(join(folder, 'outbox.db'));
    const rows = database.prepare<[], OutboxRow>('SELECT * FROM rows').all();
    database.close();
    for (const row of rows) durable.set(row.q, row);
    return rows.length;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function connected({ board }: Rig): Promise<void> {
  await until(
    'the relay is connected',
    async () => (await board.status().catch(() => undefined))?.relay,
    (relay) => relay?.connected === true,
    { timeoutMs: CONNECT_MS },
  );
}

/** Lets rows gather, and sees which of them are on the disk a moment before the cut. */
async function gather(rig: Rig): Promise<string> {
  const ms = between(rig.random, 4000, 18_000);
  await pause(ms);
  const rows = await readOutbox(rig);
  await pause(between(rig.random, 500, 3000));
  return `${(ms / 1000).toFixed(1)} s, ${rows} rows on the disk`;
}

/** Brings the board to a moment of this kind; returns what it was, in words. */
const moments: Readonly<Record<Kind, (rig: Rig) => Promise<string>>> = {
  dead: async (rig) => {
    await rig.broker.stop();
    return `the broker was dead for ${await gather(rig)}`;
  },
  hung: async (rig) => {
    rig.broker.signal('SIGSTOP');
    return `the broker stood still for ${await gather(rig)}`;
  },
  unplugged: async (rig) => {
    await rig.board.node.unplug();
    return `the cable was out for ${await gather(rig)}`;
  },
  message: async ({ random, reader }) => {
    await pause(between(random, 0, 3000));
    await Promise.race([reader.nextEvent(), pause(20_000)]);
    return 'as an event arrived';
  },
  back: async (rig) => {
    await rig.broker.stop();
    const words = await gather(rig);
    await rig.broker.start();
    await Promise.race([rig.reader.nextEvent(), pause(CONNECT_MS)]);
    const ms = between(rig.random, 0, 100);
    await pause(ms);
    return `${ms.toFixed(0)} ms into what waited while the broker was dead for ${words}`;
  },
  calm: async ({ random }) => {
    const ms = between(random, 0, 8000);
    await pause(ms);
    return `connected for ${(ms / 1000).toFixed(1)} s`;
  },
};

/** Applies and deletes small jobs until it is stopped; a board without power is no failure of it. */
async function churn(board: Board, round: number, signal: AbortSignal): Promise<void> {
  for (let n = 0; !signal.aborted; n++) {
    const script = `exit ${n % 2}`;
    const job = podText(`churn-${round}-${n}`, undefined, {
      ...{ restartPolicy: 'Never', containers: [container({ script })] },
    });
    await board.apply(job).catch(() => undefined);
    if (n >= 2) await board.delete(`churn-${round}-${n - 2}`).catch(() => undefined);
    await pause(CHURN_MS);
  }
}

async function oneCut(rig: Rig, round: number, kind: Kind): Promise<string> {
  const { board, broker, random } = rig;
  await connected(rig);
  const stop = new AbortController();
  const busy = churn(board, round, stop.signal);
  let words: string;
  try {
    words = await moments[kind](rig);
    await board.node.cut();
  } finally {
    stop.abort();
  }
  await busy;
  // Sometimes the broker comes back before the board, sometimes long after it.
  const isLate = random.next() < 0.5;
  const isKilled = kind === 'dead' || (kind === 'hung' && random.next() < 0.5);
  const wake = async () => {
    if (!isKilled) return broker.signal('SIGCONT');
    await broker.stop();
    await broker.start();
  };
  if (!isLate) await wake();
  await board.node.boot({ unplugged: true });
  await board.reconnect();
  const answers = async () => (await board.status().catch(() => undefined)) !== undefined;
  await until('the agent answers', answers, (so) => so, { timeoutMs: 120_000 });
  const rows = await readOutbox(rig);
  await pause(between(random, 0, 2000));
  await board.node.plug();
  if (isLate) {
    await pause(between(random, 0, 5000));
    await wake();
  }
  assert.deepEqual(rig.reader.heard.wrong, [], `cut ${round}, ${kind}: ${words}`);
  await clearChurn(board);
  return `cut ${round} ${kind}: ${words}; after the boot ${rows} rows on the disk, broker ${isLate ? 'later' : 'there'}`;
}

async function clearChurn(board: Board): Promise<void> {
  for (const { pod, deleting } of await board.pods()) {
    const { name } = pod.metadata;
    if (name.startsWith('churn') && !deleting) await board.delete(name).catch(() => undefined);
  }
}

/** What was on the disk, and was not told. */
function missing({ durable, reader }: Rig): readonly string[] {
  const { events, counts, statuses } = reader.heard;
  const lost: string[] = [];
  for (const row of durable.values()) {
    const { q, t, body, count } = row;
    if (row.class === 'status') {
      const { uid } = JSON.parse(body) as PodState;
      // Its place may have been taken by a later one of the same pod.
      const isTold = [...statuses].some(
        ([number, { pods }]) => number >= q && pods?.[0]?.uid === uid,
      );
      if (!isTold) lost.push(`${q}: the status ${body}`);
      continue;
    }
    const event = events.get(q);
    const { type, reason, message, object } = event ?? {};
    const told = { t: event?.t, ...{ type, reason, message, object } };
    const isSame = isEqual(told, { t, ...(JSON.parse(body) as object) });
    if (!isSame || (counts.get(q) ?? 0) < count) lost.push(`${q}, ${count} times: ${body}`);
  }
  return lost;
}

function isEqual(one: unknown, other: unknown): boolean {
  try {
    assert.deepEqual(one, other);
    return true;
  } catch {
    return false;
  }
}

test('power cuts with the relay on', { timeout: CUTS * 600_000 + 1_200_000 }, async () => {
  const random = seededRandom(SEED);
  const say = (line: string) => void process.stdout.write(`# ${line}\n`);
  await using nodeBroker = await startNodeBroker(say, BROKER);
  await using reader = await startRelayReader(nodeBroker, FLEET);
  const settings = { fleet: FLEET, format: 'json', keepAlive: '10s' };
  const prepare = (node: Board['node']) => nodeBroker.configure(node, settings);
  await using board = await openBoard({ suite: 'relay-cuts', prepare });
  const { broker } = nodeBroker;
  const rig: Rig = { board, broker, reader, random, durable: new Map() };
  await clear(board);
  for (const n of [1, 2, 3]) await board.apply(podText(`crashing-${n}`, `sleep ${n}; exit ${n}`));
  const lines: string[] = [];
  for (let round = 1; round <= CUTS; round++) {
    lines.push(await oneCut(rig, round, KINDS[(round - 1) % KINDS.length]!));
    board.note(lines.at(-1)!);
  }
  await connected(rig);
  await clear(board);
  const { heard } = reader;
  await until(
    'all is told',
    async () => (await board.status()).relay?.waiting,
    (waiting) => waiting === 0,
    { timeoutMs: CONNECT_MS, everyMs: 1000 },
  );
  await until(
    'the reader has the truth',
    async () => heard.view,
    (view) => view.state?.s === 'online' && !isBehind(view) && view.base?.pods.size === 0,
    { timeoutMs: 120_000, show: ({ base }) => JSON.stringify([...(base?.pods.values() ?? [])]) },
  );
  assert.deepEqual(heard.wrong, []);
  assert.equal((await board.status()).relay?.dropped, 0);
  assert.deepEqual(missing(rig), [], 'what was on the disk was told');
  lines.push(
    `${heard.events.size} events and ${heard.statuses.size} statuses of the past in ` +
      `${heard.sessions} sessions, ${heard.repeated} told again; ` +
      `${rig.durable.size} rows were seen on the disk, none is missing`,
  );
  process.stdout.write(`${lines.join('\n')}\n`);
});
