/**
 * Tells the API server how its pods are, and of those that are over for good that they can go.
 *
 *   changed ──what the server says differs──> PATCH status ──> known
 *   gone from the node ──last status told──> DELETE, this uid only ──> forgotten
 *
 * - A status is told to the object of this uid or to none.
 * - What could not be told is told later: only the last of it, but the end of a pod always.
 * - Nothing is told before the pods were listed in this session: what is not wanted any more is
 *   known then.
 */
import type { ApiClient } from '../apiserver/client.ts';
import { ApiFailure } from '../apiserver/errors.ts';
import { deleteObject, patchObject } from '../apiserver/objects.ts';
import { PODS } from '../apiserver/resource.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf, type FailureCode } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import { takePause } from '../base/recovery.ts';
import { podStatusPatch, saysTheSame, withKnownTimes } from '../pod/status-report.ts';
import type { Session } from './cluster.ts';
import { createPoke } from './poke.ts';
import { createSlots } from './slots.ts';
import type { Worker } from './turns.ts';

export type PodStatusesOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** The main address of the node first. */
  readonly hostIPs: () => readonly string[];
  /** The object of the API that stands for the pod; undefined while there is none. */
  readonly uidOf: (worker: Worker) => string | undefined;
  /** Its object is gone, or was never this one. */
  readonly onDeleted: (uid: string) => void;
};

type Telling = Pick<Session, 'client' | 'confirm' | 'recovery'>;

/** Of one pod, by the uid that the node knows it by. */
type Entry = {
  readonly worker: Worker;
  /** What was told last, as JSON. */
  told: string | undefined;
  /** What the server said since then; compared once. */
  heard: { readonly status: unknown } | undefined;
  isDue: boolean;
  /** It is gone from the node, and its object is to go. */
  isOver: boolean;
  failures: number;
  notBeforeMs: number;
};

const DEADLINE_MS = 30_000;
/** Requests at the same time. */
const PARALLEL = 4;
const MIN_BACKOFF_MS = 500;
/** As that of a watch: after an outage all has to be right within a minute. */
const MAX_BACKOFF_MS = 30_000;
/** Who has something to tell pokes. */
const IDLE_MS = 3_600_000;
/** Several changes in a row become one request: starting a container makes several. */
const SETTLE_MS = 100;

export class PodStatuses {
  readonly #options: PodStatusesOptions;
  readonly #entries = new Map<string, Entry>();
  /** Pods that our cluster has said it does not have, until it is heard of them. */
  readonly #absent = new Set<string>();
  readonly #poke: ReturnType<typeof createPoke>;
  /** In a row, of the server as a whole. */
  #failures = 0;

  constructor(options: PodStatusesOptions) {
    this.#options = options;
    this.#poke = createPoke(options.clock);
  }

  /**
   * What the API server says of a pod. Others write there as well: a node that was not heard of has
   * its pods called not ready.
   */
  heard(worker: Worker, status: unknown): void {
    if (this.#options.uidOf(worker) === undefined) return;
    this.#absent.delete(worker.uid);
    this.#entryOf(worker).heard = { status };
    this.changed([worker]);
  }

  /** These may have another status now. */
  changed(workers: readonly Worker[]): void {
    for (const worker of workers) {
      if (worker.status === undefined || this.#options.uidOf(worker) === undefined) continue;
      if (this.#absent.has(worker.uid)) continue;
      this.#entryOf(worker).isDue = true;
      this.#poke.poke();
    }
  }

  /** The pod is gone from the node: its last status is told, then its object is deleted. */
  over(worker: Worker): void {
    const entry = this.#entryOf(worker);
    entry.isDue = worker.status !== undefined;
    entry.isOver = true;
    this.#poke.poke();
  }

  /** There is no object any more. */
  forget(uid: string): void {
    this.#entries.delete(uid);
    this.#absent.delete(uid);
  }

  /** The object of a pod is another one now: all has to be told to it. */
  anew(worker: Worker): void {
    this.#entries.delete(worker.uid);
    this.changed([worker]);
  }

  /** Tells what is to be told until the signal is aborted. */
  async run(session: Telling, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    this.#failures = 0;
    for (const entry of this.#entries.values()) entry.notBeforeMs = 0;
    while (!signal.aborted) {
      const recovered = session.recovery.next();
      await this.#tellAll(session, signal);
      if (signal.aborted) return;
      if (this.#failures > 0) {
        // What a pod was asked to wait for is kept to all the same.
        const ms = this.#backoffMs(this.#failures);
        await takePause(clock, { ms, leastMs: 0 }, recovered, signal);
        if (recovered.aborted) this.#failures = 0;
        continue;
      }
      const now = clock.now().monoMs;
      const waits = this.#open().map(({ notBeforeMs }) => notBeforeMs - now);
      await this.#poke.wait(Math.max(1, Math.min(...waits, IDLE_MS)), signal);
      await clock.sleep(SETTLE_MS, signal).catch(() => undefined);
    }
  }

  #open(): readonly Entry[] {
    return [...this.#entries.values()].filter(({ isDue, isOver }) => isDue || isOver);
  }

  async #tellAll(session: Telling, signal: AbortSignal): Promise<void> {
    const now = this.#options.clock.now().monoMs;
    const ready = this.#open().filter(({ notBeforeMs }) => notBeforeMs <= now);
    // A server that does not answer is asked once, not once for each pod.
    const batch = this.#failures > 0 ? ready.slice(0, 1) : ready;
    if (batch.length === 0) this.#failures = 0;
    const slots = createSlots(PARALLEL);
    const tell = async (entry: Entry) => {
      if (this.#failures > 0 && batch.length > 1) return;
      await this.#tell(session, entry, signal);
    };
    await Promise.all(
      batch.map((entry) => slots.run(entry.worker.want.order, signal, () => tell(entry))),
    ).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  #backoffMs(failures: number): number {
    const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);
    return backoffMs * (0.8 + 0.4 * this.#options.random.next());
  }

  #entryOf(worker: Worker): Entry {
    const { uid } = worker;
    const known = this.#entries.get(uid);
    if (known !== undefined) return known;
    const entry: Entry = {
      worker,
      told: undefined,
      heard: undefined,
      isDue: false,
      isOver: false,
      failures: 0,
      notBeforeMs: 0,
    };
    this.#entries.set(uid, entry);
    return entry;
  }

  async #tell(session: Telling, entry: Entry, signal: AbortSignal): Promise<void> {
    try {
      await this.#tellServer(session.client, entry, signal).catch(async (error: unknown) => {
        if (!isOfAnother(error)) throw error;
        // Not this one any more, if it is our cluster that says so.
        await session.confirm();
        if (entry.isOver) this.#gone(entry, this.#options.onDeleted);
        // The watch of the pods tells the rest; it may have told of another object meanwhile.
        else if (this.#entries.get(entry.worker.uid) === entry) {
          this.forget(entry.worker.uid);
          this.#absent.add(entry.worker.uid);
        }
      });
    } catch (error) {
      if (signal.aborted || !(error instanceof Failure)) throw error;
      this.#again(entry, error);
    }
  }

  async #tellServer(client: ApiClient, entry: Entry, signal: AbortSignal): Promise<void> {
    const { log, onDeleted, uidOf } = this.#options;
    const { worker } = entry;
    if (entry.isDue) await this.#tellStatus(client, entry, signal);
    // It may have ended while it was told of: that comes first.
    if (!entry.isOver || entry.isDue) return;
    const { name, namespace } = worker.want.pod.metadata;
    const preconditions = { uid: uidOf(worker) ?? worker.uid };
    const how = { gracePeriodSeconds: 0, preconditions };
    const call = { signal, deadlineMs: DEADLINE_MS };
    await deleteObject(client, PODS, { namespace, name }, how, call);
    this.#failures = 0;
    const pod = `${namespace}/${name}`;
    log.info('the API server knows that the pod is gone', { pod, uid: worker.uid });
    this.#gone(entry, onDeleted);
  }

  #gone({ worker: { uid } }: Entry, onDeleted: (uid: string) => void): void {
    this.forget(uid);
    onDeleted(uid);
  }

  async #tellStatus(client: ApiClient, entry: Entry, signal: AbortSignal): Promise<void> {
    const { hostIPs, uidOf } = this.#options;
    const { worker } = entry;
    if (entry.told === undefined && entry.heard !== undefined && worker.status !== undefined) {
      worker.status = withKnownTimes(worker.status, entry.heard.status);
    }
    const { status } = worker;
    const uid = uidOf(worker);
    if (status === undefined || uid === undefined) {
      entry.isDue = false;
      return;
    }
    const { name, namespace, generation } = worker.want.pod.metadata;
    // The runtime is away for a moment: that is told of the node, not of each pod that runs.
    const { hold } = worker.seen;
    const { reason: _reason, message: _message, ...bare } = status;
    const shown = hold !== undefined && status.reason === hold.reason ? bare : status;
    const patch = podStatusPatch(shown, { uid, generation, hostIPs: hostIPs() });
    const json = JSON.stringify(patch);
    entry.isDue = false;
    const { heard } = entry;
    const isKnown = heard === undefined ? json === entry.told : saysTheSame(heard.status, patch);
    if (!isKnown) {
      try {
        const key = { namespace, name, subresource: 'status' };
        const call = { signal, deadlineMs: DEADLINE_MS, metadataOnly: true };
        await patchObject(client, PODS, key, 'strategic', json, call);
      } catch (error) {
        const isRefused = error instanceof Failure && error.code === 'InvalidArgument';
        entry.isDue = !isRefused;
        if (!isRefused) throw error;
        // It would be refused again; what changes next may not be.
        const { message } = error;
        this.#options.log.warn('the API server refuses the status of a pod', { message });
      }
    }
    this.#failures = 0;
    entry.told = json;
    // What was heard meanwhile is older than what was told.
    entry.heard = undefined;
    entry.failures = 0;
  }

  #again(entry: Entry, failure: Failure): void {
    const { clock, log } = this.#options;
    const { name, namespace } = entry.worker.want.pod.metadata;
    const askedMs = failure instanceof ApiFailure ? (failure.retryAfterMs ?? 0) : 0;
    if (OF_THE_SERVER.includes(failure.code)) this.#failures += 1;
    else entry.failures += 1;
    const delayMs = OF_THE_SERVER.includes(failure.code) ? 0 : this.#backoffMs(entry.failures);
    entry.notBeforeMs = clock.now().monoMs + Math.max(delayMs, askedMs);
    const { message } = faultOf(failure);
    log.debug('cannot tell how a pod is', { pod: `${namespace}/${name}`, problem: message });
  }
}

/** The uid of the object that stands for a pod; undefined when the API server has none. */
export function objectUidOf(
  worker: Worker,
  mirrors: { uidOf(worker: Worker): string | undefined },
): string | undefined {
  const { source, deletion } = worker.want;
  if (source !== 'api') return mirrors.uidOf(worker);
  return deletion?.gone === true ? undefined : worker.uid;
}

function isOfAnother(error: unknown): boolean {
  return error instanceof Failure && (error.code === 'NotFound' || error.code === 'Conflict');
}

/** Failures that the next request would meet as well. */
const OF_THE_SERVER: readonly FailureCode[] = [
  'Unavailable',
  'DeadlineExceeded',
  'ResourceExhausted',
  'Unknown',
  'Unauthenticated',
];
