/** Fills the relay: what the agent knows of its pods and the machine, as the messages have it. */
import { abortable } from '../base/abortable.ts';
import type { Now } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { systemRandom } from '../base/random.ts';
import type { NewEvent } from '../kube/event.ts';
import type { PodStatus } from '../kube/pod.ts';
import type { Libc } from '../linux/libc.ts';
import { createLinks } from '../linux/links.ts';
import { leadsOverMobile } from '../linux/machine.ts';
import { cpuCount, kernelVersion, memTotalBytes } from '../linux/proc.ts';
import type { BoardCondition, Figure } from '../node/board.ts';
import { rfc3339OfMs } from '../pod/reduce.ts';
import { countedContainers, summaryOf } from '../pod/status.ts';
import type { Condition, NodeFacts, PodState } from '../relay/message.ts';
import { Relay } from '../relay/relay.ts';
import type { BrokerReport } from '../server/api.ts';
import { openOutbox, type Outbox } from '../store/outbox.ts';
import type { ReadUsage } from '../usage/usage.ts';
import type { Foundation } from './core.ts';
import type { AgentOptions } from './options.ts';
import { createMetrics } from './relay-metrics.ts';
import { brokerAddress, keepAliveSeconds, readCredentials } from './relay-settings.ts';
import { bringUpToDate } from './report.ts';
import type { Worker } from './turns.ts';

export type AgentRelay = {
  /** Pods may have changed. */
  changed(): void;
  run(signal: AbortSignal): Promise<void>;
  report(): BrokerReport;
};

export type RelayedFacts = {
  readonly workers: () => Iterable<Worker>;
  /** Of the board. */
  readonly conditions: () => readonly BoardCondition[];
  readonly figures: () => readonly Figure[];
  /** Of this machine. */
  readonly hostIPs: () => readonly string[];
  readonly usage: ReadUsage;
  /** To hear of links that come. */
  readonly libc: Libc | undefined;
  /** The first connection waits for it. */
  readonly ready: Promise<void>;
};

const DEADLINE_MS = 30_000;
const SESSION_EXPIRY_SECONDS = 86_400;

/**
 * Undefined when no broker is configured. Without its outbox it tells nobody and says why: the pods
 * are not to suffer from it.
 */
export function createRelay(
  options: Pick<AgentOptions, 'relay' | 'nodeName' | 'rootDirectory' | 'nativeBinding' | 'version'>,
  {
    clock,
    log,
    store,
    workers,
    conditions,
    figures,
    hostIPs,
    usage,
    libc,
    ready,
  }: Foundation & RelayedFacts,
  stack: AsyncDisposableStack,
): AgentRelay | undefined {
  const { relay: settings, nodeName, rootDirectory, nativeBinding } = options;
  if (settings === undefined) return undefined;
  let outbox: Outbox;
  try {
    const binding = nativeBinding === undefined ? {} : { nativeBinding };
    outbox = stack.use(openOutbox(rootDirectory, { clock, log, ...binding }));
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    log.error('the relay does not run', { message: error.message });
    return withoutOutbox(settings.broker, clock.now(), error.message);
  }
  const name = { fleet: settings.fleet, node: nodeName };
  const node = nodeFacts(options.version, clock.now());
  const metrics =
    settings.metricsInterval === 0
      ? undefined
      : createMetrics({
          ...{ clock, usage, figures, intervalMs: settings.metricsInterval },
          isHeard: () => relay.report().connected,
          onMetrics: () => relay.changed(),
        });
  const relay: Relay = new Relay({
    ...{ name, encoding: settings.format, homeAssistant: settings.homeAssistant },
    ...{ outbox, clock, log, random: systemRandom(), linkGained: createLinks(libc).gained },
    connect: async (session, signal) => {
      await abortable(ready, signal);
      // Where no broker is configured the package stays out of memory.
      const { connectBroker } = await import('../mqtt/client.ts');
      return await connectBroker(
        {
          ...{ ...brokerAddress(settings.broker), ...session, clock, version: settings.version },
          clientId: `limpet-${settings.fleet}-${nodeName}`,
          credentials: await readCredentials(settings),
          keepAliveSeconds: keepAliveSeconds(settings, leadsOverMobile),
          deadlineMs: DEADLINE_MS,
          sessionExpirySeconds: SESSION_EXPIRY_SECONDS,
        },
        signal,
      );
    },
    facts: () => {
      const [hostIP] = hostIPs();
      const met = metrics?.now();
      return {
        node: { ...node, ...(hostIP !== undefined && { address: hostIP }) },
        pods: [...workers()].map((worker) => podState(worker, clock.now(), hostIP)),
        conditions: conditions().map(conditionOf),
        ...(met !== undefined && { met }),
      };
    },
  });
  const onEvent = (event: NewEvent, now: Now) => {
    relay.event(event, now);
    // A condition of the board turns with an event.
    relay.changed();
  };
  stack.use(store.hearEvents(onEvent));
  return {
    changed: () => relay.changed(),
    run: async (signal) => void (await Promise.all([relay.run(signal), metrics?.run(signal)])),
    report: () => {
      const { sinceWallMs, ...report } = relay.report();
      return { broker: settings.broker, since: rfc3339OfMs(sinceWallMs), ...report };
    },
  };
}

function withoutOutbox(broker: string, { wallMs }: Now, message: string): AgentRelay {
  const since = rfc3339OfMs(wallMs);
  return {
    changed: () => undefined,
    run: () => Promise.resolve(),
    report: () => ({
      ...{ broker, connected: false, since, message },
      ...{ waiting: 0, dropped: 0, ignored: 0 },
    }),
  };
}

function nodeFacts(version: string, { monoMs, wallMs }: Now): NodeFacts {
  return {
    ...{ version, arch: process.arch, kernel: kernelVersion(), cpus: cpuCount() },
    memoryMB: Math.round(memTotalBytes() / 2 ** 20),
    bootedAt: Math.max(0, Math.floor((wallMs - monoMs) / 1000)),
  };
}

function conditionOf({ type, status, since, reason }: BoardCondition): Condition {
  return { type, status, since: Math.floor(Date.parse(since) / 1000), reason };
}

/** A pod as the messages have it. */
export function podState(worker: Worker, now: Now, hostIP: string | undefined): PodState {
  const status = bringUpToDate(worker, now, hostIP);
  const { uid, namespace, name } = worker.want.pod.metadata;
  const { total, statuses } = countedContainers(worker.want.pod, status);
  const summary = summaryOf(worker.want, status);
  return {
    ...{ uid, namespace, name, phase: status.phase },
    ready: statuses.filter(({ ready }) => ready).length,
    containers: total,
    restarts: statuses.reduce((sum, { restartCount }) => sum + restartCount, 0),
    since: sinceOf(status),
    ...(summary !== status.phase && { reason: summary.slice(0, MAX_REASON_CHARS) }),
  };
}

const MAX_REASON_CHARS = 64;

/** In seconds since 1970; 0 before anything is known. */
function sinceOf({ startTime, conditions }: PodStatus): number {
  const times = [startTime, ...conditions.map((condition) => condition.lastTransitionTime)];
  const newest = Math.max(0, ...times.map((time) => (time === undefined ? 0 : Date.parse(time))));
  return Math.floor(newest / 1000);
}
