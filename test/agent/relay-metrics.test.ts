import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createMetrics, metOf } from '../../src/agent/relay-metrics.ts';
import { systemClock } from '../../src/base/clock.ts';
import type { UsageReport } from '../../src/node/usage.ts';
import { createUsage } from '../../src/usage/usage.ts';

const clock = systemClock('boot', () => 0);

test('the figures of the node, in the units of the message', () => {
  const one = { rxBytes: 0, txBytes: 0, rxErrors: 0, txErrors: 0 };
  const report: UsageReport = {
    ...{ kind: 'UsageReport', time: '2026-11-26T00:00:00Z', depth: 'node' },
    node: {
      monoMs: 1,
      cpu: { usageCoreNanoSeconds: 1, usageNanoCores: 1e9 },
      memory: { usageBytes: 900, workingSetBytes: 250 },
      capacity: { cpus: 4, memoryBytes: 1000 },
      fs: { availableBytes: 10, capacityBytes: 100, usedBytes: 90 },
      load: [0.5, 0.4, 0.3],
      network: {
        monoMs: 1,
        interfaces: [
          { ...one, name: 'eth0', rxBytesPerSecond: 2000, txBytesPerSecond: 1000 },
          { ...one, name: 'wlan0', rxBytesPerSecond: 500, txBytesPerSecond: 0 },
        ],
      },
    },
  };
  const figures = [
    { name: 'temperature_celsius', value: 51, of: 'cpu-thermal' },
    { name: 'temperature_celsius', value: 62.5, of: 'rp1' },
    { name: 'processor_clock_hertz', value: 1.5e9, of: 'policy0' },
  ];
  assert.deepEqual(metOf(report, figures), {
    ...{ cpuPercent: 25, memoryPercent: 25, diskPercent: 90, load1: 0.5 },
    ...{ receivedKBps: 2.5, sentKBps: 1, temperatureC: 62.5, cpuMHz: 1500 },
  });
  const { kind, time, depth } = report;
  assert.deepEqual(metOf({ kind, time, depth, node: { monoMs: 1 } }, []), {});
});

test('nothing is read while nobody hears, and all of it goes on afterwards', async () => {
  let [looks, told, heard] = [0, 0, false];
  const usage = createUsage({
    ...{ clock, directory: '/', cgroupRoot: '/sys/fs/cgroup', driver: () => 'systemd' },
    pods: () => [],
  });
  const metrics = createMetrics({
    ...{ clock, intervalMs: 300, figures: () => [], isHeard: () => heard },
    usage: (depth, maxAgeMs) => ((looks += 1), usage(depth, maxAgeMs)),
    onMetrics: () => (told += 1),
  });
  const end = new AbortController();
  const running = metrics.run(end.signal);
  await sleep(700);
  assert.equal(looks, 0);
  heard = true;
  for (let tries = 0; tries < 100 && told < 2; tries++) await sleep(50);
  assert.ok(looks >= 3 && told >= 2);
  const met = metrics.now();
  assert.equal(met?.ttl, 3600);
  assert.ok(met.load1 !== undefined && met.diskPercent !== undefined);
  heard = false;
  for (let tries = 0; tries < 100 && metrics.now() !== undefined; tries++) await sleep(50);
  assert.equal(metrics.now(), undefined, 'what is old is not told as new');
  end.abort();
  await running;
});
