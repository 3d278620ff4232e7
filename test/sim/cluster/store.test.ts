/** The store of the simulation behaves as the real one where both are used. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deletion, ledger, open, place, pod } from '../../store/world.ts';
import { Card, openCard, type StoreUsed } from './store.ts';

type Reopen = () => StoreUsed;

function real(t: { after(end: () => void): void }): Reopen {
  const where = place(t);
  let last: ReturnType<typeof open> | undefined;
  t.after(() => last?.[Symbol.dispose]());
  return () => {
    last?.[Symbol.dispose]();
    last = open(where);
    return last;
  };
}

function simulated(): Reopen {
  const card = new Card();
  return () => openCard(card, { onWrite: () => undefined, onForgotten: () => undefined });
}

for (const [name, make] of [['the real store', real] as const, ['the card', simulated] as const]) {
  test(`${name}: pods keep their order and their deletion, also when they are put again`, (t) => {
    const reopen = make(t);
    const store = reopen();
    assert.equal(store.putPod(pod('a'), 'api', '1'), 1);
    assert.deepEqual(
      store.replacePods({ add: [{ pod: pod('b'), source: 'file', specHash: '2' }], delete: [] }),
      [2],
    );
    store.putDeletion('uid-a', deletion(7));
    assert.equal(store.putPod(pod('a'), 'api', '3'), 1);
    const again = reopen().pods();
    assert.deepEqual(
      again.map(({ order, source, specHash, deletion: gone }) => [
        ...[order, source, specHash, gone?.graceSeconds],
      ]),
      [
        [1, 'api', '3', 7],
        [2, 'file', '2', undefined],
      ],
    );
  });

  test(`${name}: an order is given once`, (t) => {
    const store = make(t)();
    store.putPod(pod('a'), 'api', '1');
    store.forget('uid-a');
    assert.deepEqual(store.pods(), []);
    assert.equal(store.putPod(pod('a'), 'api', '1'), 2);
    assert.equal(store.pods()[0]?.ledger, undefined);
  });

  test(`${name}: ledgers are kept of pods that are known, and of no others`, (t) => {
    const reopen = make(t);
    const store = reopen();
    store.putPod(pod('a'), 'api', '1');
    const unknown = store.putLedgers([
      { uid: 'uid-a', ledger: ledger(3) },
      { uid: 'uid-x', ledger: ledger(4) },
    ]);
    assert.deepEqual(unknown, ['uid-x']);
    assert.deepEqual(reopen().pods()[0]?.ledger, ledger(3));
  });

  test(`${name}: a deletion of an unknown pod fails, and nothing of its change is stored`, (t) => {
    const store = make(t)();
    const add = [{ pod: pod('b'), source: 'api' as const, specHash: '2' }];
    const change = { add, delete: [{ uid: 'uid-x', deletion: deletion() }] };
    assert.throws(() => store.replacePods(change), { code: 'NotFound' });
    assert.throws(() => store.putDeletion('uid-x', deletion()), { code: 'NotFound' });
    assert.deepEqual(store.pods(), []);
    store.forget('uid-x');
  });

  test(`${name}: settings`, (t) => {
    const reopen = make(t);
    const store = reopen();
    assert.equal(store.meta('cluster.x'), undefined);
    store.setMeta('cluster.x', '1');
    store.setMeta('cluster.y', '2');
    store.setMeta('cluster.y', undefined);
    const again = reopen();
    assert.deepEqual([again.meta('cluster.x'), again.meta('cluster.y')], ['1', undefined]);
  });
}
