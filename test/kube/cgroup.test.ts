import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cgroupPath, podCgroupParent, qosCgroupName, sliceName } from '../../src/kube/cgroup.ts';

const UID = '1234-abcd';

test('the names are the kubelet’s', () => {
  const fs = (qos: 'Guaranteed' | 'Burstable' | 'BestEffort') =>
    podCgroupParent('cgroupfs', qos, UID);
  assert.equal(fs('Guaranteed'), '/kubepods/pod1234-abcd');
  assert.equal(fs('Burstable'), '/kubepods/burstable/pod1234-abcd');
  assert.equal(fs('BestEffort'), '/kubepods/besteffort/pod1234-abcd');
  assert.equal(
    podCgroupParent('systemd', 'Guaranteed', UID),
    '/kubepods.slice/kubepods-pod1234_abcd.slice',
  );
  assert.equal(
    podCgroupParent('systemd', 'BestEffort', UID),
    '/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1234_abcd.slice',
  );
  assert.equal(cgroupPath('systemd', qosCgroupName(undefined)), '/kubepods.slice');
  assert.equal(sliceName(qosCgroupName('Burstable')), 'kubepods-burstable.slice');
});
