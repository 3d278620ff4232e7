/**
 * What has to hold at every step, whatever happens. Judged by what really happened in the world
 * (processes that ran, signals that were sent, what was on the disk), not by what the core says.
 * The numbers are those of the project's list of invariants, see README.md.
 */
import type { Action, Ledger, Now, Plan, Want } from '../../src/pod/model.ts';
import type { Core, Worker } from './agent.ts';
import { describeAction } from './describe.ts';
import {
  endingGraceMsOf,
  graceMsOf,
  hasSucceeded,
  isPast,
  isResting,
  killGracesMsOf,
  policyIn,
  roleIn,
  stampsOf,
  STARTS,
} from './expected.ts';
import type { History } from './history.ts';
import { countMinute, newHistory } from './history.ts';
import { STOPS, causeOf, hookFirst, mayEnd, onlyStrays, sidecarsLast } from './stops.ts';
import type { Process } from './process.ts';
import { endBeganMs } from './process.ts';
import { Violation } from './violation.ts';
import type { Blow, World } from './world.ts';

export type InvariantPorts = {
  readonly world: World;
  readonly core: Core;
  nowMs(): number;
  bootMs(): number;
  isRefused(uid: string): boolean;
};

const FIRST_PAUSE_MS = 10_000;
const MAX_PAUSE_MS = 300_000;
const PAUSE_RESET_MS = 600_000;
/** From the creation of a container to its start, at most. */
const DELAY_MS = 30_000;
/** Rounding of seconds and milliseconds. */
const SLACK_MS = 1100;
/** From the moment a kill is due to the kill: looks, rounding, the least of two seconds. */
const LATE_MS = 6000;
/** How long after the end of the agent the runtime may still do what that had asked for. */
const LATE_EFFECT_MS = 3000;
const MAX_CONTAINERS = 6;
/** Effects of a pod in a minute: five containers that change their sandbox twice begin 150. */
export const MAX_BEGUN_PER_MINUTE = 180;
export const MAX_TURNS_PER_MINUTE = 400;
const WALL_SHIFT_MS = 20 * 365 * 86_400_000;

export class Invariants {
  readonly #pods = new Map<string, History>();
  readonly #ports: InvariantPorts;
  #turns = 0;
  #agentMs = 0;
  /** The most effects and turns of one pod in one minute, for the statistics. */
  mostBegun = 0;
  mostTurns = 0;

  constructor(ports: InvariantPorts) {
    this.#ports = ports;
  }

  // ---- what the world reports ----

  acknowledged(want: Want): void {
    const { uid } = want.pod.metadata;
    const known = this.#pods.get(uid);
    if (known !== undefined) {
      known.want = want;
      const graceMs = (want.deletion?.graceSeconds ?? Infinity) * 1000;
      known.deletedMs = this.#ports.nowMs();
      known.deletionGraceMs = Math.min(known.deletionGraceMs, graceMs);
      return;
    }
    this.#pods.set(uid, newHistory(want));
  }

  started(process: Process): void {
    const { uid, name } = process;
    const history = this.#of(uid);
    const former = history.starts.get(name) ?? [];
    this.#oneAtATime(process);
    if (history.terminal !== undefined && !process.late) {
      throw new Violation('I-02', uid, `${name} was started though the pod is ${history.terminal}`);
    }
    this.#atMostOnce(history, process, former);
    this.#inOrder(history, process);
    this.#notTooSoon(history, process, former);
    history.starts.set(name, [...former, process]);
  }

  blow(process: Process, blow: Blow, worker: Worker | undefined): void {
    const { uid, name } = process;
    const { world } = this.#ports;
    const history = this.#of(uid);
    if (process.late || history.isForgotten) return;
    // What was asked for by an agent that died may still come; without its ledger nobody knows of it.
    const isLate = this.#ports.nowMs() <= this.#agentMs + LATE_EFFECT_MS;
    if (history.isLedgerLost && isLate && blow.by === 'RemoveContainer') return;
    const isEnding = worker?.seen.ledger.ending !== undefined;
    const cause = history.stops.get(process.containerId);
    const isKilled = !isEnding && cause === 'kill';
    if (!isEnding) onlyStrays(world, history, process, blow, worker);
    // The stop of a stray that was on its way before the pod began to end can't be called back.
    const isOfStray = !isEnding || (cause !== undefined && cause !== 'ending');
    if (isOfStray && process.termMs === undefined) history.strays.add(process.containerId);
    const isStray = !isEnding || history.strays.has(process.containerId);
    const grace = isKilled
      ? killGracesMsOf(history.want, name).max
      : isStray
        ? graceMsOf(history.want)
        : endingGraceMsOf(history, worker?.seen.ledger);
    if (blow.signal === 'TERM') {
      if (!isOfStray) sidecarsLast(world, history, process);
      if (!isOfStray) hookFirst(world, history, process, grace);
      // A hook that hangs does not hold up the end.
      if (!isStray || isKilled) this.#notTooLate(history, process, grace);
      return;
    }
    const { stopLostMs = Infinity } = process;
    const nowMs = this.#ports.nowMs();
    const sinceMs = nowMs - Math.min(nowMs, endBeganMs(process), isStray ? stopLostMs : Infinity);
    // Sidecars share what the others left of the grace.
    const sharedMs = nowMs - Math.min(history.stoppingMs ?? Infinity, stopLostMs);
    const isSidecar = isEnding && roleIn(history.want, name) === 'sidecar';
    const isShared = isSidecar || process.stopLostMs !== undefined;
    const least = isStray
      ? Math.min(grace, history.deletionGraceMs, killGracesMsOf(history.want, name).min)
      : isShared && sharedMs >= grace - SLACK_MS
        ? Math.min(grace, 2000)
        : grace;
    if (!isStray || isKilled) this.#notTooLate(history, process, grace);
    if (sinceMs < least - SLACK_MS) {
      throw new Violation(
        'I-11',
        uid,
        `${name} got SIGKILL by ${blow.by} ${sinceMs} ms after SIGTERM, grace ${grace} ms`,
      );
    }
  }

  /** An effect of the pod did not go well, or nothing could go well. */
  trouble(uid?: string): void {
    const nowMs = this.#ports.nowMs();
    for (const [of, history] of this.#pods) {
      if (uid === undefined || uid === of) history.troubleMs = nowMs;
    }
  }

  ended(process: Process): void {
    if (process.ended?.cause !== 'power') return;
    // A power cut is no failure: the next start may come at once.
    const loop = this.#of(process.uid).loops.get(process.name);
    if (loop !== undefined) loop.delayMs = 0;
  }

  evidenceLost(uid: string, name: string): void {
    const history = this.#pods.get(uid);
    history?.evidenceLost.add(name);
    if (history?.isLedgerLost === true) history.attempts.delete(name);
  }

  /** The ledgers were lost; `kept` are those that a backup brought back. */
  ledgersLost(kept: ReadonlyMap<string, Ledger>): void {
    for (const [uid, history] of this.#pods) {
      if (history.isForgotten) continue;
      history.isLedgerLost = true;
      history.text = '';
      history.terminal = kept.get(uid)?.terminal?.phase;
      history.recordedZero.clear();
      history.attempts.clear();
      history.loops.clear();
      history.endingKey = undefined;
      // What the runtime shows is the least that may be reported.
      for (const c of this.#ports.world.containers.values()) {
        if (c.uid !== uid || c.process === undefined) continue;
        const most = Math.max(history.attempts.get(c.name) ?? 0, c.attempt);
        history.attempts.set(c.name, most);
      }
    }
  }

  /** The agent starts: what it did before is no measure of its work any more. */
  agentStarts(): void {
    this.#agentMs = this.#ports.nowMs();
    for (const history of this.#pods.values()) {
      history.begun = [];
      history.turns = [];
    }
  }

  /** The disk was full: what is stored next may be what was stored before. */
  notStored({ uid }: Worker): void {
    this.#of(uid).text = '';
  }

  powerCut(): void {
    for (const history of this.#pods.values()) {
      history.stoppingMs = undefined;
      for (const loop of history.loops.values()) loop.delayMs = 0;
    }
  }

  /** A pod was dropped that nobody had been promised. */
  isKnown(uid: string): boolean {
    return this.#pods.has(uid);
  }

  stored({ uid, seen, viewMs }: Worker, ledger: Ledger): void {
    const history = this.#of(uid);
    const phase = ledger.terminal?.phase;
    const text = JSON.stringify(seen.ledger);
    // A stop that fails in the very turn that notes its signal takes the note back.
    const mayTakeBack =
      ledger.ending !== undefined && this.#ports.nowMs() - history.troubleMs < SLACK_MS;
    if (text === history.text && !mayTakeBack)
      throw new Violation('I-22', uid, 'stores what is stored already');
    history.text = text;
    if (phase === 'Succeeded' && history.terminal === undefined) hasSucceeded(history, uid);
    if (history.terminal !== undefined && history.terminal !== phase) {
      throw new Violation('I-02', uid, `was ${history.terminal} for good, now ${phase}`);
    }
    history.terminal = phase;
    for (const [name, most] of history.attempts) {
      const attempt = ledger.containers[name]?.attempt ?? -1;
      // A ledger that was lost is filled again by the first look.
      if (attempt >= most || (history.isLedgerLost && viewMs < 0)) continue;
      throw new Violation('I-06', uid, `${name}: restart count ${attempt} after ${most}`);
    }
    if (history.isLedgerLost && viewMs < 0) return;
    for (const [name, { attempt, outcome }] of Object.entries(ledger.containers)) {
      history.attempts.set(name, attempt);
      if (outcome?.exitCode === 0) history.recordedZero.add(`${name}/${outcome.attempt}`);
    }
  }

  begun({ uid, seen }: Worker, action: Action): void {
    const history = this.#of(uid);
    const nowMs = this.#ports.nowMs();
    if (action.type === 'StopContainer' || action.type === 'RunPreStop') {
      const cause = causeOf(seen, action.name, action.id);
      history.stops.set(action.id, cause);
      if (cause === 'ending') history.stoppingMs ??= nowMs;
    }
    const begun = countMinute(history.begun, nowMs);
    this.mostBegun = Math.max(this.mostBegun, begun);
    if (begun <= MAX_BEGUN_PER_MINUTE) return;
    const what = describeAction(action);
    throw new Violation('I-22', uid, `${begun} effects in a minute, now ${what}`);
  }

  forgotten({ uid, viewMs }: Worker): void {
    const history = this.#of(uid);
    history.isForgotten = true;
    const left = this.#ports.world.leftOf(uid, viewMs);
    if (history.want.deletion === undefined) {
      throw new Violation('I-16', uid, 'was forgotten though nobody deleted it');
    }
    if (left.length > 0) {
      throw new Violation('I-12', uid, `was forgotten and left ${left.join(', ')}`);
    }
  }

  /** What was acknowledged and not ended must be on the disk. */
  onDisk(desired: ReadonlyMap<string, Want>): void {
    for (const [uid, { want, isForgotten }] of this.#pods) {
      if (isForgotten) continue;
      const kept = desired.get(uid);
      if (kept === undefined) throw new Violation('I-16', uid, 'was acknowledged and is lost');
      if (want.deletion !== undefined && kept.deletion?.graceSeconds !== want.deletion.graceSeconds)
        throw new Violation('I-16', uid, 'its deletion was acknowledged and is lost');
    }
  }

  /** In the calm each pod has exactly what it should have, or is put away. */
  settled({ uid, seen, want }: Worker): void {
    const { sandboxes, volumes, alive } = this.#ports.world;
    const hasEnded = seen.ledger.terminal !== undefined;
    const ready = [...sandboxes.values()].filter(
      (s) => s.uid === uid && s.status.state === 'SANDBOX_READY',
    );
    if (ready.length !== (hasEnded ? 0 : 1)) {
      throw new Violation('I-01', uid, `has ${ready.length} sandboxes in the calm`);
    }
    const running = [...alive].filter((p) => p.uid === uid);
    const strays = running.filter((p) => hasEnded || p.sandboxId !== ready[0]?.id);
    if (strays.length > 0) throw new Violation('I-01', uid, `${strays[0]!.name} should not run`);
    const up = want.pod.spec.volumes.filter(({ name }) => volumes.has(`${uid}/${name}`));
    if (up.length === (hasEnded ? 0 : want.pod.spec.volumes.length)) return;
    throw new Violation('I-12', uid, `has ${up.length} volumes up in the calm`);
  }

  // ---- what the core says ----

  turn(worker: Worker, plan: Plan, now: Now): void {
    const { uid, seen } = worker;
    const history = this.#of(uid);
    const turns = countMinute(history.turns, this.#ports.nowMs());
    this.mostTurns = Math.max(this.mostTurns, turns);
    if (turns > MAX_TURNS_PER_MINUTE) {
      throw new Violation('I-22', uid, `${turns} turns in a minute`);
    }
    this.#soundPlan(worker, plan, now);
    const { ending } = seen.ledger;
    const endingKey = ending && `${ending.since.boot}/${ending.since.monoMs}`;
    if (endingKey !== undefined && endingKey !== history.endingKey) {
      history.endingKey = endingKey;
      history.endingMs = this.#ports.nowMs();
      const isStopping = Object.values(seen.inFlight).some((f) => STOPS.has(f.action.type));
      if (isStopping) history.stoppingMs ??= history.endingMs;
      mayEnd(this.#ports.world, history, worker, this.#ports.isRefused(uid));
    }
    const oneMore = plan.start.find((action) => action.type === 'RunPodSandbox');
    if (oneMore !== undefined) this.#noSecondSandbox(worker);
    this.#turns += 1;
    if (this.#turns % 8 === 0) this.#wallIsIgnored(worker, plan, now);
  }

  #of(uid: string): History {
    const history = this.#pods.get(uid);
    if (history === undefined) throw new Violation('I-16', uid, 'nobody ordered this pod');
    return history;
  }

  #soundPlan({ uid, seen, want, mailbox }: Worker, plan: Plan, now: Now): void {
    const { start, wakeAtMonoMs, done } = plan;
    const keys = new Set(Object.keys(seen.inFlight));
    for (const action of start) {
      if (keys.has(action.key)) {
        throw new Violation('core', uid, `a second action with the key ${action.key}`);
      }
      keys.add(action.key);
      if (seen.ledger.terminal !== undefined && STARTS.has(action.type)) {
        throw new Violation('I-02', uid, `${describeAction(action)} in a pod that has ended`);
      }
    }
    if (wakeAtMonoMs !== undefined && wakeAtMonoMs <= now.monoMs && start.length === 0) {
      throw new Violation('I-22', uid, `asks to be woken ${now.monoMs - wakeAtMonoMs} ms ago`);
    }
    const waits = keys.size > 0 || wakeAtMonoMs !== undefined || mailbox.length > 0;
    if (done || waits) return;
    const { ledger, hold, waitFor } = seen;
    const rests = want.deletion === undefined && ledger.terminal !== undefined;
    const isHeld = ledger.admitted !== true || hold !== undefined || waitFor !== undefined;
    if (rests || (ledger.ending === undefined && (isHeld || isResting(want, seen)))) return;
    throw new Violation('I-22', uid, 'is stuck: something is to be done, and it waits for nothing');
  }

  /** Everything that was there when it last looked, or when its last attempt ended, is known. */
  #noSecondSandbox({ uid, viewMs, sandboxEndedMs }: Worker): void {
    const knownMs = Math.max(viewMs, sandboxEndedMs);
    for (const s of this.#ports.world.sandboxes.values()) {
      if (s.uid !== uid || s.status.state !== 'SANDBOX_READY' || s.readyMs >= knownMs) continue;
      throw new Violation(
        'I-01',
        uid,
        `runs a second sandbox beside ${s.id}, which was to be seen`,
      );
    }
  }

  /** Within one boot nothing depends on the wall clock. */
  #wallIsIgnored({ uid, want, seen, mailbox }: Worker, plan: Plan, now: Now): void {
    if (mailbox.length > 0 || stampsOf(seen.ledger).some((stamp) => stamp.boot !== now.boot))
      return;
    for (const shiftMs of [0, WALL_SHIFT_MS, -WALL_SHIFT_MS]) {
      const other = this.#ports.core.plan(want, seen, { ...now, wallMs: now.wallMs + shiftMs });
      if (JSON.stringify(other) === JSON.stringify(plan)) continue;
      throw new Violation('I-17', uid, `another plan when the wall clock moves ${shiftMs} ms`);
    }
  }

  // ---- judgements ----

  #oneAtATime(process: Process): void {
    const { uid, name } = process;
    for (const other of this.#ports.world.alive) {
      if (other === process || other.uid !== uid || other.name !== name) continue;
      const where = `${other.containerId} in ${other.sandboxId}`;
      throw new Violation('I-01', uid, `a second ${name} was started beside ${where}`);
    }
  }

  #atMostOnce(history: History, process: Process, former: readonly Process[]): void {
    const { uid, name } = process;
    const policy = policyIn(history.want, name);
    // With the ledger and the runtime's record both gone nobody can know.
    const isUnknowable = history.isLedgerLost && history.evidenceLost.has(name);
    if (isUnknowable) return;
    if (policy === 'Never' && former.length > 0) {
      throw new Violation(
        'I-03',
        uid,
        `${name} was started ${former.length + 1} times under Never`,
      );
    }
    if (policy !== 'OnFailure' || roleIn(history.want, name) === 'init') return;
    const done = former.find((p) => history.recordedZero.has(`${name}/${p.attempt}`));
    if (done !== undefined) {
      throw new Violation('I-05', uid, `${name} was started again after exit 0 was recorded`);
    }
  }

  #inOrder(history: History, process: Process): void {
    const { uid, name, sandboxId } = process;
    const { initContainers, restartPolicy } = history.want.pod.spec;
    const role = roleIn(history.want, name);
    const counts = (p: Process) => p.sandboxId === sandboxId || restartPolicy === 'Never';
    if (history.isLedgerLost) return;
    for (const init of initContainers) {
      if (init.name === name) break;
      const runs = history.starts.get(init.name) ?? [];
      const isSidecar = init.restartPolicy === 'Always';
      const isDone = isSidecar
        ? runs.some((p) => p.sandboxId === sandboxId && isPast(init, p))
        : runs.some((p) => counts(p) && p.ended?.exitCode === 0);
      if (!isDone) throw new Violation('I-07', uid, `${name} was started before ${init.name}`);
    }
    if (role !== 'init') return;
    const again = (history.starts.get(name) ?? []).find(
      (p) => p.sandboxId === sandboxId && history.recordedZero.has(`${name}/${p.attempt}`),
    );
    if (again !== undefined) {
      throw new Violation('I-07', uid, `init container ${name} runs again, it was done`);
    }
  }

  /** The kubelet's pauses: none, 10 s, 20 s, … 300 s, over after ten minutes without a restart. */
  #notTooSoon(history: History, process: Process, former: readonly Process[]): void {
    const { uid, name } = process;
    const nowMs = this.#ports.nowMs();
    const last = former.at(-1);
    const loop = history.loops.get(name);
    if (last?.ended === undefined) return;
    const { atMs, cause } = last.ended;
    // For a new sandbox's sake an init container that succeeded runs again: that is no failure.
    if (last.ended.exitCode === 0 && roleIn(history.want, name) === 'init') return;
    if (loop !== undefined && cause !== 'power' && atMs >= this.#ports.bootMs()) {
      // The agent may have learned of the end long after it.
      const isOver = nowMs - loop.startedMs > PAUSE_RESET_MS - DELAY_MS;
      const pauseMs = nowMs - atMs;
      if (!isOver && pauseMs < loop.delayMs - SLACK_MS) {
        const message = `${name} was started ${pauseMs} ms after its end, not ${loop.delayMs}`;
        throw new Violation('backoff', uid, message);
      }
      const next = isOver || loop.delayMs === 0 ? FIRST_PAUSE_MS : 2 * loop.delayMs;
      const delayMs = Math.min(next, MAX_PAUSE_MS);
      history.loops.set(name, { delayMs, startedMs: nowMs });
      return;
    }
    const isCut = cause === 'power' || atMs < this.#ports.bootMs();
    // The pause before this one may have been in a ledger that was lost.
    const delayMs = isCut || history.isLedgerLost ? 0 : FIRST_PAUSE_MS;
    history.loops.set(name, { delayMs, startedMs: nowMs });
  }

  /** With nothing in the way, what is left of a grace does not grow when the agent restarts. */
  #notTooLate(history: History, process: Process, graceMs: number): void {
    const { uid, name, isUnsure } = process;
    const beganMs = endBeganMs(process);
    if (beganMs === Infinity || history.troubleMs >= beganMs - 1000) return;
    if (isUnsure === true) return;
    const isSidecar = roleIn(history.want, name) === 'sidecar';
    // A sidecar that was being killed waits for those that have the grace of the pod's end.
    const sharedMs = isSidecar ? Math.max(beganMs, history.stoppingMs ?? 0) : beganMs;
    const { deletedMs, endingMs } = history;
    const startMs = Math.max(sharedMs + graceMs, this.#agentMs, deletedMs, endingMs);
    const lateMs = this.#ports.nowMs() - startMs;
    // Once the grace is over, each of those before a sidecar still has its two seconds.
    const before = isSidecar ? MAX_CONTAINERS : 0;
    if (lateMs <= LATE_MS + before * 2000) return;
    throw new Violation('I-11', uid, `${name} got its signal ${lateMs} ms too late`);
  }
}
