import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseManifest } from '../../src/kube/parse.ts';
import type { Pod } from '../../src/kube/pod.ts';
import { admit, type Admission, type Neighbour, type NodeCapacity } from '../../src/node/admit.ts';

const NODE: NodeCapacity = {
  name: 'pi',
  allocatable: { cpuMilli: 4000, memoryBytes: 1024 ** 3 },
  maxPods: 3,
};

let uids = 0;
type Want = {
  readonly name?: string;
  readonly cpu?: string;
  readonly memory?: string;
  readonly ports?: readonly object[];
  readonly sidecarPorts?: readonly object[];
  readonly initPorts?: readonly object[];
  readonly nodeName?: string;
};

function podOf(want: Want): Pod {
  uids += 1;
  const { name = `pod-${uids}`, cpu = '0', memory = '0', nodeName } = want;
  const container = (id: string, ports: readonly object[] = []) => ({
    name: id,
    image: 'i',
    ports,
  });
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      nodeName,
      containers: [{ ...container('main', want.ports), resources: { requests: { cpu, memory } } }],
      initContainers: [
        { ...container('sidecar', want.sidecarPorts), restartPolicy: 'Always' },
        container('init', want.initPorts),
      ],
    },
  };
  const { pods, problems } = parseManifest(JSON.stringify(manifest));
  assert.deepEqual(problems, []);
  const pod = pods[0]!;
  return { ...pod, metadata: { ...pod.metadata, uid: `uid-${uids}` } };
}

const here = (pod: Pod, state: Partial<Neighbour> = {}): Neighbour => ({
  pod,
  order: 1,
  terminal: false,
  deleting: false,
  ...state,
});

const OK: Admission = { ok: true };

test('a pod with room, and no one in its way, is let in', () => {
  assert.deepEqual(admit(podOf({}), [], NODE), OK);
  assert.deepEqual(admit(podOf({ nodeName: 'pi' }), [here(podOf({}))], NODE), OK);
  const all = podOf({ cpu: '4', memory: '1Gi' });
  assert.deepEqual(admit(all, [], NODE), OK, 'exactly all of it');
  assert.deepEqual(admit(all, [here(all)], NODE), OK, 'it is not its own neighbour');
});

test('a shortage is worded as the kubelet words it', () => {
  const others = [here(podOf({ cpu: '3', memory: '512Mi' }))];
  assert.deepEqual(admit(podOf({ cpu: '1001m' }), others, NODE), {
    ok: false,
    reason: 'OutOfcpu',
    message: "Node didn't have enough resource: cpu, requested: 1001, used: 3000, capacity: 4000",
  });
  assert.deepEqual(admit(podOf({ memory: '513Mi' }), others, NODE), {
    ok: false,
    reason: 'OutOfmemory',
    message:
      "Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824",
  });
  const full = [1, 2, 3].map(() => here(podOf({})));
  assert.deepEqual(admit(podOf({}), full, NODE), {
    ok: false,
    reason: 'OutOfpods',
    message: "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
  });
});

test('a pod that asks for nothing comes in where others took too much', () => {
  const greedy = [here(podOf({ cpu: '9' }))];
  assert.deepEqual(admit(podOf({}), greedy, NODE), OK);
  assert.deepEqual(admit(podOf({ memory: '1' }), greedy, NODE), OK, 'of another resource');
});

test('what has ended holds nothing; what is ending is waited for', () => {
  const big = podOf({ cpu: '4' });
  const want = podOf({ cpu: '1' });
  assert.deepEqual(admit(want, [here(big, { terminal: true })], NODE), OK);
  assert.deepEqual(admit(want, [here(big, { deleting: true })], NODE), {
    wait: 'OutOfcpu',
    message:
      "waits for a pod that is ending: Node didn't have enough resource: cpu, requested: 1000, used: 4000, capacity: 4000",
  });
  const stays = here(podOf({ cpu: '3500m' }));
  const verdict = admit(want, [stays, here(podOf({ cpu: '500m' }), { deleting: true })], NODE);
  assert.ok('ok' in verdict && !verdict.ok, 'to wait would not help');
});

test('an earlier pod of the same name is waited for until it is forgotten', () => {
  const old = podOf({ name: 'web' });
  for (const state of [{}, { deleting: true }, { terminal: true }]) {
    assert.deepEqual(admit(podOf({ name: 'web' }), [here(old, state)], NODE), {
      wait: 'NameInUse',
      message: `waits until the earlier pod default/web (uid ${old.metadata.uid}) is gone`,
    });
  }
});

test('a pod for another node is rejected', () => {
  assert.deepEqual(admit(podOf({ nodeName: 'other' }), [], NODE), {
    ok: false,
    reason: 'NodeName',
    message:
      "Predicate NodeName failed: node(s) didn't match the requested node name: the pod asks for other, this node is pi",
  });
});

const PORT = { containerPort: 80, hostPort: 8080 };

test('a port of the host belongs to the earlier pod', () => {
  const owner = podOf({ name: 'owner', ports: [PORT] });
  const want = podOf({ ports: [{ containerPort: 1, hostPort: 8080 }] });
  assert.deepEqual(admit(want, [here(owner)], NODE), {
    ok: false,
    reason: 'NodePorts',
    message:
      "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: port 8080/TCP of the host is taken by pod default/owner",
  });
  assert.deepEqual(admit(want, [here(owner, { terminal: true })], NODE), OK);
  assert.deepEqual(admit(want, [here(owner, { deleting: true })], NODE), {
    wait: 'NodePorts',
    message: 'waits for port 8080/TCP of the host, which the ending pod default/owner has',
  });
  const both = [here(podOf({ ports: [PORT] }), { deleting: true }), here(owner)];
  const verdict = admit(want, both, NODE);
  assert.ok('ok' in verdict && !verdict.ok, 'one of them stays');
});

test('ports collide by number, protocol and address', () => {
  const collide = (a: object, b: object) => {
    const verdict = admit(
      podOf({ ports: [{ ...PORT, ...a }] }),
      [here(podOf({ ports: [{ ...PORT, ...b }] }))],
      NODE,
    );
    return !('ok' in verdict && verdict.ok);
  };
  assert.equal(collide({}, {}), true);
  assert.equal(collide({ hostPort: 81 }, {}), false);
  assert.equal(collide({ protocol: 'UDP' }, {}), false);
  assert.equal(collide({ hostIP: '10.0.0.1' }, { hostIP: '10.0.0.2' }), false);
  assert.equal(collide({ hostIP: '10.0.0.1' }, { hostIP: '10.0.0.1' }), true);
  assert.equal(collide({ hostIP: '10.0.0.1' }, {}), true);
  assert.equal(collide({}, { hostIP: '10.0.0.1' }), true);
  assert.equal(collide({ hostIP: '0.0.0.0' }, { hostIP: '10.0.0.1' }), true);
});

test('sidecars hold their ports, plain init containers do not', () => {
  const want = podOf({ ports: [PORT] });
  const verdict = admit(want, [here(podOf({ sidecarPorts: [PORT] }))], NODE);
  assert.ok('ok' in verdict && !verdict.ok);
  assert.deepEqual(admit(want, [here(podOf({ initPorts: [PORT] }))], NODE), OK);
});
