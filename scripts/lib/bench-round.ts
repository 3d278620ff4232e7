// One round of scripts/bench: a new machine, one agent in it, everything that is measured of it.
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ControlPlane } from './control-plane.ts';
import { installKubelet } from './install-kubelet.ts';
import { joinLimpet } from './join-limpet.ts';
import { observe, type Observer } from './observer.ts';
import {
  countTraffic,
  machineCpuMs,
  restBetween,
  sample,
  type Measured,
  type Rest,
} from './rest.ts';
import { busyMs, runtimeLog, startCalls } from './runtime-log.ts';
import { up, type Arch, type VirtualNode } from './virtual-node.ts';

export type AgentName = 'limpet' | 'kubelet';

export type Task = {
  readonly arch: Arch;
  /** Numbers of pods to rest with, ascending. */
  readonly pods: readonly number[];
  /** Numbers of pods to start at once. */
  readonly batches: readonly number[];
  readonly minutes: number;
};

/** Milliseconds from the moment at which the API server was asked. */
export type Batch = {
  readonly pods: number;
  /** Shown as Running and Ready by the API server: half of the pods, all pods. */
  readonly readyHalfMs: number;
  readonly readyAllMs: number;
  /** containerd had started the last container. */
  readonly startedAllMs: number;
  /** While containerd worked on at least one call that starts something. */
  readonly runtimeMs: number;
  /** Processor time of the whole machine until all were ready, on the host. */
  readonly machineCpuMs: number;
  /** After they were all deleted at once: the API server has none any more. */
  readonly goneAllMs: number;
};

export type Reboot = {
  readonly pods: number;
  /** Containers that were started without a network, and when the last one was, from boot. */
  readonly offlineStarted: number;
  readonly offlineAllMs: number | undefined;
  /** From plugging the cable in until the API server shows that all is ready. */
  readonly onlineReadyMs: number;
};

export type Round = {
  readonly agent: AgentName;
  readonly version: string;
  readonly containerd: string;
  readonly date: string;
  readonly accel: string;
  /** Of the host, over the last minute of the round: what else it had to do shows here. */
  readonly load: number;
  readonly joinedMs: number;
  readonly rests: readonly Rest[];
  readonly batches: readonly Batch[];
  /** From the start of the agent until the API server shows again that node and pods are ready. */
  readonly restart: { readonly pods: number; readonly readyMs: number } | undefined;
  readonly reboot: Reboot | undefined;
};

const SETTLE_MS = 60_000;
const PAUSE_MS = 5_000;
const JOIN_TIMEOUT_MS = 600_000;
const PODS_TIMEOUT_MS = 1_800_000;
/** A pod's share of the machine's memory: a shim and a shell. */
const POD_MIB = 16;

type Agent = Measured & {
  readonly version: string;
  /** Whether it starts pods of the API server without the API server. */
  readonly startsOffline: boolean;
  readonly join: (node: VirtualNode, plane: ControlPlane, say: Say) => Promise<void>;
};

type Say = (line: string) => void;

const AGENTS: Readonly<Record<AgentName, Agent>> = {
  limpet: {
    unit: 'limpet',
    executable: '/usr/bin/limpet',
    version: 'limpet version',
    startsOffline: true,
    join: joinLimpet,
  },
  kubelet: {
    unit: 'kubelet',
    executable: '/usr/bin/kubelet',
    version: 'kubelet --version',
    startsOffline: false,
    join: async (node, plane, say) => {
      await installKubelet(node, say);
      await node.ssh(await plane.joinCommand(), { timeoutMs: JOIN_TIMEOUT_MS });
    },
  },
};

type Scene = {
  readonly agent: Agent;
  readonly node: VirtualNode;
  readonly observer: Observer;
  readonly say: Say;
};

/** The machine bears the name of the control plane and is gone when this returns. */
export async function bench(
  name: AgentName,
  plane: ControlPlane,
  task: Task,
  say: Say,
): Promise<Round> {
  const agent = AGENTS[name];
  const most = Math.max(0, ...task.pods, ...task.batches);
  const node = await up({
    name: `${plane.name}-${name}`,
    arch: task.arch,
    // The kubelet asks the runtime what containerd 1.7 can't answer.
    containerd: '2',
    memoryMiB: 1024 + POD_MIB * most,
    forwards: [{ host: 0, guest: 10250 }],
    say,
  });
  try {
    await using observer = await observe(plane, node.name);
    const scene = { agent, node, observer, say };
    await countTraffic(node, plane.port);
    const from = performance.now();
    await agent.join(node, plane, say);
    await observer.until('the node is Ready', () => observer.nodeIsReady(), JOIN_TIMEOUT_MS);
    const joinedMs = performance.now() - from;
    say(`${name} is a Ready node`);
    const rests: Rest[] = [];
    const batches: Batch[] = [];
    if (task.pods.includes(0)) rests.push(await rest(scene, 0, task.minutes));
    for (const pods of task.batches) batches.push(await batch(scene, pods));
    for (const pods of task.pods) {
      if (pods > 0) rests.push(await rest(scene, pods, task.minutes));
    }
    const hasPods = observer.count() > 0;
    return {
      agent: name,
      version: await firstLine(node, agent.version),
      containerd: await firstLine(node, 'containerd --version'),
      date: new Date().toISOString(),
      accel: node.accel,
      ...{ joinedMs: Math.round(joinedMs), rests, batches },
      restart: hasPods ? await restart(scene) : undefined,
      reboot: hasPods ? await reboot(scene) : undefined,
      load: Math.round(10 * loadavg()[0]!) / 10,
    };
  } finally {
    await node.down();
    const gone = ['delete', 'node', node.name, '--ignore-not-found'];
    await plane.kubectl(gone, { check: false });
    const force = ['delete', 'pods', '--all', '--force', '--grace-period=0'];
    await plane.kubectl(force, { check: false });
  }
}

async function firstLine(node: VirtualNode, command: string): Promise<string> {
  return (await node.ssh(command, { timeoutMs: 60_000 })).stdout.split('\n', 1)[0]!.trim();
}

async function rest({ agent, node, observer, say }: Scene, pods: number, minutes: number) {
  const missing = Array.from({ length: pods - observer.count() }, (_, n) => `rest-${pods}-${n}`);
  await observer.create(missing);
  await observer.until(`${pods} pods run`, () => observer.ready() === pods, PODS_TIMEOUT_MS);
  say(`${pods} pods run; nothing is done for ${minutes} minutes`);
  await sleep(SETTLE_MS);
  const from = await sample(node, agent);
  await sleep(minutes * 60_000);
  const result = restBetween(pods, from, await sample(node, agent));
  say(`${pods} pods at rest: ${JSON.stringify(result)}`);
  return result;
}

async function batch({ node, observer, say }: Scene, pods: number): Promise<Batch> {
  await sleep(PAUSE_MS);
  const names = Array.from({ length: pods }, (_, n) => `batch-${pods}-${n}`);
  const boot = await bootedAtMs(node);
  const [from, cpuMs] = [performance.now(), await machineCpuMs(node)];
  await observer.create(names);
  await observer.until(`${pods} pods run`, () => observer.ready() === pods, PODS_TIMEOUT_MS);
  const workedMs = (await machineCpuMs(node)) - cpuMs;
  const readyMs = names.map((of) => observer.readyAtMs.get(of)! - from).sort((a, b) => a - b);
  const calls = startCalls(await runtimeLog(node, from - boot));
  const started = calls.filter(({ name }) => name === 'StartContainer').map(({ toMs }) => toMs);
  await sleep(PAUSE_MS);
  const ending = performance.now();
  await observer.removeAll();
  await observer.until('the pods are gone', () => observer.count() === 0, PODS_TIMEOUT_MS);
  const result = {
    pods,
    readyHalfMs: Math.round(readyMs[Math.ceil(pods / 2) - 1]!),
    readyAllMs: Math.round(readyMs.at(-1)!),
    startedAllMs: Math.round(Math.max(...started) + boot - from),
    runtimeMs: Math.round(busyMs(calls)),
    machineCpuMs: workedMs,
    goneAllMs: Math.round(performance.now() - ending),
  };
  say(`${pods} at once: ${JSON.stringify(result)}`);
  return result;
}

/** When the machine booted, on the clock of `performance`; the surest of some answers. */
async function bootedAtMs(node: VirtualNode): Promise<number> {
  let best = { tookMs: Infinity, bootedMs: 0 };
  for (let tries = 0; tries < 5; tries++) {
    const from = performance.now();
    const { stdout } = await node.ssh('read -r up _ < /proc/uptime; echo $up');
    const tookMs = performance.now() - from;
    const bootedMs = from + tookMs / 2 - 1000 * Number(stdout);
    if (tookMs < best.tookMs) best = { tookMs, bootedMs };
  }
  return best.bootedMs;
}

async function restart({ agent, node, observer, say }: Scene) {
  const pods = observer.count();
  await node.ssh(`systemctl stop ${agent.unit}`, { timeoutMs: 120_000 });
  await observer.belie();
  await observer.until('nothing is ready', () => isDown(observer), 60_000);
  const from = performance.now();
  await node.ssh(`systemctl start --no-block ${agent.unit}`, { timeoutMs: 60_000 });
  await observer.until('all is ready again', () => isUp(observer, pods), PODS_TIMEOUT_MS);
  const readyMs = Math.round(performance.now() - from);
  say(`restarted: all is ready again after ${readyMs} ms`);
  return { pods, readyMs };
}

const isDown = (observer: Observer) => observer.ready() === 0 && !observer.nodeIsReady();
const isUp = (observer: Observer, pods: number) =>
  observer.ready() === pods && observer.nodeIsReady();

const OFFLINE_WAIT_MS = 120_000;

async function reboot({ agent, node, observer, say }: Scene): Promise<Reboot> {
  const pods = observer.count();
  await node.unplug();
  await node.cut();
  await node.boot({ unplugged: true });
  const started = async () =>
    startCalls(await runtimeLog(node)).filter(({ name }) => name === 'StartContainer');
  // One that does not start them is given a fair time to show that it does.
  const waitMs = agent.startsOffline ? PODS_TIMEOUT_MS : OFFLINE_WAIT_MS;
  const endMs = performance.now() + waitMs;
  let calls = await started();
  for (; calls.length < pods && performance.now() < endMs; calls = await started()) {
    await sleep(PAUSE_MS);
  }
  say(`${calls.length} containers were started without a network`);
  await observer.belie();
  await observer.until('nothing is ready', () => isDown(observer), 60_000);
  const from = performance.now();
  await node.plug();
  await observer.until('all is ready again', () => isUp(observer, pods), PODS_TIMEOUT_MS);
  const onlineReadyMs = Math.round(performance.now() - from);
  say(`with the network: all is ready again after ${onlineReadyMs} ms`);
  const lastMs = Math.round(Math.max(...calls.map(({ toMs }) => toMs)));
  return {
    pods,
    offlineStarted: calls.length,
    offlineAllMs: calls.length < pods ? undefined : lastMs,
    onlineReadyMs,
  };
}
