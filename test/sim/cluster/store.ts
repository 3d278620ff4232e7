/**
 * The store as maps: what it was given is kept when it returns, whatever happens to the agent.
 * `store.test.ts` compares it with the real one.
 */
import { Failure } from '../../../src/base/failure.ts';
import type { Deletion, Ledger } from '../../../src/pod/model.ts';
import type { StoredPod } from '../../../src/store/rows.ts';
import type { Store } from '../../../src/store/store.ts';

/** What the parts under test make use of. */
export type StoreUsed = Pick<
  Store,
  | 'opening'
  | 'pods'
  | 'putPod'
  | 'replacePods'
  | 'putDeletion'
  | 'putLedgers'
  | 'forget'
  | 'meta'
  | 'setMeta'
>;

/** What outlives the agent and a power cut. */
export class Card {
  readonly pods = new Map<string, Omit<StoredPod, 'ledger'>>();
  readonly ledgers = new Map<string, string>();
  readonly meta = new Map<string, string>();
  lastOrder = 0;
}

export type CardPorts = {
  /** Called at each write, `before` and after it; may throw. */
  readonly onWrite: (when: 'before' | 'after') => void;
  readonly onForgotten: (uid: string) => void;
};

/** The store of one run of the agent. */
export function openCard(card: Card, { onWrite, onForgotten }: CardPorts): StoreUsed {
  const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;
  const write = <T>(body: () => T): T => {
    onWrite('before');
    const result = body();
    onWrite('after');
    return result;
  };
  const remove = (uid: string, deletion: Deletion) => {
    card.pods.set(uid, { ...card.pods.get(uid)!, deletion: copy(deletion) });
  };
  const replacePods: StoreUsed['replacePods'] = (change) => {
    for (const { uid } of change.delete) {
      if (card.pods.has(uid)) continue;
      throw new Failure('NotFound', `cannot delete the pod with uid ${uid}: it is not stored here`);
    }
    return write(() => {
      for (const { uid, deletion } of change.delete) remove(uid, deletion);
      return change.add.map(({ pod, source, specHash }) => {
        const { uid } = pod.metadata;
        const old = card.pods.get(uid);
        const order = old?.order ?? (card.lastOrder += 1);
        const deletion = old?.deletion && { deletion: old.deletion };
        card.pods.set(uid, { pod: copy(pod), source, specHash, order, ...deletion });
        return order;
      });
    });
  };
  return {
    opening: { state: 'clean', message: '', uncertain: [] },
    pods: () =>
      [...card.pods.values()]
        .sort((a, b) => a.order - b.order)
        .map((stored) => {
          const text = card.ledgers.get(stored.pod.metadata.uid);
          return { ...stored, ...(text !== undefined && { ledger: JSON.parse(text) as Ledger }) };
        }),
    putPod: (pod, source, specHash) =>
      replacePods({ add: [{ pod, source, specHash }], delete: [] })[0]!,
    replacePods,
    putDeletion: (uid, deletion) => void replacePods({ add: [], delete: [{ uid, deletion }] }),
    putLedgers: (ledgers) =>
      write(() =>
        ledgers.flatMap(({ uid, ledger }) => {
          if (!card.pods.has(uid)) return [uid];
          card.ledgers.set(uid, JSON.stringify(ledger));
          return [];
        }),
      ),
    forget: (uid) => {
      write(() => {
        card.pods.delete(uid);
        card.ledgers.delete(uid);
      });
      onForgotten(uid);
    },
    meta: (key) => card.meta.get(key),
    setMeta: (key, value) => {
      if (card.meta.get(key) === value) return;
      write(() => {
        if (value === undefined) card.meta.delete(key);
        else card.meta.set(key, value);
      });
    },
  };
}
