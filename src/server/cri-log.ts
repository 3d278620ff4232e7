/**
 * Container logs as the runtime writes them: lines of `TIME STREAM P|F CONTENT` in
 * `<pod directory>/<container>/<attempt>.log`, where P is a part of a line and F its end.
 * Rotated files are `<attempt>.log.<date>` and `<attempt>.log.<date>.gz`.
 * Source: kubernetes design-proposals "kubelet-cri-logging", pkg/kubelet/logs.
 */
import { constants, watch } from 'node:fs';
import { lstat, open, readdir, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createGunzip } from 'node:zlib';
import type { Clock } from '../base/clock.ts';
import { errnoOf, Failure } from '../base/failure.ts';

export type LogEntry = {
  /** RFC 3339 with nanoseconds, as written. */
  readonly time: string;
  readonly stream: 'stdout' | 'stderr';
  /** The bytes without the line's end. */
  readonly content: Buffer;
  /** False for a part of a line that goes on in a later entry of the stream. */
  readonly endsLine: boolean;
};

export type LogSelection = {
  /** Only the last lines, counted in the file as the kubelet does (a part counts as a line). */
  readonly tailLines?: number;
  /** Only entries at or after this wall time. */
  readonly sinceMs?: number;
};

export type FollowOptions = LogSelection & {
  readonly clock: Clock;
  readonly signal: AbortSignal;
} & (
    | {
        /** Called when the container was started again and a later attempt's log is next. */
        readonly onAttempt: (attempt: number) => void;
      }
    | {
        /** Ends with this attempt: asked whether it runs whenever there is nothing more to read. */
        readonly isRunning: () => Promise<boolean>;
      }
  );

const READ_BYTES = 64 * 1024;
/** The runtime cuts lines at 16 KiB; anything above this is no log line. */
const MAX_LINE_BYTES = 1024 * 1024;
/** Lost events of the file system cost a delay of this long. */
const POLL_MS = 1000;
const MAX_LIST_TRIES = 5;
const NEWLINE = 0x0a;
const SPACE = 0x20;

/** The attempts that have a log in a container's log directory, in order. */
export async function listAttempts(directory: string): Promise<readonly number[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return [];
    throw logFailure(error, directory);
  });
  const attempts = names.map((name) => /^(\d{1,9})\.log(\.|$)/.exec(name)?.[1]);
  const found = attempts.filter((attempt) => attempt !== undefined).map(Number);
  return [...new Set(found)].sort((a, b) => a - b);
}

/**
 * The entries of one attempt that are there now, from the oldest rotated file to the newest.
 * @throws Failure NotFound when the attempt has no log, PermissionDenied when it may not be read.
 */
export async function* readLog(
  directory: string,
  attempt: number,
  selection: LogSelection,
): AsyncGenerator<LogEntry, void> {
  const files = await openAll(directory, attempt);
  try {
    yield* readFiles(files, selection, false);
  } finally {
    for (const file of files) await file.handle.close();
  }
}

/**
 * The entries of one attempt, then what is added to it, through rotations, and through later
 * attempts or until it has ended; in any case until `signal` is aborted or the directory is gone.
 */
export async function* followLog(
  directory: string,
  attempt: number,
  options: FollowOptions,
): AsyncGenerator<LogEntry, void> {
  const files = await openAll(directory, attempt);
  let current = files.at(-1);
  try {
    yield* readFiles(files, options, true);
    let following = attempt;
    let parser = createParser();
    using changes = watchChanges(directory, options.clock, options.signal);
    while (current !== undefined && !options.signal.aborted) {
      // Asked before the file is read, so that what a container says last is not missed.
      const running = 'isRunning' in options ? await options.isRunning() : true;
      const next = await successor(directory, following, current);
      // What came before the successor was found is all there will ever be in this file.
      yield* since(readOn(current, parser), options.sinceMs);
      if (next === 'gone') return;
      if (next === undefined && running) {
        await changes.next();
        continue;
      }
      yield* since(parser.finish(), options.sinceMs);
      if (next === undefined) return;
      if (next.attempt !== following) {
        if (!('onAttempt' in options)) return;
        options.onAttempt(next.attempt);
      }
      following = next.attempt;
      await current.handle.close();
      files.pop();
      current = await openFile(join(directory, `${following}.log`));
      if (current !== undefined) files.push(current);
      parser = createParser();
    }
  } finally {
    for (const file of files) await file.handle.close();
  }
}

type OpenFile = {
  readonly handle: FileHandle;
  readonly inode: number;
  readonly compressed: boolean;
  /** Where the next read begins. */
  position: number;
};

async function* readFiles(
  files: readonly OpenFile[],
  selection: LogSelection,
  goesOn: boolean,
): AsyncGenerator<LogEntry, void> {
  let skip = await linesToSkip(files, selection.tailLines);
  for (const file of files.slice(skip.files)) {
    const parser = createParser();
    if (file.compressed) {
      for await (const chunk of gunzip(file.handle)) {
        let rest = chunk;
        while (skip.lines > 0 && rest.length > 0) {
          const end = rest.indexOf(NEWLINE);
          if (end >= 0) skip = { ...skip, lines: skip.lines - 1 };
          rest = end < 0 ? rest.subarray(rest.length) : rest.subarray(end + 1);
        }
        yield* since(parser.push(rest), selection.sinceMs);
      }
    } else {
      file.position = skip.offset;
      yield* since(readOn(file, parser), selection.sinceMs);
    }
    skip = { files: 0, lines: 0, offset: 0 };
    // A line that is still being written is left to the one who follows.
    if (goesOn && file === files.at(-1)) file.position -= parser.pending();
    else yield* since(parser.finish(), selection.sinceMs);
  }
}

type Skip = {
  /** Files that are not wanted at all. */
  readonly files: number;
  /** Of the first wanted file: lines, if it is compressed, or bytes. */
  readonly lines: number;
  readonly offset: number;
};

async function linesToSkip(
  files: readonly OpenFile[],
  tailLines: number | undefined,
): Promise<Skip> {
  if (tailLines === undefined || tailLines < 0) return { files: 0, lines: 0, offset: 0 };
  let missing = tailLines;
  for (let index = files.length - 1; index >= 0; index--) {
    const file = files[index];
    if (file === undefined) break;
    if (file.compressed) {
      const lines = await countLines(file.handle);
      if (lines >= missing) return { files: index, lines: lines - missing, offset: 0 };
      missing -= lines;
    } else {
      const { offset, lines } = await tailOffset(file.handle, missing);
      if (lines >= missing) return { files: index, lines: 0, offset };
      missing -= lines;
    }
  }
  return { files: 0, lines: 0, offset: 0 };
}

/** Where the last `wanted` lines begin, and how many lines there are from there on. */
async function tailOffset(
  handle: FileHandle,
  wanted: number,
): Promise<{ readonly offset: number; readonly lines: number }> {
  const { size } = await handle.stat();
  if (wanted === 0) return { offset: size, lines: 0 };
  const block = Buffer.alloc(READ_BYTES);
  let lines = 0;
  for (let end = size; end > 0;) {
    const from = Math.max(0, end - READ_BYTES);
    const { bytesRead } = await handle.read(block, 0, end - from, from);
    for (let at = bytesRead - 1; at >= 0; at--) {
      if (block[at] !== NEWLINE || from + at === size - 1) continue;
      lines++;
      if (lines === wanted) return { offset: from + at + 1, lines };
    }
    end = from;
  }
  return { offset: 0, lines: size === 0 ? 0 : lines + 1 };
}

async function countLines(handle: FileHandle): Promise<number> {
  let lines = 0;
  for await (const chunk of gunzip(handle)) {
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, at + 1)) lines++;
  }
  return lines;
}

function gunzip(handle: FileHandle): AsyncIterable<Buffer> {
  const packed = handle.createReadStream({ autoClose: false, start: 0 });
  const plain = createGunzip();
  packed.on('error', (error) => plain.destroy(error));
  return packed.pipe(plain) as AsyncIterable<Buffer>;
}

/** Reads from `position` to the end of the file as it is now. */
async function* readOn(file: OpenFile, parser: Parser): AsyncGenerator<LogEntry, void> {
  const { size } = await file.handle.stat();
  // Somebody emptied the file: what is written now begins at its start.
  if (size < file.position) file.position = 0;
  for (;;) {
    // A fresh buffer each time: entries are parts of it.
    const { bytesRead, buffer } = await file.handle.read(
      Buffer.allocUnsafe(READ_BYTES),
      0,
      READ_BYTES,
      file.position,
    );
    if (bytesRead === 0) return;
    file.position += bytesRead;
    yield* parser.push(buffer.subarray(0, bytesRead));
  }
}

async function* since(
  entries: Iterable<LogEntry> | AsyncIterable<LogEntry>,
  sinceMs: number | undefined,
): AsyncGenerator<LogEntry, void> {
  for await (const entry of entries) {
    if (sinceMs === undefined || Date.parse(entry.time) >= sinceMs) yield entry;
  }
}

export type Parser = {
  /** Takes bytes; returns the entries that are complete now. */
  push(chunk: Buffer): readonly LogEntry[];
  /** What is left when the file ends without a newline (a power cut). */
  finish(): readonly LogEntry[];
  /** Bytes that wait for the rest of their line. */
  pending(): number;
};

/** Splits bytes into entries. What is no entry (zeros after a power cut) is left out. */
export function createParser(): Parser {
  let kept: Buffer = Buffer.alloc(0);
  return {
    push(chunk) {
      const entries: LogEntry[] = [];
      let data = kept.length === 0 ? chunk : Buffer.concat([kept, chunk]);
      for (let end = data.indexOf(NEWLINE); end >= 0; end = data.indexOf(NEWLINE)) {
        const entry = parseEntry(data.subarray(0, end));
        if (entry !== undefined) entries.push(entry);
        data = data.subarray(end + 1);
      }
      kept = data.length > MAX_LINE_BYTES ? Buffer.alloc(0) : data;
      return entries;
    },
    finish() {
      const entry = parseEntry(kept);
      kept = Buffer.alloc(0);
      return entry === undefined ? [] : [{ ...entry, endsLine: false }];
    },
    pending: () => kept.length,
  };
}

function parseEntry(line: Buffer): LogEntry | undefined {
  const afterTime = line.indexOf(SPACE);
  const afterStream = line.indexOf(SPACE, afterTime + 1);
  if (afterTime < 0 || afterStream < 0) return undefined;
  const tagEnd = line.indexOf(SPACE, afterStream + 1);
  // An empty line of a container may end right behind its tag.
  const afterTag = tagEnd < 0 ? line.length : tagEnd;
  const time = line.toString('latin1', 0, afterTime).replace(/^\0+/, '');
  const stream = line.toString('latin1', afterTime + 1, afterStream);
  // Further tags may follow the first, separated by colons.
  const [tag] = line.toString('latin1', afterStream + 1, afterTag).split(':');
  if (!/^\d{4}-\d\d-\d\dT/.test(time) || (tag !== 'P' && tag !== 'F')) return undefined;
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  return { time, stream, content: line.subarray(afterTag + 1), endsLine: tag === 'F' };
}

/** Opens all files of an attempt, oldest first. Rotation may rename them while we look. */
async function openAll(directory: string, attempt: number): Promise<OpenFile[]> {
  for (let tries = 0; tries < MAX_LIST_TRIES; tries++) {
    const names = await readdir(directory).catch((error: unknown) => {
      throw logFailure(error, directory);
    });
    const base = `${attempt}.log`;
    const rotated = names.filter((name) => /^\.\d{8}-\d{6}(\.gz)?$/.test(name.slice(base.length)));
    const own = rotated.filter((name) => name.startsWith(base)).sort();
    if (names.includes(base)) own.push(base);
    const opened: OpenFile[] = [];
    let complete = true;
    for (const name of own) {
      const file = await openFile(join(directory, name));
      if (file === undefined) complete = false;
      else opened.push(file);
    }
    if (complete && opened.length > 0) return opened;
    for (const file of opened) await file.handle.close();
    if (own.length === 0) break;
  }
  throw new Failure('NotFound', `there is no log of attempt ${attempt} in ${directory}`);
}

/** Opens a plain file, never through a link; undefined when it is gone. */
async function openFile(path: string): Promise<OpenFile | undefined> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(path, flags).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw logFailure(error, path);
  });
  if (handle === undefined) return undefined;
  const found = await handle.stat();
  if (!found.isFile()) {
    await handle.close();
    throw new Failure('InvalidArgument', `${path} is not a plain file: not read`);
  }
  return { handle, inode: found.ino, compressed: path.endsWith('.gz'), position: 0 };
}

/** What is written to after `file`: a new file of the same name, or that of a later attempt. */
async function successor(
  directory: string,
  attempt: number,
  file: OpenFile,
): Promise<{ readonly attempt: number } | 'gone' | undefined> {
  const found = await lstat(join(directory, `${attempt}.log`)).catch(() => undefined);
  if (found !== undefined && found.ino !== file.inode) return { attempt };
  const attempts = await listAttempts(directory);
  if (attempts.length === 0) return 'gone';
  const later = attempts.find((candidate) => candidate > attempt);
  return later === undefined ? undefined : { attempt: later };
}

/** Waits for the next change below a directory, or for a while. */
function watchChanges(
  directory: string,
  clock: Clock,
  signal: AbortSignal,
): Disposable & { next(): Promise<void> } {
  let changed = false;
  let wake = (): void => undefined;
  let watcher: ReturnType<typeof watch> | undefined;
  try {
    watcher = watch(directory, () => {
      changed = true;
      wake();
    });
    watcher.on('error', () => undefined);
  } catch {
    // Without inotify the poll has to do.
  }
  return {
    next: async () => {
      if (!changed) {
        const nap = new AbortController();
        wake = () => nap.abort();
        await clock.sleep(POLL_MS, AbortSignal.any([signal, nap.signal])).catch(() => undefined);
      }
      changed = false;
    },
    [Symbol.dispose]: () => watcher?.close(),
  };
}

function logFailure(error: unknown, path: string): Failure {
  const errno = errnoOf(error);
  const code =
    errno === 'ENOENT' || errno === 'ENOTDIR'
      ? 'NotFound'
      : errno === 'EACCES' || errno === 'EPERM'
        ? 'PermissionDenied'
        : errno === 'ELOOP'
          ? 'InvalidArgument'
          : 'Unknown';
  const reason = errno === 'ELOOP' ? 'is a symbolic link: not read' : (errno ?? String(error));
  return new Failure(code, `cannot read ${path}: ${reason}`, { cause: error });
}
