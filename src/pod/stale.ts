/**
 * What changes for a pod when an object that it uses, one of its tokens or its own labels have
 * changed: its volumes are set up again beside what runs, and what waited for that tries at once.
 */
import { REASON } from '../kube/reason.ts';
import type { Volume } from '../kube/pod.ts';
import type { Seen, Want } from './model.ts';
import { without } from './seen.ts';

/** The kinds whose files the agent writes. */
const FILLED: ReadonlySet<Volume['kind']> = new Set([
  'configMap',
  'secret',
  'downwardAPI',
  'projected',
]);

/** Pure, as `reduce` is. */
export function objectsChanged({ pod }: Want, seen: Seen): Seen {
  const { spec } = pod;
  const filled = spec.volumes.filter(({ kind }) => FILLED.has(kind)).map(({ name }) => name);
  const retries = Object.fromEntries(
    Object.entries(seen.retries).filter(
      ([key, { fault }]) =>
        !(key.startsWith('volume/') || fault.reason === REASON.createContainerConfigError),
    ),
  );
  if (spec.imagePullSecrets === undefined) return { ...seen, staleVolumes: filled, retries };
  const images = Object.fromEntries(
    Object.entries(seen.images).map(([name, { backoff: _, ...image }]) => [name, image]),
  );
  return { ...seen, staleVolumes: filled, retries, images };
}

/** What changes from here on is not in it any more. */
export function volumeBegan(seen: Seen, name: string): Seen {
  if (!seen.staleVolumes.includes(name)) return seen;
  return { ...seen, staleVolumes: seen.staleVolumes.filter((other) => other !== name) };
}

/**
 * After a failure it is as it was before. What came while it was being set up is no reason to wait.
 */
export function volumeFailed(seen: Seen, name: string): Seen {
  const { staleVolumes } = seen;
  if (staleVolumes.includes(name)) {
    return { ...seen, retries: without(seen.retries, `volume/${name}`) };
  }
  return seen.volumes[name] === 'up' ? { ...seen, staleVolumes: [...staleVolumes, name] } : seen;
}
