/**
 * Tells the API server of the events of its objects, as core/v1 Events.
 *
 * What it has to be told of is in the store's rows, and so outlives outages, restarts and power
 * cuts. An Event's name and count follow from the row: what is sent twice is still there once.
 * Limits are those of client-go's correlator, but what exceeds them is told later, not dropped: each
 * row only once, with its count by then.
 */
import type { ApiClient } from '../apiserver/client.ts';
import { ApiFailure } from '../apiserver/errors.ts';
import { createObject, patchObject } from '../apiserver/objects.ts';
import { EVENTS } from '../apiserver/resource.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Delivery } from '../kube/event.ts';
import {
  eventKey,
  eventObject,
  eventPatch,
  MAX_SIMILAR,
  objectKey,
  SIMILAR_MS,
  similarKey,
  type Sending,
} from '../node/event-object.ts';
import { oneTaken, tokensAt, untilOneMs, type Bucket, type Refill } from '../node/token-bucket.ts';
import type { Store } from '../store/store.ts';
import type { AgentOptions } from './options.ts';
import { createPoke } from './poke.ts';

export type EventSinkOptions = {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: Store;
  readonly options: Pick<AgentOptions, 'nodeName'> & {
    /** `eventRecordQPS`: 0 is no limit. */
    readonly kubelet: Pick<AgentOptions['kubelet'], 'eventRecordQPS' | 'eventBurst'>;
  };
};

/** Of one object. Source: k8s.io/client-go tools/record/events_cache.go */
const SPAM: Refill = { burst: 25, everyMs: 300_000 };
const DEADLINE_MS = 30_000;
const MIN_BACKOFF_MS = 1_000;
/** As that of a watch: after an outage all has to be right within a minute. */
const MAX_BACKOFF_MS = 30_000;
/** For failures that may be those of this one event. */
const MAX_TRIES = 5;
/** When nothing is left to tell; the next event ends the wait. */
const REST_MS = 24 * 3_600_000;

/** Events that differ in their message only. */
type Similar = {
  /** When each of them happened first, by key. */
  readonly firstWallMs: Map<string, number>;
  /** The count of the Event that they share; 0 when there is none. */
  combined: number;
};

type Sink = EventSinkOptions & {
  readonly similar: Map<string, Similar>;
  readonly spam: Map<string, Bucket>;
  readonly tries: Map<string, number>;
  requests: Bucket;
};

/** Runs until the signal is aborted. */
export async function sendEvents(options: EventSinkOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, random, store } = options;
  const poke = createPoke(clock);
  using _heard = store.hearEvents(() => poke.poke());
  const maps = { similar: new Map(), spam: new Map(), tries: new Map() };
  const sink: Sink = { ...options, ...maps, requests: undefined };
  for (const delivery of store.deliveries('all')) similarTo(sink, delivery);
  let failures = 0;
  while (!signal.aborted) {
    try {
      const waitMs = await sendDue(sink, signal);
      failures = 0;
      await poke.wait(waitMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      failures += 1;
      log.debug('events wait for the API server', { problem: error.message });
      // More events are no reason to ask it again sooner.
      await clock.sleep(backoff(error, failures, random), signal).catch(() => undefined);
    }
  }
}

function backoff(error: Failure, failures: number, random: Random): number {
  const askedMs = error instanceof ApiFailure ? (error.retryAfterMs ?? 0) : 0;
  const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** (failures - 1), MAX_BACKOFF_MS);
  // All nodes may have been told the same.
  return Math.max(backoffMs, askedMs) * (1 + 0.5 * random.next());
}

/**
 * Sends what may be sent now.
 * @returns in how many milliseconds more of it may be
 * @throws Failure when the API server has to be left alone for a while
 */
async function sendDue(sink: Sink, signal: AbortSignal): Promise<number> {
  const { now, waitMs } = affordable(sink, sink.store.deliveries('due'));
  let trouble: Failure | undefined;
  for (const delivery of now) {
    try {
      await deliver(sink, delivery, signal);
      sink.tries.delete(delivery.key);
    } catch (error) {
      if (!(error instanceof Failure) || isAboutServer(error)) throw error;
      if (isWorthAnotherTry(sink, delivery, error)) {
        trouble = error;
        continue;
      }
      sink.tries.delete(delivery.key);
      drop(sink, delivery, error);
    }
    const { monoMs } = sink.clock.now();
    const key = objectKey(delivery.record.object);
    sink.spam.set(key, oneTaken(sink.spam.get(key), SPAM, monoMs));
  }
  if (trouble !== undefined) throw trouble;
  return waitMs;
}

/** Of each object as many as it may have now, the latest, and when there may be more. */
function affordable(
  { clock, spam }: Sink,
  due: readonly Delivery[],
): { readonly now: readonly Delivery[]; readonly waitMs: number } {
  const { monoMs } = clock.now();
  for (const [key, bucket] of spam) {
    if (tokensAt(bucket, SPAM, monoMs) >= SPAM.burst) spam.delete(key);
  }
  const taken = new Map<string, number>();
  let waitMs = REST_MS;
  const now = due.toReversed().filter(({ record }) => {
    const key = objectKey(record.object);
    const soFar = taken.get(key) ?? 0;
    const bucket = spam.get(key);
    if (soFar + 1 <= tokensAt(bucket, SPAM, monoMs)) {
      taken.set(key, soFar + 1);
      return true;
    }
    // Those that go now are not taken of the bucket yet.
    waitMs = Math.min(waitMs, untilOneMs(bucket, SPAM, monoMs) || SPAM.everyMs);
    return false;
  });
  return { now: now.reverse(), waitMs };
}

/** It says nothing of the event that was sent: no answer, or one to all that come. */
function isAboutServer(error: Failure): boolean {
  if (!(error instanceof ApiFailure) || error.status === undefined) return true;
  return [401, 408, 429, 502, 503, 504].includes(error.status);
}

/** A refusal (no such namespace, it is ending, no right) stays one. */
function isWorthAnotherTry(sink: Sink, { key }: Delivery, error: Failure): boolean {
  if (error.code !== 'Conflict' && error.code !== 'Unknown') return false;
  const tries = (sink.tries.get(key) ?? 0) + 1;
  sink.tries.set(key, tries);
  return tries < MAX_TRIES;
}

function drop({ store, log }: Sink, { record, ...delivery }: Delivery, error: Failure): void {
  const { kind, namespace, name } = record.object;
  log.debug('an event is not told', {
    ...{ kind, namespace, name, reason: record.reason },
    problem: faultOf(error).message,
  });
  const { combined } = delivery.delivered;
  store.setDelivered({ record, ...delivery }, { count: record.count, combined });
}

async function deliver(sink: Sink, delivery: Delivery, signal: AbortSignal): Promise<void> {
  const { record, delivered } = delivery;
  const similar = similarTo(sink, delivery);
  const isNew = delivered.count === 0;
  const isCombined = delivered.combined > 0 || (isNew && isOneOfMany(similar, delivery));
  const count = isCombined ? similar.combined + record.count - delivered.count : record.count;
  const isKnown = isCombined ? similar.combined > 0 : !isNew;
  await put(sink, { record, count, isCombined }, isKnown, signal);
  if (isCombined) similar.combined = count;
  sink.store.setDelivered(delivery, { count: record.count, combined: isCombined ? count : 0 });
}

/** Creates the Event or counts it, whichever it takes. */
async function put(
  sink: Sink,
  sending: Sending,
  isKnown: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { client, options } = sink;
  const call = { signal, deadlineMs: DEADLINE_MS, metadataOnly: true };
  const key = eventKey(sending);
  const create = async () => {
    await mayRequest(sink, signal);
    const { namespace } = key;
    const object = eventObject(sending, options.nodeName);
    await createObject(client, EVENTS, { namespace }, object, call);
  };
  const count = async () => {
    await mayRequest(sink, signal);
    await patchObject(client, EVENTS, key, 'strategic', eventPatch(sending), call);
  };
  const is = (error: unknown, code: Failure['code']) =>
    error instanceof ApiFailure && error.code === code;
  try {
    await (isKnown ? count() : create());
  } catch (error) {
    // An API server forgets events, after an hour by default.
    if (isKnown && is(error, 'NotFound')) await create();
    // It was told before, but we don't know of it.
    else if (!isKnown && is(error, 'AlreadyExists')) await count();
    else throw error;
  }
}

/** Waits until `eventRecordQPS` and `eventBurst` allow another request. */
async function mayRequest(sink: Sink, signal: AbortSignal): Promise<void> {
  const { clock, options } = sink;
  const { eventRecordQPS, eventBurst } = options.kubelet;
  if (eventRecordQPS === 0) return;
  const refill = { burst: Math.max(1, eventBurst), everyMs: 1000 / eventRecordQPS };
  const waitMs = untilOneMs(sink.requests, refill, clock.now().monoMs);
  if (waitMs > 0) await clock.sleep(waitMs, signal);
  sink.requests = oneTaken(sink.requests, refill, clock.now().monoMs);
}

/** What is known of events that differ from this one in their message only; this one added. */
function similarTo({ similar }: Sink, { key, record, delivered }: Delivery): Similar {
  const common = similarKey(record);
  const found = similar.get(common) ?? { firstWallMs: new Map<string, number>(), combined: 0 };
  found.firstWallMs.set(key, record.firstWallMs);
  found.combined = Math.max(found.combined, delivered.combined);
  similar.delete(common);
  similar.set(common, found);
  forgetOldest(found.firstWallMs, LIMITS.eventsPerPod);
  forgetOldest(similar, LIMITS.events);
  return found;
}

function forgetOldest(map: Map<string, unknown>, limit: number): void {
  if (map.size > limit) map.delete(map.keys().next().value!);
}

/** By what never changes of the rows, so that a restart does not decide otherwise. */
function isOneOfMany({ firstWallMs }: Similar, { key, record }: Delivery): boolean {
  const at = record.firstWallMs;
  const isBefore = ([other, ms]: readonly [string, number]) =>
    ms > at - SIMILAR_MS && (ms < at || (ms === at && other <= key));
  return [...firstWallMs].filter(isBefore).length >= MAX_SIMILAR;
}
