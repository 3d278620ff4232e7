/**
 * Pods that a cluster which was restored from a backup does not know any more. Nobody has ended
 * them, so they go on until the cluster has another pod of their name, or until somebody on the
 * board ends them (`limpet delete pod`).
 */
import type { Store } from '../store/store.ts';
import { restoredWhy, settleRestored } from './cluster-check.ts';

const KEY = 'cluster.forgottenPods';

export type Forgotten = {
  /** Whether a pod goes on that a complete list does not have. */
  isKept(uid: string): boolean;
  /** The list was told; these pods are still here. */
  settle(uids: readonly string[]): void;
};

/** UIDs of the pods that are kept. */
export function forgottenPods(store: Pick<Store, 'meta'>): readonly string[] {
  const text = store.meta(KEY);
  return text === undefined ? [] : text.split(' ');
}

export function createForgotten(store: Pick<Store, 'meta' | 'setMeta'>): Forgotten {
  const kept = new Set(forgottenPods(store));
  const save = () => store.setMeta(KEY, kept.size === 0 ? undefined : [...kept].join(' '));
  return {
    isKept: (uid) => {
      if (restoredWhy(store) === undefined) return kept.has(uid);
      kept.add(uid);
      save();
      return true;
    },
    settle: (uids) => {
      const here = new Set(uids);
      for (const uid of kept) if (!here.has(uid)) kept.delete(uid);
      save();
      settleRestored(store);
    },
  };
}
