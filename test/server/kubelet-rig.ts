/** The kubelet's port on real TLS, with a cluster that a test spells out. */
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { systemClock } from '../../src/base/clock.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { createLog } from '../../src/base/log.ts';
import { systemRandom } from '../../src/base/random.ts';
import type { ContainerSummary, PodSandbox } from '../../src/kube/cri.ts';
import type { PodReport } from '../../src/server/api.ts';
import {
  REMEMBER,
  serveKubelet,
  type KubeletLimits,
  type KubeletOptions,
  type KubeletServer,
} from '../../src/server/kubelet.ts';
import type { AccessQuestion, AccessReview, TokenReview } from '../../src/server/review.ts';
import type { KeyPair } from '../../src/server/self-signed.ts';
import { createAuthority } from './authority.ts';

export type Answer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
};

export type Asking = {
  readonly method?: string;
  readonly as?: KeyPair | undefined;
  readonly headers?: Record<string, string>;
  readonly body?: string;
};

/** What the cluster and the runtime say, and what they were asked. */
export type World = {
  pods: PodReport[];
  sandboxes: PodSandbox[];
  containers: ContainerSummary[];
  /** The rights that everybody has, as `verb nodes/subresource`. */
  rights: string[];
  tokens: Record<string, TokenReview>;
  /** Thrown by the API server. */
  fault: Error | undefined;
  /** Given back, or thrown, for a stream that is asked for. */
  streamUrl: string | Error;
  readonly asked: string[];
  readonly questions: AccessQuestion[];
  sick: string | undefined;
};

export type Rig = AsyncDisposable & {
  readonly world: World;
  readonly server: KubeletServer;
  readonly clock: KubeletOptions['clock'];
  readonly admin: KeyPair;
  readonly lines: string[];
  readonly logs: string;
  readonly clientCA: string;
  ask(path: string, asking?: Asking): Promise<Answer>;
  /** A connection after its handshake. */
  connect(as?: KeyPair): Promise<TLSSocket>;
};

export const EVERYTHING = ['create nodes/proxy', 'get nodes/proxy'];
const cluster = await createAuthority('kubernetes');
export const admin = await cluster.issue({
  subject: '/O=system:masters/O=ops/CN=apiserver-client',
});
export { cluster };

export function aWorld(over: Partial<World> = {}): World {
  return {
    pods: [],
    sandboxes: [],
    containers: [],
    rights: EVERYTHING,
    tokens: {},
    fault: undefined,
    streamUrl: new Error('no stream is expected'),
    asked: [],
    questions: [],
    sick: undefined,
    ...over,
  };
}

export async function createRig(
  world: World = aWorld(),
  over: Partial<KubeletOptions> & { readonly only?: Partial<KubeletLimits> } = {},
): Promise<Rig> {
  const base = await mkdtemp(join(tmpdir(), 'limpet-kubelet-'));
  const logs = join(base, 'pods');
  await mkdir(logs);
  const lines: string[] = [];
  const clock = over.clock ?? systemClock('boot', () => 0);
  const { only, ...rest } = over;
  const stop = new AbortController();
  const server = await serveKubelet(
    {
      ...optionsOf(world, clock, logs),
      log: createLog('debug', (line) => lines.push(line)),
      limits: { ...LIMITS, ...only },
      ...rest,
    },
    stop.signal,
  );
  const { port } = server;
  return {
    world,
    server,
    clock,
    admin,
    lines,
    logs,
    clientCA: cluster.cert,
    ask: (path, asking) => ask(port, path, asking),
    connect: async (as) => {
      const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...as });
      socket.on('error', () => undefined);
      await once(socket, 'secureConnect');
      return socket;
    },
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await rm(base, { recursive: true, force: true });
    },
  };
}

function optionsOf(world: World, clock: KubeletOptions['clock'], logs: string) {
  const stream = async (asked: string): Promise<string> => {
    world.asked.push(asked);
    if (world.streamUrl instanceof Error) throw world.streamUrl;
    return world.streamUrl;
  };
  return {
    nodeName: 'pi-1',
    nodeAddresses: () => ['127.0.0.1'],
    address: '127.0.0.1',
    port: 0,
    serving: undefined,
    clientCA: cluster.cert,
    minVersion: 'TLSv1.2' as const,
    debugging: true,
    remember: REMEMBER,
    reviewToken: async (token: string): Promise<TokenReview> => {
      world.asked.push(`token ${token}`);
      if (world.fault !== undefined) throw world.fault;
      return world.tokens[token] ?? { authenticated: false };
    },
    reviewAccess: async (question: AccessQuestion): Promise<AccessReview> => {
      const right = `${question.verb} nodes/${question.subresource}`;
      world.asked.push(`access ${question.user.name} ${right}`);
      world.questions.push(question);
      if (world.fault !== undefined) throw world.fault;
      return { allowed: world.rights.includes(right) };
    },
    clock,
    random: systemRandom(),
    podLogsDirectory: logs,
    idleMs: 60_000,
    pods: () => ({ kind: 'PodList' as const, items: world.pods }),
    runtime: {
      containerStatus: async (id: string) => {
        const found = world.containers.find((container) => container.id === id);
        if (found === undefined) return undefined;
        const unknown = { startedAt: 0n, finishedAt: 0n, exitCode: 0, reason: '', message: '' };
        return { ...found, ...unknown, logPath: '' };
      },
      listContainers: async (uid: string | undefined) =>
        world.containers.filter(
          (c) => uid === undefined || c.labels['io.kubernetes.pod.uid'] === uid,
        ),
      listPodSandboxes: async (uid: string | undefined) =>
        world.sandboxes.filter((s) => uid === undefined || s.metadata.uid === uid),
    },
    streaming: {
      exec: (request: object) => stream(`exec ${JSON.stringify(request)}`),
      attach: (request: object) => stream(`attach ${JSON.stringify(request)}`),
      portForward: (id: string, ports: readonly number[]) =>
        stream(`portForward ${id} ${ports.join(',')}`),
    },
    configz: () => ({ kind: 'KubeletConfiguration', maxPods: 110 }),
    syncLoop: () => world.sick,
  };
}

async function ask(port: number, path: string, asking: Asking = {}): Promise<Answer> {
  const { method = 'GET', headers = {}, body } = asking;
  const as = 'as' in asking ? asking.as : admin;
  const sent = request({
    host: '127.0.0.1',
    port,
    path,
    method,
    headers,
    agent: false,
    rejectUnauthorized: false,
    ...as,
  });
  sent.end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  return { status: response.statusCode ?? 0, headers: response.headers, body: text };
}

export function aSandbox(over: Partial<PodSandbox> = {}): PodSandbox {
  return {
    id: 'sandbox-1',
    metadata: { name: 'web', namespace: 'default', uid: 'uid-web', attempt: 0 },
    state: 'SANDBOX_READY',
    createdAt: 0n,
    labels: {},
    annotations: {},
    ...over,
  };
}

export function aContainer(over: Partial<ContainerSummary> = {}): ContainerSummary {
  return {
    id: 'container-1',
    podSandboxId: 'sandbox-1',
    name: 'app',
    attempt: 0,
    state: 'CONTAINER_RUNNING',
    createdAt: 0n,
    imageRef: 'sha256:1',
    labels: { 'io.kubernetes.pod.uid': 'uid-web' },
    annotations: {},
    ...over,
  };
}

/** Writes `lines` into the log of an attempt, as the runtime does. */
export async function writeLog(
  directory: string,
  attempt: number,
  lines: readonly string[],
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, `${attempt}.log`);
  await writeFile(path, lines.map((line) => `${line}\n`).join(''));
  return path;
}
