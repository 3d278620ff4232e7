/**
 * limpet as a node of a real cluster: it joins with a token, is Ready, keeps its lease, outlives the
 * API server's end, and asks for nothing that it may not have.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import {
  attach as attachPlane,
  list as listPlanes,
  up as upPlane,
  type ControlPlane,
} from '../../scripts/lib/control-plane.ts';
import { joinLimpet } from '../../scripts/lib/join-limpet.ts';
import { attach, list, up, type VirtualNode } from '../../scripts/lib/virtual-node.ts';

const NAME = `limpet-${process.pid}`;
/** The programs may have to be built. */
const BUILD_TIMEOUT_MS = 3_600_000;
const TIMEOUT_MS = 600_000;

const began = performance.now();
let plane: ControlPlane;
let node: VirtualNode;

function note(line: string): void {
  const seconds = ((performance.now() - began) / 1000).toFixed(1).padStart(6);
  process.stdout.write(`# control-plane ${seconds} s  ${line}\n`);
}

async function kubectl(...args: readonly string[]): Promise<string> {
  return (await plane.kubectl(args, { timeoutMs: TIMEOUT_MS })).stdout;
}

before(
  async () => {
    plane = await upPlane(NAME, note);
    node = await up({
      name: NAME,
      containerd: '2',
      forwards: [{ host: 0, guest: 10250 }],
      say: note,
    });
  },
  { timeout: BUILD_TIMEOUT_MS },
);

after(async () => {
  if ((await list()).includes(NAME)) await (await attach(NAME)).down();
  if ((await listPlanes()).includes(NAME)) await (await attachPlane(NAME)).down();
});

test('a token makes a Ready node', { timeout: TIMEOUT_MS }, async () => {
  await joinLimpet(node, plane);
  await kubectl('wait', '--for=create', '--timeout=300s', `node/${NAME}`);
  await kubectl('wait', '--for=condition=Ready', '--timeout=300s', `node/${NAME}`);
  note('the node is Ready');
  const address = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}';
  assert.equal(await kubectl('get', 'node', NAME, '-o', address), node.address);
  const version = 'jsonpath={.status.nodeInfo.kubeletVersion}';
  assert.match(await kubectl('get', 'node', NAME, '-o', version), /^v1\.36\./);
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
  const lines = (await readFile(plane.auditLog, 'utf8')).split('\n').filter(Boolean);
  const own = lines
    .map((line) => JSON.parse(line) as { userAgent?: string; responseStatus?: { code?: number } })
    .filter(({ userAgent }) => userAgent?.startsWith('limpet/'));
  note(`${own.length} requests`);
  assert.ok(own.length > 5);
  const denied = own.filter(({ responseStatus }) => [401, 403].includes(responseStatus?.code ?? 0));
  assert.deepEqual(denied, []);
});

async function renewTime(): Promise<string> {
  const path = 'jsonpath={.spec.renewTime}';
  return await kubectl('-n', 'kube-node-lease', 'get', 'lease', NAME, '-o', path);
}
