/**
 * A history of writes that a process which is killed and the test that checks it agree on: step n
 * depends on nothing but n and the state after the steps before it.
 */
import { seededRandom } from '../../src/base/random.ts';
import type { Store } from '../../src/store/store.ts';
import { deletion, ledger, pod } from './world.ts';

export type ModelPod = {
  readonly uid: string;
  readonly order: number;
  readonly deleted: boolean;
  readonly attempt: number | undefined;
};
export type Model = { readonly pods: readonly ModelPod[]; readonly lastOrder: number };

export const EMPTY: Model = { pods: [], lastOrder: 0 };

/** Step `n` on the model, and on the store if there is one. */
export function step(model: Model, n: number, store?: Store): Model {
  const random = seededRandom(n);
  const { pods, lastOrder } = model;
  const victim = pods.find(({ deleted }) => !deleted);
  const ended = pods.find(({ deleted }) => deleted);
  const kind = pods.length > 15 ? 0.75 + 0.2 * random.next() : random.next();
  const uids = (count: number) => Array.from({ length: count }, (_, i) => `uid-${n}-${i}`);
  const added = (names: readonly string[]): ModelPod[] =>
    names.map((uid, index) => ({
      ...{ uid, order: lastOrder + index + 1, deleted: false, attempt: undefined },
    }));
  const news = (names: readonly string[]) =>
    names.map((uid) => ({ pod: pod('p', uid), source: 'local', specHash: `${n}` }) as const);
  const without = (uid: string) => pods.map((p) => (p.uid === uid ? { ...p, deleted: true } : p));

  if (kind < 0.3) {
    const fresh = uids(1 + Math.floor(random.next() * 3));
    store?.putPods(news(fresh));
    return { pods: [...pods, ...added(fresh)], lastOrder: lastOrder + fresh.length };
  }
  if (kind < 0.65) {
    const some = pods.filter(() => random.next() < 0.5).map(({ uid }) => uid);
    store?.putLedgers(some.map((uid) => ({ uid, ledger: ledger(n) })));
    return { lastOrder, pods: pods.map((p) => (some.includes(p.uid) ? { ...p, attempt: n } : p)) };
  }
  if (kind < 0.7) {
    store?.backup();
    return model;
  }
  if (kind < 0.82 && victim !== undefined) {
    store?.putDeletion(victim.uid, deletion());
    return { lastOrder, pods: without(victim.uid) };
  }
  if (kind < 0.94 && ended !== undefined) {
    store?.forget(ended.uid);
    return { lastOrder, pods: pods.filter(({ uid }) => uid !== ended.uid) };
  }
  if (victim === undefined) return model;
  const fresh = uids(1);
  store?.replacePods({ add: news(fresh), delete: [{ uid: victim.uid, deletion: deletion() }] });
  return { pods: [...without(victim.uid), ...added(fresh)], lastOrder: lastOrder + 1 };
}

export function replay(steps: number): Model {
  let model = EMPTY;
  for (let n = 0; n < steps; n++) model = step(model, n);
  return model;
}

export function modelOf(store: Store): readonly ModelPod[] {
  return store.pods().map((stored) => ({
    uid: stored.pod.metadata.uid,
    order: stored.order,
    deleted: stored.deletion !== undefined,
    attempt: stored.ledger?.containers['main']?.attempt,
  }));
}
