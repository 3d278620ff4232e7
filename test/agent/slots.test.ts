import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSlots } from '../../src/agent/slots.ts';

/** Work that ends when told. */
function gate() {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  return { promise, open: () => resolve(), fail: (error: Error) => reject(error) };
}

const never = new AbortController().signal;

test('no more run at once than there are slots', async () => {
  const slots = createSlots(2);
  let running = 0;
  let most = 0;
  const work = async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
  };
  await Promise.all(Array.from({ length: 20 }, (_, i) => slots.run(i, never, work)));
  assert.equal(most, 2);
  assert.equal(running, 0);
});

test('the lowest order goes first, however late it came', async () => {
  const slots = createSlots(1);
  const first = gate();
  const done: number[] = [];
  const blocked = slots.run(9, never, () => first.promise);
  const rest = [7, 3, 5, 3].map((order, index) =>
    slots.run(order, never, () => Promise.resolve(done.push(order * 10 + index)).then(() => {})),
  );
  first.open();
  await Promise.all([blocked, ...rest]);
  assert.deepEqual(done, [31, 33, 52, 70], 'equal orders keep the order in which they came');
});

test('a failure frees its slot', async () => {
  const slots = createSlots(1);
  await assert.rejects(
    slots.run(1, never, () => Promise.reject(new Error('no'))),
    /no/,
  );
  assert.equal(await slots.run(1, never, () => Promise.resolve('yes')), 'yes');
});

test('who gives up while waiting takes no slot', async () => {
  const slots = createSlots(1);
  const first = gate();
  const blocked = slots.run(1, never, () => first.promise);
  const controller = new AbortController();
  const waiting = slots.run(0, controller.signal, () => assert.fail('it was given up'));
  controller.abort(new Error('given up'));
  await assert.rejects(waiting, /given up/);
  first.open();
  await blocked;
  assert.equal(await slots.run(1, never, () => Promise.resolve('free')), 'free');
  await assert.rejects(
    slots.run(1, controller.signal, () => assert.fail('aborted before')),
    /given up/,
  );
});

test('when it is drained, what runs ends and nothing begins', async () => {
  const slots = createSlots(2);
  const first = gate();
  let ended = false;
  const running = slots.run(1, never, async () => {
    await first.promise;
    ended = true;
  });
  const drained = slots.drain().then(() => ended);
  const controller = new AbortController();
  const late = slots.run(0, controller.signal, () => assert.fail('it began'));
  first.open();
  assert.equal(await drained, true);
  await running;
  controller.abort(new Error('the agent is stopping'));
  await assert.rejects(late, /the agent is stopping/);
  await createSlots(1).drain();
});
