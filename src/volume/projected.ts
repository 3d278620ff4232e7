/**
 * The volumes that the agent fills: config maps, secrets, the downward API, and projections of all
 * of these and of tokens. Setting one up again brings its files up to date.
 *
 * All of them lie in memory. The kubelet keeps config maps on the disk, but people keep secrets in
 * them, and an SD card wears; what is in them comes from the store after a power cut anyway.
 * Containers only read them (`pod/mounts.ts`), so nobody can prepare a trap in one.
 * Source: pkg/volume/{configmap,secret,downwardapi,projected}, v1.36.
 */
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Token } from '../kube/objects.ts';
import type { ServiceAccountTokenProjection } from '../kube/pod.ts';
import { nestedMountPoints } from '../pod/nested-mounts.ts';
import { tokenRequestsOf, volumeFiles, type FilledVolume } from '../pod/volume-files.ts';
import { writeAtomicDir } from './atomic-dir.ts';
import { ensureDirectories } from './below.ts';
import { setUpTmpfs, tearDownDirectory } from './directory.ts';
import type { VolumeContext, VolumePlugin, VolumeReady } from './plugin.ts';

/** As the kubelet's tmpfs has it; nobody can write into it in a container. */
const ROOT_MODE = 0o1777;
const MOUNT_POINT_MODE = 0o755;

export const configMap = filled('configMap', 'kubernetes.io~configmap');
export const secret = filled('secret', 'kubernetes.io~secret');
export const downwardAPI = filled('downwardAPI', 'kubernetes.io~downward-api');
export const projected = filled('projected', 'kubernetes.io~projected');

function filled<K extends FilledVolume['kind']>(kind: K, folder: string) {
  return {
    kind,
    folder,
    setUp: (context: VolumeContext, volume: FilledVolume, signal: AbortSignal) =>
      setUp(folder, context, volume, signal),
    tearDown: async (place, { name }, signal) => {
      await tearDownDirectory(place, folder, name, signal);
    },
  } satisfies VolumePlugin<K>;
}

async function setUp(
  folder: string,
  context: VolumeContext,
  volume: FilledVolume,
  signal: AbortSignal,
): Promise<VolumeReady> {
  const { pod, objects, allocatable, wallMs } = context;
  const tokens = await tokensOf(context, volume, signal);
  // Before anything is touched: where something is missing, the volume stays as it was.
  const files = volumeFiles(pod, volume, { objects, allocatable, tokens });
  if (!files.ok) throw new Failure(files.fault.code, files.fault.message);
  const sources = volume.kind === 'projected' ? volume.sources.length : 1;
  const options = { mode: ROOT_MODE, sizeBytes: Math.max(1, sources) * LIMITS.volumeSourceBytes };
  const hostPath = await setUpTmpfs(context, folder, volume.name, options, signal);
  for (const names of nestedMountPoints(pod, volume.name)) {
    await ensureDirectories(hostPath, names, MOUNT_POINT_MODE);
  }
  const gid = pod.spec.securityContext.fsGroup;
  const how = { wallMs, ...(gid !== undefined && { gid }) };
  await writeAtomicDir(hostPath, files.value, how, signal);
  if (tokens.size === 0) return { hostPath };
  const ends = [...tokens.values()].map(({ expiresAtMs }) => expiresAtMs);
  return { hostPath, expiresAtMs: Math.min(...ends) };
}

async function tokensOf(
  context: VolumeContext,
  volume: FilledVolume,
  signal: AbortSignal,
): Promise<ReadonlyMap<ServiceAccountTokenProjection, Token>> {
  const tokens = new Map<ServiceAccountTokenProjection, Token>();
  for (const [source, request] of tokenRequestsOf(context.pod, volume)) {
    tokens.set(source, await context.token(request, signal));
  }
  return tokens;
}
