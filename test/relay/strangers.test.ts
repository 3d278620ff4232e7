/**
 * The fleet as others read it: a Python client that shares nothing with limpet, and the document
 * that Home Assistant is given. The client's packages are installed once, by pip, into the cache.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectAsync } from 'mqtt';
import { cached, keyOf } from '../../scripts/lib/cache.ts';
import { run } from '../../scripts/lib/process.ts';
import { encode } from '../../src/relay/codec.ts';
import { discovery, haOf } from '../../src/relay/home-assistant.ts';
import { DELIVERY, type MessageKind, type Messages, type Snap } from '../../src/relay/message.ts';
import { topicOf } from '../../src/relay/topic.ts';
import { startBroker } from '../../scripts/lib/broker.ts';

const PACKAGES = ['paho-mqtt==2.2.0', 'jsonschema==4.26.0'];
const T = 1_795_640_000;
const NAME = { fleet: 'home', node: 'pi.1' };

/** A Python with the packages. A virtual environment can't be moved, so only its folder is cached. */
async function python(): Promise<string> {
  const target = await cached('python', keyOf(PACKAGES), async (directory) => {
    const args = ['-m', 'pip', 'install', '--quiet', '--target', join(directory, 'packages')];
    await run('python3', [...args, ...PACKAGES]);
  });
  return join(target, 'packages');
}

const snap: Snap = {
  v: '1.0',
  g: 1,
  q: 2,
  t: T,
  sid: 's1',
  node: { version: '0.1.0', model: 'Raspberry Pi 5 Model B Rev 1.0', serial: '10000000abcdef01' },
  pods: [
    {
      uid: '5e0f3b4c-53a9-4f2e-8c5a-cbfbd59dfd1a',
      namespace: 'default',
      name: 'web',
      phase: 'Running',
      ready: 1,
      containers: 1,
      restarts: 0,
      since: T,
    },
  ],
  conditions: [
    { type: 'UnderVoltage', status: 'True', since: T },
    { type: 'Throttled', status: 'False', since: T },
    { type: 'StorageWorn', status: 'Unknown', since: T },
  ],
};
const met = { t: T, ttl: 600, temperatureC: 61, voltageV: 4.98, diskPercent: 34 };
const ha = haOf(T, snap.pods, snap.conditions, met);

type Entity = { readonly state_topic: string; readonly value_template: string };
type Config = { readonly components: Readonly<Record<string, Entity>> };

test('a Python client reads the fleet, and what it reads is as the schemas say', async () => {
  const packages = await python();
  await using broker = await startBroker();
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port}`, { protocolVersion: 5 });
  const say = async <K extends MessageKind>(kind: K, message: Messages[K]) => {
    const bytes = Buffer.from(encode(kind, message, 'json'));
    await client.publishAsync(topicOf(NAME, kind), bytes, DELIVERY[kind]);
  };
  await say('state', { s: 'online', sid: 's1', t: T });
  await say('snap', snap);
  await say('ha', ha);
  const { topic, config } = discovery(NAME, snap.node, ha);
  await client.publishAsync(topic, JSON.stringify(config), { retain: true, qos: 1 });

  const here = import.meta.dirname;
  const schemas = [
    join(here, '../../src/relay/message.schema.json'),
    join(here, 'home-assistant.schema.json'),
  ];
  const args = [join(here, 'reader.py'), String(broker.port), 'home', ...schemas];
  const reader = spawn('python3', args, { env: { ...process.env, PYTHONPATH: packages } });
  let [out, err] = ['', ''];
  reader.stdout.setEncoding('utf8').on('data', (chunk: string) => (out += chunk));
  reader.stderr.setEncoding('utf8').on('data', (chunk: string) => (err += chunk));
  const ended = new Promise((resolve) => reader.on('close', resolve));
  while (reader.exitCode === null && !err.includes('ready\nready')) await sleep(50);
  await say('delta', { q: 3, t: T, pods: [{ ...snap.pods[0]!, ready: 0 }] });
  await say('met', met);
  const object = { kind: 'Pod', namespace: 'default', name: 'web' };
  const event = { id: 'e1', q: 4, t: T, type: 'Warning', reason: 'BackOff', object } as const;
  await say('evt', { ...event, message: 'back-off', count: 1 });
  await ended;
  await client.endAsync();

  const read = JSON.parse(out) as {
    nodes: Record<string, Record<string, unknown[]>>;
    devices: Record<string, unknown>;
    problems: unknown[];
  };
  assert.deepEqual(read.problems, []);
  assert.deepEqual(Object.keys(read.nodes), ['pi.1']);
  const kinds = Object.keys(read.nodes['pi.1'] ?? {}).toSorted();
  assert.deepEqual(kinds, ['delta', 'evt', 'ha', 'met', 'snap', 'state']);
  assert.deepEqual(read.nodes['pi.1']?.['snap'], [snap]);
  assert.deepEqual(read.devices, { [topic]: config });
});

test('Home Assistant: the entities are those that the board has, each with a value', () => {
  const { topic, config } = discovery(NAME, snap.node, ha);
  assert.equal(topic, 'homeassistant/device/limpet_home__pi_2e_1/config');
  const { components } = config as Config;
  const names = ['temperature', 'voltage', 'storage', 'podsReady', 'pods'];
  const problems = ['underVoltage', 'throttled'];
  assert.deepEqual(Object.keys(components), [...names, ...problems, 'connectivity']);
  for (const entity of Object.values(components)) {
    // Every field that a template names is in the message of the topic that it is given.
    const [, field] = /value_json\.(\w+)/.exec(entity.value_template) ?? [];
    const message = entity.state_topic === topicOf(NAME, 'ha') ? ha : { s: 'online' };
    assert.ok(field !== undefined && Object.hasOwn(message, field), entity.value_template);
  }
  assert.deepEqual(
    [ha.pods, ha.podsReady, ha.underVoltage, ha.throttled, ha.storageWorn],
    [1, 1, 'ON', 'OFF', undefined],
  );
  const bare = discovery(NAME, { version: '0.1.0' }, haOf(T, [], [], undefined));
  assert.deepEqual(Object.keys((bare.config as Config).components), [
    'podsReady',
    'pods',
    'connectivity',
  ]);
});

test('Home Assistant: two boards never have the same topic', () => {
  const names = ['a_b', 'a.b', 'a b', 'a__b', 'ä', '_2e_'];
  const topics = names.flatMap((fleet) =>
    names.map((node) => discovery({ fleet, node }, snap.node, ha).topic),
  );
  assert.equal(new Set(topics).size, topics.length);
  for (const topic of topics)
    assert.match(topic, /^homeassistant\/device\/[a-zA-Z0-9_-]+\/config$/);
});
