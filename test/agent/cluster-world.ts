/** The part of an API server that a node joins by: CSRs, Nodes, Leases; it approves what it likes. */
import { createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

import { systemClock, type Clock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { NewEvent } from '../../src/kube/event.ts';
import type { MachineFacts, NodeFacts } from '../../src/node/status.ts';
import {
  createCluster,
  type Cluster,
  type ClusterOptions,
  type ClusterParts,
} from '../../src/agent/cluster.ts';
import type { StoredObject } from '../../src/store/sealed.ts';
import type { Store } from '../../src/store/store.ts';
import { AUTHORITY, createPeer, json, refuse, type Call, type Peer } from '../apiserver/peer.ts';

type Json = Record<string, unknown>;
type Stored = Json & { metadata: Json & { uid: string; resourceVersion: string } };

export type World = Awaited<ReturnType<typeof createWorld>>;

/** The last 91 bytes that begin so are the key of a P-256 request. */
const SPKI = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');

export async function createWorld() {
  const peer = await createPeer();
  const objects = new Map<string, Stored>();
  let version = 1;
  const put = (path: string, object: Json): Stored => {
    version += 1;
    const old = objects.get(path)?.metadata.uid;
    const metadata = {
      ...(object['metadata'] as Json),
      uid: old ?? `uid-${version}`,
      resourceVersion: String(version),
    };
    const stored = { ...object, metadata };
    objects.set(path, stored);
    return stored;
  };
  put('/api/v1/namespaces/default/services/kubernetes', {
    kind: 'Service',
    metadata: { name: 'kubernetes', namespace: 'default' },
  });
  const world = {
    peer,
    objects,
    put,
    /** What is done with a request: approved for so long, denied, or left alone. */
    decide: (): number | 'deny' | undefined => 3_600_000,
    /** Answers everything else when it gives true. */
    before: (_call: Call): boolean => false,
    [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
  };
  peer.answer = (call) => {
    if (world.before(call)) return;
    const { request, response, url, body } = call;
    const path = url.pathname;
    const isRequest = path === '/apis/certificates.k8s.io/v1/certificatesigningrequests';
    if (request.method === 'POST') {
      const object = JSON.parse(body) as { metadata: { name: string } };
      const at = `${path}/${object.metadata.name}`;
      if (objects.has(at)) return refuse(response, 409, 'AlreadyExists', 'it is there');
      const stored = put(at, object);
      if (isRequest) decideOn(world, at);
      return json(response, stored, 201);
    }
    if (request.method === 'GET' && isRequest) {
      if (url.searchParams.has('watch')) return watch(call);
      const name = url.searchParams.get('fieldSelector')!.split('=')[1]!;
      const found = objects.get(`${path}/${name}`);
      const metadata = { resourceVersion: String(version) };
      const items = found === undefined ? [] : [found];
      return json(response, { kind: 'CertificateSigningRequestList', metadata, items });
    }
    const at = path.replace(/\/status$/, '');
    const stored = objects.get(at);
    // Leases are made by an update as well.
    if (stored === undefined && request.method === 'PUT' && path.includes('/leases/')) {
      return json(response, put(at, JSON.parse(body) as Json), 201);
    }
    if (stored === undefined) return refuse(response, 404, 'NotFound', `no ${path}`);
    if (request.method === 'GET') return json(response, stored);
    const change = JSON.parse(body) as Json & { metadata: Json; status?: Json };
    const { uid, resourceVersion: expected } = change.metadata;
    const isOther = uid !== undefined && uid !== stored.metadata.uid;
    const isOld = expected !== undefined && expected !== stored.metadata.resourceVersion;
    if (isOther || isOld) return refuse(response, 409, 'Conflict', 'it is another');
    const isPatch = request.method === 'PATCH';
    json(response, put(at, isPatch ? { ...stored, ...merged(stored, change) } : change));
  };
  return world;
}

function merged(
  stored: Stored,
  change: Json & { metadata: Json; status?: Json; spec?: Json },
): Json {
  const before = stored['status'] as (Json & { conditions?: Json[] }) | undefined;
  const status: Json = { ...before, ...change.status };
  const changes = (change.status?.['conditions'] ?? []) as Json[];
  const known = before?.conditions ?? [];
  status['conditions'] = [
    ...known.map((condition) => ({
      ...condition,
      ...changes.find(({ type }) => type === condition['type']),
    })),
    ...changes.filter(({ type }) => !known.some((condition) => condition['type'] === type)),
  ];
  const spec = change.spec && { spec: { ...(stored['spec'] as Json), ...change.spec } };
  return { metadata: { ...stored.metadata, ...change.metadata }, status, ...spec };
}

function watch({ response }: Call): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
}

function decideOn(world: World, at: string): void {
  const decision = world.decide();
  if (decision === undefined) return;
  const object = world.objects.get(at)! as Stored & { spec: { request: string } };
  if (decision === 'deny') {
    const conditions = [{ type: 'Denied', status: 'True', reason: 'No', message: 'not you' }];
    world.put(at, { ...object, status: { conditions } });
    return;
  }
  const request = Buffer.from(object.spec.request, 'base64').toString();
  const der = Buffer.from(request.replace(/-----.*-----|\n/g, ''), 'base64');
  const begin = der.indexOf(SPKI);
  const publicKey = createPublicKey({
    key: der.subarray(begin, begin + 91),
    format: 'der',
    type: 'spki',
  });
  const now = Date.now();
  const { certificate } = AUTHORITY.issue({
    ...{ name: 'system:node:pi1', group: 'system:nodes', publicKey },
    from: new Date(now - decision),
    to: new Date(now + decision),
  });
  const status = { certificate: Buffer.from(certificate).toString('base64') };
  world.put(at, { ...object, status });
}

export const MACHINE: MachineFacts = {
  ...{ machineId: 'm1', systemUuid: 's1', bootId: 'boot-1', kernelVersion: '6.12.47' },
  ...{ osImage: 'Debian', architecture: 'arm64', cpus: 4, memoryBytes: 4 * 2 ** 30 },
  ...{ swapBytes: 0, hugepages: { '2Mi': 0 } },
};

export type Member = {
  readonly clock: Clock;
  readonly cluster: Cluster;
  readonly directory: string;
  readonly options: ClusterOptions;
  readonly events: NewEvent[];
  readonly facts: { -readonly [K in keyof NodeFacts]: NodeFacts[K] };
  readonly meta: Map<string, string>;
  /** What is stored encrypted. */
  readonly kept: StoredObject[];
  stop(): Promise<void>;
};

/** A node that has a bootstrap token, or what was left in `directory`. */
export function startMember(
  t: TestContext,
  peer: Peer,
  given: {
    directory?: string;
    machine?: MachineFacts;
    meta?: Map<string, string>;
    objects?: StoredObject[];
    /** kubeadm has removed the bootstrap kubeconfig after the first join. */
    hasNoBootstrap?: true;
    onSession?: NonNullable<ClusterParts['onSession']>;
  } = {},
): Member {
  const directory = given.directory ?? mkdtempSync(join(tmpdir(), 'limpet-member-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const bootstrapKubeconfig = join(directory, 'bootstrap-kubelet.conf');
  if (given.hasNoBootstrap) rmSync(bootstrapKubeconfig, { force: true });
  else writeFileSync(bootstrapKubeconfig, bootstrap(peer));
  const options: ClusterOptions = {
    kubeconfig: join(directory, 'kubelet.conf'),
    bootstrapKubeconfig,
    certDirectory: join(directory, 'pki'),
    runDirectory: directory,
    registration: {
      nodeName: 'pi1',
      labels: { 'example.com/a': 'b' },
      taints: [{ key: 'k', effect: 'NoSchedule' }],
    },
    rotate: true,
    servingCertificate: false,
  };
  const clock: Clock = systemClock('boot-1', () => 0);
  const events: NewEvent[] = [];
  const objects = given.objects ?? [];
  const meta = given.meta ?? new Map<string, string>();
  const store = {
    meta: (key: string) => meta.get(key),
    setMeta: (key: string, value: string | undefined) =>
      value === undefined ? void meta.delete(key) : void meta.set(key, value),
    recordEvent: (event: NewEvent) => void events.push(event),
    objects: () => ({ sound: objects, damaged: [] }),
    putObject: (object: StoredObject) => void objects.push(object),
  } as unknown as Store;
  const facts: Member['facts'] = {
    hostname: 'pi1',
    addresses: ['192.0.2.1'],
    storageBytes: 2 ** 30,
    runtime: { connected: false, version: undefined, status: undefined, message: 'not yet' },
    storeProblem: undefined,
    board: [],
    images: [],
  };
  const cluster = createCluster(options, {
    ...{ clock, random: seededRandom(1), store, facts: async () => ({ ...facts }) },
    log: createLog('error', (line) => void process.stderr.write(line)),
    machine: given.machine ?? MACHINE,
    settings: { kubeletVersion: 'v1.36.3', maxPods: 110, port: 10250 },
    onLaterThan: () => undefined,
    onLease: () => undefined,
    ...(given.onSession !== undefined && { onSession: given.onSession }),
  });
  const controller = new AbortController();
  const running = cluster.run(controller.signal);
  const stop = async () => {
    controller.abort(new Error('the test is over'));
    await running;
  };
  t.after(stop);
  return { cluster, clock, directory, options, events, facts, meta, kept: objects, stop };
}

function bootstrap(peer: Peer): string {
  const ca = Buffer.from(AUTHORITY.certificate).toString('base64');
  return JSON.stringify({
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'b' },
    clusters: [{ name: 'c', cluster: { server: peer.server, 'certificate-authority-data': ca } }],
    users: [{ name: 'u', user: { token: 'abcdef.0123456789abcdef' } }],
    contexts: [{ name: 'b', context: { cluster: 'c', user: 'u' } }],
  });
}
