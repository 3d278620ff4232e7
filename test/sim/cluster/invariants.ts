/** What has to hold, judged by what really ran and by what the API server was really told. */
import type { Request } from '../../../src/apiserver/client.ts';
import type { ContainerStatus, PodStatus } from '../../../src/kube/pod.ts';
import type { Process } from '../process.ts';
import { Violation } from '../violation.ts';
import type { Blow, World } from '../world.ts';
import { MIRROR, type ApiServer, type PodObject } from './api-server.ts';
import type { Fact, Facts } from './facts.ts';
import type { Life } from './time.ts';

export type InvariantsPorts = {
  readonly world: World;
  readonly facts: Facts;
  readonly nowMs: () => number;
  /** Ours. */
  readonly server: ApiServer;
  readonly cpuMilli: number;
};

/** I-08 */
const STOP_MS = 30_000;
/** What the runtime takes to carry out an order, and the core to think of it. */
const SLACK_MS = 2500;
/** Requests of one agent in one minute, whatever happens. */
const MOST_REQUESTS = 200;

const RANK: Readonly<Record<string, number>> = { Pending: 0, Running: 1, Succeeded: 2, Failed: 2 };

export class Invariants {
  mostRequests = 0;
  /** Since when our cluster is watched without a break. */
  watchingMs: number | undefined;
  #troubleMs = 0;
  #sent: { readonly atMs: number; readonly life: Life }[] = [];
  readonly #retryAfter = new Map<string, { readonly life: Life; readonly untilMs: number }>();
  /** Of each container that there ever was. */
  readonly #containers = new Map<string, string>();
  readonly #ports: InvariantsPorts;

  constructor(ports: InvariantsPorts) {
    this.#ports = ports;
  }

  /** Something went wrong: the times that hold without faults begin anew. */
  trouble(): void {
    this.#troubleMs = this.#ports.nowMs();
  }

  newSession(): void {
    this.#retryAfter.clear();
  }

  // ---- processes ----

  started(process: Process): void {
    const { world, facts, cpuMilli } = this.#ports;
    const { uid } = process;
    this.#containers.set(process.containerId, uid);
    const fact = facts.all.get(uid)!;
    fact.hasRun = true;
    const running = new Set([...world.alive].map((other) => other.uid));
    let sum = 0;
    for (const other of running) {
      const { name, namespace, cpuMilli: its } = facts.all.get(other)!;
      sum += its;
      if (other !== uid && name === fact.name && namespace === fact.namespace) {
        throw new Violation('I-09', uid, `starts while ${other} of the same name runs`);
      }
    }
    if (sum > cpuMilli) throw new Violation('I-18', uid, `${sum}m of ${cpuMilli}m are requested`);
  }

  blow(process: Process, { signal, by }: Blow): void {
    const { world, facts, nowMs } = this.#ports;
    const { uid, startedMs, termMs } = process;
    const fact = facts.all.get(uid)!;
    const state = world.containers.get(process.containerId)?.status.state;
    const isChanged = fact.changedMs >= startedMs;
    if (!fact.mayEnd && !isChanged && state !== 'CONTAINER_UNKNOWN') {
      throw new Violation('I-10', uid, `SIG${signal} by ${by}, but nobody ended the pod`);
    }
    const graceMs = fact.graceSeconds * 1000;
    const isQuiet = nowMs() - graceMs - SLACK_MS * 2 > this.#troubleMs;
    if (signal !== 'KILL' || !isQuiet || state === 'CONTAINER_UNKNOWN') return;
    if (nowMs() - (termMs ?? nowMs()) < graceMs - SLACK_MS) {
      throw new Violation('I-08', uid, `SIGKILL by ${by} before its grace of ${graceMs} ms`);
    }
  }

  /** Once in a while. */
  tick(isAlive: boolean): void {
    const { world, facts, nowMs } = this.#ports;
    if (!isAlive || !world.isUp || this.watchingMs === undefined) return;
    const quietMs = Math.max(this.#troubleMs, this.watchingMs);
    for (const { uid, name, termMs } of world.alive) {
      const { mustEndMs, source } = facts.all.get(uid)!;
      if (mustEndMs === undefined || source !== 'api' || termMs !== undefined) continue;
      if (nowMs() - Math.max(quietMs, mustEndMs) > STOP_MS) {
        throw new Violation('I-08', uid, `${name} is not stopped 30 s after the news`);
      }
    }
  }

  // ---- what the node asks ----

  sent(request: Request, life: Life): void {
    const { method, path } = request;
    const atMs = this.#ports.nowMs();
    this.#sent = this.#sent.filter((one) => atMs - one.atMs < 60_000 && one.life === life);
    this.#sent.push({ atMs, life });
    this.mostRequests = Math.max(this.mostRequests, this.#sent.length);
    if (this.#sent.length > MOST_REQUESTS) {
      throw new Violation('I-22', '', `${this.#sent.length} requests in one minute`);
    }
    const wait = this.#retryAfter.get(same(request));
    if (wait?.life === life && atMs < wait.untilMs) {
      throw new Violation('I-22', '', `${method} ${path} again before Retry-After is over`);
    }
  }

  retryAfter(request: Request, life: Life, untilMs: number): void {
    // Several ask who the cluster is, each for itself.
    if (request.method === 'GET' && !request.path.startsWith('/api/v1/pods')) return;
    this.#retryAfter.set(same(request), { life, untilMs });
  }

  request(server: ApiServer, { method, path, body }: Request): void {
    if (method === 'GET') return;
    const json = (typeof body === 'string' ? JSON.parse(body) : body) as {
      metadata?: PodObject['metadata'];
      status?: PodStatus & { observedGeneration?: number };
      preconditions?: { uid?: string };
      gracePeriodSeconds?: number;
    };
    const key = /namespaces\/([^/]+)\/pods(?:\/([^/]+))?/.exec(path)!.slice(1, 3).join('/');
    const object = server.objects.get(key);
    if (method === 'POST') {
      if (json.metadata?.annotations?.[MIRROR] !== undefined) return;
      throw new Violation('I-15', key, 'creates what is no mirror pod');
    }
    const uid = method === 'PATCH' ? json.metadata?.uid : json.preconditions?.uid;
    if (uid === undefined) throw new Violation('I-15', key, `${method} for whatever has the name`);
    if (object?.metadata.uid !== uid || server !== this.#ports.server) return;
    if (method === 'PATCH') this.#status(object, json.status!);
    else this.#delete(object, json.gracePeriodSeconds);
  }

  #status(object: PodObject, status: PodStatus & { observedGeneration?: number }): void {
    const { facts } = this.#ports;
    const { uid, annotations, generation } = object.metadata;
    const of = annotations?.[MIRROR] ?? uid;
    const told = facts.all.get(of);
    if (told !== undefined && RANK[status.phase] === 2) told.wasTold = true;
    // What was gone and came back with a backup begins anew.
    const isBack = facts.all.get(of)?.wasGone === true;
    const before = isBack ? {} : (object.status as Partial<typeof status>);
    const [was, is] = [before.phase ?? 'Pending', status.phase];
    if (RANK[is]! < RANK[was]! || (RANK[was] === 2 && is !== was)) {
      throw new Violation('I-14', uid, `phase ${is} after ${was}`);
    }
    const observed = status.observedGeneration ?? 0;
    // Where a restore took the object back, what was told of its later generation goes as well.
    if (
      observed < Math.min(before.observedGeneration ?? 0, generation) ||
      (observed > generation && !facts.isRestored)
    ) {
      const text = `generation ${observed} of ${generation} after ${before.observedGeneration}`;
      throw new Violation('I-14', uid, text);
    }
    for (const { name, containerID, restartCount } of status.containerStatuses) {
      const id = containerID?.replace(/^.*:\/\//, '');
      const owner = id === undefined ? undefined : this.#containers.get(id);
      if (owner !== undefined && owner !== of) {
        throw new Violation('I-15', uid, `is told of ${name} of ${owner}`);
      }
      const earlier = before.containerStatuses?.find((one) => one.name === name)?.restartCount;
      if (restartCount < (earlier ?? 0)) {
        throw new Violation('I-14', uid, `restarts ${restartCount} after ${earlier}`);
      }
    }
    const isRefusal =
      !isBack && (status.reason?.startsWith('OutOf') || status.reason === 'NodePorts');
    if (isRefusal && is === 'Failed' && facts.all.get(of)?.hasRun === true) {
      throw new Violation('I-18', uid, `displaced: ${status.message}`);
    }
  }

  #delete(object: PodObject, graceSeconds: number | undefined): void {
    const { world } = this.#ports;
    const { uid, annotations, deletionTimestamp } = object.metadata;
    if (annotations?.[MIRROR] !== undefined) return;
    if (graceSeconds !== 0) throw new Violation('I-08', uid, `DELETE with grace ${graceSeconds}`);
    const alive = [...world.alive].find((process) => process.uid === uid && !process.late);
    if (alive !== undefined) throw new Violation('I-08', uid, `DELETE while ${alive.name} runs`);
    // A restored cluster may not know of the deletion, and then has its last status all the same.
    if (deletionTimestamp === undefined && !this.#ports.facts.isRestored) {
      throw new Violation('I-10', uid, 'DELETE of what nobody deleted');
    }
    const fact = this.#ports.facts.all.get(uid);
    if (fact?.wasTold && this.#ports.facts.isRestored) return;
    const status = object.status as Partial<PodStatus>;
    const runs = ({ state }: ContainerStatus) => state.running !== undefined;
    if (RANK[status.phase ?? ''] !== 2 || (status.containerStatuses ?? []).some(runs)) {
      throw new Violation('I-14', uid, `DELETE before its last status, it is ${status.phase}`);
    }
  }

  /** The agent keeps nothing of a pod any more. */
  forgotten(uid: string): void {
    const { facts, server } = this.#ports;
    const fact = facts.all.get(uid);
    if (fact?.source !== 'api' || fact.wasGone || server.find(uid) === undefined) return;
    throw new Violation('I-14', uid, 'forgotten while its cluster still has it');
  }
}

/** What tells a request from another one: one for another object may be made meanwhile. */
function same({ method, path, body }: Request): string {
  const json = (typeof body === 'string' ? JSON.parse(body) : (body ?? {})) as {
    metadata?: { uid?: string; name?: string };
    preconditions?: { uid?: string };
  };
  const { metadata, preconditions } = json;
  return `${method} ${path} ${preconditions?.uid ?? metadata?.uid ?? metadata?.name}`;
}

/** Why the pod's object does not show what really is; undefined when it does. */
export function disagreement(object: PodObject, fact: Fact | undefined, world: World) {
  const { metadata } = object;
  const status = object.status as Partial<PodStatus>;
  if (metadata.deletionTimestamp !== undefined) return 'is still being deleted';
  const { phase = 'Pending', conditions = [], containerStatuses = [] } = status;
  const uid = fact?.uid ?? metadata.uid;
  const alive = [...world.alive].filter((process) => process.uid === uid);
  if (RANK[phase] === 2) return alive.length > 0 ? `is ${phase} and runs` : undefined;
  if (phase !== 'Running') return `is ${phase}`;
  const containers = object.spec['containers'] as readonly { readonly name: string }[];
  for (const { name } of containers) {
    const process = alive.find((one) => one.name === name);
    const shown = containerStatuses.find((one) => one.name === name);
    if (process === undefined) {
      if (shown?.state.terminated !== undefined) continue;
      return `${name} does not run`;
    }
    if (!shown?.containerID?.endsWith(process.containerId)) return `${name} is another container`;
    if (!shown.state.running) return `${name} is not shown running`;
  }
  if (alive.length < containers.length) return undefined;
  const isReady = conditions.find(({ type }) => type === 'Ready')?.status === 'True';
  return isReady ? undefined : 'is not Ready';
}
