import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Worker } from '../../src/agent/turns.ts';
import { Turns } from '../../src/agent/turns.ts';
import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import type { Action, ActionResult, Ledger, View, Want } from '../../src/pod/model.ts';
import { aPod } from '../pod/a-pod.ts';

const OK: ActionResult = { ok: true };

/** Turns over an empty runtime; every action succeeds and is written down. */
function rig(options: { readonly full?: () => boolean } = {}) {
  const done: string[] = [];
  const stored: Ledger[] = [];
  const gone: string[] = [];
  const fail = { forget: false };
  const state: { view: Omit<View, 'seq'> } = {
    view: { epoch: 'e', sandboxes: [], containers: [] },
  };
  let seq = 0;
  const execute = (worker: Worker, action: Action): Promise<ActionResult> => {
    done.push(action.type);
    if (action.type === 'Look') {
      turns.post(worker.uid, { type: 'Looked', view: { ...state.view, seq: ++seq } });
    }
    return Promise.resolve(action.type === 'PullImage' ? { ok: true, value: 'sha256:x' } : OK);
  };
  const turns: Turns = new Turns({
    clock: systemClock('boot', () => 0),
    store: (ledgers) => {
      if (options.full?.() === true) throw new Failure('NoSpace', 'the disk is full');
      for (const { ledger } of ledgers) stored.push(ledger);
      done.push('store');
    },
    execute,
    lookSeq: () => seq,
    onEvent: () => undefined,
    onDone: ({ uid }) => {
      if (fail.forget) throw new Failure('NoSpace', 'the disk is full');
      gone.push(uid);
    },
    onTurn: () => undefined,
    onStored: () => undefined,
  });
  return { turns, done, stored, gone, state, fail };
}

function want(changes: Partial<Want> = {}): Want {
  return { pod: aPod(), source: 'local', order: 1, ...changes };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
}

test('the ledger is stored before an effect that was planned with it', async () => {
  const { turns, done, stored } = rig();
  turns.add(want(), undefined);
  turns.post('1f0a-22', { type: 'Admitted' });
  await settle();
  assert.ok(done.includes('RunPodSandbox'), done.join(' '));
  assert.ok(done.indexOf('store') < done.indexOf('SetUpPod'), done.join(' '));
  assert.ok(stored.some(({ sandboxAttempt }) => sandboxAttempt === 0));
  const last = done.lastIndexOf('store', done.indexOf('RunPodSandbox'));
  assert.ok(last >= 0);
  turns.stop(new Error('the test is over'));
});

test('on a full disk nothing is started, and what ends goes on ending', async () => {
  let full = true;
  const { turns, done, gone } = rig({ full: () => full });
  turns.add(want(), undefined);
  turns.post('1f0a-22', { type: 'Admitted' });
  await settle();
  assert.ok(!done.includes('SetUpPod') && !done.includes('RunPodSandbox'), done.join(' '));
  const worker = turns.workers.get('1f0a-22')!;
  worker.want = want({
    deletion: { graceSeconds: 0, at: { monoMs: 0, wallMs: 0, boot: 'boot' } },
  });
  turns.post(worker.uid, { type: 'Tick' });
  // The failed set-up of the pod's files holds up their removal for a second.
  for (let i = 0; i < 50 && gone.length === 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.ok(done.includes('TearDownPod'), done.join(' '));
  assert.deepEqual(gone, ['1f0a-22']);
  full = false;
  turns.stop(new Error('the test is over'));
});

test('a pod that could not be forgotten is forgotten later', async () => {
  const { turns, gone, fail } = rig();
  fail.forget = true;
  const at = { monoMs: 0, wallMs: 0, boot: 'boot' };
  turns.add(want({ deletion: { graceSeconds: 0, at } }), undefined);
  await settle();
  assert.deepEqual(gone, []);
  assert.ok(turns.workers.has('1f0a-22'), 'it is still known');
  fail.forget = false;
  turns.storeAgain();
  await settle();
  assert.deepEqual(gone, ['1f0a-22']);
  assert.ok(!turns.workers.has('1f0a-22'));
  turns.stop(new Error('the test is over'));
});

test('an unchanged ledger is not stored again', async () => {
  const { turns, stored } = rig();
  turns.add(want(), undefined);
  turns.hold({ reason: 'NotNow', message: 'later' });
  await settle();
  turns.post('1f0a-22', { type: 'Admitted' });
  await settle();
  const before = stored.length;
  for (let i = 0; i < 5; i++) turns.post('1f0a-22', { type: 'Tick' });
  await settle();
  assert.equal(stored.length, before);
  turns.stop(new Error('the test is over'));
});

test('a hold stops what begins until it is taken back', async () => {
  const { turns, done } = rig();
  turns.hold({ reason: 'RuntimeNotReady', message: 'waiting' });
  turns.add(want(), undefined);
  turns.post('1f0a-22', { type: 'Admitted' });
  await settle();
  assert.ok(!done.includes('SetUpPod'), done.join(' '));
  turns.hold(undefined);
  await settle();
  assert.ok(done.includes('SetUpPod'), done.join(' '));
  turns.stop(new Error('the test is over'));
});
