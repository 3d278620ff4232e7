/**
 * The machine below the agent: a container runtime as plain maps, its processes, images, volumes,
 * and what of all that outlives a restart of the runtime or a power cut. Answers are given at once;
 * when something happens and when the agent hears of it is the business of `agent.ts`.
 * Modelled on containerd: names are reserved per (pod, name, attempt), removing a sandbox removes
 * its containers by force, a status file is written after the fact and may be lost.
 */
import type { Fault } from '../../src/base/failure.ts';
import type { Random } from '../../src/base/random.ts';
import { containerHash, HASH_ANNOTATION } from '../../src/kube/container-hash.ts';
import type { Probe } from '../../src/kube/pod.ts';
import type {
  ActionResult,
  ContainerSeen,
  Ledger,
  ProbeName,
  SandboxSeen,
} from '../../src/pod/model.ts';
import { between, chance, pick } from './choose.ts';
import type { Behaviour } from './pods.ts';
import type { Conditions, EndCause, HookName, Process } from './process.ts';
import { answerOf, endBeganMs, hookOf } from './process.ts';
import type { Entry } from './queue.ts';
import { callOff } from './queue.ts';

type SandboxStatus = { state: SandboxSeen['state'] };
type ContainerStatus = {
  state: ContainerSeen['state'];
  exitCode: number;
  reason: string;
  message?: string;
  startedMs: number;
  finishedMs: number;
};
type Record<S> = {
  readonly id: string;
  readonly uid: string;
  readonly attempt: number;
  readonly createdMs: number;
  status: S;
  /** What is on the disk; absent when the record itself is not. */
  saved: S | undefined;
};
export type SandboxRecord = Record<SandboxStatus> & { readyMs: number };
export type ContainerRecord = Record<ContainerStatus> & {
  readonly name: string;
  readonly sandboxId: string;
  readonly annotations: ContainerSeen['annotations'];
  process?: Process;
};

/** How a process was made to end by the agent. */
export type Blow = {
  readonly signal: 'TERM' | 'KILL';
  readonly by: 'StopContainer' | 'StopPodSandbox' | 'RemovePodSandbox' | 'RemoveContainer';
};

export type Stopping = { abandon(): void };

export type WorldPorts = {
  readonly random: Random;
  nowMs(): number;
  schedule(inMs: number, run: () => void): Entry;
  behaviour(uid: string, name: string): Behaviour;
  /** No faults any more: services stay up, tasks succeed. */
  isCalm(): boolean;
  trace(line: string): void;
  onStarted(process: Process): void;
  onBlow(process: Process, blow: Blow): void;
  onEnded(process: Process): void;
  /** Something of a pod changed that the runtime tells its watchers. */
  onChange(uid: string): void;
  /** What is known of a start is gone. */
  onEvidenceLost(uid: string, name: string): void;
};

const OK: ActionResult = { ok: true };

export function failed(code: Fault['code'], message: string): ActionResult {
  return { ok: false, fault: { code, message } };
}

export class World {
  readonly sandboxes = new Map<string, SandboxRecord>();
  readonly containers = new Map<string, ContainerRecord>();
  readonly images = new Set<string>();
  /** Images that can't be pulled before this time. */
  readonly missing = new Map<string, number>();
  readonly volumes = new Set<string>();
  readonly podDirs = new Set<string>();
  /** Sandboxes that can't be removed before this time. */
  readonly lingering = new Map<string, number>();
  /** Names held by something half-written, until the runtime is restarted. */
  readonly halfWritten = new Set<string>();
  readonly alive = new Set<Process>();
  /** Counts the starts of the runtime. */
  epoch = 0;
  /** Counts the power cuts. */
  cuts = 0;
  isUp = false;
  #ids = 0;
  readonly #stops = new Set<{ readonly process: Process; ended(): void; fail(): void }>();
  readonly #ports: WorldPorts;

  constructor(ports: WorldPorts) {
    this.#ports = ports;
  }

  // ---- what the runtime is asked ----

  runPodSandbox(uid: string, attempt: number): ActionResult {
    const name = `${uid}/${attempt}`;
    const taken = [...this.sandboxes.values()].some((s) => s.uid === uid && s.attempt === attempt);
    if (taken || this.halfWritten.has(name)) return failed('NameReserved', `${name} is reserved`);
    const nowMs = this.#ports.nowMs();
    const id = `s${++this.#ids}`;
    const status = { state: 'SANDBOX_READY' } as const;
    this.sandboxes.set(id, {
      ...{ id, uid, attempt, createdMs: nowMs, status: { ...status } },
      ...{ saved: undefined, readyMs: nowMs },
    });
    this.#ports.trace(`runtime ${uid}: sandbox ${id} (attempt ${attempt}) is ready`);
    this.#ports.onChange(uid);
    return OK;
  }

  stopPodSandbox(id: string): ActionResult {
    const sandbox = this.sandboxes.get(id);
    if (sandbox === undefined) return OK;
    for (const c of this.#containersOf(id)) this.#blow(c, { signal: 'KILL', by: 'StopPodSandbox' });
    sandbox.status = { state: 'SANDBOX_NOTREADY' };
    this.#ports.onChange(sandbox.uid);
    return OK;
  }

  removePodSandbox(id: string): ActionResult {
    const sandbox = this.sandboxes.get(id);
    if (sandbox === undefined) return OK;
    if ((this.lingering.get(id) ?? 0) > this.#ports.nowMs()) return failed('Unknown', 'busy');
    for (const c of this.#containersOf(id)) {
      this.#blow(c, { signal: 'KILL', by: 'RemovePodSandbox' });
      this.#forget(c);
    }
    this.sandboxes.delete(id);
    this.#ports.onChange(sandbox.uid);
    return OK;
  }

  createContainer(
    uid: string,
    name: string,
    attempt: number,
    sandboxId: string,
    image: string,
  ): ActionResult {
    const sandbox = this.sandboxes.get(sandboxId);
    if (sandbox?.status.state !== 'SANDBOX_READY') return failed('NotFound', 'no such sandbox');
    if (!this.images.has(image)) return failed('NotFound', `no image ${image}`);
    const key = `${uid}/${name}/${attempt}`;
    const taken = [...this.containers.values()].some(
      (c) => c.uid === uid && c.name === name && c.attempt === attempt,
    );
    if (taken || this.halfWritten.has(key)) return failed('NameReserved', `${key} is reserved`);
    const id = `c${++this.#ids}`;
    const createdMs = this.#ports.nowMs();
    const status: ContainerStatus = {
      ...{ state: 'CONTAINER_CREATED', exitCode: 0, reason: '', startedMs: 0, finishedMs: 0 },
    };
    const annotations = { [HASH_ANNOTATION]: containerHash({ name, image }) };
    const record = {
      ...{ id, uid, attempt, createdMs, status, saved: undefined, name, sandboxId, annotations },
    };
    this.containers.set(id, record);
    this.#ports.onChange(uid);
    return OK;
  }

  startContainer(id: string, late: boolean): ActionResult {
    const { random, behaviour, nowMs } = this.#ports;
    const record = this.containers.get(id);
    if (record === undefined) return failed('NotFound', `no container ${id}`);
    const isRunning = record.process !== undefined && record.process.ended === undefined;
    if (record.status.state !== 'CONTAINER_CREATED' || isRunning) {
      return failed('Unknown', `container ${id} is in ${record.status.state} state`);
    }
    const sandbox = this.sandboxes.get(record.sandboxId);
    if (sandbox?.status.state !== 'SANDBOX_READY') return failed('Unknown', 'sandbox not running');
    const { uid, name, attempt, sandboxId } = record;
    const process: Process = {
      ...{ uid, name, attempt, containerId: id, sandboxId, sandboxAttempt: sandbox.attempt },
      ...{ startedMs: nowMs(), late, failures: { startup: 0, liveness: 0 } },
    };
    record.process = process;
    record.status = { ...record.status, state: 'CONTAINER_RUNNING', startedMs: nowMs() };
    this.alive.add(process);
    this.#ports.trace(`process ${uid}/${name} attempt ${attempt} (${id}) starts in ${sandboxId}`);
    this.#ports.onStarted(process);
    const how = behaviour(uid, name);
    const runMs = between(random, how.minRunMs, how.maxRunMs);
    const isCalm = this.#ports.isCalm();
    if (how.kind === 'task' || (how.kind === 'crasher' && !isCalm)) {
      const exitCode = isCalm ? 0 : pick(random, how.exitCodes);
      const ms = isCalm ? Math.min(runMs, 5000) : runMs;
      this.#ports.schedule(ms, () => this.end(process, exitCode, 'exit'));
    }
    this.#ports.onChange(uid);
    return OK;
  }

  /**
   * SIGTERM now, SIGKILL after the grace, unless the caller gives up before. `onEnd` is told when
   * the container has ended or the runtime went away.
   */
  stopContainer(id: string, graceMs: number, onEnd: (result: ActionResult) => void): Stopping {
    const record = this.containers.get(id);
    const process = record?.process;
    if (record === undefined || process === undefined || process.ended !== undefined) {
      if (record?.status.state === 'CONTAINER_UNKNOWN') this.#exited(record, 255, 'Unknown');
      onEnd(OK);
      return { abandon: () => {} };
    }
    const { schedule } = this.#ports;
    let isOver = false;
    const over = (result: ActionResult | undefined) => {
      if (isOver) return;
      isOver = true;
      callOff(kill);
      this.#stops.delete(stop);
      if (result !== undefined) onEnd(result);
    };
    const stop = {
      process,
      ended: () => over(OK),
      fail: () => over(failed('Unavailable', 'the runtime went away')),
    };
    this.#stops.add(stop);
    if (graceMs > 0) this.#blow(record, { signal: 'TERM', by: 'StopContainer' });
    const kill = schedule(graceMs, () =>
      this.#blow(record, { signal: 'KILL', by: 'StopContainer' }),
    );
    return { abandon: () => over(undefined) };
  }

  /**
   * It may not have come to note that an end began, and then the grace begins anew. `onFullDisk`:
   * what that has, where things are ended too, but since when can't be written down.
   */
  agentDied(onFullDisk?: ReadonlyMap<string, Ledger>): void {
    const nowMs = this.#ports.nowMs();
    for (const process of this.alive) {
      const beganMs = endBeganMs(process);
      if (beganMs < Infinity && nowMs <= beganMs + 2000) process.isUnsure = true;
    }
    if (onFullDisk !== undefined) this.ledgersLost(onFullDisk);
  }

  /** Of an end that began nobody knows any more, unless it is in what was kept. */
  ledgersLost(kept: ReadonlyMap<string, Ledger>): void {
    for (const process of this.alive) {
      const { stopping } = kept.get(process.uid)?.containers[process.name] ?? {};
      if (endBeganMs(process) < Infinity && stopping === undefined) process.isUnsure = true;
    }
  }

  /** A stop that the runtime never heard of, though the agent waits for its end. */
  loseStop(id: string): void {
    const process = this.containers.get(id)?.process;
    if (process !== undefined) process.stopLostMs ??= this.#ports.nowMs();
  }

  removeContainer(id: string): ActionResult {
    const record = this.containers.get(id);
    if (record === undefined) return OK;
    this.#blow(record, { signal: 'KILL', by: 'RemoveContainer' });
    this.#forget(record);
    this.#ports.onChange(record.uid);
    return OK;
  }

  /** What a probe finds; undefined while the runtime can't be asked. */
  probe(id: string, probe: ProbeName, spec: Probe): 'success' | 'failure' | undefined {
    const process = this.processOf(id);
    if (process === undefined || process.ended !== undefined || !this.isUp) return undefined;
    return answerOf(process, this.#conditionsOf(process), probe, spec);
  }

  /** How long a hook takes, and how it ends. */
  hook(id: string, name: HookName): { ms: number; result: ActionResult } {
    const process = this.processOf(id);
    if (process === undefined || process.ended !== undefined) {
      return { ms: 1, result: failed('NotFound', 'container not running') };
    }
    const { ms, fails } = hookOf(this.#conditionsOf(process), name);
    return { ms, result: fails ? failed('Unknown', 'exited with 1') : OK };
  }

  #conditionsOf(process: Process): Conditions {
    const { health } = this.#ports.behaviour(process.uid, process.name);
    return { health, nowMs: this.#ports.nowMs(), isCalm: this.#ports.isCalm() };
  }

  processOf(id: string): Process | undefined {
    return this.containers.get(id)?.process;
  }

  pullImage(image: string, policy: string): ActionResult {
    const isHere = this.images.has(image);
    if (isHere && policy !== 'Always') return { ok: true, value: `sha256:${image}` };
    if (policy === 'Never') return failed('NotFound', `no image ${image}`);
    if ((this.missing.get(image) ?? 0) > this.#ports.nowMs()) {
      return failed('Unavailable', `cannot pull ${image}`);
    }
    this.images.add(image);
    return { ok: true, value: `sha256:${image}` };
  }

  // ---- what is seen ----

  sandboxesOf(uid: string): SandboxSeen[] {
    const seen: SandboxSeen[] = [];
    for (const { id, uid: of, attempt, status } of this.sandboxes.values()) {
      if (of === uid) seen.unshift({ id, attempt, state: status.state, ips: ['10.0.0.1'] });
    }
    return seen;
  }

  containersOf(uid: string): ContainerSeen[] {
    const seen: ContainerSeen[] = [];
    for (const record of this.containers.values()) {
      if (record.uid !== uid) continue;
      const { id, name, attempt, createdMs, sandboxId, status, annotations } = record;
      const { state, exitCode, reason, message = '', startedMs, finishedMs } = status;
      seen.unshift({
        ...{ id, name, attempt, state, exitCode, reason, podSandboxId: sandboxId },
        createdAt: BigInt(createdMs) * 1_000_000n,
        startedAt: BigInt(startedMs) * 1_000_000n,
        finishedAt: BigInt(finishedMs) * 1_000_000n,
        ...{ imageRef: 'sha256:x', message, labels: {}, annotations, logPath: '' },
      });
    }
    return seen;
  }

  /** Nothing of the pod is held: no live sandbox, no volume. */
  isPutAway(uid: string): boolean {
    const isReady = [...this.sandboxes.values()].some(
      (s) => s.uid === uid && s.status.state === 'SANDBOX_READY',
    );
    return !isReady && ![...this.volumes].some((volume) => volume.startsWith(`${uid}/`));
  }

  /** What is left of a pod, but for sandboxes that came up after the agent's last look. */
  leftOf(uid: string, viewMs: number): string[] {
    return [
      ...[...this.alive].filter((p) => p.uid === uid && !p.late).map((p) => `process ${p.name}`),
      ...[...this.sandboxes.values()]
        .filter((s) => s.uid === uid && s.readyMs < viewMs)
        .map((s) => `sandbox ${s.id}`),
      ...[...this.containers.values()].filter((c) => c.uid === uid).map((c) => `container ${c.id}`),
      ...[...this.volumes].filter((v) => v.startsWith(`${uid}/`)).map((v) => `volume ${v}`),
      ...[...this.podDirs].filter((d) => d === uid).map((d) => `directory ${d}`),
    ];
  }

  // ---- what happens to it ----

  /** A process ends, by itself or by force. */
  end(process: Process, exitCode: number, cause: EndCause): void {
    if (process.ended !== undefined) return;
    process.ended = { atMs: this.#ports.nowMs(), exitCode, cause };
    this.alive.delete(process);
    this.#ports.trace(`process ${process.uid}/${process.name} ends: ${cause} ${exitCode}`);
    this.#ports.onEnded(process);
    const record = this.containers.get(process.containerId);
    // While the runtime is away nobody writes down how it ended.
    if (record === undefined || cause === 'power' || !this.isUp) return;
    this.#exited(record, exitCode, exitCode === 0 ? 'Completed' : 'Error');
    for (const stop of [...this.#stops]) if (stop.process === process) stop.ended();
    this.#ports.onChange(process.uid);
  }

  sandboxDies(id: string): void {
    const sandbox = this.sandboxes.get(id);
    if (sandbox === undefined) return;
    sandbox.status = { state: 'SANDBOX_NOTREADY' };
    this.#ports.trace(`runtime ${sandbox.uid}: sandbox ${id} died`);
    this.#ports.onChange(sandbox.uid);
  }

  /** From now on the sandboxes of some pods can be removed; nothing else may wait for that. */
  letGo(isMeant: (uid: string) => boolean): void {
    for (const { id, uid } of this.sandboxes.values()) if (isMeant(uid)) this.lingering.delete(id);
  }

  /** The kernel wrote back what was dirty. */
  sync(): void {
    for (const record of this.sandboxes.values()) record.saved = record.status;
    for (const record of this.containers.values()) record.saved = record.status;
  }

  runtimeStops(): void {
    this.isUp = false;
    for (const stop of [...this.#stops]) stop.fail();
  }

  /** The runtime is back after a `kill -9`: processes live on, unsynced statuses are lost. */
  runtimeStarts(): void {
    const { random } = this.#ports;
    this.isUp = true;
    this.epoch += 1;
    this.halfWritten.clear();
    for (const record of this.containers.values()) {
      const { process, saved } = record;
      if (saved !== undefined && saved !== record.status && chance(random, 0.5)) {
        if (process !== undefined) this.#ports.onEvidenceLost(record.uid, record.name);
        record.status = saved;
      } else if (saved === undefined && process !== undefined && chance(random, 0.5)) {
        this.#ports.onEvidenceLost(record.uid, record.name);
        record.status = { ...record.status, state: 'CONTAINER_CREATED' };
      }
      if (process === undefined) continue;
      if (process.ended === undefined) {
        const state = chance(random, 0.05) ? 'CONTAINER_UNKNOWN' : 'CONTAINER_RUNNING';
        record.status = { ...record.status, state, startedMs: process.startedMs };
      } else if (record.status.state === 'CONTAINER_RUNNING') {
        this.#exited(record, 255, 'Unknown');
      }
    }
  }

  /** Everything that ran is gone, and what was not synced may be. */
  powerCut(): void {
    const { random } = this.#ports;
    this.isUp = false;
    this.cuts += 1;
    for (const process of [...this.alive]) this.end(process, 137, 'power');
    for (const stop of [...this.#stops]) stop.fail();
    this.halfWritten.clear();
    this.volumes.clear();
    for (const record of [...this.containers.values()]) {
      if (record.saved === record.status || chance(random, 0.5)) continue;
      if (record.process !== undefined) this.#ports.onEvidenceLost(record.uid, record.name);
      if (record.saved === undefined) this.containers.delete(record.id);
      else record.status = record.saved;
    }
    for (const record of [...this.sandboxes.values()]) {
      if (record.saved === record.status || chance(random, 0.5)) continue;
      if (record.saved === undefined) this.sandboxes.delete(record.id);
      else record.status = record.saved;
    }
    for (const record of this.containers.values()) {
      if (record.status.state === 'CONTAINER_CREATED' || record.status.state === 'CONTAINER_EXITED')
        continue;
      this.#exited(record, 255, 'Unknown');
      // Of one whose files are torn the runtime can't say even that.
      if (chance(random, 0.05)) record.status = { ...record.status, state: 'CONTAINER_UNKNOWN' };
    }
    for (const record of this.sandboxes.values()) record.status = { state: 'SANDBOX_NOTREADY' };
  }

  /** All data of the runtime are lost; only while nothing of it runs. */
  wipe(): void {
    for (const { uid, name, process } of this.containers.values()) {
      if (process !== undefined) this.#ports.onEvidenceLost(uid, name);
    }
    this.containers.clear();
    this.sandboxes.clear();
    this.images.clear();
  }

  #containersOf(sandboxId: string): ContainerRecord[] {
    return [...this.containers.values()].filter((c) => c.sandboxId === sandboxId);
  }

  #exited(record: ContainerRecord, exitCode: number, reason: string): void {
    const finishedMs = this.#ports.nowMs();
    const startedMs = record.process?.startedMs ?? record.status.startedMs;
    record.status = { state: 'CONTAINER_EXITED', exitCode, reason, startedMs, finishedMs };
  }

  #forget(record: ContainerRecord): void {
    if (record.process !== undefined) this.#ports.onEvidenceLost(record.uid, record.name);
    this.containers.delete(record.id);
  }

  #blow(record: ContainerRecord, blow: Blow): void {
    const { process } = record;
    if (process === undefined || process.ended !== undefined) return;
    this.#ports.trace(`process ${record.uid}/${record.name} gets SIG${blow.signal} by ${blow.by}`);
    this.#ports.onBlow(process, blow);
    if (blow.signal === 'KILL') return this.end(process, 137, 'kill');
    if (process.termMs !== undefined) return;
    process.termMs = this.#ports.nowMs();
    const how = this.#ports.behaviour(record.uid, record.name);
    if (how.ignoresTerm) return;
    const exitCode = chance(this.#ports.random, 0.5) ? 143 : 0;
    this.#ports.schedule(how.termMs, () => this.end(process, exitCode, 'term'));
  }
}
