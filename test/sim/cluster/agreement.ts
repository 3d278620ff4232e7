/** Whether the API server and the node have come to agree, at the end of a simulation. */
import type { Pod } from '../../../src/kube/pod.ts';
import type { World } from '../world.ts';
import { MIRROR, type ApiServer } from './api-server.ts';
import type { Facts } from './facts.ts';
import { disagreement } from './invariants.ts';
import type { Node } from './node.ts';
import type { Card } from './store.ts';

export type Sides = {
  readonly server: ApiServer;
  readonly facts: Facts;
  readonly world: World;
  readonly node: Node | undefined;
  readonly card: Card;
  readonly manifests: readonly Pod[];
};

/** What differs between the two; undefined when nothing does. */
export function unsettled({ server, facts, world, node, manifests }: Sides): string | undefined {
  const workers = [...(node?.turns.workers.values() ?? [])];
  for (const object of server.objects.values()) {
    const { annotations, uid, name } = object.metadata;
    const hash = annotations?.[MIRROR];
    const isWanted = manifests.some((pod) => pod.metadata.uid === hash);
    if (hash !== undefined && !isWanted) return `${name} is the mirror pod of nothing`;
    const why = disagreement(object, facts.all.get(hash ?? uid), world);
    if (why !== undefined) return `${name} ${uid} ${why}`;
  }
  for (const { metadata } of manifests) {
    const mirror = server.objects.get(`${metadata.namespace}/${metadata.name}`);
    if (mirror?.metadata.annotations?.[MIRROR] !== metadata.uid)
      return `${metadata.name} has no mirror pod`;
  }
  for (const { uid, want } of workers) {
    if (want.source !== 'api' || server.find(uid) !== undefined) continue;
    if (!facts.isRestored) return `${uid} is known to the node alone`;
  }
  return undefined;
}

/** What is left after all was deleted; undefined when nothing is. */
export function left({ server, facts, world, node, card }: Sides): string | undefined {
  const [object] = server.objects.values();
  if (object !== undefined) return `${object.metadata.name} is there`;
  // What a restored cluster does not know is ended by hand.
  const workers = [...(node?.turns.workers.values() ?? [])];
  for (const worker of workers) {
    if (facts.isRestored && worker.want.deletion === undefined) {
      node?.desired.remove(worker);
    }
    return `${worker.uid} is known`;
  }
  const [process] = world.alive;
  if (process !== undefined) return `${process.uid} runs`;
  const [stored] = card.pods.keys();
  return stored === undefined ? undefined : `${stored} is stored`;
}
