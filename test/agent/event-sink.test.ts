// Events reach an API server with real TLS once, whatever happens to it, to us or in between.
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { sendEvents } from '../../src/agent/event-sink.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { NewEvent } from '../../src/kube/event.ts';
import type { Store } from '../../src/store/store.ts';
import { createPeer, json, refuse, until, type Call } from '../apiserver/peer.ts';
import { captureLog, handClock, open, place, type HandClock, type Place } from '../store/world.ts';

type Stored = {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly message: string;
  readonly count: number;
  readonly firstTimestamp: string;
  readonly lastTimestamp: string;
};

/** The part of an API server that keeps events. */
async function createWorld() {
  const peer = await createPeer();
  const events = new Map<string, Stored>();
  const world = {
    peer,
    events,
    namespaces: new Set(['default']),
    /** Answers in place of the server when it gives true; `lose`: it is done but nobody is told. */
    before: (_call: Call): boolean | 'lose' => false,
    requests: (method: string) =>
      peer.calls.filter(({ request }) => request.method === method).length,
    [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
  };
  peer.answer = (call) => {
    const { request, url, body } = call;
    const verdict = world.before(call);
    if (verdict === true) return;
    const answer = (status: number, object: object) =>
      verdict === 'lose'
        ? request.socket.destroy()
        : json(call.response, { kind: 'Event', ...object }, status);
    const [, , , , namespace = ''] = url.pathname.split('/');
    if (!world.namespaces.has(namespace)) {
      return refuse(call.response, 404, 'NotFound', `namespaces "${namespace}" not found`);
    }
    const change = JSON.parse(body) as Stored;
    if (request.method === 'POST') {
      const path = `${url.pathname}/${change.metadata.name}`;
      if (events.has(path)) return refuse(call.response, 409, 'AlreadyExists', 'it is there');
      events.set(path, change);
      return answer(201, change);
    }
    const old = events.get(url.pathname);
    if (old === undefined) return refuse(call.response, 404, 'NotFound', 'no such event');
    events.set(url.pathname, { ...old, ...change });
    answer(200, { ...old, ...change });
  };
  return world;
}

type World = Awaited<ReturnType<typeof createWorld>>;

/** A run of the agent, as far as it has to do with events. */
function startSink(world: World, store: Store, clock: HandClock, limits = { qps: 50, burst: 100 }) {
  const controller = new AbortController();
  const { log, lines } = captureLog();
  const kubelet = { eventRecordQPS: limits.qps, eventBurst: limits.burst };
  const ended = sendEvents(
    {
      ...{ clock, store, log, random: seededRandom(1), client: world.peer.client({ clock }) },
      options: { nodeName: 'pi1', kubelet },
    },
    controller.signal,
  );
  const stop = async () => {
    controller.abort();
    await ended;
  };
  return { lines, stop };
}

function start(t: TestContext, world: World, limits?: { qps: number; burst: number }) {
  const where = place(t);
  const clock = handClock(Date.parse('2026-05-01T10:00:00Z'));
  const store = open(where, { clock });
  const sink = startSink(world, store, clock, limits);
  t.after(async () => {
    await sink.stop();
    store[Symbol.dispose]();
  });
  const happens = (event: NewEvent) => store.recordEvent(event, clock.now());
  return { where, clock, store, happens, ...sink };
}

const event = (reason: string, message = 'it happened', uid = 'uid-web'): NewEvent => ({
  ...{ type: 'Normal', reason, message },
  object: {
    ...{ kind: 'Pod', namespace: 'default', name: uid.replace('uid-', ''), uid, inApi: true },
    fieldPath: 'spec.containers{main}',
  },
});

const isTold = (store: Store) => store.deliveries('due').length === 0;
const counts = ({ events }: World) => [...events.values()].map(({ count }) => count);
const settle = () => pause(30);

test('an event is told as the kubelet tells it, and counted when it happens again', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens } = start(t, world);
  happens(event('BackOff', 'Back-off'));
  await until(() => isTold(store), 'told');
  const [path, stored] = [...world.events][0]!;
  assert.match(path, /^\/api\/v1\/namespaces\/default\/events\/web\.[0-9a-f]+$/);
  const { metadata, ...rest } = stored;
  assert.deepEqual(rest, {
    ...{ apiVersion: 'v1', kind: 'Event', type: 'Normal', reason: 'BackOff', message: 'Back-off' },
    involvedObject: {
      ...{ kind: 'Pod', apiVersion: 'v1', namespace: 'default', name: 'web', uid: 'uid-web' },
      fieldPath: 'spec.containers{main}',
    },
    source: { component: 'kubelet', host: 'pi1' },
    ...{ reportingComponent: 'kubelet', reportingInstance: 'pi1', count: 1 },
    ...{ firstTimestamp: '2026-05-01T10:00:00Z', lastTimestamp: '2026-05-01T10:00:00Z' },
  });
  clock.advance(60_000);
  happens(event('BackOff', 'Back-off'));
  await until(() => isTold(store), 'told again');
  assert.equal(world.events.size, 1);
  const again = world.events.get(path)!;
  assert.deepEqual(
    [again.count, again.firstTimestamp, again.lastTimestamp],
    [2, '2026-05-01T10:00:00Z', '2026-05-01T10:01:00Z'],
  );
  assert.equal(world.peer.calls.at(-1)!.request.method, 'PATCH');
  world.events.clear();
  happens(event('BackOff', 'Back-off'));
  await until(() => isTold(store), 'told after it was forgotten');
  assert.deepEqual(counts(world), [3], metadata.name);
});

test('events of the Node are told in default; what the API server knows not is not', async (t) => {
  await using world = await createWorld();
  const { store, happens } = start(t, world);
  happens({ ...event('Started'), object: { ...event('').object, inApi: undefined! } });
  const manifest = { kind: 'Manifest', name: '/etc/web.yaml' } as const;
  happens({ ...event('InvalidManifest'), object: manifest });
  const node = { kind: 'Node', name: 'pi1', uid: 'pi1', inApi: true } as const;
  happens({ ...event('Starting'), object: node });
  await until(() => isTold(store) && world.events.size > 0, 'told');
  await settle();
  const all = [...world.events.entries()];
  assert.equal(all.length, 1);
  assert.match(all[0]![0], /namespaces\/default\/events\/pi1\./);
  const { involvedObject } = all[0]![1] as unknown as { involvedObject: object };
  assert.deepEqual(involvedObject, { kind: 'Node', name: 'pi1', uid: 'pi1' });
  assert.equal(store.events().length, 3);
});

test('what happens in an outage is told afterwards, once, with its own times', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens } = start(t, world);
  world.before = ({ response }) => {
    refuse(response, 503, 'ServiceUnavailable', 'not now', { 'retry-after': '20' });
    return true;
  };
  happens(event('Pulled'));
  await until(() => world.peer.calls.length === 1, 'a try');
  for (let n = 0; n < 5; n++) {
    clock.advance(1_000);
    happens(event('BackOff'));
  }
  await settle();
  assert.equal(world.peer.calls.length, 1, 'more events are no reason to ask again');
  world.before = () => false;
  clock.advance(14_000);
  await settle();
  assert.equal(world.peer.calls.length, 1, 'the server asked for 20 s');
  clock.advance(16_000);
  await until(() => isTold(store), 'told');
  assert.deepEqual(
    [...world.events.values()].map((e) => [e.count, e.firstTimestamp, e.lastTimestamp]),
    [
      [1, '2026-05-01T10:00:00Z', '2026-05-01T10:00:00Z'],
      [5, '2026-05-01T10:00:01Z', '2026-05-01T10:00:05Z'],
    ],
  );
});

test('an answer that is lost makes no second event', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens } = start(t, world);
  world.before = () => 'lose';
  happens(event('Created'));
  await until(() => world.events.size === 1, 'it arrives');
  await settle();
  assert.ok(!isTold(store));
  world.before = () => false;
  clock.advance(10_000);
  await until(() => isTold(store), 'told');
  assert.deepEqual(counts(world), [1]);
});

/** The agent again, on what is left. */
function restart(world: World, where: Place, clock: HandClock) {
  const store = open(where, { clock });
  return { store, ...startSink(world, store, clock) };
}

test('a restart of the agent loses none and doubles none', async (t) => {
  await using world = await createWorld();
  const { where, store, clock, happens, stop } = start(t, world);
  happens(event('Created'));
  happens(event('BackOff'));
  await until(() => isTold(store), 'told');
  await stop();
  happens(event('BackOff'));
  happens(event('Killing'));
  store[Symbol.dispose]();
  const posts = world.requests('POST');
  const second = restart(world, where, clock);
  await until(() => isTold(second.store), 'told');
  await second.stop();
  second.store[Symbol.dispose]();
  assert.deepEqual(counts(world), [1, 2, 1]);
  assert.equal(world.requests('POST'), posts + 1);
  const before = world.peer.calls.length;
  const third = restart(world, where, clock);
  await settle();
  await third.stop();
  third.store[Symbol.dispose]();
  assert.equal(world.peer.calls.length, before, 'nothing is left to tell');
});

test('a power cut after the sending, before it is noted, doubles none', async (t) => {
  await using world = await createWorld();
  const { where, clock, happens, store, stop } = start(t, world);
  world.before = ({ request }) => {
    request.socket.destroy();
    return true;
  };
  for (let n = 0; n < 12; n++) {
    happens(event('BackOff', `message ${n}`));
    clock.advance(1);
  }
  clock.advance(6_000); // written, not told
  await settle();
  await stop();
  store[Symbol.dispose]();
  world.before = () => false;
  const lost = open(where, { clock });
  const cut = startSink(world, forgetful(lost), clock);
  await until(() => counts(world).reduce((sum, count) => sum + count, 0) === 12, 'told');
  await cut.stop();
  lost[Symbol.dispose]();
  const told = counts(world);
  const second = restart(world, where, clock);
  await until(() => isTold(second.store), 'told again');
  await second.stop();
  second.store[Symbol.dispose]();
  assert.deepEqual(counts(world), told);
  assert.deepEqual(told, [1, 1, 1, 1, 1, 1, 1, 1, 1, 3]);
});

/** The store, of which nothing that is noted is found again. */
function forgetful(store: Store): Store {
  const parts: Partial<Store> = {
    deliveries: (which) => store.deliveries(which),
    hearEvents: (heard) => store.hearEvents(heard),
    setDelivered: () => undefined,
  };
  return parts as Store;
}

test('similar events are combined into one from the tenth on', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens } = start(t, world);
  for (let n = 0; n < 12; n++) {
    happens(event('Unhealthy', `answer ${n}`));
    clock.advance(1);
  }
  await until(() => isTold(store), 'told');
  assert.equal(world.events.size, 10);
  const last = [...world.events.values()].at(-1)!;
  assert.deepEqual([last.message, last.count], ['(combined from similar events): answer 11', 3]);
  clock.advance(11 * 60_000);
  happens(event('Unhealthy', 'after a quarter of an hour'));
  await until(() => isTold(store), 'told');
  assert.equal(world.events.size, 11);
});

test('of one object 25 are told at once, then one each 5 minutes; others go on', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens } = start(t, world);
  for (let n = 0; n < 28; n++) happens(event(`Reason${n}`));
  happens(event('Other', 'it happened', 'uid-db'));
  await until(() => world.events.size === 26, 'the first ones');
  await settle();
  assert.equal(world.events.size, 26);
  happens(event('Reason27'));
  clock.advance(299_000);
  await settle();
  assert.equal(world.events.size, 26);
  clock.advance(1_000);
  await until(() => world.peer.calls.length === 27, 'the next one');
  const from = clock.now().monoMs;
  for (let tries = 0; !isTold(store) && tries < 1000; tries++) {
    clock.advance(50_000);
    await pause(5);
  }
  assert.ok(isTold(store), 'all are told');
  assert.ok(clock.now().monoMs - from >= 3 * 300_000);
  assert.equal(world.events.size, 29);
});

test('a namespace that is not there or ends holds up nobody', async (t) => {
  await using world = await createWorld();
  const { store, happens, lines } = start(t, world);
  const inNamespace = (namespace: string) => {
    const { object, ...rest } = event('Created');
    return { ...rest, object: { ...object, namespace } };
  };
  world.namespaces.add('ending').add('odd').add('angry');
  world.before = ({ response, url }) => {
    const answers: Record<string, [number, string]> = {
      ending: [403, 'Forbidden'],
      odd: [422, 'Invalid'],
    };
    const [status, reason] = answers[url.pathname.split('/')[4]!] ?? [];
    if (status !== undefined) refuse(response, status, reason!, 'no');
    return status !== undefined;
  };
  for (const namespace of ['gone', 'ending', 'odd', 'default']) happens(inNamespace(namespace));
  await until(() => isTold(store), 'told');
  assert.deepEqual(
    [...world.events.values()].map(({ metadata }) => metadata.namespace),
    ['default'],
  );
  assert.equal(lines.filter((line) => line.includes('an event is not told')).length, 3);
});

test('an event that always fails is given up, and the others are told meanwhile', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens, lines } = start(t, world);
  world.before = ({ response, body }) => {
    const isBad = body.includes('Bad');
    if (isBad) refuse(response, 500, 'InternalError', 'a webhook says no');
    return isBad;
  };
  happens(event('Bad'));
  happens(event('Good'));
  await until(() => world.events.size === 1, 'the good one');
  for (let tries = 0; !isTold(store) && tries < 1000; tries++) {
    clock.advance(10_000);
    await pause(5);
  }
  assert.ok(isTold(store), 'given up');
  assert.ok(lines.some((line) => /an event is not told.*reason=Bad/.test(line)));
});

test('requests keep to eventRecordQPS and eventBurst', async (t) => {
  await using world = await createWorld();
  const { store, clock, happens } = start(t, world, { qps: 2, burst: 3 });
  for (let n = 0; n < 6; n++) happens(event('Created', 'it happened', `uid-p${n}`));
  await until(() => world.events.size === 3, 'the burst');
  await settle();
  assert.equal(world.events.size, 3);
  for (let n = 4; n <= 6; n++) {
    clock.advance(500);
    await until(() => world.events.size === n, `event ${n}`);
    await settle();
    assert.equal(world.events.size, n);
  }
  assert.ok(isTold(store));
});
