/** The relay with a real store and a real broker; a reader folds what it hears. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../src/base/random.ts';
import { decode } from '../../src/relay/codec.ts';
import { eventsIn } from '../../src/relay/events.ts';
import { fold, isBehind, NOTHING, type Message } from '../../src/relay/fold.ts';
import type { Delta, Evt } from '../../src/relay/message.ts';
import { fleetFilter, parseTopic, topicOf } from '../../src/relay/topic.ts';
import { startBroker } from '../../scripts/lib/broker.ts';
import { connectAsync } from 'mqtt';
import { createNode, NAME, pod, until } from './world.ts';
import mqttClient from 'mqtt/lib/client';
import { once } from 'node:events';
import { connect as connectTcp, createServer, type AddressInfo, type Socket } from 'node:net';

/** A client of the package itself, which hears retained messages too. */
async function reader(port: number) {
  const client = new mqttClient.default(() => connectTcp(port, '127.0.0.1'), {
    ...{ protocolVersion: 5, reconnectPeriod: 0, clientId: `reader-${Math.random()}`, clean: true },
  });
  const heard = { view: NOTHING, events: [] as Evt[], bytes: 0, kinds: [] as string[] };
  client.on('message', (topic, payload) => {
    const kind = parseTopic(topic)?.kind;
    if (kind === undefined || kind === 'cmd' || kind === 'ha') return;
    const decoded = decode(kind, payload);
    assert.ok(decoded.ok, `${topic}: ${JSON.stringify(decoded)}`);
    heard.kinds.push(kind);
    if (kind === 'evt') heard.events.push(decoded.message as Evt);
    if (kind === 'delta') heard.events.push(...eventsIn(decoded.message as Delta));
    heard.view = fold(heard.view, { kind, message: decoded.message } as Message);
  });
  await new Promise((resolve) => client.once('connect', resolve));
  await client.subscribeAsync(fleetFilter('farm'), { qos: 1 });
  return {
    heard,
    ask: (text: string) => client.publishAsync(topicOf(NAME, 'cmd'), text, { qos: 1 }),
    end: () => client.endAsync(true),
  };
}

test('three days without a broker: events once and in order, statuses fold, and the truth', async () => {
  await using broker = await startBroker(['max_queued_messages 0', 'max_inflight_messages 0']);
  const node = createNode(() => broker);
  await until('connected', () => node.relay.report().connected);
  await broker.stop();
  await until('cut off', () => !node.relay.report().connected);
  const random = seededRandom(3);
  for (let n = 0; n < 10_000; n++) {
    const which = Math.floor(random.next() * 10);
    node.pods.set(which, pod(which, n + 1));
    node.relay.changed();
    if (n % 5 === 0) {
      node.relay.event(
        {
          ...{ type: 'Warning', reason: 'BackOff', message: `failure ${n}` },
          object: { kind: 'Pod', namespace: 'default', name: `web-${which}`, uid: pod(which).uid },
        },
        node.clock.now(),
      );
    }
    node.clock.skip((3 * 86_400_000) / 10_000);
  }
  assert.ok(node.outbox.waiting <= 2010, `${node.outbox.waiting} rows`);
  assert.equal(node.outbox.dropped, 0);
  await broker.start();
  const watcher = await reader(broker.port);
  node.clock.skip(300_000);
  await until('all told', () => node.outbox.waiting === 0);
  await until('all heard', () => watcher.heard.events.length >= 2000);
  const { events, view } = watcher.heard;
  assert.equal(new Set(events.map(({ id }) => id)).size, 2000);
  assert.deepEqual(
    events.map(({ message }) => message),
    Array.from({ length: 2000 }, (_, n) => `failure ${5 * n}`),
  );
  assert.ok(events.slice(0, 1990).every(({ h }) => h === 1));
  assert.deepEqual([...view.base!.pods.values()], [...node.pods.values()]);
  assert.equal(isBehind(view), false);
  await watcher.end();
  await node.end();
});

test('what happened before the connection is marked, and what happens during it is not', async () => {
  await using broker = await startBroker();
  const node = createNode(() => broker);
  await until('connected', () => node.relay.report().connected);
  await broker.stop();
  await until('cut off', () => !node.relay.report().connected);
  const tell = (message: string) => {
    const object = { kind: 'Node', name: 'pi1' } as const;
    node.relay.event({ type: 'Normal', reason: 'Test', message, object }, node.clock.now());
  };
  tell('offline');
  const { wallMs } = node.clock.now();
  await broker.start();
  const watcher = await reader(broker.port);
  node.clock.skip(3000);
  await until('connected again', () => node.relay.report().connected);
  tell('online');
  await until('both', () => watcher.heard.events.length === 2);
  const told = watcher.heard.events.map(({ message, t, h }) => [message, t, h]);
  assert.deepEqual(told[0], ['offline', Math.floor(wallMs / 1000), 1]);
  assert.deepEqual([told[1]?.[0], told[1]?.[2]], ['online', undefined]);
  await watcher.end();
  await node.end();
});

/** Pod 3 crashes: its status, and two events. */
function crash(node: ReturnType<typeof createNode>): void {
  node.pods.set(3, { ...pod(3, 1), ready: 0, reason: 'CrashLoopBackOff' });
  const { uid, name, namespace } = pod(3);
  const object = { kind: 'Pod', namespace, name, uid } as const;
  const said = `Back-off restarting failed container main in pod ${name}_${namespace}(${uid})`;
  const now = node.clock.now();
  node.relay.event({ type: 'Normal', reason: 'Killing', message: 'Stopping', object }, now);
  node.relay.event({ type: 'Warning', reason: 'BackOff', message: said, object }, now);
  node.relay.changed();
}

const TOLD_OF_CRASH = [
  ['BackOff', 'Back-off restarting failed container main', 'web-3', 1],
  ['Killing', 'Stopping', 'web-3', 1],
];
const inShort = (events: readonly Evt[]) =>
  events.map(({ reason, message, object, count }) => [reason, message, object.name, count]);

for (const [encoding, kinds] of [
  ['cbor', ['delta']],
  ['json', ['evt', 'evt', 'delta']],
] as const) {
  test(`in ${encoding} a crash is ${kinds.join(', ')}, and leaves at once`, async () => {
    await using broker = await startBroker();
    const node = createNode(() => broker, { encoding });
    await until('connected', () => node.relay.report().connected);
    const { heard, end } = await reader(broker.port);
    await until('the snapshot', () => heard.view.base !== undefined);
    // A status alone, which is told after 10 s; the crash does not wait as long after it.
    node.pods.set(4, pod(4, 1));
    node.relay.changed();
    await sleep(100);
    node.clock.skip(10_000);
    await until('a delta', () => heard.kinds.includes('delta'));
    heard.kinds.length = 0;
    crash(node);
    await sleep(100);
    node.clock.skip(1000);
    await until('the crash', () => heard.view.base?.pods.get(pod(3).uid)?.ready === 0);
    await until('acknowledged', () => node.outbox.waiting === 0);
    assert.deepEqual(heard.kinds, kinds);
    assert.deepEqual(inShort(heard.events), TOLD_OF_CRASH);
    assert.ok(heard.events.every(({ id, q }) => Number.parseInt(id, 36) === q));
    assert.deepEqual([...heard.view.base!.pods.values()], [...node.pods.values()]);
    assert.equal(isBehind(heard.view), false);
    await end();
    await node.end();
  });
}

test('an acknowledgement is lost: events come again, late, with the same ids', async () => {
  await using broker = await startBroker();
  let isDeaf = false;
  const sockets = new Set<Socket>();
  const proxy = createServer((near) => {
    const far = connectTcp(broker.port, '127.0.0.1');
    near.pipe(far);
    far.on('data', (bytes) => void (isDeaf || near.write(bytes)));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on('error', () => undefined);
      one.on('close', () => other.destroy());
    }
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const node = createNode(() => ({ port }));
  await until('connected', () => node.relay.report().connected);
  const { heard, end } = await reader(broker.port);
  await until('the snapshot', () => heard.view.base !== undefined);
  isDeaf = true;
  crash(node);
  await sleep(100);
  node.clock.skip(1000);
  await until('the crash', () => heard.events.length === 2);
  assert.equal(node.outbox.waiting, 2);
  isDeaf = false;
  for (const socket of sockets) socket.destroy();
  await until('cut off', () => !node.relay.report().connected);
  node.clock.skip(300_000);
  await until('acknowledged', () => node.outbox.waiting === 0);
  await until('told again', () => heard.events.length === 4);
  const [first, again] = [heard.events.slice(0, 2), heard.events.slice(2)];
  assert.deepEqual(
    again,
    first.map((event) => ({ ...event, h: 1 })),
  );
  assert.equal(heard.view.events.length, 2);
  await until('the truth', () => !isBehind(heard.view));
  await end();
  await node.end();
  proxy.close();
});

test('figures that do not change: told again in time, and in each connection', async () => {
  await using broker = await startBroker();
  const node = createNode(() => broker, { figures: { cpuPercent: 12.4, load1: 1 } });
  await until('connected', () => node.relay.report().connected);
  const first = await reader(broker.port);
  const heard = () => first.heard.kinds.filter((kind) => kind === 'met').length;
  const look = async () => {
    node.relay.changed();
    await sleep(200);
  };
  node.clock.skip(1200_000);
  await look();
  assert.equal(heard(), 0);
  node.clock.skip(601_000);
  await look();
  await until('told again', () => heard() === 1);
  await look();
  const { met } = first.heard.view;
  assert.deepEqual([met?.cpuPercent, met?.load1], [12, 1]);
  await first.end();
  await broker.stop();
  await until('cut off', () => !node.relay.report().connected);
  await broker.start();
  const second = await reader(broker.port);
  node.clock.skip(10_000);
  await until('connected again', () => node.relay.report().connected);
  await until('told again', () => second.heard.view.met !== undefined);
  await second.end();
  await node.end();
});

test('late subscriber, gap, lost retained messages, wrong commands', async () => {
  await using broker = await startBroker();
  const node = createNode(() => broker);
  await until('connected', () => node.relay.report().connected);
  const early = await reader(broker.port);
  await until('the snapshot', () => early.heard.view.base !== undefined);
  node.pods.set(3, pod(3, 1));
  node.relay.changed();
  await sleep(100);
  node.clock.skip(10_000);
  await until('the delta', () => early.heard.view.base?.pods.get(pod(3).uid)?.restarts === 1);
  node.pods.set(4, pod(4, 1));
  node.relay.changed();
  await sleep(100);
  node.clock.skip(10_000);
  await until('a second', () => early.heard.view.base?.pods.get(pod(4).uid)?.restarts === 1);
  // It hears the snapshot and the last delta, and so knows that one is missing.
  const late = await reader(broker.port);
  await until('behind', () => late.heard.view.base !== undefined && isBehind(late.heard.view));
  for (const wrong of ['rubbish', '{"id":"1","do":"reboot"}', '']) await late.ask(wrong);
  await until('ignored', () => node.relay.report().ignored === 3);
  for (let n = 0; n < 5; n++) await late.ask('{"id":"1","do":"rebirth"}');
  node.clock.skip(60_000);
  await until('the truth', () => !isBehind(late.heard.view));
  assert.deepEqual([...late.heard.view.base!.pods.values()], [...node.pods.values()]);
  assert.equal(late.heard.kinds.filter((kind) => kind === 'snap').length, 2);
  // A broker that starts anew has lost what was retained.
  await broker.stop();
  await until('cut off', () => !node.relay.report().connected);
  await broker.start();
  node.clock.skip(300_000);
  await until('connected', () => node.relay.report().connected);
  const anew = await reader(broker.port);
  node.clock.skip(60_000);
  await until('the truth again', () => !isBehind(anew.heard.view));
  await node.end();
  await until('leaving', () => anew.heard.view.state?.s === 'leaving');
  for (const one of [anew]) await one.end();
});

test('a message that was missed, and retained ones that were lost: one question brings the truth', async () => {
  await using broker = await startBroker();
  const node = createNode(() => broker);
  await until('connected', () => node.relay.report().connected);
  const restart = async (n: number) => {
    node.pods.set(n, pod(n, 1));
    node.relay.changed();
    await sleep(100);
    node.clock.skip(10_000);
  };
  const askOnce = async (one: Awaited<ReturnType<typeof reader>>) => {
    await until('behind', () => isBehind(one.heard.view));
    await one.ask('{"id":"1","do":"rebirth"}');
    await sleep(100);
    node.clock.skip(60_000);
    await until('the truth', () => !isBehind(one.heard.view));
    assert.deepEqual([...one.heard.view.base!.pods.values()], [...node.pods.values()]);
  };
  const gap = await reader(broker.port);
  await until('the snapshot', () => gap.heard.view.base !== undefined);
  const before = gap.heard.view;
  await restart(3);
  await until('the delta', () => gap.heard.view !== before);
  // As if it had not come.
  gap.heard.view = before;
  await restart(4);
  await askOnce(gap);
  await gap.end();
  const client = await connectAsync(`mqtt://127.0.0.1:${broker.port}`);
  for (const kind of ['state', 'snap', 'delta'] as const) {
    await client.publishAsync(topicOf(NAME, kind), '', { qos: 1, retain: true });
  }
  await client.endAsync();
  const late = await reader(broker.port);
  await sleep(200);
  assert.deepEqual(late.heard.kinds, []);
  await askOnce(late);
  await late.end();
  await node.end();
});
