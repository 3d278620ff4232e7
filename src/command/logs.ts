import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf, Failure } from '../base/failure.ts';
import { followLog, listAttempts, readLog, type LogEntry } from '../server/cri-log.ts';
import { defineCommand, type Io } from './command.ts';
import { CommandFailed, EXIT, usageError, type ExitCode } from './exit.ts';
import { NAMESPACE_OPTION } from './pod-lookup.ts';
import { duration, namespaceName, podName, wholeNumber } from './values.ts';

const BATCH_BYTES = 64 * 1024;
const NEWLINE = Buffer.from('\n');

export const command = defineCommand({
  name: 'logs',
  usage: 'POD [CONTAINER] [--follow] [--tail N] [--previous]',
  summary: 'Print the log of a container. It reads the files, so it works without the agent too.',
  details: `
With --follow it goes on through restarts of the container, until it is interrupted or the pod is
gone. Rotated files are part of the log.`,
  options: {
    container: { type: 'string', short: 'c', value: 'NAME', help: 'of a pod that has several' },
    namespace: NAMESPACE_OPTION,
    follow: { type: 'boolean', short: 'f', help: 'go on as the log grows' },
    tail: { type: 'string', value: 'N', help: 'only the last lines; -1 is all' },
    previous: { type: 'boolean', short: 'p', help: 'of the run before the last restart' },
    since: { type: 'string', value: 'DURATION', help: 'only what is newer, such as 10m' },
    timestamps: { type: 'boolean', help: 'the time before each line' },
    'pod-logs-dir': {
      type: 'string',
      value: 'DIR',
      default: '/var/log/pods',
      help: 'where the logs are',
    },
  },
  examples: [
    ['sudo limpet logs web', 'of a pod with one container'],
    ['sudo limpet logs web -c app -f --tail 20', 'the last lines, then what comes'],
    ['sudo limpet logs web --previous', 'why did it crash?'],
  ],
  async run({ options, words }, io) {
    const [given, word, ...more] = words;
    if (given === undefined) throw usageError('of which pod? limpet logs POD', 'see: limpet pods');
    if (more.length > 0) throw usageError('give one pod, and one container if it has several');
    if (word !== undefined && options.container !== undefined) {
      throw usageError('the container is given twice');
    }
    if (options.previous && options.follow) throw usageError('a previous run does not go on');
    const root = options['pod-logs-dir'];
    const { namespace } = options;
    const wanted = namespace === undefined ? undefined : namespaceName(namespace);
    const tailLines =
      options.tail === undefined
        ? undefined
        : wholeNumber('--tail', options.tail, { min: -1, max: Number.MAX_SAFE_INTEGER });
    const selection = {
      ...(tailLines === undefined || tailLines < 0 ? {} : { tailLines }),
      ...(options.since === undefined
        ? {}
        : { sinceMs: io.clock.now().wallMs - duration('--since', options.since) }),
    };
    try {
      const pod = await findPodLogs(root, podName(given), wanted);
      const directory = await findContainer(pod, podName(given), options.container ?? word);
      const attempt = await findAttempt(directory, options.previous);
      const entries = options.follow
        ? followLog(directory, attempt, {
            ...selection,
            clock: io.clock,
            signal: io.signal,
            onAttempt: (next) => io.err(`limpet: the container was restarted (run ${next})\n`),
          })
        : readLog(directory, attempt, selection);
      await print(entries, options.timestamps, io);
    } catch (error) {
      throw asCommandFailed(error);
    }
    return EXIT.ok;
  },
});

async function print(entries: AsyncIterable<LogEntry>, timestamps: boolean, io: Io): Promise<void> {
  let batch: Buffer[] = [];
  let bytes = 0;
  let timer: Promise<void> | undefined;
  let lineStarts = true;
  let written = Promise.resolve();
  /** Resolves when all that came before is written too: the process ends then. */
  const flush = (): Promise<void> => {
    const ready = Buffer.concat(batch);
    batch = [];
    bytes = 0;
    if (ready.length > 0) written = written.then(() => io.out(ready));
    return written;
  };
  for await (const { time, content, endsLine } of entries) {
    const parts = [content];
    if (timestamps && lineStarts) parts.unshift(Buffer.from(`${time} `));
    if (endsLine) parts.push(NEWLINE);
    lineStarts = endsLine;
    batch.push(...parts);
    bytes += parts.reduce((sum, part) => sum + part.length, 0);
    if (bytes >= BATCH_BYTES) await flush();
    // Who follows sees a line when it comes, not when the batch is full.
    timer ??= Promise.resolve().then(async () => {
      timer = undefined;
      await flush();
    });
  }
  await flush();
}

type PodLogs = { readonly namespace: string; readonly uid: string; readonly directory: string };

/** The log directory of the pod; of several pods of that name and namespace the newest. */
async function findPodLogs(
  root: string,
  name: string,
  namespace: string | undefined,
): Promise<PodLogs> {
  const entries = await readdir(root).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  });
  const found: (PodLogs & { readonly changedMs: number })[] = [];
  for (const entry of entries) {
    // Names and namespaces have no underscore, so there is one way to read this.
    const [ofNamespace, ofName, uid] = entry.split('_');
    if (ofNamespace === undefined || ofName !== name || uid === undefined) continue;
    if (namespace !== undefined && ofNamespace !== namespace) continue;
    const directory = join(root, entry);
    const { ctimeMs } = await stat(directory);
    found.push({ namespace: ofNamespace, uid, directory, changedMs: ctimeMs });
  }
  found.sort((a, b) => b.changedMs - a.changedMs);
  const [newest] = found;
  if (newest === undefined) {
    const near = entries
      .map((entry) => entry.split('_')[1])
      .find((of) => of?.startsWith(`${name}-`));
    const hint = near === undefined ? 'see: limpet pods' : `did you mean "${near}"?`;
    const where = namespace === undefined ? '' : ` in namespace "${namespace}"`;
    const message = `there are no logs of a pod "${name}"${where} below ${root}`;
    throw new CommandFailed(EXIT.notFound, message, [hint]);
  }
  const namespaces = [...new Set(found.map((pod) => pod.namespace))].sort();
  if (namespaces.length > 1) {
    throw usageError(
      `there is a pod "${name}" in several namespaces: ${namespaces.join(', ')}`,
      'say which with --namespace',
    );
  }
  return newest;
}

async function findContainer(
  pod: PodLogs,
  podName: string,
  given: string | undefined,
): Promise<string> {
  const entries = await readdir(pod.directory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const list = names.sort().join(', ');
  if (given !== undefined) {
    if (names.includes(given)) return join(pod.directory, given);
    const message = `pod "${podName}" has no log of a container "${given}"`;
    throw new CommandFailed(EXIT.notFound, message, [`it has: ${list === '' ? 'none' : list}`]);
  }
  const [only] = names;
  if (only === undefined) {
    throw new CommandFailed(EXIT.notFound, `no container of pod "${podName}" has a log yet`, [
      `what keeps it: limpet pods ${podName}`,
    ]);
  }
  if (names.length === 1) return join(pod.directory, only);
  throw usageError(
    `pod "${podName}" has several containers: ${list}`,
    `say which: limpet logs ${podName} -c ${only}`,
  );
}

async function findAttempt(directory: string, previous: boolean): Promise<number> {
  const attempts = await listAttempts(directory);
  const found = attempts.at(previous ? -2 : -1);
  if (found !== undefined) return found;
  const message = previous
    ? 'there is no log of a previous run: it was not restarted, or the log is gone'
    : 'the container has no log yet';
  throw new CommandFailed(EXIT.notFound, message);
}

function asCommandFailed(error: unknown): unknown {
  const denied =
    errnoOf(error) === 'EACCES' || (error instanceof Failure && error.code === 'PermissionDenied');
  if (denied) {
    const { message } = error as Error;
    return new CommandFailed(EXIT.failed, message, [
      'only root may read logs: try again with sudo',
    ]);
  }
  if (!(error instanceof Failure)) return error;
  const exitCode: ExitCode = error.code === 'NotFound' ? EXIT.notFound : EXIT.failed;
  return new CommandFailed(exitCode, error.message);
}
