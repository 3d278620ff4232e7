/** Which objects a watch has told of: enough to tell what a list does not have any more. */
import type { ApiObject, Stored } from './resource.ts';

export type Identified = {
  readonly namespace: string | undefined;
  readonly name: string;
  readonly uid: string;
  readonly resourceVersion: string;
};

export type Known = {
  get(uid: string): Identified | undefined;
  /** Another object that had the name of this one. */
  predecessor(object: Identified): Identified | undefined;
  /** Those that are not among `uids`. */
  without(uids: ReadonlySet<string>): readonly Identified[];
  remember(object: Identified): void;
  forget(object: Identified): void;
};

export function identify({ metadata }: Stored<ApiObject>): Identified {
  const { namespace, name, uid, resourceVersion } = metadata;
  return { namespace, name, uid, resourceVersion };
}

export function trackKnown(initial: Iterable<Identified>): Known {
  const byUid = new Map<string, Identified>();
  const byName = new Map<string, string>();
  const nameOf = ({ namespace, name }: Identified) => `${namespace ?? ''}/${name}`;
  const known: Known = {
    get: (uid) => byUid.get(uid),
    predecessor(object) {
      const uid = byName.get(nameOf(object));
      return uid === undefined || uid === object.uid ? undefined : byUid.get(uid);
    },
    without: (uids) => [...byUid.values()].filter(({ uid }) => !uids.has(uid)),
    remember(object) {
      byUid.set(object.uid, object);
      byName.set(nameOf(object), object.uid);
    },
    forget(object) {
      byUid.delete(object.uid);
      if (byName.get(nameOf(object)) === object.uid) byName.delete(nameOf(object));
    },
  };
  for (const object of initial) known.remember(object);
  return known;
}
