import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Desired } from '../../src/agent/desired.ts';
import type { Turns, Worker } from '../../src/agent/turns.ts';
import { createLog } from '../../src/base/log.ts';
import { Failure } from '../../src/base/failure.ts';
import { firstSeen, type Want } from '../../src/pod/model.ts';
import { aPod } from '../pod/a-pod.ts';
import { handClock, open, place } from '../store/world.ts';

/** A pod that is in no store. */
function rig(t: TestContext, changes: Partial<Want>) {
  const clock = handClock();
  const store = open(place(t), { clock });
  t.after(() => store[Symbol.dispose]());
  const want: Want = { pod: aPod(), source: 'local', order: 1, ...changes };
  const uid = want.pod.metadata.uid;
  const worker = { uid, want, seen: firstSeen(undefined) } as unknown as Worker;
  const posted: string[] = [];
  const turns = {
    workers: new Map([[uid, worker]]),
    post: (_: string, { type }: { type: string }) => posted.push(type),
  } as unknown as Turns;
  const desired = new Desired({
    ...{ store, turns, clock, log: createLog('error', () => undefined) },
    node: { name: 'pi', maxPods: 110, allocatable: { cpuMilli: 4000, memoryBytes: 1e9 } },
    onEvent: () => undefined,
    onOver: () => undefined,
    onPods: () => undefined,
  });
  return { desired, worker, posted };
}

test('a pod that nobody wants is ended sooner when somebody deletes it', (t) => {
  const deletion = { graceSeconds: 30, at: { monoMs: 0, wallMs: 0, boot: 'boot-1' } };
  const { desired, worker, posted } = rig(t, { deletion });
  desired.remove(worker, 1);
  assert.equal(worker.want.deletion?.graceSeconds, 1);
  assert.deepEqual(posted, ['Tick']);
});

test('a wanted pod that the store does not know is not ended', (t) => {
  const { desired, worker, posted } = rig(t, {});
  assert.throws(
    () => desired.remove(worker, 1),
    (error) => error instanceof Failure && error.code === 'NotFound',
  );
  assert.deepEqual([worker.want.deletion, posted], [undefined, []]);
});
