/**
 * emptyDir: a directory that lives as long as its pod, over restarts and power cuts, or a tmpfs,
 * which lives as long as the pod and the power.
 * Source: pkg/volume/emptydir/empty_dir.go.
 */
import { chmod, chown, lstat, mkdir, rename } from 'node:fs/promises';

import { Failure, errnoOf } from '../base/failure.ts';
import { fileFailure } from '../linux/files.ts';
import { mountTmpfs, unmount } from '../linux/mount.ts';
import { mounts } from '../linux/proc.ts';
import { removeTree } from '../linux/remove-tree.ts';
import { pathSegment, volumeDirectory } from '../pod/names.ts';
import { tmpfsSizeBytes } from '../pod/resources.ts';
import { ensureDirectories, ensureDirectory, realDirectory } from './below.ts';
import type { VolumePlugin } from './plugin.ts';

const FOLDER = 'kubernetes.io~empty-dir';
const OUR_MODE = 0o750;

export const emptyDir: VolumePlugin<'emptyDir'> = {
  kind: 'emptyDir',
  folder: FOLDER,

  async setUp({ rootDirectory, podUid, pod, allocatableMemoryBytes }, volume, signal) {
    const root = await realDirectory(rootDirectory);
    const hostPath = volumeDirectory(root, podUid, FOLDER, volume.name);
    await ensureDirectories(
      root,
      ['pods', pathSegment(podUid, 'metadata.uid'), 'volumes', FOLDER],
      OUR_MODE,
    );
    const gid = pod.spec.securityContext.fsGroup;
    const mode = gid === undefined ? 0o777 : 0o2777;
    if (volume.medium === '') {
      await makeWhole(hostPath, mode, gid);
      return { hostPath };
    }
    const fsTypes = mountedAt(hostPath);
    if (fsTypes.length === 0) {
      await ensureDirectory(hostPath, 0o700);
      const sizeBytes = tmpfsSizeBytes(pod, volume.sizeLimit, allocatableMemoryBytes);
      const options = { mode, ...(sizeBytes === undefined ? {} : { sizeBytes }) };
      await mountTmpfs(hostPath, gid === undefined ? options : { ...options, gid }, signal);
    } else if (fsTypes.at(-1) !== 'tmpfs') {
      throw new Failure(
        'Unavailable',
        `volume ${volume.name}: a file system of type ${fsTypes.at(-1)} is mounted at ${hostPath}, ` +
          'where its tmpfs belongs; unmount it',
      );
    }
    return { hostPath };
  },

  async tearDown({ rootDirectory, podUid }, { name }, signal) {
    const root = await realDirectory(rootDirectory);
    const hostPath = volumeDirectory(root, podUid, FOLDER, name);
    const fsTypes = mountedAt(hostPath);
    // What is not our tmpfs stays mounted, and removeTree refuses to go near it.
    if (fsTypes.length > 0 && fsTypes.every((fsType) => fsType === 'tmpfs')) {
      await unmount(hostPath, signal);
    }
    await removeTree(root, hostPath, signal);
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

/** The types of the file systems that are mounted there, the last on top. */
function mountedAt(path: string): readonly string[] {
  return mounts()
    .filter(({ mountPoint }) => mountPoint === path)
    .map(({ fsType }) => fsType);
}
