/**
 * `/containerLogs/{namespace}/{pod}/{container}`: which log is meant, and its bytes to the client.
 *
 * Pods may be able to write below the log directory, so no part of the path below it may be a link:
 * each is opened through the one before (`/proc/self/fd/N/name`), and the files with O_NOFOLLOW.
 * Source: pkg/kubelet (kubelet_pods.go validateContainerLogStatus), cri-client pkg/logs.
 */
import { once } from 'node:events';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import type { Clock } from '../base/clock.ts';
import { errnoOf, faultOf } from '../base/failure.ts';
import type { RuntimeService } from '../kube/cri.ts';
import type { ContainerStatus, PodStatus } from '../kube/pod.ts';
import { REASON } from '../kube/reason.ts';
import { pathSegment, podLogFolder } from '../pod/names.ts';
import type { PodReport } from './api.ts';
import { followLog, readLog, type LogEntry } from './cri-log.ts';
import { HttpError } from './http-error.ts';
import { renderLog, type LogOptions } from './log-options.ts';

const BATCH_BYTES = 64 * 1024;
/** How often the runtime is asked whether the container still runs. */
const LOOK_MS = 1000;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

export type LogSource = {
  /** Where the runtime writes logs: `/var/log/pods`. */
  readonly podLogsDirectory: string;
  readonly runtime: Pick<RuntimeService, 'containerStatus'>;
  readonly clock: Clock;
};

/**
 * Sends a container's log; with `follow` until the container ends or the client leaves. What goes
 * wrong after the first byte cuts the answer off, so that it can't be taken for the whole.
 * @throws HttpError 404 without such a container, 400 without a log of it, as the kubelet says it.
 */
export async function sendContainerLog(
  report: PodReport,
  container: string,
  options: LogOptions,
  response: ServerResponse,
  source: LogSource,
): Promise<void> {
  const { metadata, spec } = report.pod;
  const known = [...spec.containers, ...spec.initContainers].some(({ name }) => name === container);
  if (!known) {
    throw new HttpError(404, `container "${container}" not found in pod "${metadata.name}"`);
  }
  const log = logOf(metadata.name, report.status, container, options.previous);
  const left = new AbortController();
  response.once('close', () => left.abort());
  const { clock, runtime } = source;
  const runs = runningWatch(log.containerId, runtime, clock, left.signal);
  // Who follows learns that it has begun, though there may be no line for hours.
  const isRunning = async (): Promise<boolean> => {
    begin(response);
    return await runs();
  };
  const attempt = await attemptOf(log, runtime, left.signal);
  const directory = await openLogDirectory(source.podLogsDirectory, [
    podLogFolder(report.pod),
    pathSegment(container, 'the container name'),
  ]);
  try {
    const path = `/proc/self/fd/${directory.fd}`;
    const entries = options.follow
      ? followLog(path, attempt, { ...options, clock, signal: left.signal, isRunning })
      : readLog(path, attempt, options);
    await send(entries, options, response, clock, left.signal);
  } catch (error) {
    if (left.signal.aborted) return;
    if (response.headersSent) return void response.destroy();
    const message = faultOf(error).message.replace(
      `/proc/self/fd/${directory.fd}`,
      `the log directory of container "${container}"`,
    );
    throw new HttpError(400, message);
  } finally {
    await directory.close();
  }
}

type Log = {
  readonly containerId: string;
  /** The attempt, should the runtime not know the container any more. */
  readonly attempt: number;
};

/** Which container's log is meant. @throws HttpError 400 */
export function logOf(
  podName: string,
  status: PodStatus,
  container: string,
  previous: boolean,
): Log {
  const of = `container "${container}" in pod "${podName}"`;
  const statuses = [...status.containerStatuses, ...status.initContainerStatuses];
  const found = statuses.find(({ name }) => name === container);
  if (found === undefined) throw new HttpError(400, `${of} is not available`);
  const { state, lastState, restartCount } = found;
  const last = lastState.terminated?.containerID;
  // While the next start is awaited, the count is still that of the run that ended.
  const lastAttempt = state.waiting === undefined ? restartCount - 1 : restartCount;
  if (previous) {
    if (last === undefined) throw new HttpError(400, `previous terminated ${of} not found`);
    return { containerId: bare(last), attempt: lastAttempt };
  }
  const own = state.running === undefined ? state.terminated?.containerID : found.containerID;
  if (own !== undefined) return { containerId: bare(own), attempt: restartCount };
  if (last !== undefined) return { containerId: bare(last), attempt: lastAttempt };
  throw new HttpError(400, `${of} ${whyNoLog(found)}`);
}

function whyNoLog({ state, lastState }: ContainerStatus): string {
  if (state.terminated !== undefined || lastState.terminated !== undefined) return 'is terminated';
  const reason = state.waiting?.reason;
  if (reason === undefined) return 'is waiting to start - no logs yet';
  if (reason === REASON.errImagePull) return "is waiting to start: image can't be pulled";
  if (reason === REASON.imagePullBackOff) {
    return 'is waiting to start: trying and failing to pull image';
  }
  return `is waiting to start: ${reason}`;
}

/** The runtime's id in `containerd://ID`. */
function bare(containerID: string): string {
  return containerID.replace(/^[^/]*:\/\//, '');
}

async function attemptOf(
  { containerId, attempt }: Log,
  runtime: LogSource['runtime'],
  signal: AbortSignal,
): Promise<number> {
  // A log outlives its container, and is there without the runtime too.
  const status = await runtime.containerStatus(containerId, signal).catch(() => undefined);
  return status?.attempt ?? attempt;
}

/** Says whether a container runs, by an answer of the runtime that is a second old at most. */
function runningWatch(
  containerId: string,
  runtime: LogSource['runtime'],
  clock: Clock,
  signal: AbortSignal,
): () => Promise<boolean> {
  let askedMs = Number.NEGATIVE_INFINITY;
  let running = true;
  return async () => {
    const nowMs = clock.now().monoMs;
    if (!running || nowMs - askedMs < LOOK_MS) return running;
    askedMs = nowMs;
    try {
      const status = await runtime.containerStatus(containerId, signal);
      running = status?.state === 'CONTAINER_RUNNING';
    } catch {
      // A runtime that does not answer says nothing about its containers: they may well run.
    }
    return running;
  };
}

async function openLogDirectory(root: string, parts: readonly string[]): Promise<FileHandle> {
  let path = root;
  try {
    // The root is ours, and may be reached through a link (/var on another disk).
    let current = await open(root, constants.O_RDONLY | constants.O_DIRECTORY);
    for (const part of parts) {
      const parent = current;
      path = `${path}/${part}`;
      try {
        current = await open(`/proc/self/fd/${parent.fd}/${part}`, DIRECTORY);
      } finally {
        await parent.close();
      }
    }
    return current;
  } catch (error) {
    const errno = errnoOf(error);
    const link = errno === 'ELOOP' || errno === 'ENOTDIR';
    const why = link ? 'it is not a plain directory' : (errno ?? String(error));
    throw new HttpError(400, `failed to open the log directory ${path}: ${why}`);
  }
}

/** Writes the log in batches, at the client's pace. */
async function send(
  entries: AsyncIterable<LogEntry>,
  options: LogOptions,
  response: ServerResponse,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  let batch: Buffer[] = [];
  let bytes = 0;
  let waits = false;
  const flush = (): void => {
    const ready = Buffer.concat(batch);
    batch = [];
    bytes = 0;
    if (ready.length > 0 && !response.destroyed) response.write(ready);
  };
  for await (const line of renderLog(entries, options)) {
    begin(response);
    batch.push(line);
    bytes += line.length;
    if (bytes >= BATCH_BYTES) flush();
    if (response.writableNeedDrain) await once(response, 'drain', { signal });
    if (signal.aborted) return;
    if (waits) continue;
    // What came together goes out together, but not later than that.
    waits = true;
    clock.soon(() => {
      waits = false;
      flush();
    });
  }
  begin(response);
  flush();
  response.end();
}

function begin(response: ServerResponse): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
  response.flushHeaders();
}
