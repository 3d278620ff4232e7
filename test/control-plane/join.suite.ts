/**
 * The control plane that tests use, shown to be one: the official kubelet joins it by an unchanged
 * `kubeadm join`, runs pods, and may do what a node may and no more.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  attach as attachPlane,
  list as listPlanes,
  up as upPlane,
  type ControlPlane,
} from '../../scripts/lib/control-plane.ts';
import { installKubelet } from '../../scripts/lib/install-kubelet.ts';
import { kubernetes, kubernetesVersion } from '../../scripts/lib/kubernetes.ts';
import { attach, list, up, type VirtualNode } from '../../scripts/lib/virtual-node.ts';

const NAME = `join-${process.pid}`;
/** The programs may have to be built. */
const BUILD_TIMEOUT_MS = 3_600_000;
const TIMEOUT_MS = 600_000;
const IMAGE = 'limpet.local/busybox:1';

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
    await kubernetes(['kubeadm', 'kubelet'], note);
    plane = await upPlane(NAME, note);
    node = await up({
      name: NAME,
      // This kubelet asks the runtime what containerd 1.7 can't answer.
      containerd: '2',
      forwards: [{ host: 0, guest: 10250 }],
      say: note,
    });
    await installKubelet(node, note);
  },
  { timeout: BUILD_TIMEOUT_MS },
);

after(async () => {
  if ((await list()).includes(NAME)) await (await attach(NAME)).down();
  if ((await listPlanes()).includes(NAME)) await (await attachPlane(NAME)).down();
});

test('the API server is ready, and is of the version that was asked for', async () => {
  assert.equal(await kubectl('get', '--raw', '/readyz'), 'ok');
  const version = JSON.parse(await kubectl('get', '--raw', '/version')) as { gitVersion: string };
  assert.equal(version.gitVersion, await kubernetesVersion());
  for (const { component, pid, rssBytes } of await plane.parts()) {
    note(`${component}: ${(rssBytes / 1e6).toFixed(0)} MB`);
    assert.notEqual(pid, 0, `${component} runs`);
  }
});

test('kubeadm join makes a node of a machine', { timeout: TIMEOUT_MS }, async () => {
  const { stdout } = await node.ssh(await plane.joinCommand(), { timeoutMs: TIMEOUT_MS });
  assert.match(stdout, /This node has joined the cluster/);
  note('kubeadm join is done');
  // kubeadm does not wait until the kubelet has registered.
  await kubectl('wait', '--for=create', '--timeout=300s', `node/${NAME}`);
  await kubectl('wait', '--for=condition=Ready', '--timeout=300s', `node/${NAME}`);
  note('the node is Ready');
  const address = 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}';
  assert.equal(await kubectl('get', 'node', NAME, '-o', address), node.address);
});

test('a pod runs there; logs and exec reach it', { timeout: TIMEOUT_MS }, async () => {
  const script = 'echo hello from $(hostname); exec sleep 3600';
  const create = ['run', 'hello', `--image=${IMAGE}`, '--restart=Never', '--grace-period=1'];
  await kubectl(...create, '--', 'sh', '-c', script);
  await kubectl('wait', '--for=condition=Ready', '--timeout=300s', 'pod/hello');
  note('the pod is Ready');
  assert.equal(await kubectl('logs', 'hello'), 'hello from hello\n');
  const { stdout } = await plane.kubectl(['exec', '-i', 'hello', '--', 'cat'], { input: 'a\nb' });
  assert.equal(stdout, 'a\nb');
  const failing = ['exec', 'hello', '--', 'sh', '-c', 'exit 7'];
  assert.equal((await plane.kubectl(failing, { check: false })).code, 7);
});

test('a node may write itself and no other', { timeout: TIMEOUT_MS }, async () => {
  const asNode = await credentialsOfNode();
  await kubectl(...asNode, 'label', 'node', NAME, 'example.com/own=yes');
  const other = JSON.stringify({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'other', labels: { 'example.com/own': 'no' } },
  });
  await plane.kubectl(['create', '-f', '-'], { input: other });
  const replace = [...asNode, 'replace', '--raw', '/api/v1/nodes/other', '-f', '-'];
  const denied = await plane.kubectl(replace, { input: other, check: false });
  assert.notEqual(denied.code, 0);
  assert.match(denied.stderr, /is not allowed to modify node "other"/);
  const audit = (await readFile(plane.auditLog, 'utf8')).split('\n');
  const seen = audit.filter((line) => line.includes('"requestURI":"/api/v1/nodes/other"'));
  assert.ok(
    seen.some(
      (line) => line.includes(`"username":"system:node:${NAME}"`) && /"code":403/.test(line),
    ),
    'the audit log has it',
  );
});

test('a killed API server comes back with all it had', { timeout: TIMEOUT_MS }, async () => {
  await plane.kill('kube-apiserver');
  assert.notEqual((await plane.kubectl(['get', 'nodes'], { check: false })).code, 0);
  await plane.start('kube-apiserver');
  assert.equal(await kubectl('logs', 'hello'), 'hello from hello\n');
});

/** What makes kubectl the node: its client certificate, as the bootstrap left it there. */
async function credentialsOfNode(): Promise<string[]> {
  const { stdout } = await node.ssh(['cat', '/var/lib/kubelet/pki/kubelet-client-current.pem']);
  const own = join(plane.directory, 'node.pem');
  await writeFile(own, stdout, { mode: 0o600 });
  const authority = join(plane.directory, 'pki', 'ca.crt');
  return [
    '--kubeconfig=/dev/null',
    `--server=https://127.0.0.1:${plane.port}`,
    `--certificate-authority=${authority}`,
    `--client-certificate=${own}`,
    `--client-key=${own}`,
  ];
}
