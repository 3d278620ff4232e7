/** All kinds of volumes. To add one: a file, a line here, a fixture in test/volume. */
import { readdir } from 'node:fs/promises';

import { errnoOf } from '../base/failure.ts';
import type { Volume } from '../kube/pod.ts';
import { fileFailure } from '../linux/files.ts';
import { podDirectory } from '../pod/names.ts';
import { realDirectory } from './below.ts';
import { emptyDir } from './emptydir.ts';
import { hostPath } from './hostpath.ts';
import type { VolumeContext, VolumePlace, VolumePlugin, VolumeReady } from './plugin.ts';
import { configMap, downwardAPI, projected, secret } from './projected.ts';

export const VOLUMES: { readonly [K in Volume['kind']]: VolumePlugin<K> } = {
  emptyDir,
  hostPath,
  configMap,
  secret,
  downwardAPI,
  projected,
};

/**
 * Makes a volume ready and tells where it is. To be called again when an object that it is made of
 * has changed, or a token is to be renewed; never twice at the same time for one volume.
 * @throws Failure
 */
export function setUpVolume(
  context: VolumeContext,
  volume: Volume,
  signal: AbortSignal,
): Promise<VolumeReady> {
  return pluginOf(volume.kind).setUp(context, volume, signal);
}

/** Takes a volume away. @throws Failure while it is in use. */
export function tearDownVolume(
  place: VolumePlace,
  volume: Pick<Volume, 'kind' | 'name'>,
  signal: AbortSignal,
): Promise<void> {
  return pluginOf(volume.kind).tearDown(place, volume, signal);
}

/**
 * Takes away all volumes of a pod that nobody knows any more, by what is left of them on the disk.
 * @throws Failure
 */
export async function tearDownLeftovers(place: VolumePlace, signal: AbortSignal): Promise<void> {
  const root = await realDirectory(place.rootDirectory);
  for (const plugin of Object.values(VOLUMES)) {
    if (plugin.folder === undefined) continue;
    const folder = `${podDirectory(root, place.podUid)}/volumes/${plugin.folder}`;
    for (const name of await namesIn(folder)) await plugin.tearDown(place, { name }, signal);
  }
}

function pluginOf(kind: Volume['kind']): VolumePlugin {
  // Which plugin belongs to which kind is checked where VOLUMES is written down.
  return VOLUMES[kind] as VolumePlugin;
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw fileFailure('list', directory, error);
  }
}
