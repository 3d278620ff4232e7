import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withRates, type PodUsage, type UsageReport } from '../../src/node/usage.ts';

const podRef = { name: 'web', namespace: 'default', uid: 'u1' };

function report(monoMs: number, scale: number, over: Partial<PodUsage> = {}): UsageReport {
  const counters = {
    monoMs,
    cpu: { usageCoreNanoSeconds: 1e9 * scale },
    io: { readBytes: 4096 * scale, writeBytes: 8192 * scale },
  };
  const rest = { rxErrors: 0, txErrors: 0 };
  const eth0 = { name: 'eth0', rxBytes: 1000 * scale, txBytes: 100 * scale, ...rest };
  const network = { monoMs, interfaces: [eth0] };
  const containers = [{ name: 'main', id: 'c1', ...counters }];
  const pod = { podRef, sandboxId: 's1', ...counters, network, containers, ...over };
  return {
    ...{ kind: 'UsageReport', time: '2026-11-26T00:00:00Z', depth: 'containers' },
    node: { ...counters, network },
    kubepods: counters,
    qosClasses: { BestEffort: counters },
    pods: [pod],
  };
}

test('what is used a second, by two reports', () => {
  const now = withRates(report(1000, 1), report(3000, 2));
  const pod = now.pods?.[0];
  for (const one of [
    now.node,
    now.kubepods,
    now.qosClasses?.BestEffort,
    pod,
    pod?.containers?.[0],
  ]) {
    assert.equal(one?.cpu?.usageNanoCores, 0.5e9);
    assert.equal(one.cpu.usageCoreNanoSeconds, 2e9);
    assert.deepEqual(one.io, {
      ...{ readBytes: 8192, writeBytes: 16_384 },
      ...{ readBytesPerSecond: 2048, writeBytesPerSecond: 4096 },
    });
  }
  for (const { network } of [now.node, pod!]) {
    const [eth0] = network?.interfaces ?? [];
    assert.equal(eth0?.rxBytesPerSecond, 500);
    assert.equal(eth0?.txBytesPerSecond, 50);
  }
});

test('no figure where a counter has begun anew', () => {
  const before = report(1000, 5);
  const reset = withRates(before, report(3000, 1)).pods?.[0];
  assert.equal(reset?.cpu?.usageNanoCores, undefined);
  assert.equal(reset?.io?.readBytesPerSecond, undefined);
  assert.equal(reset?.network?.interfaces[0]?.rxBytesPerSecond, undefined);

  // A new sandbox has a new interface, though it may have carried more than the old one already.
  const moved = withRates(before, report(3000, 9, { sandboxId: 's2' })).pods?.[0];
  assert.equal(moved?.network?.interfaces[0]?.rxBytesPerSecond, undefined);
  assert.equal(moved?.cpu?.usageNanoCores, 2e9);

  const c2 = { name: 'main', id: 'c2', monoMs: 3000, cpu: { usageCoreNanoSeconds: 9e9 } };
  const restarted = withRates(before, report(3000, 9, { containers: [c2] })).pods?.[0];
  assert.equal(restarted?.containers?.[0]?.cpu?.usageNanoCores, undefined);
  assert.equal(restarted?.cpu?.usageNanoCores, 2e9);

  const other = { podRef: { ...podRef, uid: 'u2' } };
  assert.equal(withRates(before, report(3000, 9, other)).pods?.[0]?.cpu?.usageNanoCores, undefined);
});

test('no figure without time between, or when the board has booted since', () => {
  for (const monoMs of [1000, 10]) {
    const { node } = withRates(report(1000, 1), report(monoMs, 2));
    assert.equal(node.cpu?.usageNanoCores, undefined);
    assert.equal(node.network?.interfaces[0]?.rxBytesPerSecond, undefined);
  }
});
