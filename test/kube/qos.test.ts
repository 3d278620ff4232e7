import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Container, Pod, ResourceList } from '../../src/kube/pod.ts';
import {
  cpuQuota,
  cpuShares,
  cpuWeight,
  oomScoreAdj,
  podResources,
  qosClass,
} from '../../src/kube/qos.ts';

type Sketch = { requests?: ResourceList; limits?: ResourceList; sidecar?: boolean };

function container(name: string, { requests = {}, limits = {}, sidecar }: Sketch): Container {
  return {
    name,
    resources: { requests, limits },
    ...(sidecar === true ? { restartPolicy: 'Always' } : {}),
  } as Container;
}

function pod(containers: Sketch[], initContainers: Sketch[] = [], priorityClassName?: string): Pod {
  return {
    spec: {
      containers: containers.map((sketch, i) => container(`c${i}`, sketch)),
      initContainers: initContainers.map((sketch, i) => container(`i${i}`, sketch)),
      ...(priorityClassName === undefined ? {} : { priorityClassName }),
    },
  } as unknown as Pod;
}

const both = (cpu: string, memory: string): ResourceList => ({ cpu, memory });

test('QoS classes', () => {
  const cases: readonly [string, Pod, string][] = [
    ['nothing said', pod([{}, {}]), 'BestEffort'],
    ['zero is nothing', pod([{ requests: both('0', '0'), limits: { cpu: '0' } }]), 'BestEffort'],
    ['other resources', pod([{ limits: { 'ephemeral-storage': '1Gi' } }]), 'BestEffort'],
    ['equal', pod([{ requests: both('1', '1Gi'), limits: both('1', '1Gi') }]), 'Guaranteed'],
    [
      'equal in value, spelled otherwise',
      pod([{ requests: both('1', '1Gi'), limits: both('1000m', '1024Mi') }]),
      'Guaranteed',
    ],
    ['limits alone are requests too', pod([{ limits: both('1', '1Gi') }]), 'Guaranteed'],
    ['only memory', pod([{ limits: { memory: '1Gi' } }]), 'Burstable'],
    ['a request alone', pod([{ requests: { cpu: '1m' } }]), 'Burstable'],
    [
      'less asked than allowed',
      pod([{ requests: both('1', '1'), limits: both('2', '1') }]),
      'Burstable',
    ],
    ['one of two', pod([{ limits: both('1', '1Gi') }, {}]), 'Burstable'],
    ['an init container without', pod([{ limits: both('1', '1Gi') }], [{}]), 'Burstable'],
    [
      'an init container with',
      pod([{ limits: both('1', '1Gi') }], [{ limits: both('2', '1Gi') }]),
      'Guaranteed',
    ],
    ['only an init container', pod([{}], [{ requests: { cpu: '1' } }]), 'Burstable'],
  ];
  for (const [what, of, expected] of cases) assert.equal(qosClass(of), expected, what);
});

test('requests: the larger of starting and running, sidecars in both', () => {
  const requests = (cpu: string): Sketch => ({ requests: both(cpu, '10') });
  const cpu = (of: Pod) => podResources(of).requests.cpuMilli;
  assert.equal(cpu(pod([requests('1'), requests('2')])), 3000);
  assert.equal(cpu(pod([requests('1')], [requests('5'), requests('4')])), 5000);
  assert.equal(cpu(pod([requests('3')], [requests('2')])), 3000);
  const sidecar = { ...requests('1'), sidecar: true };
  assert.equal(cpu(pod([requests('3')], [sidecar])), 4000);
  // The init container after the sidecar needs both, the one before it only itself.
  assert.equal(cpu(pod([requests('1')], [sidecar, requests('4')])), 5000);
  assert.equal(cpu(pod([requests('1')], [requests('4'), sidecar])), 4000);
  const all = podResources(pod([{ requests: { 'ephemeral-storage': '1Gi', memory: '1.5' } }]));
  assert.equal(all.requests.ephemeralStorageBytes, 1024 ** 3);
  assert.equal(all.requests.memoryBytes, 2);
});

test('limits hold for the pod only where every container has one', () => {
  const limits = (of: Pod) => podResources(of).limits;
  assert.deepEqual(limits(pod([{ limits: both('1', '10') }, { limits: { cpu: '500m' } }])), {
    cpuMilli: 1500,
  });
  assert.deepEqual(limits(pod([{}])), {});
  assert.deepEqual(limits(pod([{ limits: both('1', '10') }], [{}])), {});
  assert.deepEqual(limits(pod([{ limits: both('1', '10') }], [{ limits: both('3', '5') }])), {
    cpuMilli: 3000,
    memoryBytes: 10,
  });
  // As in the kubelet, an init container behind a sidecar with a limit counts as having one.
  const sidecar = { limits: both('1', '1'), sidecar: true };
  assert.deepEqual(limits(pod([{ limits: both('1', '10') }], [sidecar, {}])), {
    cpuMilli: 2000,
    memoryBytes: 11,
  });
});

test('OOM scores', () => {
  const gib = 1024 ** 3;
  const score = (of: Pod, index = 0) => oomScoreAdj(of, of.spec.containers[index]!, 8 * gib);
  assert.equal(score(pod([{}])), 1000);
  assert.equal(score(pod([{ limits: both('1', '1Gi') }])), -997);
  assert.equal(score(pod([{}], [], 'system-node-critical')), -997);
  assert.equal(score(pod([{ requests: { memory: '1Gi' } }])), 875);
  assert.equal(score(pod([{ requests: { memory: '1' } }])), 999, 'less than BestEffort');
  assert.equal(score(pod([{ requests: { cpu: '1' } }])), 999);
  assert.equal(score(pod([{ requests: { memory: '8Gi' } }])), 3, 'more than Guaranteed');
  assert.equal(score(pod([{ requests: { memory: '80Gi' } }])), 3);
  // 8589934592 * 0.001 is not whole: the kubelet's division cuts off.
  assert.equal(score(pod([{ requests: { memory: '8589935' } }])), 999);
  assert.equal(score(pod([{ requests: { memory: '17179870' } }])), 998);
});

test('a sidecar is killed no sooner than the least of its containers', () => {
  const of = pod(
    [{ requests: { memory: '2Gi' } }, { requests: { memory: '1Gi' } }],
    [{ requests: { memory: '1Mi' }, sidecar: true }, { requests: { memory: '1Mi' } }],
  );
  const score = (index: number) => oomScoreAdj(of, of.spec.initContainers[index]!, 8 * 1024 ** 3);
  assert.equal(score(0), 875);
  assert.equal(score(1), 999);
});

test('shares, weights and quotas', () => {
  assert.deepEqual(
    [0, 1, 2, 100, 1000, 4000, 1e9].map(cpuShares),
    [2, 2, 2, 102, 1024, 4096, 262144],
  );
  assert.deepEqual(
    [0, 2, 102, 1024, 4096, 262144, 1e9].map(cpuWeight),
    [1, 1, 4, 39, 157, 10000, 10000],
  );
  assert.equal(cpuQuota(0, 100_000), 0);
  assert.equal(cpuQuota(1, 100_000), 1000);
  assert.equal(cpuQuota(10, 100_000), 1000);
  assert.equal(cpuQuota(1500, 100_000), 150_000);
  assert.equal(cpuQuota(333, 10_000), 3330);
});
