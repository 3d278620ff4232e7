/** The directory of a volume in that of its pod, on the disk or as a tmpfs of its own. */
import { Failure } from '../base/failure.ts';
import { mountTmpfs, unmount, type TmpfsOptions } from '../linux/mount.ts';
import { mounts } from '../linux/proc.ts';
import { removeTree } from '../linux/remove-tree.ts';
import { pathSegment, volumeDirectory } from '../pod/names.ts';
import { ensureDirectories, ensureDirectory, realDirectory } from './below.ts';
import type { VolumePlace } from './plugin.ts';

const OUR_MODE = 0o750;

/** Makes the directories above a volume, and tells where it belongs. @throws Failure */
export async function placeForVolume(
  { rootDirectory, podUid }: VolumePlace,
  folder: string,
  name: string,
): Promise<string> {
  const root = await realDirectory(rootDirectory);
  const hostPath = volumeDirectory(root, podUid, folder, name);
  const parts = ['pods', pathSegment(podUid, 'metadata.uid'), 'volumes', folder];
  await ensureDirectories(root, parts, OUR_MODE);
  return hostPath;
}

/**
 * Mounts a tmpfs where the volume belongs, unless it is there, and tells where that is.
 * @throws Failure `Unavailable` when something else is mounted there
 */
export async function setUpTmpfs(
  place: VolumePlace,
  folder: string,
  name: string,
  options: TmpfsOptions,
  signal: AbortSignal,
): Promise<string> {
  const hostPath = await placeForVolume(place, folder, name);
  const fsType = mountedAt(hostPath).at(-1);
  if (fsType === undefined) {
    await ensureDirectory(hostPath, 0o700);
    await mountTmpfs(hostPath, options, signal);
  } else if (fsType !== 'tmpfs') {
    throw new Failure(
      'Unavailable',
      `volume ${name}: a file system of type ${fsType} is mounted at ${hostPath}, ` +
        'where its tmpfs belongs; unmount it',
    );
  }
  return hostPath;
}

/** Takes the directory of a volume away, with the tmpfs on it if there is one. @throws Failure */
export async function tearDownDirectory(
  { rootDirectory, podUid }: VolumePlace,
  folder: string,
  name: string,
  signal: AbortSignal,
): Promise<{ readonly root: string; readonly hostPath: string }> {
  const root = await realDirectory(rootDirectory);
  const hostPath = volumeDirectory(root, podUid, folder, name);
  const fsTypes = mountedAt(hostPath);
  // What is not our tmpfs stays mounted, and removeTree refuses to go near it.
  if (fsTypes.length > 0 && fsTypes.every((fsType) => fsType === 'tmpfs')) {
    await unmount(hostPath, signal);
  }
  await removeTree(root, hostPath, signal);
  return { root, hostPath };
}

/** The types of the file systems that are mounted there, the last on top. */
function mountedAt(path: string): readonly string[] {
  return mounts()
    .filter(({ mountPoint }) => mountPoint === path)
    .map(({ fsType }) => fsType);
}
