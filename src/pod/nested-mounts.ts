/** Mounts within mounts. Source: pkg/volume/util/nested_volumes.go, v1.36. */
import type { Container, Pod } from '../kube/pod.ts';

/**
 * Directories that a volume needs so that others can be mounted into it: containers can't make them
 * in a volume that they only read. Paths are relative to the volume, as lists of names.
 */
export function nestedMountPoints(pod: Pod, volume: string): readonly (readonly string[])[] {
  const { initContainers, containers } = pod.spec;
  const found = [...initContainers, ...containers].flatMap((container) => below(container, volume));
  return [...new Set(found)].map((path) => path.split('/'));
}

function below({ volumeMounts }: Container, volume: string): readonly string[] {
  const all = volumeMounts.map(({ mountPath }) => namesOf(mountPath).join('/')).sort();
  return volumeMounts.flatMap(({ name, mountPath }) => {
    if (name !== volume) return [];
    const prefix = `${namesOf(mountPath).join('/')}/`;
    const inside = all.filter((path) => path.startsWith(prefix));
    // What lies within another one of them is in that one's volume.
    const outermost = inside.filter((path) => !inside.some((one) => path.startsWith(`${one}/`)));
    return outermost.map((path) => path.slice(prefix.length));
  });
}

/** Parsing has refused `..`. */
function namesOf(path: string): readonly string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}
