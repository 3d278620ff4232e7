/**
 * Makes the probes that the core wants made: one loop for each probe of each run of a container.
 * The core is told when an answer came often enough, and only when it is news.
 *
 * Invariants
 * - Nothing runs for a container without probes.
 * - Delays are measured on the monotonic clock. The delay of a container that was started by a
 *   former life of the agent counts from that start.
 */
import type { Clock, Now, Timer } from '../base/clock.ts';
import { sinceMs } from '../base/clock.ts';
import { faultOf } from '../base/failure.ts';
import type { Random } from '../base/random.ts';
import type { RuntimeService } from '../kube/cri.ts';
import type { NewEvent } from '../kube/event.ts';
import { REASON } from '../kube/reason.ts';
import { objectOf } from '../pod/events.ts';
import type { ProbeWanted, Streak } from '../pod/health.ts';
import { NO_STREAK, counted, probesOf } from '../pod/health.ts';
import type { PodEvent } from '../pod/model.ts';
import { runProbe } from '../probe/index.ts';
import type { ProbeAnswer } from '../probe/target.ts';
import { podIPOf } from './pod-ip.ts';
import type { Worker } from './turns.ts';

export type ProbesOptions = {
  readonly runtime: Pick<RuntimeService, 'execSync'>;
  readonly clock: Clock;
  readonly random: Random;
  readonly hostIP: () => string | undefined;
  readonly post: (uid: string, event: PodEvent) => void;
  readonly onEvent: (event: NewEvent) => void;
};

type Loop = {
  readonly worker: Worker;
  readonly wanted: ProbeWanted;
  readonly controller: AbortController;
  timer: Timer | undefined;
  dueMonoMs: number;
  streak: Streak;
  told: 'success' | 'failure' | undefined;
};

/** What there is of a pod for as long as it is known. */
type PodProbes = {
  /** By what tells one loop from another. */
  readonly loops: Map<string, Loop>;
  /** Events that may be told yet, and since when that is so. */
  events: number;
  eventsMonoMs: number;
};

/** As the kubelet's filter: this many events of a pod in a row, then one in five minutes. */
const EVENT_BURST = 25;
const EVENT_EVERY_MS = 300_000;

const TITLES = { startup: 'Startup', liveness: 'Liveness', readiness: 'Readiness' } as const;

export class Probes {
  readonly #options: ProbesOptions;
  readonly #startedMonoMs: number;
  readonly #pods = new Map<string, PodProbes>();

  constructor(options: ProbesOptions) {
    this.#options = options;
    this.#startedMonoMs = options.clock.now().monoMs;
  }

  /** Brings the loops of these pods in line with what they want now. */
  follow(workers: Iterable<Worker>, isKnown: (uid: string) => boolean): void {
    for (const worker of workers) {
      const { uid, want, seen } = worker;
      const wanted = isKnown(uid) ? probesOf(want, seen) : [];
      if (wanted.length === 0 && !this.#pods.has(uid)) continue;
      const { loops } = this.#podOf(uid);
      const keys = new Set<string>();
      for (const one of wanted) {
        const key = `${one.id}/${one.probe}`;
        keys.add(key);
        if (!loops.has(key)) loops.set(key, this.#begin(worker, one));
      }
      for (const [key, loop] of loops) {
        if (keys.has(key)) continue;
        end(loop);
        loops.delete(key);
      }
      if (!isKnown(uid)) this.#pods.delete(uid);
    }
  }

  [Symbol.dispose](): void {
    for (const { loops } of this.#pods.values()) for (const loop of loops.values()) end(loop);
    this.#pods.clear();
  }

  #podOf(uid: string): PodProbes {
    let pod = this.#pods.get(uid);
    if (pod === undefined) {
      const eventsMonoMs = this.#options.clock.now().monoMs;
      pod = { loops: new Map(), events: EVENT_BURST, eventsMonoMs };
      this.#pods.set(uid, pod);
    }
    return pod;
  }

  #begin(worker: Worker, wanted: ProbeWanted): Loop {
    const { clock, random } = this.#options;
    const now = clock.now();
    const { initialDelaySeconds, periodSeconds } = wanted.spec;
    const delayMs = initialDelaySeconds * 1000 - sinceStartMs(worker, wanted, now);
    const periodMs = periodSeconds * 1000;
    // After a restart of the agent not all of them at once.
    const isEarly = now.monoMs - this.#startedMonoMs < periodMs;
    const jitterMs = isEarly ? random.next() * periodMs : 0;
    const loop: Loop = {
      ...{ worker, wanted, controller: new AbortController(), timer: undefined },
      ...{ dueMonoMs: now.monoMs + Math.max(0, delayMs, jitterMs), streak: NO_STREAK },
      told: undefined,
    };
    this.#arm(loop);
    return loop;
  }

  #arm(loop: Loop): void {
    loop.timer = this.#options.clock.at(loop.dueMonoMs, () => void this.#ask(loop));
  }

  async #ask(loop: Loop): Promise<void> {
    const { runtime, clock, hostIP } = this.#options;
    const { worker, wanted, controller } = loop;
    const { container, id: containerId, spec } = wanted;
    const target = { runtime, clock, container, containerId, podIP: podIPOf(worker, hostIP) };
    let answer: ProbeAnswer;
    try {
      answer = await runProbe(target, spec, controller.signal);
    } catch (error) {
      answer = { result: 'error', text: faultOf(error).message };
    }
    if (controller.signal.aborted) return;
    this.#answered(loop, answer);
    const { monoMs } = clock.now();
    // What took longer than its period is asked again at once, but not twice.
    loop.dueMonoMs = Math.max(loop.dueMonoMs + spec.periodSeconds * 1000, monoMs);
    this.#arm(loop);
  }

  #answered(loop: Loop, { result, text }: ProbeAnswer): void {
    const { probe, spec, container, id } = loop.wanted;
    const title = `${TITLES[probe]} probe`;
    if (result === 'error') {
      this.#tell(loop, REASON.unhealthy, `${title} errored and resulted in unknown state: ${text}`);
      return;
    }
    if (result === 'failure') this.#tell(loop, REASON.unhealthy, `${title} failed: ${text}`);
    if (result === 'warning') this.#tell(loop, REASON.probeWarning, `${title} warning: ${text}`);
    const { streak, verdict } = counted(
      loop.streak,
      result === 'failure' ? 'failure' : 'success',
      spec,
    );
    loop.streak = streak;
    if (verdict === undefined || verdict === loop.told) return;
    loop.told = verdict;
    const { uid } = loop.worker;
    this.#options.post(uid, { type: 'Probed', name: container.name, id, probe, result: verdict });
  }

  #tell(loop: Loop, reason: string, message: string): void {
    const { clock, onEvent } = this.#options;
    const { monoMs } = clock.now();
    const pod = this.#podOf(loop.worker.uid);
    const earned = Math.floor((monoMs - pod.eventsMonoMs) / EVENT_EVERY_MS);
    pod.events = Math.min(EVENT_BURST, pod.events + earned);
    pod.eventsMonoMs += earned * EVENT_EVERY_MS;
    if (pod.events === 0) return;
    pod.events -= 1;
    const object = objectOf(loop.worker.want, loop.wanted.container.name);
    onEvent({ type: 'Warning', reason, message, object });
  }
}

function end(loop: Loop): void {
  loop.timer?.cancel();
  loop.controller.abort(new Error('the probe is not wanted any more'));
}

/** Milliseconds since the container was started, as far as this boot's clock can tell. */
function sinceStartMs({ seen }: Worker, { container }: ProbeWanted, now: Now): number {
  const ledger = seen.ledger.containers[container.name];
  const { intent } = ledger ?? {};
  const isOfRun = intent?.attempt === ledger?.attempt && intent?.at.boot === now.boot;
  return intent !== undefined && isOfRun ? sinceMs(intent.at, now) : 0;
}
