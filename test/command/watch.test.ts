import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectAsync, type MqttClient } from 'mqtt';
import { decode, encode, type Encoding } from '../../src/relay/codec.ts';
import { DELIVERY, type MessageKind, type Messages } from '../../src/relay/message.ts';
import { topicOf } from '../../src/relay/topic.ts';
import { startBroker } from '../../scripts/lib/broker.ts';
import { freePorts } from '../../scripts/lib/ports.ts';
import { limpet } from './cli.ts';
import { startWatch } from './watching.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const T = Math.floor(Date.now() / 1000);
const PI1 = { fleet: 'home', node: 'pi1' };

const urlOf = ({ port }: { readonly port: number }) => `mqtt://127.0.0.1:${port}`;

async function say<K extends MessageKind>(
  client: MqttClient,
  kind: K,
  message: Messages[K],
  encoding: Encoding = 'cbor',
  name = PI1,
): Promise<void> {
  const bytes = Buffer.from(encode(kind, message, encoding));
  await client.publishAsync(topicOf(name, kind), bytes, DELIVERY[kind]);
}

const podState = {
  uid: '5e0f3b4c-53a9-4f2e-8c5a-cbfbd59dfd1a',
  namespace: 'default',
  name: 'web',
  phase: 'Running',
  ready: 1,
  containers: 1,
  restarts: 0,
  since: T,
} as const;

const snapOf = (g: number, q: number): Messages['snap'] => ({
  v: '1.0',
  g,
  q,
  t: T,
  sid: 's1',
  node: { version: '0.1.0' },
  pods: [podState],
  conditions: [
    { type: 'Ready', status: 'True', since: T },
    { type: 'UnderVoltage', status: 'True', since: T },
  ],
});

test('a fleet as it is, as it changes, and a will; Ctrl-C ends it with 0', async () => {
  await using broker = await startBroker();
  const client = await connectAsync(urlOf(broker), { protocolVersion: 5 });
  await say(client, 'state', { s: 'online', sid: 's1', t: T });
  await say(client, 'snap', snapOf(1, 10));
  await client.publishAsync('limpet/v1/home/pi2/snap', 'rubbish', { retain: true });
  const lines = startWatch(['--broker', urlOf(broker)]);
  const json = startWatch(['--broker', urlOf(broker), '--fleet', 'home', '-o', 'json']);
  await lines.until(/home\/pi1: online for \d+s, pods 1\/1, UnderVoltage, limpet 0\.1\.0\n/);
  await json.until(/"problems":\["UnderVoltage"\]/);
  const crash = { ...podState, ready: 0, restarts: 1, reason: 'CrashLoopBackOff' };
  await say(client, 'delta', { q: 11, t: T, pods: [crash] });
  const object = { kind: 'Pod', namespace: 'default', name: 'web' };
  const event = { id: 'e', q: 12, t: T, type: 'Warning', reason: 'BackOff', object } as const;
  await say(client, 'evt', { ...event, message: 'back-off', count: 1 });
  await lines.until(/pods 0\/1, .*ago BackOff pod\/default\/web\n/);
  const within = { back: 1, type: 'Normal', reason: 'Started', message: 'started' } as const;
  await say(client, 'delta', { q: 14, t: T, skip: 2, pods: [{ ...podState, events: [within] }] });
  await lines.until(/pods 1\/1, .*ago Started pod\/default\/web\n/);
  await say(client, 'state', { s: 'offline', sid: 's0', t: T - 60 });
  await say(client, 'state', { s: 'offline', sid: 's1', t: T });
  await lines.until(/home\/pi1: offline/);
  await json.until(/"state":"offline"/);
  for (const line of json.text().trim().split('\n')) {
    assert.equal((JSON.parse(line) as { node: string }).node, 'pi1');
  }
  for (const { child } of [lines, json]) {
    child.kill('SIGINT');
    const [code] = (await once(child, 'exit')) as [number];
    assert.equal(code, 0);
  }
  await client.endAsync();
});

test('on a terminal the table is drawn anew in its place', async (t) => {
  await using broker = await startBroker();
  const client = await connectAsync(urlOf(broker), { protocolVersion: 5 });
  const pi2 = { fleet: 'home', node: 'pi2' };
  for (const name of [PI1, pi2]) {
    await say(client, 'state', { s: 'online', sid: 's1', t: T }, 'cbor', name);
    await say(client, 'snap', snapOf(1, 10), 'cbor', name);
  }
  const program = [process.execPath, MAIN, 'watch', '--broker', urlOf(broker)];
  const terminal = join(import.meta.dirname, 'terminal.py');
  const child = spawn('python3', [terminal, ...program], { stdio: 'pipe' });
  t.after(() => child.kill());
  let [shown, pid] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (shown += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (pid += chunk));
  /** What is on the screen: all that was written since it was last cleared. */
  const lines = () => (shown.split('\u001b[H\u001b[2J').at(-1) ?? '').split('\r\n');
  const until = async (...rows: readonly RegExp[]) => {
    const is = () => rows.every((row) => lines().filter((line) => row.test(line)).length === 1);
    for (let tries = 0; tries < 300 && !is(); tries++) await sleep(50);
    assert.ok(is(), lines().join('\n'));
  };
  await until(/pi1 .*online/, /pi2 .*online/);
  await say(client, 'state', { s: 'offline', sid: 's1', t: T }, 'cbor', pi2);
  await until(/pi1 .*online/, /pi2 .*offline/);
  assert.equal(lines().filter((line) => line.trim() !== '').length, 3, lines().join('\n'));
  assert.match(lines()[0] ?? '', /^NODE /);
  process.kill(Number(pid), 'SIGINT');
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0);
  await client.endAsync();
});

test('a board with a gap is asked for its snapshot', async () => {
  await using broker = await startBroker();
  const client = await connectAsync(urlOf(broker), { protocolVersion: 5 });
  await say(client, 'state', { s: 'online', sid: 's1', t: T });
  await say(client, 'snap', snapOf(1, 10));
  await say(client, 'delta', { q: 15, t: T });
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  client.on('message', (_topic, payload) => resolve(payload));
  await client.subscribeAsync(topicOf(PI1, 'cmd'));
  const lines = startWatch(['--broker', urlOf(broker)]);
  await lines.until(/pods 1\/1\?/);
  const command = decode('cmd', await promise);
  assert.ok(command.ok && command.message.do === 'rebirth');
  await say(client, 'snap', snapOf(2, 16));
  await lines.until(/pods 1\/1,/);
  lines.child.kill('SIGTERM');
  await once(lines.child, 'exit');
  await client.endAsync();
});

test('a broker that is not there, or refuses, is said in plain words', async () => {
  const [port = 0] = await freePorts(1);
  const gone = await limpet(['watch', '--broker', `mqtt://127.0.0.1:${port}`]);
  assert.equal(gone.code, 3);
  assert.match(gone.err, /nothing listens/);
  await using broker = await startBroker([], { passwords: 'me:secret\n' });
  const refused = await limpet(['watch', '--broker', urlOf(broker)]);
  assert.equal(refused.code, 3);
  assert.match(refused.err, /user name/);
  const tls = await limpet(['watch', '--broker', urlOf(broker).replace('mqtt:', 'mqtts:')]);
  assert.equal(tls.code, 3);
  assert.match(tls.err, /closed the connection|TLS/);
});

test('mistakes on the command line', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'limpet-watch-'));
  const big = join(directory, 'big');
  await writeFile(big, Buffer.alloc(2 * 1024 * 1024));
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [[], 2, /which broker/],
    [['--broker', 'http://x'], 2, /mqtt:\/\/HOST/],
    [['--broker', 'mqtt://me:secret@x'], 2, /--password-file/],
    [['--broker', 'x', '--fleet', 'a/b'], 2, /--fleet/],
    [['--broker', 'x', '--cert', big], 2, /belong together/],
    [['--broker', 'x', '--ca', join(directory, 'none')], 1, /can't read/],
    [['--broker', 'x', '--ca', big], 1, /larger/],
  ];
  for (const [args, code, said] of cases) {
    const ran = await limpet(['watch', ...args]);
    assert.equal(ran.code, code, args.join(' '));
    assert.match(ran.err, said);
    assert.doesNotMatch(ran.err, /secret/);
  }
  await rm(directory, { recursive: true });
});
