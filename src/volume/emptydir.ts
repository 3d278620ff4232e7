/**
 * emptyDir: a directory that lives as long as its pod, over restarts and power cuts, or a tmpfs,
 * which lives as long as the pod and the power.
 * Source: pkg/volume/emptydir/empty_dir.go.
 */
import { chmod, chown, lstat, mkdir, rename } from 'node:fs/promises';

import { Failure, errnoOf } from '../base/failure.ts';
import { fileFailure } from '../linux/files.ts';
import { removeTree } from '../linux/remove-tree.ts';
import { tmpfsSizeBytes } from '../pod/resources.ts';
import { placeForVolume, setUpTmpfs, tearDownDirectory } from './directory.ts';
import type { VolumePlugin } from './plugin.ts';

const FOLDER = 'kubernetes.io~empty-dir';

export const emptyDir: VolumePlugin<'emptyDir'> = {
  kind: 'emptyDir',
  folder: FOLDER,

  async setUp(context, volume, signal) {
    const { pod, allocatable } = context;
    const gid = pod.spec.securityContext.fsGroup;
    const mode = gid === undefined ? 0o777 : 0o2777;
    if (volume.medium === '') {
      const hostPath = await placeForVolume(context, FOLDER, volume.name);
      await makeWhole(hostPath, mode, gid);
      return { hostPath };
    }
    const sizeBytes = tmpfsSizeBytes(pod, volume.sizeLimit, allocatable);
    const options = {
      mode,
      ...(sizeBytes !== undefined && { sizeBytes }),
      ...(gid !== undefined && { gid }),
    };
    return { hostPath: await setUpTmpfs(context, FOLDER, volume.name, options, signal) };
  },

  async tearDown(place, { name }, signal) {
    const { root, hostPath } = await tearDownDirectory(place, FOLDER, name, signal);
    await removeTree(root, unfinished(hostPath), signal);
  },
};

/**
 * Makes a directory with its mode and group in one step: it is there whole, or not at all. One that
 * is there is left alone, because a container may have given it another mode.
 */
async function makeWhole(path: string, mode: number, gid: number | undefined): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw fileFailure('look at', path, error);
  });
  if (found?.isDirectory() === true) return;
  if (found !== undefined) {
    throw new Failure(
      'AlreadyExists',
      `${path} is no directory: it was put there by somebody else; move it away`,
    );
  }
  const temporary = unfinished(path);
  try {
    await mkdir(temporary, 0o700).catch((error: unknown) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
    });
    // In this order: a change of the owner takes the setgid bit away.
    if (gid !== undefined) await chown(temporary, 0, gid);
    await chmod(temporary, mode);
    await rename(temporary, path);
  } catch (error) {
    throw fileFailure('make the directory', path, error);
  }
}

/** Beside the volume, under a name that no volume can have. */
function unfinished(path: string): string {
  const slash = path.lastIndexOf('/');
  return `${path.slice(0, slash)}/.${path.slice(slash + 1)}.new`;
}
