import assert from 'node:assert/strict';
import { test } from 'node:test';

import { containerResources, tmpfsSizeBytes } from '../../src/pod/resources.ts';
import type { ResourceRequirements } from '../../src/kube/pod.ts';
import { aContainer, aPod } from './a-pod.ts';

const GIB = 2 ** 30;
const MIB = 2 ** 20;

function resources(given: Partial<ResourceRequirements>, swapControlled?: boolean) {
  const container = aContainer({ resources: { requests: {}, limits: {}, ...given } });
  const pod = aPod({ containers: [container] });
  const facts = { memoryCapacityBytes: 4 * GIB };
  return containerResources(
    pod,
    container,
    swapControlled === undefined ? facts : { ...facts, swapControlled },
  );
}

const OOM = { 'memory.oom.group': '1' };

test('nothing asked for: the least share, no limit, the first to be killed', () => {
  assert.deepEqual(resources({}), {
    cpuPeriod: 100_000,
    cpuQuota: 0,
    cpuShares: 2,
    memoryLimitInBytes: 0,
    oomScoreAdj: 1000,
    unified: OOM,
  });
});

test('requests and limits', () => {
  const given = {
    requests: { cpu: '250m', memory: '1Gi' },
    limits: { cpu: '500m', memory: '2Gi' },
  };
  assert.deepEqual(resources(given), {
    cpuPeriod: 100_000,
    cpuQuota: 50_000,
    cpuShares: 256,
    memoryLimitInBytes: 2 * GIB,
    // A quarter of the machine is asked for: 1000 - 250.
    oomScoreAdj: 750,
    unified: OOM,
  });
});

test('a limit alone is a request too', () => {
  const given = { limits: { cpu: '2', memory: '64Mi' } };
  assert.deepEqual(resources(given), {
    cpuPeriod: 100_000,
    cpuQuota: 200_000,
    cpuShares: 2048,
    memoryLimitInBytes: 64 * MIB,
    // Guaranteed.
    oomScoreAdj: -997,
    unified: OOM,
  });
});

test('a tiny quota is a millisecond', () => {
  assert.equal(resources({ limits: { cpu: '1m' } }).cpuQuota, 1000);
});

test('no swap where the kernel can say so', () => {
  assert.deepEqual(resources({}, true).unified, { ...OOM, 'memory.swap.max': '0' });
  assert.deepEqual(resources({}, false).unified, OOM);
});

const limited = aPod({
  containers: [aContainer({ resources: { requests: {}, limits: { memory: '64Mi' } } })],
});

for (const [name, pod, sizeLimit, memoryBytes, wanted] of [
  ['nothing is known', aPod(), undefined, 0, undefined],
  ['the node', aPod(), undefined, GIB, GIB],
  ['the volume', aPod(), '16Mi', GIB, 16 * MIB],
  ['the node, as the volume wants more', aPod(), '2Gi', GIB, GIB],
  ['the pod', limited, undefined, GIB, 64 * MIB],
  ['the pod, as the volume wants more', limited, '128Mi', GIB, 64 * MIB],
  ['the volume, within the pod', limited, '1Mi', GIB, MIB],
  ['zero is no limit', limited, '0', 0, 64 * MIB],
] as const) {
  test(`size of a tmpfs: ${name}`, () => {
    assert.equal(tmpfsSizeBytes(pod, sizeLimit, { memoryBytes }), wanted);
  });
}
