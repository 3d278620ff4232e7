/**
 * A second copy of each accepted pod, as `<podsDirectory>/<uid>/pod.json`. It is written after the
 * database and before the acknowledgement, so a file without a row says that the database has lost
 * the pod. Its directory is the pod's own and goes with the pod.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from '../base/crc32.ts';
import { syncDirectory, writeFileDurably } from '../base/durable-file.ts';
import { errnoOf, Failure } from '../base/failure.ts';
import { isObject, isPod, isSource, parseObject, type StoredPod } from './rows.ts';

export type FiledPod = Pick<StoredPod, 'pod' | 'source' | 'order' | 'specHash'>;

const FILE_NAME = 'pod.json';
/** A manifest may have 1 MiB; nothing that was written here comes near to this. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** Throws a `Failure` for a uid that can't be the name of a directory. */
export function checkUid(uid: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$/.test(uid)) return uid;
  throw new Failure(
    'InvalidArgument',
    `metadata.uid ${JSON.stringify(uid.slice(0, 100))} can't be used: only letters, digits, ` +
      '"-", "." and "_" are allowed, and the first has to be a letter or a digit',
  );
}

/** Durable when it returns. Throws the system error. */
export function writePodFiles(podsDirectory: string, pods: readonly FiledPod[]): void {
  let made = false;
  for (const { pod, source, order, specHash } of pods) {
    const directory = join(podsDirectory, checkUid(pod.metadata.uid));
    made = mkdirSync(directory, { recursive: true, mode: 0o750 }) !== undefined || made;
    const filed = { pod, source, order, specHash } satisfies FiledPod;
    const check = crc32(JSON.stringify(filed));
    writeFileDurably(join(directory, FILE_NAME), JSON.stringify({ check, filed }, null, 1));
  }
  if (made) syncDirectory(podsDirectory);
}

/** Removes the file, and leaves the rest of the pod's directory to its owner. */
export function removePodFile(podsDirectory: string, uid: string): void {
  rmSync(join(podsDirectory, checkUid(uid), FILE_NAME), { force: true });
}

/** UIDs that have a pod file. */
export function listPodFiles(podsDirectory: string): readonly string[] {
  let names: string[];
  try {
    names = readdirSync(podsDirectory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
  return names.filter((name) => {
    const stat = statSync(join(podsDirectory, name, FILE_NAME), { throwIfNoEntry: false });
    return stat?.isFile() === true;
  });
}

/** The pod of one file. Throws a `Failure` that says what is wrong with it. */
export function readPodFile(podsDirectory: string, uid: string): FiledPod {
  const path = join(podsDirectory, checkUid(uid), FILE_NAME);
  const bytes = statSync(path).size;
  const value = bytes > MAX_FILE_BYTES ? undefined : parseObject(readFileSync(path, 'utf8'));
  const filed = isObject(value) ? value['filed'] : undefined;
  if (
    isObject(value) &&
    isObject(filed) &&
    crc32(JSON.stringify(filed)) === value['check'] &&
    isPod(filed['pod']) &&
    filed['pod'].metadata.uid === uid &&
    isSource(filed['source']) &&
    Number.isSafeInteger(filed['order']) &&
    typeof filed['specHash'] === 'string'
  ) {
    return filed as FiledPod;
  }
  throw new Failure('InvalidArgument', `${path}: damaged, it is not a pod as limpet stored it`);
}

/** All pods that have a readable file; `report` is told of each that has not. */
export function readPodFiles(
  podsDirectory: string,
  report: (error: unknown) => void = () => {},
): readonly FiledPod[] {
  return listPodFiles(podsDirectory).flatMap((uid) => {
    try {
      return [readPodFile(podsDirectory, uid)];
    } catch (error) {
      report(error);
      return [];
    }
  });
}
