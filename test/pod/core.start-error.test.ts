// Starts that fail in the runtime, which then has an ended container that never ran.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pod } from '../sim/pods.ts';
import { Rig } from './rig.ts';

const NO_PROCESS =
  'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc ' +
  'create failed: unable to create new parent process: namespace path: lstat /proc/0/ns/ipc: no ' +
  'such file or directory: unknown';

test('a container made without the process of its sandbox is made again, even under Never', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.startErrors(NO_PROCESS);
  rig.after(5);
  assert.deepEqual(rig.starts, ['a#1']);
  rig.exit('a', 0);
  rig.after(60);
  assert.equal(rig.seen.ledger.terminal?.phase, 'Succeeded');
  assert.deepEqual(rig.starts, ['a#1'], 'it ran once');
});

test('while that goes on it waits as after any failure', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.startErrors(NO_PROCESS, NO_PROCESS);
  rig.after(9);
  assert.deepEqual(rig.starts, []);
  rig.after(2);
  assert.deepEqual(rig.starts, ['a#2']);
});

test('a start that fails for what the container itself says is the end under Never', () => {
  const rig = new Rig(pod('p', { restartPolicy: 'Never' }));
  rig.startErrors(
    'exec: "/proc/0/ns/ipc": stat /proc/0/ns/ipc: no such file or directory: unknown',
  );
  rig.after(60);
  assert.deepEqual(rig.starts, []);
  assert.equal(rig.seen.ledger.terminal?.phase, 'Failed');
});

test('a sandbox that failed for want of a network is made as soon as the runtime has one', () => {
  const rig = new Rig(pod('p', {}));
  rig.fail('RunPodSandbox', 'Unknown', 6);
  rig.after(40);
  assert.deepEqual(rig.starts, []);
  rig.post({ type: 'RuntimeBack', seq: 0 });
  rig.after(1);
  assert.deepEqual(rig.starts, ['a#0']);
});
