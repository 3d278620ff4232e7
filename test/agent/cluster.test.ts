// A node joins, stays and comes back, on an API server with real TLS and real certificates.
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { storedCluster } from '../../src/agent/cluster-check.ts';
import { readKubeconfig } from '../../src/apiserver/kubeconfig.ts';
import { refuse, until } from '../apiserver/peer.ts';
import { createWorld, MACHINE, startMember } from './cluster-world.ts';

const NODE = '/api/v1/nodes/pi1';
const LEASE = '/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/pi1';
const READY = {
  connected: true,
  version: { runtimeName: 'containerd', runtimeVersion: 'v2', runtimeApiVersion: 'v1' },
  status: { conditions: [], handlers: [], features: undefined },
  message: undefined,
};

test('a node joins with its token, becomes ready and keeps its lease', async (t) => {
  await using world = await createWorld();
  const { peer, objects } = world;
  const member = startMember(t, peer);
  await until(() => objects.has(LEASE), 'a lease');
  const { kubeconfig, certDirectory } = member.options;
  const current = join(certDirectory, 'kubelet-client-current.pem');
  const written = await readKubeconfig(kubeconfig);
  assert.deepEqual(
    [written.context, written.certificate, written.key],
    ['default-context', { file: current }, { file: current }],
  );
  assert.match(readlinkSync(current), /kubelet-client-\d{4}(-\d\d){5}\.pem$/);
  assert.equal(lstatSync(readlinkSync(current)).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(certDirectory).length, 2, 'no key of the request is left');
  const posts = peer.calls.filter(({ request }) => request.method === 'POST');
  assert.equal(posts[0]!.request.headers.authorization, 'Bearer abcdef.0123456789abcdef');
  const request = JSON.parse(posts[0]!.body) as { spec: object };
  assert.deepEqual(
    { ...request.spec, request: '' },
    {
      request: '',
      signerName: 'kubernetes.io/kube-apiserver-client-kubelet',
      usages: ['digital signature', 'client auth'],
    },
  );
  assert.deepEqual(
    posts.slice(1).map(({ user }) => user),
    ['system:node:pi1', 'system:node:pi1'],
  );
  const node = objects.get(NODE) as unknown as {
    metadata: { labels: object; uid: string };
    spec: object;
    status: { conditions: { type: string; status: string }[] };
  };
  assert.deepEqual(node.metadata.labels, {
    'example.com/a': 'b',
    'beta.kubernetes.io/arch': 'arm64',
    'beta.kubernetes.io/os': 'linux',
    'kubernetes.io/arch': 'arm64',
    'kubernetes.io/hostname': 'pi1',
    'kubernetes.io/os': 'linux',
  });
  assert.deepEqual(node.spec, { taints: [{ key: 'k', effect: 'NoSchedule' }] });
  assert.equal(node.status.conditions.find(({ type }) => type === 'Ready')?.status, 'False');
  const lease = objects.get(LEASE) as unknown as {
    metadata: { ownerReferences: object[] };
    spec: { leaseDurationSeconds: number; renewTime: string };
  };
  assert.deepEqual(lease.metadata.ownerReferences, [
    { apiVersion: 'v1', kind: 'Node', name: 'pi1', uid: node.metadata.uid },
  ]);
  assert.equal(lease.spec.leaseDurationSeconds, 40);
  assert.match(lease.spec.renewTime, /^\d{4}-.*\.\d{6}Z$/);

  member.facts.runtime = READY;
  member.cluster.poke();
  const isReady = () => member.events.some(({ reason }) => reason === 'NodeReady');
  await until(isReady, 'ready');
  const patch = peer.calls.findLast(({ request: { method } }) => method === 'PATCH')!;
  assert.equal(patch.url.pathname, `${NODE}/status`);
  assert.ok(patch.body.length < 1500, `${patch.body.length} bytes`);
  const report = member.cluster.report();
  assert.deepEqual(
    [report.phase, report.registered, report.message],
    ['connected', true, undefined],
  );

  objects.delete(NODE);
  member.facts.addresses = ['192.0.2.2'];
  member.cluster.poke();
  await until(() => objects.has(NODE), 'registered again');
  assert.ok(member.events.some(({ reason }) => reason === 'NodeDeleted'));

  // Nothing changes on the node, but the lease has gone with the Node that owned it.
  const owned = objects.get(NODE)!.metadata.uid;
  objects.delete(NODE);
  objects.delete(LEASE);
  await until(() => objects.has(NODE), 'registered once more', 20_000);
  assert.notEqual(objects.get(NODE)!.metadata.uid, owned);
  await member.stop();
});

test('a certificate near its end is renewed with itself, an expired one by the token', async (t) => {
  await using world = await createWorld();
  const { peer, objects } = world;
  let isFirst = true;
  // 95 % of its life are over when it is issued.
  world.decide = () => (isFirst ? 60_000 : 3_600_000);
  world.before = ({ request, response, user }) => {
    const refused = !isFirst && user === 'system:node:pi1' && request.method === 'POST';
    if (refused) refuse(response, 401, 'Unauthorized', 'expired');
    return refused;
  };
  const member = startMember(t, peer);
  await until(() => objects.has(LEASE), 'a lease');
  isFirst = false;
  const current = join(member.options.certDirectory, 'kubelet-client-current.pem');
  const before = new X509Certificate(readFileSync(current)).serialNumber;
  await member.stop();
  // As if it had been off until the end.
  const old = Date.now;
  t.after(() => (Date.now = old));
  Date.now = () => old() + 3_000_000;
  const { directory, meta, kept } = member;
  assert.equal(kept.length, 1, 'what it has joined with is kept');
  const back = startMember(t, peer, { directory, meta, objects: kept, hasNoBootstrap: true });
  const serial = () => new X509Certificate(readFileSync(current)).serialNumber;
  await until(() => serial() !== before, 'another certificate');
  Date.now = old;
  await back.stop();
});

test('a request that is denied is told, with what to do', async (t) => {
  await using world = await createWorld();
  world.decide = () => 'deny';
  const member = startMember(t, world.peer);
  await until(() => member.cluster.report().message !== undefined, 'a message');
  const { phase, message } = member.cluster.report();
  assert.equal(phase, 'joining');
  assert.match(message!, /was denied \(No: not you\): ask who administers/);
  assert.deepEqual(readdirSync(member.options.certDirectory), [], 'the next one has another key');
  await member.stop();
});

test('the Node of another machine that is alive is not taken', async (t) => {
  await using world = await createWorld();
  const ready = [{ type: 'Ready', status: 'True' }];
  world.put(NODE, {
    kind: 'Node',
    metadata: { name: 'pi1' },
    status: { conditions: ready, nodeInfo: { machineID: 'm2', systemUUID: 's2', bootID: 'x' } },
  });
  const member = startMember(t, world.peer);
  await until(() => member.events.some(({ reason }) => reason === 'NodeNameTaken'), 'told');
  await until(() => member.cluster.report().message !== undefined, 'a message');
  assert.match(member.cluster.report().message!, /machine id m2; ours is m1.*--hostname-override/);
  assert.ok(!world.objects.has(LEASE));
  await member.stop();
});

test('a reboot is told, and our own Node is found again', async (t) => {
  await using world = await createWorld();
  const first = startMember(t, world.peer);
  await until(() => world.objects.has(LEASE), 'a lease');
  await first.stop();
  const { directory, meta } = first;
  const machine = { ...MACHINE, bootId: 'boot-2' };
  const second = startMember(t, world.peer, { directory, meta, machine });
  await until(() => second.events.some(({ reason }) => reason === 'Rebooted'), 'told');
  await second.stop();
});

test('a lease that comes back older than it was tells a restored cluster', async (t) => {
  await using world = await createWorld();
  const { peer, objects } = world;
  const member = startMember(t, peer);
  await until(() => objects.has(LEASE), 'a lease');
  const first = structuredClone(objects.get(LEASE)!);
  const versionOf = () => Number(objects.get(LEASE)!.metadata.resourceVersion);
  await until(() => versionOf() > Number(first.metadata.resourceVersion), 'renewed', 20_000);
  objects.set(LEASE, first);
  await until(() => member.meta.has('cluster.restored'), 'noticed', 20_000);
  await member.stop();
});

test('after an outage the node is ready again at once, though others wrote that it is not', async (t) => {
  await using world = await createWorld();
  const { peer, objects, put } = world;
  let recovered: AbortSignal | undefined;
  const member = startMember(t, peer, {
    onSession: ({ recovery }) => {
      recovered = recovery.next();
      return Promise.resolve();
    },
  });
  member.facts.runtime = READY;
  member.cluster.poke();
  type Condition = { readonly type: string; readonly status: string };
  const conditions = () => (objects.get(NODE)!['status'] as { conditions: Condition[] }).conditions;
  const isReady = () => conditions().find(({ type }) => type === 'Ready')?.status === 'True';
  await until(() => objects.has(LEASE) && isReady(), 'ready');
  let refused = 0;
  world.before = ({ request, response }) => {
    if (!request.url!.includes('/leases/')) return false;
    refused += 1;
    refuse(response, 503, 'ServiceUnavailable', 'not now');
    return true;
  };
  await until(() => refused > 0, 'an outage', 20_000);
  assert.equal(recovered?.aborted, false);
  // As the node lifecycle controller does.
  const unknown = conditions().map((condition) => ({ ...condition, status: 'Unknown' }));
  const node = objects.get(NODE)!;
  put(NODE, { ...node, status: { ...(node['status'] as object), conditions: unknown } });
  world.before = () => false;
  await until(isReady, 'ready again', 20_000);
  assert.equal(recovered.aborted, true, 'others need not wait any longer');
  await member.stop();
});

test('a turn of the board is told in one small patch, and then no more', async (t) => {
  await using world = await createWorld();
  const { peer, objects } = world;
  const member = startMember(t, peer);
  member.facts.runtime = READY;
  type Condition = { readonly type: string; readonly status: string };
  const has = (wanted: string) =>
    (objects.get(NODE)?.['status'] as { conditions?: Condition[] } | undefined)?.conditions?.some(
      ({ type, status }) => type === wanted && status === 'True',
    ) === true;
  await until(() => objects.has(LEASE), 'registered');
  member.cluster.poke();
  await until(() => has('Ready'), 'ready');
  const patches = () =>
    peer.calls.filter(
      ({ request, url }) => request.method === 'PATCH' && url.pathname === `${NODE}/status`,
    );
  const before = patches().length;
  member.facts.board = [
    {
      ...{ type: 'UnderVoltage', status: 'True', reason: 'SupplyTooWeak' },
      ...{ message: 'the supply voltage fell', since: '2026-01-01T00:00:00Z' },
    },
  ] as const;
  member.cluster.poke();
  await until(() => has('UnderVoltage'), 'told');
  assert.equal(patches().length, before + 1);
  const { body } = patches().at(-1)!;
  assert.ok(body.length < 700, `${body.length} bytes`);
  member.cluster.poke();
  await member.clock.sleep(500, new AbortController().signal);
  assert.equal(patches().length, before + 1);
  await member.stop();
});

test('the cluster is known by our Node at once, though it was looked at before there was one', async (t) => {
  await using world = await createWorld();
  let isLookedAt = false;
  world.before = ({ request, response }) => {
    if (isLookedAt || request.method !== 'POST' || request.url !== NODE.replace('/pi1', '')) {
      return false;
    }
    refuse(response, 503, 'ServiceUnavailable', 'not now');
    return true;
  };
  const member = startMember(t, world.peer, {
    // As the watch of the pods does.
    onSession: async ({ verify }) => {
      await verify('1');
      isLookedAt = true;
    },
  });
  const isKnown = () => storedCluster({ meta: (key) => member.meta.get(key) })?.nodeUid;
  await until(() => isKnown() !== undefined, 'its UID', 5_000);
  assert.equal(isKnown(), world.objects.get(NODE)!.metadata.uid);
  await member.stop();
});
