/**
 * Follows objects of one kind: lists them once, then watches, for as long as its signal lets it and
 * over everything that can happen to a connection.
 *
 *   connecting ──complete list, watch opened──> watching ──ended, lost, silent──> waiting ─┐
 *      ^                                                                                   │
 *      └── from its version; with a new list where the server no longer has that (410) ────┘
 *
 * - A version (`resourceVersion`) is only stored and handed back. It is never compared for order.
 * - What is gone is told only by a `DELETED` event or by a complete list, never by half of one.
 * - Two objects that had one name, one after the other, are two: the first is told as gone before
 *   the second is told of, also when both happened while nobody watched.
 * - A watch that said nothing at all until its deadline may stand at a version which the server has
 *   never had (its etcd was restored from a backup): after it comes a list.
 * - What the server says and limpet can't read is passed over by a list, not asked for again.
 *
 * Source: Kubernetes API Concepts, "Efficient detection of changes"; k8s.io/client-go
 * tools/cache/reflector.go for the times.
 */
import type { Clock, Now } from '../base/clock.ts';
import { Failure, faultOf, type FailureCode, type Fault } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Random } from '../base/random.ts';
import { takePause, type Pause, type Recovery } from '../base/recovery.ts';
import type { ApiClient, Request } from './client.ts';
import { ApiFailure, cutFailure, protocolFailure, statusFailure, type Asked } from './errors.ts';
import { identify, trackKnown, type Identified, type Known } from './known.ts';
import { splitLines } from './lines.ts';
import { listAll } from './list.ts';
import { storedObject } from './objects.ts';
import { pathOf, type ApiObject, type Resource, type Stored } from './resource.ts';

export type WatchState =
  /** `why` the watch before it ended, as long as that is not over. */
  | { readonly phase: 'connecting'; readonly since: Now; readonly why: Fault | undefined }
  | { readonly phase: 'watching'; readonly since: Now; readonly heard: Now }
  | {
      readonly phase: 'waiting';
      readonly since: Now;
      readonly why: Fault;
      /** On the monotonic clock. */
      readonly retryAtMs: number;
    };

/**
 * Who is told, one thing after the other. A `Failure` that it throws counts as one of the
 * connection: what it did not take is told again. Any other error comes out of `watchObjects`.
 */
export type Consumer<T> = {
  put(object: Stored<T>): void;
  /**
   * `deleted`: the server said so. `replaced`: another object has its name. `absent`: a complete
   * list does not have it.
   */
  gone(object: Identified, why: GoneWhy): void;
  /** All that there is, after a complete list; what differs from before was told just now. */
  synced(objects: readonly Stored<T>[], resourceVersion: string): void;
  /**
   * All until this version was told: a later watch may begin there, as it may at the version of
   * what was put last.
   */
  bookmark(resourceVersion: string): void;
  /**
   * All that there was has been told, after a complete list and at each bookmark of the server. A
   * watch that goes on where it stopped may still have something to tell before that.
   */
  caughtUp?(): void;
  /** How it stands with the connection, at each change and each time something was heard. */
  state(state: WatchState): void;
};

export type GoneWhy = 'deleted' | 'replaced' | 'absent';

export type WatchOptions<T extends ApiObject> = {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly resource: Resource<T>;
  readonly namespace?: string;
  /** `metadata.name=a` follows one object, `spec.nodeName=pi1` the pods of a node. */
  readonly fieldSelector?: string;
  /**
   * Where an earlier watch of the same objects has stopped, and what was there then. Without a
   * version it begins with a list, which tells what of that is gone.
   */
  readonly resume?: {
    readonly resourceVersion: string | undefined;
    readonly known: Iterable<Identified>;
  };
  /**
   * Called before each watch and, with its version, after each complete list, before anything is
   * told of it: is this the right cluster? A `Failure` that it throws counts as one of the connection.
   */
  readonly verify?: (listVersion: string | undefined) => Promise<void>;
  /** Ends a backoff, but never the wait that a server has asked for. */
  readonly recovery?: Pick<Recovery, 'next'>;
};

const OPEN_DEADLINE_MS = 30_000;
/** A server sends a bookmark each minute when there is nothing else. */
const SILENCE_MS = 75_000;
const MIN_WATCH_SECONDS = 300;
const MAX_WATCH_SECONDS = 600;
const MIN_BACKOFF_MS = 800;
const MAX_BACKOFF_MS = 30_000;
/** A watch that lasted so long was a good one: what failed before it is forgotten. */
const HEALTHY_MS = 120_000;

/** After these a watch may go on where it stopped; after anything else comes a list. */
const RESUMABLE: readonly FailureCode[] = [
  'Unavailable',
  'DeadlineExceeded',
  'ResourceExhausted',
  'PermissionDenied',
  'Unauthenticated',
];

/** One try: a list where there is no version to begin at, then a watch. */
type Attempt = {
  version: string | undefined;
  /** Undefined until the server has agreed to the watch. */
  opened: Now | undefined;
  heard: boolean;
};

/**
 * Follows the objects until `signal` is aborted; then it resolves, with no timer, connection or
 * listener left behind. It never gives up.
 *
 * @throws what the consumer throws, if it is no Failure
 */
export async function watchObjects<T extends ApiObject>(
  options: WatchOptions<T>,
  consumer: Consumer<T>,
): Promise<void> {
  const { clock, signal, resume } = options;
  const known = trackKnown(resume?.known ?? []);
  let version = resume?.resourceVersion;
  let failures = 0;
  let why: Fault | undefined;
  while (!signal.aborted) {
    const recovered = options.recovery?.next();
    const attempt: Attempt = { version, opened: undefined, heard: false };
    let failure: Failure | undefined;
    try {
      consumer.state({ phase: 'connecting', since: clock.now(), why });
      attempt.version ??= await syncList(options, consumer, known);
      await follow(options, consumer, known, attempt);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failure = error;
    }
    if (signal.aborted) return;
    version = resumable(attempt, failure) ? attempt.version : undefined;
    const since = clock.now();
    const { opened } = attempt;
    const isHealthy = opened !== undefined && since.monoMs - opened.monoMs >= HEALTHY_MS;
    if (isHealthy) failures = 0;
    why = failure === undefined ? (isHealthy ? undefined : ENDED_AT_ONCE) : faultOf(failure);
    // What is no trouble is taken up at once, but not twice in a row.
    const isPlain = failure === undefined ? isHealthy : failure.code === 'Gone';
    const pause =
      isPlain && failures === 0 ? undefined : pauseAfter(options.random, failures, failure);
    if (!isHealthy || failure !== undefined) failures += 1;
    if (pause === undefined || why === undefined) continue;
    consumer.state({ phase: 'waiting', since, why, retryAtMs: since.monoMs + pause.ms });
    await takePause(clock, pause, recovered, signal);
    if (recovered?.aborted === true) failures = 0;
  }
}

const ENDED_AT_ONCE: Fault = {
  code: 'Unavailable',
  message: 'the API server ended the watch before its time',
};

function resumable(attempt: Attempt, failure: Failure | undefined): boolean {
  if (failure === undefined) return true;
  const wasMute = failure.code === 'DeadlineExceeded' && attempt.opened && !attempt.heard;
  return !wasMute && RESUMABLE.includes(failure.code);
}

function pauseAfter(random: Random, failures: number, failure: Failure | undefined): Pause {
  const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);
  const askedMs = failure instanceof ApiFailure ? (failure.retryAfterMs ?? 0) : 0;
  const spreadMs = backoffMs * (0.8 + 0.4 * random.next());
  const leastMs = askedMs * (1 + 0.2 * random.next());
  return { ms: Math.max(spreadMs, leastMs), leastMs };
}

/** Lists, tells what differs from what is known, and gives the version of the list. */
async function syncList<T extends ApiObject>(
  options: WatchOptions<T>,
  consumer: Consumer<T>,
  known: Known,
): Promise<string> {
  const { client, resource, namespace, fieldSelector, signal, verify } = options;
  const list = await listAll(client, resource, { namespace, fieldSelector }, signal);
  await verify?.(list.resourceVersion);
  if (signal.aborted) return list.resourceVersion;
  const uids = new Set(list.objects.map(({ metadata }) => metadata.uid));
  const nameOf = (namespace: string | undefined, name: string) => `${namespace ?? ''}/${name}`;
  const names = new Set(list.objects.map(({ metadata: m }) => nameOf(m.namespace, m.name)));
  for (const object of known.without(uids)) {
    const isReplaced = names.has(nameOf(object.namespace, object.name));
    tellGone(object, isReplaced ? 'replaced' : 'absent', consumer, known);
  }
  for (const object of list.objects) {
    const { uid, resourceVersion } = object.metadata;
    if (known.get(uid)?.resourceVersion !== resourceVersion) tellPut(object, consumer, known);
  }
  consumer.synced(list.objects, list.resourceVersion);
  consumer.caughtUp?.();
  return list.resourceVersion;
}

function tellPut<T extends ApiObject>(
  object: Stored<T>,
  consumer: Consumer<T>,
  known: Known,
): void {
  const identified = identify(object);
  const predecessor = known.predecessor(identified);
  if (predecessor !== undefined) tellGone(predecessor, 'replaced', consumer, known);
  consumer.put(object);
  known.remember(identified);
}

function tellGone<T>(object: Identified, why: GoneWhy, consumer: Consumer<T>, known: Known): void {
  consumer.gone(object, why);
  known.forget(object);
}

/** Watches from the attempt's version on; resolves when the server ends the watch in order. */
async function follow<T extends ApiObject>(
  options: WatchOptions<T>,
  consumer: Consumer<T>,
  known: Known,
  attempt: Attempt,
): Promise<void> {
  const { client, clock, random, signal, resource, namespace, fieldSelector } = options;
  const spread = MAX_WATCH_SECONDS - MIN_WATCH_SECONDS;
  const path = pathOf(
    resource,
    { namespace },
    {
      watch: true,
      allowWatchBookmarks: true,
      resourceVersion: attempt.version,
      timeoutSeconds: MIN_WATCH_SECONDS + Math.floor(spread * random.next()),
      fieldSelector,
    },
  );
  const request: Request = { method: 'GET', path };
  const asked = client.asked(request);
  await options.verify?.(undefined);
  const lines = splitLines(
    LIMITS.apiEventBytes,
    (line) => {
      if (signal.aborted) return;
      attempt.heard = true;
      take(line, asked, consumer, known, attempt);
      const heard = clock.now();
      consumer.state({ phase: 'watching', since: attempt.opened ?? heard, heard });
    },
    () => protocolFailure(asked, `an event has more than ${LIMITS.apiEventBytes} bytes`),
  );
  await client.stream(request, {
    signal,
    openMs: OPEN_DEADLINE_MS,
    silenceMs: SILENCE_MS,
    onOpen: () => {
      const now = clock.now();
      attempt.opened = now;
      consumer.state({ phase: 'watching', since: now, heard: now });
    },
    onData: (chunk) => lines.push(chunk),
  });
  if (lines.pending > 0) throw cutFailure(asked, 'the watch ended in the middle of an event');
}

/** One event of a watch. Source: metav1.WatchEvent */
function take<T extends ApiObject>(
  line: string,
  asked: Asked,
  consumer: Consumer<T>,
  known: Known,
  attempt: Attempt,
): void {
  const { type, object } = parseEvent(line, asked);
  if (type === 'ERROR') {
    const code = Number((object as { code?: unknown } | undefined)?.code ?? 500);
    throw statusFailure(asked, code, object, {});
  }
  if (type === 'BOOKMARK') {
    const version = (object as ApiObject | undefined)?.metadata?.resourceVersion;
    if (!version) throw protocolFailure(asked, 'a bookmark has no resourceVersion');
    consumer.bookmark(version);
    consumer.caughtUp?.();
    attempt.version = version;
    return;
  }
  const stored = storedObject<T>(object);
  if (stored === undefined) throw protocolFailure(asked, 'an object has no name, uid or version');
  const { uid, resourceVersion } = stored.metadata;
  if (type === 'ADDED' || type === 'MODIFIED') tellPut(stored, consumer, known);
  else if (type === 'DELETED') {
    const was = known.get(uid);
    if (was !== undefined) tellGone(was, 'deleted', consumer, known);
    consumer.bookmark(resourceVersion);
  } else throw protocolFailure(asked, 'an event is of an unknown type');
  attempt.version = resourceVersion;
}

function parseEvent(line: string, asked: Asked): { type?: unknown; object?: unknown } {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    throw protocolFailure(asked, 'an event is no JSON');
  }
  if (typeof event === 'object' && event !== null) return event;
  throw protocolFailure(asked, 'an event is no JSON object');
}
