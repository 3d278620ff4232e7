/** A LocalApi with fixed answers that remembers what it was asked, and a directory for its socket. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog } from '../../src/base/log.ts';
import type { EventRecord } from '../../src/kube/event.ts';
import type { ContainerStatus, Pod } from '../../src/kube/pod.ts';
import type { UsageReport } from '../../src/node/usage.ts';
import {
  ApiError,
  SOCKET_NAME,
  type LocalApi,
  type NodeReport,
  type PodReport,
} from '../../src/server/api.ts';
import { serveLocal } from '../../src/server/local.ts';

export function aStatus(name: string, over: Partial<ContainerStatus> = {}): ContainerStatus {
  return {
    name,
    image: `example/${name}:1`,
    imageID: 'sha256:1',
    ready: true,
    started: true,
    restartCount: 0,
    state: { running: { startedAt: '2026-11-21T10:00:00Z' } },
    lastState: {},
    ...over,
  };
}

export function aReport(
  name: string,
  over: { namespace?: string; uid?: string; statuses?: readonly ContainerStatus[] } & Partial<
    Omit<PodReport, 'pod'>
  > = {},
): PodReport {
  const { namespace = 'default', uid = `uid-${name}`, statuses = [aStatus('app')], ...rest } = over;
  const containers = statuses.map((status) => ({
    name: status.name,
    image: status.image,
    env: [],
    ports: [{ containerPort: 80, hostPort: 8080, protocol: 'TCP' }],
  }));
  const pod = {
    metadata: { name, namespace, uid, creationTimestamp: '2026-11-21T10:00:00Z' },
    spec: { containers, initContainers: [], volumes: [], restartPolicy: 'Always' },
  } as unknown as Pod;
  return {
    kind: 'PodReport',
    pod,
    source: 'local',
    deleting: false,
    summary: 'Running',
    status: {
      phase: 'Running',
      podIP: '10.88.0.5',
      startTime: '2026-11-21T10:00:00Z',
      qosClass: 'BestEffort',
      conditions: [{ type: 'Ready', status: 'True' }],
      containerStatuses: statuses,
      initContainerStatuses: [],
    },
    ...rest,
  };
}

export function aNode(pod: readonly PodReport[], over: Partial<NodeReport> = {}): NodeReport {
  return {
    kind: 'NodeReport',
    nodeName: 'pi-1',
    version: '0.1.0',
    agentStartedAt: '2026-11-21T10:00:00Z',
    bootId: 'boot',
    runtime: {
      name: 'containerd',
      version: '2.1.9',
      socket: 'unix:///run/containerd/containerd.sock',
      connected: true,
      networkReady: true,
    },
    cgroupDriver: 'systemd',
    store: { path: '/var/lib/limpet', state: 'ok' },
    pods: { desired: pod.length, running: pod.length, pending: 0, succeeded: 0, failed: 0 },
    board: { facts: {}, conditions: [], figures: [], troubles: [] },
    findings: [],
    manifestErrors: [],
    pod,
    ...over,
  };
}

export type Canned = {
  pods: PodReport[];
  node: Partial<NodeReport>;
  events: EventRecord[];
  usage: UsageReport[];
  /** What was asked, in order. */
  readonly asked: string[];
  readonly manifests: string[];
  /** Thrown by the next apply. */
  applyError: Error | undefined;
};

export function cannedApi(canned: Canned): LocalApi {
  return {
    status: () => aNode(canned.pods, canned.node),
    pods: () => ({ kind: 'PodList', items: canned.pods }),
    events: (filter) => {
      canned.asked.push(`events ${JSON.stringify(filter)}`);
      const items = canned.events.filter(
        ({ object }) => filter.name === undefined || object.name === filter.name,
      );
      return { kind: 'EventList', items };
    },
    usage: async (depth, maxAgeMs) => {
      canned.asked.push(`usage ${depth} ${maxAgeMs}`);
      const [report] = canned.usage;
      if (report === undefined) throw new Error('there is no usage');
      // The last one is told again and again.
      if (canned.usage.length > 1) canned.usage.shift();
      return report;
    },
    apply: async (manifest) => {
      const error = canned.applyError;
      canned.applyError = undefined;
      if (error !== undefined) throw error;
      canned.manifests.push(manifest);
      const item = {
        namespace: 'default',
        name: 'web',
        uid: 'uid-web',
        action: 'created',
      } as const;
      return { kind: 'ApplyReport', items: [item] };
    },
    deletePod: async (namespace, name, graceSeconds) => {
      canned.asked.push(`delete ${namespace}/${name} ${graceSeconds ?? '-'}`);
      const at = canned.pods.findIndex(({ pod }) => pod.metadata.name === name);
      const found = canned.pods[at];
      if (found === undefined) {
        throw new ApiError(404, { reason: 'NotFound', message: `there is no pod "${name}"` });
      }
      canned.pods = canned.pods.toSpliced(at, 1);
      return { kind: 'DeleteReport', namespace, name, uid: found.pod.metadata.uid };
    },
  };
}

export type Served = AsyncDisposable & {
  readonly canned: Canned;
  readonly directory: string;
  readonly socket: string;
  /** Lines that the server logged. */
  readonly lines: string[];
};

/** Serves a canned API on a real socket. */
export async function serveCanned(over: Partial<Canned> = {}): Promise<Served> {
  const base = await mkdtemp(join(tmpdir(), 'limpet-server-'));
  const directory = join(base, 'run');
  const canned: Canned = {
    pods: [],
    node: {},
    events: [],
    usage: [],
    asked: [],
    manifests: [],
    applyError: undefined,
    ...over,
  };
  const lines: string[] = [];
  const log = createLog('debug', (line) => lines.push(line));
  const controller = new AbortController();
  const server = await serveLocal(cannedApi(canned), directory, {
    log,
    signal: controller.signal,
  });
  return {
    canned,
    directory,
    lines,
    socket: join(directory, SOCKET_NAME),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await rm(base, { recursive: true, force: true });
    },
  };
}
