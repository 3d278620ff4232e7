import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ownerOf } from '../../src/node/object.ts';
import { statusPatch } from '../../src/node/status-patch.ts';
import { isReady, nodeStatus, type MachineFacts, type NodeFacts } from '../../src/node/status.ts';

const MACHINE: MachineFacts = {
  ...{ machineId: 'm1', systemUuid: 's1', bootId: 'b1', kernelVersion: '6.12.47' },
  ...{ osImage: 'Debian', architecture: 'arm64', cpus: 4, memoryBytes: 2 ** 30 },
  ...{ swapBytes: 1024, hugepages: { '2Mi': 2 ** 21, '1Gi': 0 } },
};
const FACTS: NodeFacts = {
  hostname: 'pi1',
  addresses: ['192.0.2.1', '2001:db8::1'],
  storageBytes: 2 ** 30,
  runtime: {
    connected: true,
    version: { runtimeName: 'containerd', runtimeVersion: '2.1', runtimeApiVersion: 'v1' },
    status: {
      conditions: [],
      handlers: [
        { name: 'runc', features: undefined },
        { name: '', features: undefined },
      ],
      features: { supplementalGroupsPolicy: true },
    },
    message: undefined,
  },
  storeProblem: undefined,
  board: [],
  images: Array.from({ length: 60 }, (_, i) => ({
    ...{ id: `i${i}`, size: i, username: '', pinned: false },
    repoTags: ['t1', 't2', 't3'],
    repoDigests: ['d1', 'd2', 'd3'],
  })),
};
const SETTINGS = { kubeletVersion: 'v1.36.3', maxPods: 110, port: 10250 };
const at = (facts: Partial<NodeFacts>, before = first, now = '2026-01-01T00:05:00Z') =>
  nodeStatus(MACHINE, { ...FACTS, ...facts }, SETTINGS, before, now);
const first = nodeStatus(MACHINE, FACTS, SETTINGS, undefined, '2026-01-01T00:00:00Z');

test('a ready node in the words of the kubelet', () => {
  assert.ok(isReady(first));
  assert.deepEqual(
    first.conditions?.map(({ type, status, reason }) => [type, status, reason]),
    [
      ['MemoryPressure', 'False', 'KubeletHasSufficientMemory'],
      ['DiskPressure', 'False', 'KubeletHasNoDiskPressure'],
      ['PIDPressure', 'False', 'KubeletHasSufficientPID'],
      ['Ready', 'True', 'KubeletReady'],
    ],
  );
  assert.deepEqual(first.capacity, {
    ...{ cpu: '4', pods: '110', memory: '1048576Ki', 'ephemeral-storage': '1048576Ki' },
    ...{ 'hugepages-1Gi': '0', 'hugepages-2Mi': '2048Ki' },
  });
  assert.equal(first.allocatable?.['memory'], '1046528Ki', 'huge pages are no memory for pods');
  assert.deepEqual(first.nodeInfo?.swap, { capacity: 1024 });
  assert.equal(first.nodeInfo?.containerRuntimeVersion, 'containerd://2.1');
  assert.equal(first.images?.length, 50);
  assert.deepEqual(first.images?.[0], { names: ['d1', 'd2', 'd3', 't1', 't2'], sizeBytes: 59 });
  assert.deepEqual(first.runtimeHandlers, [{ name: '' }, { name: 'runc' }]);
  assert.equal(first.declaredFeatures, undefined, 'nothing is promised');
});

test('why it is not ready: runtime, network, store', () => {
  const ready = (facts: Partial<NodeFacts>) => at(facts).conditions?.at(-1);
  const { runtime } = FACTS;
  assert.deepEqual(ready({ runtime: { ...runtime, connected: false, message: 'no socket' } }), {
    ...{ type: 'Ready', status: 'False', reason: 'KubeletNotReady' },
    message: 'container runtime is down: no socket',
    lastHeartbeatTime: '2026-01-01T00:05:00Z',
    lastTransitionTime: '2026-01-01T00:05:00Z',
  });
  const conditions = [
    { type: 'NetworkReady', status: false, reason: 'NetworkPluginNotReady', message: 'no CNI' },
  ];
  const status = { ...runtime.status!, conditions };
  assert.equal(
    ready({ runtime: { ...runtime, status }, storeProblem: 'full' })?.message,
    '[container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady ' +
      'message:no CNI, nothing can be stored: full]',
  );
});

test('the patch has what is new, and that the rest still holds', () => {
  const heartbeat = { lastHeartbeatTime: '2026-01-01T00:05:00Z' };
  const types = ['MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready'];
  assert.deepEqual(statusPatch(first, at({})), {
    patch: { conditions: types.map((type) => ({ type, ...heartbeat })) },
    changed: false,
  });
  const { patch, changed } = statusPatch(
    first,
    at({ addresses: ['192.0.2.9'], storageBytes: 2048 }),
  );
  assert.ok(changed);
  assert.deepEqual(patch['addresses'], [
    { type: 'InternalIP', address: '192.0.2.9' },
    { type: 'Hostname', address: 'pi1' },
    { $patch: 'replace' },
  ]);
  assert.deepEqual(patch['capacity'], { 'ephemeral-storage': '2Ki' });
  assert.deepEqual(Object.keys(patch), ['capacity', 'allocatable', 'addresses', 'conditions']);
  const gone = { ...first, allocatable: { cpu: '4' } };
  assert.equal((statusPatch(first, gone).patch['allocatable'] as { pods: null }).pods, null);
  assert.equal(statusPatch(first, at({ images: undefined })).changed, false, 'they are kept');
});

test('a condition of the board is told when it turns, and has no heartbeat', () => {
  const overheated = (status: 'True' | 'False', since: string) => ({
    board: [{ type: 'Overheated', status, reason: 'Any', message: `${status} °C`, since }],
  });
  const listed = (patch: object) => (patch as { conditions: { type: string }[] }).conditions;
  const cool = at(overheated('False', '2026-01-01T00:04:00Z'));
  const told = {
    ...{ type: 'Overheated', status: 'False', reason: 'Any', message: 'False °C' },
    lastTransitionTime: '2026-01-01T00:04:00Z',
  };
  const news = statusPatch(first, cool);
  assert.ok(news.changed);
  assert.deepEqual(listed(news.patch)[0], told);
  const same = statusPatch(cool, at(overheated('False', '2026-01-01T00:04:00Z'), cool));
  assert.ok(!same.changed);
  assert.ok(!listed(same.patch).some(({ type }) => type === 'Overheated'));
  // An agent that has started again does not know since when; the object does.
  const again = at(overheated('False', '2026-01-01T00:09:00Z'), cool);
  assert.equal(statusPatch(cool, again).changed, false);
  const hot = statusPatch(cool, at(overheated('True', '2026-01-01T00:10:00Z'), cool));
  assert.ok(hot.changed);
  assert.equal(
    (listed(hot.patch)[0] as { lastTransitionTime?: string }).lastTransitionTime,
    '2026-01-01T00:10:00Z',
  );
});

test('an object of our name is ours by its machine or by its UID', () => {
  const stored = (machineID: string, status: string) => ({
    metadata: { name: 'pi1', uid: 'u1' },
    status: {
      conditions: [{ type: 'Ready', status }],
      nodeInfo: { ...first.nodeInfo!, machineID, systemUUID: machineID },
    },
  });
  assert.equal(ownerOf({ metadata: { name: 'pi1' } }, MACHINE, undefined).whose, 'ours');
  assert.equal(ownerOf(stored('m1', 'True'), MACHINE, undefined).whose, 'ours');
  assert.equal(ownerOf(stored('m2', 'True'), MACHINE, 'u1').whose, 'ours');
  assert.equal(ownerOf(stored('m2', 'True'), MACHINE, 'u0').whose, 'others');
  assert.equal(ownerOf(stored('m2', 'Unknown'), MACHINE, undefined).whose, 'forsaken');
});
