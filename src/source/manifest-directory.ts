/**
 * The manifest directory, the kubelet's `staticPodPath`: every file in it that does not begin with
 * a dot is a manifest, and its pods run while it is there.
 *
 * Invariants
 * - A file is read once it has been quiet for a moment: half of a manifest can be a valid one.
 * - A file that is there but bad keeps the pods that it had, also over a restart of the agent
 *   (`previous`): a card that lost a block must not end what runs.
 * - A file's pods end when the file has been gone for a moment, as editors replace files.
 * - A directory that can't be read is no news: no pod ends because of it.
 * - One bad file does not touch the others, and a pod that two files have stays that of the file
 *   that had it first.
 *
 * Changes are told by inotify. A rescan every 20 s, like the kubelet's, finds what inotify can't
 * see (a file behind a link, a mount over the directory); it reads nothing that did not change.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { errnoOf, Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { Pod } from '../kube/pod.ts';
import { MANIFEST_ANNOTATION } from '../kube/static-uid.ts';
import { watchDirectory } from '../linux/inotify.ts';
import { lookAt, readStaticPods, type Look } from './manifest-file.ts';

export type ManifestError = {
  /** Of the file, or of the directory. */
  readonly path: string;
  readonly message: string;
};

export type ManifestsResult = {
  /** False until the directory was read once: then `pods` says nothing of what is wanted. */
  readonly synced: boolean;
  readonly pods: readonly Pod[];
  readonly errors: readonly ManifestError[];
};

export type ManifestOptions = {
  readonly clock: Clock;
  readonly log: Log;
  readonly nodeName: string;
  /** Called with all of it each time something changed, and once at the beginning. */
  readonly onChange: (result: ManifestsResult) => void;
  readonly signal: AbortSignal;
  /** Static pods that the node had before, for files that are bad now. */
  readonly previous?: readonly Pod[];
  readonly rescanMs?: number;
  /** How long a file has to stay as it is before it is read, or gone before its pods end. */
  readonly quietMs?: number;
};

const RESCAN_MS = 20_000;
const QUIET_MS = 1000;
const CALM_MS = 100;
/** A file that never stays quiet is no manifest. */
const PATIENCE_MS = 10_000;

type FileState = {
  /** What is believed of the file now. */
  pods: readonly Pod[];
  messages: readonly string[];
  /** Of the content behind `pods` and `messages`. */
  readMark: string | undefined;
  /** Of the last look, and since when it is so. */
  seenMark: string;
  seenMonoMs: number;
  /** Since when it is neither read nor quiet. */
  restlessMonoMs: number | undefined;
};

type Directory = {
  readonly path: string;
  readonly options: ManifestOptions;
  readonly quietMs: number;
  readonly files: Map<string, FileState>;
  /** Which file each pod is taken from, by namespace and name. */
  owners: ReadonlyMap<string, string>;
  /** Names as last listed. */
  names: readonly string[];
  listedMark: string | undefined;
  problem: string | undefined;
  synced: boolean;
  told: string | undefined;
  /** Errors that are in the log already. */
  logged: ReadonlySet<string>;
};

/**
 * Watches a manifest directory until `signal` is aborted, then resolves. What is wrong with the
 * files is in the results; it rejects only with what `onChange` throws beside a Failure.
 */
export async function watchManifests(path: string, options: ManifestOptions): Promise<void> {
  const { clock, log, signal } = options;
  const rescanMs = options.rescanMs ?? RESCAN_MS;
  const files = previousFiles(path, options.previous ?? []);
  const directory: Directory = {
    path,
    options,
    quietMs: options.quietMs ?? QUIET_MS,
    files,
    owners: ownersOf(files, new Map()),
    names: [],
    listedMark: undefined,
    problem: undefined,
    synced: false,
    told: undefined,
    logged: new Set(),
  };
  let woken = false;
  let pause = new AbortController();
  const wake = () => {
    woken = true;
    pause.abort();
  };
  signal.addEventListener('abort', wake, { once: true });
  const onEvent = () => {
    // A listing that was made before the event says nothing any more.
    directory.listedMark = undefined;
    wake();
  };
  using _watch = watchDirectory(path, clock, onEvent, (error) => {
    log.warn('manifests are only rescanned', { path, everyMs: rescanMs, error: error.message });
  });
  while (!signal.aborted) {
    woken = false;
    const again = await scan(directory);
    if (signal.aborted) break;
    tell(directory);
    // A file that is being written tells of each byte: that is looked at a few times a second.
    await clock.sleep(CALM_MS, signal).catch(() => undefined);
    if (woken || signal.aborted) continue;
    pause = new AbortController();
    const delayMs = again ? Math.ceil(directory.quietMs / 4) : rescanMs;
    await clock.sleep(delayMs, pause.signal).catch(() => undefined);
  }
  signal.removeEventListener('abort', wake);
}

/** Files that limpet knew before it was started, not looked at yet. */
function previousFiles(directory: string, previous: readonly Pod[]): Map<string, FileState> {
  const files = new Map<string, FileState>();
  for (const pod of previous) {
    const path = pod.metadata.annotations?.[MANIFEST_ANNOTATION];
    if (path === undefined) continue;
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (join(directory, name) !== path) continue;
    const state = files.get(name) ?? newFile();
    files.set(name, { ...state, pods: [...state.pods, pod] });
  }
  return files;
}

function newFile(): FileState {
  return {
    pods: [],
    messages: [],
    readMark: undefined,
    seenMark: '',
    seenMonoMs: 0,
    restlessMonoMs: undefined,
  };
}

/** Looks at everything once. True when something is not quiet yet and is to be looked at soon. */
async function scan(directory: Directory): Promise<boolean> {
  const names = await list(directory);
  if (names === undefined) return false;
  let again = false;
  for (const name of new Set([...names, ...directory.files.keys()])) {
    if (directory.options.signal.aborted) return false;
    if (await scanFile(directory, name)) again = true;
  }
  // What the files of a first, unsettled look would say is not all of it yet.
  if (!again) directory.synced = true;
  return again;
}

/** The names of the directory; undefined when it can't be read. */
async function list(directory: Directory): Promise<readonly string[] | undefined> {
  const { path } = directory;
  try {
    const { dev, ino, mtimeNs } = await stat(path, { bigint: true });
    const mark = `${dev}:${ino}:${mtimeNs}`;
    if (mark !== directory.listedMark) {
      const names = (await readdir(path)).filter((name) => !name.startsWith('.')).sort();
      directory.names = names.slice(0, LIMITS.manifestFiles);
      directory.listedMark = mark;
      const left = names.length - directory.names.length;
      directory.problem =
        left > 0 ? `has ${left} files too many, which are not read; remove them` : undefined;
    }
    return directory.names;
  } catch (error) {
    directory.listedMark = undefined;
    directory.problem = listProblem(error);
    return undefined;
  }
}

function listProblem(error: unknown): string {
  const code = errnoOf(error);
  if (code === 'ENOENT') return 'is not there; create the directory, or mount what it is on';
  if (code === 'ENOTDIR') return 'is not a directory; manifests are files in a directory';
  return `can't be read: ${error instanceof Error ? error.message : String(error)}`;
}

/** True when the file has to be looked at again soon. */
async function scanFile(directory: Directory, name: string): Promise<boolean> {
  const path = join(directory.path, name);
  const look = await lookAt(path);
  const known = directory.files.get(name);
  if (look.kind === 'gone' && known === undefined) return false;
  const file = known ?? newFile();
  directory.files.set(name, file);
  const nowMonoMs = directory.options.clock.now().monoMs;
  const mark = look.kind === 'gone' ? 'gone' : look.mark;
  if (mark !== file.seenMark) {
    const settled = file.seenMark === '' && !isFresh(directory, look);
    file.seenMark = mark;
    file.seenMonoMs = settled ? nowMonoMs - directory.quietMs : nowMonoMs;
  }
  if (mark === file.readMark) {
    file.restlessMonoMs = undefined;
    return false;
  }
  file.restlessMonoMs ??= nowMonoMs;
  if (nowMonoMs - file.seenMonoMs < directory.quietMs) {
    if (nowMonoMs - file.restlessMonoMs < PATIENCE_MS) return true;
    file.messages = ['is being written all the time; write it elsewhere and move it here'];
    return false;
  }
  if (look.kind === 'gone') {
    directory.files.delete(name);
    return false;
  }
  return settle(directory, path, file, look);
}

/** Whether a file that is seen for the first time was changed a moment ago. */
function isFresh({ options, quietMs }: Directory, look: Look): boolean {
  if (look.kind === 'gone') return true;
  if (look.kind !== 'file') return false;
  const ageMs = options.clock.now().wallMs - look.changedWallMs;
  return Math.abs(ageMs) < quietMs;
}

/** Takes a file as it is now. */
async function settle(
  { options }: Directory,
  path: string,
  file: FileState,
  look: Exclude<Look, { kind: 'gone' }>,
): Promise<boolean> {
  const reading =
    look.kind === 'bad'
      ? { ...look, messages: [look.message] }
      : await readStaticPods(path, options.nodeName);
  if (reading.kind === 'changing') return true;
  file.readMark = look.mark;
  file.restlessMonoMs = undefined;
  if (reading.kind === 'pods') {
    file.pods = reading.pods;
    file.messages = [];
  } else {
    const kept = file.pods.map(({ metadata }) => metadata.name).join(', ');
    const note =
      kept === '' ? [] : [`until it is repaired, its last good pods keep running: ${kept}`];
    file.messages = [...reading.messages, ...note];
  }
  // What was read may be newer than what was looked at; the next look tells.
  return reading.mark !== look.mark;
}

/** Reports the whole, if it is another than before. */
function tell(directory: Directory): void {
  const { options, synced } = directory;
  const result = compose(directory);
  const { pods, errors } = result;
  // Before the first good look there is only something to say if the directory is the trouble.
  if (!synced && directory.problem === undefined) return;
  const uids = pods.map((pod) => `${fullName(pod)}/${pod.metadata.uid}`);
  const told = JSON.stringify([synced, uids, errors]);
  if (told === directory.told) return;
  directory.told = told;
  const lines = new Set<string>();
  for (const { path, message } of errors) {
    const line = `${path}: ${message}`;
    lines.add(line);
    if (!directory.logged.has(line)) options.log.warn('manifest not taken', { path, message });
  }
  directory.logged = lines;
  try {
    options.onChange(result);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    // It could not be stored: tell it again with the next rescan.
    options.log.warn('manifests could not be taken', {
      path: directory.path,
      error: error.message,
    });
    directory.told = undefined;
  }
}

function compose(directory: Directory): ManifestsResult {
  const { path, files, problem, synced } = directory;
  const errors: ManifestError[] = problem === undefined ? [] : [{ path, message: problem }];
  directory.owners = ownersOf(files, directory.owners);
  const pods: Pod[] = [];
  for (const [name, file] of byName(files)) {
    for (const message of file.messages) errors.push({ path: join(path, name), message });
    for (const pod of file.pods) {
      const full = fullName(pod);
      const owner = directory.owners.get(full)!;
      if (owner === name) pods.push(pod);
      else {
        const message = `the pod ${full} is already in ${join(path, owner)}; remove one of them`;
        errors.push({ path: join(path, name), message });
      }
    }
  }
  return { synced, pods, errors };
}

type Files = ReadonlyMap<string, FileState>;

/**
 * The file that each pod is taken from: the one that had it `before`, so that a copy never ends
 * what runs, else the first by name.
 */
function ownersOf(files: Files, before: ReadonlyMap<string, string>): Map<string, string> {
  const owners = new Map<string, string>();
  for (const [name, file] of byName(files)) {
    for (const pod of file.pods) {
      const full = fullName(pod);
      if (!owners.has(full) || before.get(full) === name) owners.set(full, name);
    }
  }
  return owners;
}

function byName(files: Files): readonly (readonly [string, FileState])[] {
  return [...files].sort(([a], [b]) => (a < b ? -1 : 1));
}

function fullName({ metadata }: Pod): string {
  return `${metadata.namespace}/${metadata.name}`;
}
