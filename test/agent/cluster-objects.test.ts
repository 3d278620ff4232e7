/** What pods take from the API server: heard, stored, there again offline, followed, forgotten. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import { seededRandom } from '../../src/base/random.ts';
import { createRecovery } from '../../src/base/recovery.ts';
import { createClusterObjects, type ClusterObjects } from '../../src/agent/cluster-objects.ts';
import { ApiClient } from '../../src/apiserver/client.ts';
import type { TokenRequest } from '../../src/kube/objects.ts';
import type { Pod, PodSpec, Volume } from '../../src/kube/pod.ts';
import type { Store } from '../../src/store/store.ts';
import { until } from '../apiserver/peer.ts';
import { aPod } from '../pod/a-pod.ts';
import { captureLog, handClock, open, place, type Place } from '../store/world.ts';
import { createObjectServer, type ObjectServer } from './object-server.ts';

const REAL = systemClock('boot-1', () => 0);
const NEVER = { annotations: { 'limpet.dev/persist': 'never' } };

const secretVolume = (name: string): Volume => ({
  ...{ name, kind: 'secret', objectName: name, items: [], optional: false, defaultMode: 0o644 },
});
const tokenVolume = (expirationSeconds = 3607, audience = ''): Volume => ({
  ...{ name: 'kube-api-access', kind: 'projected', defaultMode: 0o644 },
  sources: [{ kind: 'serviceAccountToken', path: 'token', expirationSeconds, audience }],
});
const podWith = (name: string, spec: Partial<PodSpec>, labels = {}): Pod =>
  aPod(
    { enableServiceLinks: false, ...spec },
    { name, namespace: 'x', uid: `uid-${name}`, labels },
  );
const requestOf = (pod: Pod, expirationSeconds = 3607, audiences: string[] = []): TokenRequest => ({
  ...{ namespace: 'x', serviceAccountName: 'default', audiences, expirationSeconds },
  boundPod: { name: pod.metadata.name, uid: pod.metadata.uid },
});

type Node = {
  readonly store: Store;
  readonly node: ClusterObjects;
  readonly changes: string[];
  readonly lines: string[];
  /** Can talk to the server until it is told to end. */
  connect(server: ObjectServer): { end(): Promise<void> };
  data(name: string, kind?: 'Secret' | 'ConfigMap'): unknown;
  close(): void;
};

function start(t: TestContext, where: Place, clock: Clock = REAL, overrides: object = {}): Node {
  const { log, lines } = captureLog();
  const store = open(where, { clock, log });
  const changes: string[] = [];
  const node = createClusterObjects({
    ...{ clock, log, random: seededRandom(1) },
    store: {
      objects: () => store.objects(),
      putObject: (object, isShort) => store.putObject(object, isShort),
      removeObjects: (ids) => store.removeObjects(ids),
      ...overrides,
    },
    onChange: (uid) => changes.push(uid),
  });
  const ends: (() => Promise<void>)[] = [];
  const close = () => store[Symbol.dispose]();
  t.after(async () => {
    await Promise.all(ends.map((end) => end()));
    close();
  });
  return {
    ...{ store, node, changes, lines, close },
    connect: ({ peer }) => {
      const controller = new AbortController();
      const credentials = peer.credentials();
      const client = new ApiClient({ clock, credentials });
      const session = {
        client,
        credentials,
        recovery: createRecovery(),
        verify: () => Promise.resolve(),
        reached: () => undefined,
        confirm: () => Promise.resolve(),
      };
      const done = node.work(session, controller.signal);
      const end = async () => {
        controller.abort();
        await done;
        client.close();
      };
      ends.push(end);
      return { end };
    },
    data: (name, kind = 'Secret') => {
      const found = node.objects.get(kind, 'x', name);
      return found.state === 'present' ? found.object.data : found.state;
    },
  };
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

test('what was heard of is there after a power cut, with no network', async (t) => {
  const where = place(t);
  await using server = await createObjectServer();
  const web = podWith('web', {
    ...{ volumes: [secretVolume('a'), secretVolume('none')], enableServiceLinks: true },
    imagePullSecrets: ['pull'],
  });
  server.put('secrets/x/a', { type: 'Opaque', data: { key: base64('1') } }, { labels: { l: 'v' } });
  server.put('secrets/x/pull', { data: {} });
  server.put('services/x/db', { spec: { clusterIP: '10.0.0.9', ports: [{ port: 5432 }] } });
  server.put('services/default/kubernetes', { spec: { clusterIP: '10.0.0.1', ports: [] } });
  server.put('services/default/other', { spec: { clusterIP: '10.0.0.2', ports: [] } });
  const first = start(t, where);
  first.node.follow([web]);
  assert.deepEqual(first.node.objects.get('Secret', 'x', 'a'), {
    state: 'unknown',
    why: 'there is no connection to the API server',
  });
  assert.equal(first.node.objects.services('x').state, 'unknown');
  const { end } = first.connect(server);
  await first.node.heard(web, new AbortController().signal);
  assert.deepEqual(first.data('a'), { key: base64('1') });
  assert.equal(first.data('none'), 'absent');
  const services = first.node.objects.services('x');
  assert.ok(services.state === 'present');
  assert.deepEqual(
    services.object.map(({ metadata, spec }) => `${metadata.name} ${spec.clusterIP}`),
    ['kubernetes 10.0.0.1', 'db 10.0.0.9'],
  );
  await end();
  first.close();

  const second = start(t, where);
  second.node.follow([web]);
  assert.deepEqual(second.data('a'), { key: base64('1') });
  assert.equal(second.data('none'), 'absent');
  assert.deepEqual(second.data('pull'), {});
  assert.deepEqual(second.node.objects.services('x'), services);
  await second.node.heard(web, new AbortController().signal);
});

test('each object has a watch of its own, shared by its pods, for as long as one uses it', async (t) => {
  await using server = await createObjectServer();
  const node = start(t, place(t));
  const a = podWith('a', { volumes: [secretVolume('s'), secretVolume('t')] });
  const b = podWith('b', { volumes: [secretVolume('s')] });
  server.put('secrets/x/s', { data: {} });
  node.node.follow([a, b]);
  node.connect(server);
  const open = () =>
    [...server.watches].map(({ call }) => call.url.searchParams.get('fieldSelector'));
  await until(() => server.watches.size === 3, 'three watches');
  assert.deepEqual(open().toSorted(), [
    'metadata.name=kubernetes',
    'metadata.name=s',
    'metadata.name=t',
  ]);
  node.node.follow([b]);
  await until(() => server.watches.size === 2, 'the end of one');
  assert.deepEqual(
    node.store.objects().sound.map(({ kind, name }) => `${kind} ${name}`),
    ['Secret s', 'Services kubernetes'],
  );
  node.changes.length = 0;
  server.put('secrets/x/s', { data: { k: base64('2') } });
  await until(() => node.changes.length > 0, 'the change');
  assert.deepEqual(node.changes, ['uid-b']);
  assert.deepEqual(node.data('s'), { k: base64('2') });
  node.node.follow([]);
  await until(() => server.watches.size === 0, 'the end of all');
  assert.deepEqual(node.store.objects().sound, []);
});

test('what has not changed is not written, though its version has', async (t) => {
  await using server = await createObjectServer();
  let writes = 0;
  const where = place(t);
  server.put('secrets/x/s', { data: { k: base64('1') } });
  const pod = podWith('a', { volumes: [secretVolume('s')] });
  const first = start(t, where);
  first.node.follow([pod]);
  const { end } = first.connect(server);
  await until(() => server.watches.size === 2, 'the watches');
  await end();
  first.close();
  const node: Node = start(t, where, REAL, {
    putObject: () => {
      writes += 1;
    },
  });
  node.node.follow([pod]);
  node.connect(server);
  await until(() => server.watches.size === 2, 'the watches');
  server.put('secrets/x/s', { data: { k: base64('1') } }, { labels: { other: 'yes' } });
  server.put('secrets/x/s', { data: { k: base64('1') } });
  node.node.follow([pod]);
  server.put('secrets/x/s', { data: { k: base64('2') } });
  await until(() => writes > 0, 'a write');
  assert.equal(writes, 1);
  assert.deepEqual(node.changes, ['uid-a']);
});

test('an object that comes and goes is told, and its absence is stored', async (t) => {
  await using server = await createObjectServer();
  const where = place(t);
  const node = start(t, where);
  const pod = podWith('a', { volumes: [secretVolume('s')] });
  node.node.follow([pod]);
  node.connect(server);
  await until(() => node.data('s') === 'absent', 'absent');
  await until(() => server.watches.size === 2, 'the watches');
  node.changes.length = 0;
  server.put('secrets/x/s', { data: { k: base64('1') } });
  await until(() => node.changes.length === 1, 'there');
  assert.deepEqual(node.data('s'), { k: base64('1') });
  server.remove('secrets/x/s');
  await until(() => node.changes.length === 2, 'gone');
  assert.equal(node.data('s'), 'absent');
});

test('an API server that does not know of the pod yet is asked again, and nobody is warned', async (t) => {
  await using server = await createObjectServer();
  const node = start(t, place(t));
  server.forbidden.add('s');
  server.put('secrets/x/s', { data: { k: base64('1') } });
  node.node.follow([podWith('a', { volumes: [secretVolume('s')] })]);
  node.connect(server);
  const why = () => {
    const found = node.node.objects.get('Secret', 'x', 's');
    return found.state === 'unknown' ? found.why : found.state;
  };
  await until(() => why() !== undefined, 'a reason');
  assert.match(String(why()), /no relationship found to s/);
  server.forbidden.clear();
  await until(() => why() === 'present', 'present');
  assert.deepEqual(
    node.lines.filter((line) => /warn|error/i.test(line)),
    [],
  );
});

test('while the API server is away only one watch looks for it, and all come back with it', async (t) => {
  await using server = await createObjectServer();
  const clock = handClock();
  const node = start(t, place(t), clock);
  const volumes = Array.from({ length: 8 }, (_, n) => secretVolume(`s${n}`));
  node.node.follow([podWith('a', { volumes })]);
  node.connect(server);
  await until(() => server.watches.size === 9, 'the watches');
  const { answer } = server.peer;
  const asked: string[] = [];
  const others = () => asked.filter((path) => path.endsWith('secrets')).length;
  server.peer.answer = ({ url, request }) => {
    asked.push(url.pathname);
    request.socket.destroy();
  };
  server.peer.drop();
  for (let n = 0; n < 1000 && asked.length - others() < 10; n++) {
    await pause(10);
    clock.advance(10_000);
  }
  assert.ok(asked.length - others() >= 10);
  assert.ok(others() <= 16, `${others()} of the others`);
  server.peer.answer = answer;
  for (let n = 0; n < 500 && server.watches.size < 9; n++) {
    await pause(10);
    clock.advance(1000);
  }
  assert.equal(server.watches.size, 9);
});

test('an immutable object is not followed once it is stored', async (t) => {
  await using server = await createObjectServer();
  const where = place(t);
  const pod = podWith('a', { volumes: [secretVolume('s')] });
  server.put('secrets/x/s', { data: { k: base64('1') }, immutable: true });
  const first = start(t, where);
  first.node.follow([pod]);
  const { end } = first.connect(server);
  await until(() => typeof first.data('s') === 'object', 'the secret');
  await until(() => server.watches.size === 1, 'only services');
  await end();
  first.close();
  server.asked.length = 0;
  const second = start(t, where);
  second.node.follow([pod]);
  second.connect(server);
  await until(() => server.watches.size === 1, 'only services');
  assert.deepEqual(
    server.asked.filter((line) => line.includes('secrets')),
    [],
  );
});

test('what may not be stored is in memory alone, and a pod is told why it waits', async (t) => {
  await using server = await createObjectServer();
  const where = place(t);
  const pod = podWith('a', { volumes: [secretVolume('s')] });
  server.put('secrets/x/s', { data: { k: base64('1') } });
  const first = start(t, where);
  first.node.follow([pod]);
  const { end } = first.connect(server);
  await until(() => server.watches.size === 2, 'the watches');
  // What was stored before goes.
  first.changes.length = 0;
  server.put('secrets/x/s', { data: { k: base64('1') } }, NEVER);
  await until(() => first.changes.length > 0, 'the change');
  assert.deepEqual(first.data('s'), { k: base64('1') });
  assert.equal(
    first.store.objects().sound.some(({ text }) => text.includes(base64('1'))),
    false,
  );
  await end();
  first.close();
  const second = start(t, where);
  second.node.follow([pod]);
  const found = second.node.objects.get('Secret', 'x', 's');
  assert.ok(found.state === 'unknown');
  assert.match(found.why ?? '', /never stored \(annotation limpet.dev\/persist: never\)/);
  second.connect(server);
  await until(() => typeof second.data('s') === 'object', 'the secret');
});

test('a full disk leaves an object in memory, and it is stored when there is room', async (t) => {
  await using server = await createObjectServer();
  let isFull = true;
  const put: unknown[] = [];
  const clock = handClock();
  const node = start(t, place(t), clock, {
    putObject: (object: unknown) => {
      if (isFull) throw new Failure('NoSpace', 'full');
      put.push(object);
    },
  });
  server.put('secrets/x/s', { data: { k: base64('1') } });
  node.node.follow([podWith('a', { volumes: [secretVolume('s')] })]);
  node.connect(server);
  await until(() => server.watches.size === 2, 'the watches');
  assert.deepEqual(node.data('s'), { k: base64('1') });
  assert.ok(node.lines.some((line) => /in memory only/.test(line)));
  isFull = false;
  clock.advance(300_000);
  await until(() => put.length === 2, 'stored');
});

test('rows that can not be read are told, waited for and fetched anew', async (t) => {
  await using server = await createObjectServer();
  const where = place(t);
  const pod = podWith('a', { volumes: [secretVolume('s'), tokenVolume()] });
  server.put('secrets/x/s', { data: { k: base64('1') } });
  const first = start(t, where);
  first.node.follow([pod]);
  const { end } = first.connect(server);
  await until(() => server.watches.size === 2, 'the watches');
  await first.node.token(requestOf(pod), new AbortController().signal);
  await end();
  first.close();
  rmSync(`${where.directory}/device.key`);
  const second = start(t, where);
  second.node.follow([pod]);
  const found = second.node.objects.get('Secret', 'x', 's');
  assert.match(found.state === 'unknown' ? (found.why ?? '') : '', /can not be read/);
  assert.ok(second.lines.some((line) => line.includes('Secret/x/s')));
  const { signal } = new AbortController();
  await assert.rejects(second.node.token(requestOf(pod), signal), /no token .* is stored/);
  second.connect(server);
  await until(() => typeof second.data('s') === 'object', 'the secret');
  assert.equal((await second.node.token(requestOf(pod), signal)).token, 'token-2');
  assert.deepEqual(
    second.store.objects().damaged.map(({ kind }) => kind),
    [],
  );
});

test('a pod whose labels have changed is told of it', (t) => {
  const node = start(t, place(t));
  const volumes = [secretVolume('s')];
  node.node.follow([podWith('a', { volumes }, { l: '1' }), podWith('b', { volumes })]);
  node.node.follow([podWith('a', { volumes }, { l: '2' }), podWith('b', { volumes })]);
  assert.deepEqual(node.changes, ['uid-a']);
});

// ---- tokens ----

test('a token is asked for its pod, stored, and there again offline though it has expired', async (t) => {
  await using server = await createObjectServer();
  const where = place(t);
  const pod = podWith('a', { volumes: [tokenVolume(600, 'vault')] });
  const request = requestOf(pod, 600, ['vault']);
  const { signal } = new AbortController();
  server.tokenSeconds = 600;
  const first = start(t, where);
  first.node.follow([pod]);
  await assert.rejects(
    first.node.token(request, signal),
    (error: unknown) =>
      error instanceof Failure && error.code === 'Unavailable' && /x\/default/.test(error.message),
  );
  const { end } = first.connect(server);
  assert.deepEqual(first.changes, ['uid-a'], 'who waits tries again');
  const [one, two] = await Promise.all([
    first.node.token(request, signal),
    first.node.token(request, signal),
  ]);
  assert.equal(one.token, 'token-1');
  assert.equal(two.token, 'token-1');
  assert.deepEqual(server.tokenRequests, [
    {
      ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
      spec: {
        ...{ audiences: ['vault'], expirationSeconds: 600 },
        boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: 'a', uid: 'uid-a' },
      },
    },
  ]);
  await end();
  first.close();

  // A day without network, in another boot.
  const later = REAL.now();
  const at = { ...later, wallMs: later.wallMs + 86_400_000, boot: 'boot-2' };
  const second = start(t, where, { ...REAL, now: () => at });
  second.node.follow([pod]);
  assert.equal((await second.node.token(request, signal)).token, 'token-1');
  assert.deepEqual(second.node.expiredTokens(), ['x/a']);
  const connected = second.connect(server);
  await until(() => second.changes.length > 0, 'another token');
  assert.equal((await second.node.token(request, signal)).token, 'token-2');
  assert.deepEqual(second.node.expiredTokens(), []);
  await connected.end();
  second.node.follow([]);
  assert.deepEqual(second.store.objects().sound, []);
});

test('tokens are renewed at 80 % of their life, the oldest first, and the old one serves until then', async (t) => {
  await using server = await createObjectServer();
  const clock = handClock();
  const node = start(t, place(t), clock);
  const a = podWith('a', { volumes: [tokenVolume()] });
  const b = podWith('b', { volumes: [tokenVolume()], serviceAccountName: 'other' });
  const { signal } = new AbortController();
  node.node.follow([a, b]);
  node.connect(server);
  await node.node.token(requestOf(a), signal);
  clock.advance(60_000);
  await node.node.token({ ...requestOf(b), serviceAccountName: 'other' }, signal);
  const asked = () => server.asked.filter((line) => line.startsWith('token')).slice(2);
  clock.advance(3600_000 * 0.75 - 60_000);
  await pause(50);
  assert.deepEqual(asked(), []);
  server.forbidden.add('default');
  clock.advance(3600_000 * 0.06 + 60_000);
  await until(() => asked().length >= 2, 'both asked');
  assert.deepEqual(asked().slice(0, 2), ['token x/default', 'token x/other']);
  const other = { ...requestOf(b), serviceAccountName: 'other' };
  while ((await node.node.token(other, signal)).token !== 'token-3') await pause(1);
  assert.equal((await node.node.token(requestOf(a), signal)).token, 'token-1');
  assert.deepEqual(node.node.expiredTokens(), []);
  clock.advance(3600_000 * 0.3);
  assert.deepEqual(node.node.expiredTokens(), ['x/a']);
  server.forbidden.clear();
  clock.advance(400_000);
  await until(() => node.node.expiredTokens().length === 0, 'renewed');
});

test('a token that is refused says so in the words of the kubelet', async (t) => {
  await using server = await createObjectServer();
  const node = start(t, place(t));
  const pod = podWith('a', { volumes: [tokenVolume()] });
  server.forbidden.add('default');
  node.node.follow([pod]);
  node.connect(server);
  await assert.rejects(
    node.node.token(requestOf(pod), new AbortController().signal),
    /failed to fetch token: /,
  );
});
