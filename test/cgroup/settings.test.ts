import assert from 'node:assert/strict';
import { test } from 'node:test';

import { podSettings, qosSettings, settingFiles } from '../../src/cgroup/settings.ts';
import { parentSlice, settingProperties, sliceProperties } from '../../src/cgroup/systemd.ts';
import type { PodResources } from '../../src/kube/qos.ts';

const requests = { cpuMilli: 250, memoryBytes: 1, ephemeralStorageBytes: 0 };
const pod = (qosClass: PodResources['qosClass'], limits: PodResources['limits']): PodResources => ({
  qosClass,
  requests,
  limits,
});

test('the files of a pod’s cgroup', () => {
  const guaranteed = pod('Guaranteed', { cpuMilli: 1500, memoryBytes: 134_217_728 });
  assert.deepEqual(settingFiles(podSettings(guaranteed, 1024)), {
    'cpu.weight': '10',
    'cpu.max': '150000 100000',
    'memory.max': '134217728',
    'pids.max': '1024',
  });
  // A limit that not every container has does not hold for the pod.
  assert.deepEqual(settingFiles(podSettings(pod('Burstable', { memoryBytes: 4096 }), undefined)), {
    'cpu.weight': '10',
    'memory.max': '4096',
  });
  assert.deepEqual(settingFiles(podSettings(pod('BestEffort', {}), undefined)), {
    'cpu.weight': '1',
  });
});

test('the shares of the classes', () => {
  assert.deepEqual(settingFiles(qosSettings(0)), { 'cpu.weight': '1' });
  assert.deepEqual(settingFiles(qosSettings(4000)), { 'cpu.weight': '157' });
  assert.deepEqual(settingFiles({}), {});
});

test('what systemd is told is what the files hold, in its own units', () => {
  const settings = podSettings(pod('Guaranteed', { cpuMilli: 333, memoryBytes: 4096 }), 100);
  assert.deepEqual(settingProperties(settings), [
    ['CPUWeight', { type: 't', value: 10n }],
    ['CPUQuotaPeriodUSec', { type: 't', value: 100_000n }],
    // 33.3 % is rounded up to a whole percent.
    ['CPUQuotaPerSecUSec', { type: 't', value: 340_000n }],
    ['MemoryMax', { type: 't', value: 4096n }],
    ['TasksMax', { type: 't', value: 100n }],
  ]);
  assert.deepEqual(settingProperties({}), []);
  const names = sliceProperties('kubepods-burstable.slice', {}).map(([name]) => name);
  assert.deepEqual(names, [
    'Description',
    'Wants',
    'DefaultDependencies',
    'MemoryAccounting',
    'CPUAccounting',
    'IOAccounting',
    'TasksAccounting',
  ]);
});

test('a slice lies in the one that its name begins with', () => {
  assert.equal(parentSlice('kubepods.slice'), '-.slice');
  assert.equal(parentSlice('kubepods-burstable.slice'), 'kubepods.slice');
  assert.equal(parentSlice('kubepods-burstable-pod1_2.slice'), 'kubepods-burstable.slice');
});
