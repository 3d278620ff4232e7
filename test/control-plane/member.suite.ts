/**
 * limpet as a node of a real cluster: it joins with a token, is Ready, keeps its lease, outlives the
 * API server's end, and asks for nothing that it may not have.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { ControlPlane } from '../../scripts/lib/control-plane.ts';
import type { VirtualNode } from '../../scripts/lib/virtual-node.ts';
import {
  BUILD_TIMEOUT_MS,
  TIMEOUT_MS,
  bringDown,
  bringUp,
  deniedOf,
  joinLimpet,
  note,
  requestsOf,
  type Cluster,
} from './cluster.ts';

const NAME = `member-${process.pid}`;

let cluster: Cluster;
let plane: ControlPlane;
let node: VirtualNode;

const kubectl = async (...args: readonly string[]) => await cluster.kubectl(...args);

before(
  async () => {
    cluster = await bringUp(NAME);
    ({ plane, node } = cluster);
  },
  { timeout: BUILD_TIMEOUT_MS },
);
after(() => bringDown(NAME));

test('a token makes a Ready node', { timeout: TIMEOUT_MS }, async () => {
  await joinLimpet(cluster, NAME);
  const address = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}';
  assert.equal(await kubectl('get', 'node', NAME, '-o', address), node.address);
  const version = 'jsonpath={.status.nodeInfo.kubeletVersion}';
  assert.match(await kubectl('get', 'node', NAME, '-o', version), /^v1\.36\./);
  // Conditions of the board are taken from a node as those of every node are.
  await kubectl('wait', '--for=condition=ClockUntrusted', '--timeout=60s', `node/${NAME}`);
  assert.match(
    await kubectl('describe', 'node', NAME),
    /^ +ClockUntrusted +True .* NotSynchronized +.*nobody has set it/m,
  );
});

test('the lease is renewed', { timeout: TIMEOUT_MS }, async () => {
  const first = await renewTime();
  await pause(15_000);
  assert.ok((await renewTime()) > first);
});

test('it outlives the end of the API server', { timeout: TIMEOUT_MS }, async () => {
  const first = await renewTime();
  await plane.kill('kube-apiserver');
  await pause(15_000);
  const { stdout } = await node.ssh('limpet status');
  assert.match(stdout, /OFFLINE/);
  await plane.start('kube-apiserver');
  for (const end = performance.now() + 60_000; (await renewTime()) <= first; await pause(500)) {
    assert.ok(performance.now() < end, 'the lease is renewed again');
  }
  note('the lease is renewed again');
  await kubectl('wait', '--for=condition=Ready', '--timeout=60s', `node/${NAME}`);
});

test('a deleted node comes back', { timeout: TIMEOUT_MS }, async () => {
  await kubectl('delete', 'node', NAME);
  await kubectl('wait', '--for=create', '--timeout=120s', `node/${NAME}`);
  await kubectl('wait', '--for=condition=Ready', '--timeout=120s', `node/${NAME}`);
});

test('nothing that it asked for was denied', async () => {
  const own = await requestsOf(cluster);
  note(`${own.length} requests`);
  assert.ok(own.length > 5);
  assert.deepEqual(deniedOf(own), []);
});

async function renewTime(): Promise<string> {
  const path = 'jsonpath={.spec.renewTime}';
  return await kubectl('-n', 'kube-node-lease', 'get', 'lease', NAME, '-o', path);
}
