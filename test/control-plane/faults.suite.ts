/**
 * An API server that is slow, refuses or breaks off in the middle of its answers, by turns, while
 * pods run and the cluster changes: no pod suffers, no news is lost, nobody is pestered.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { PodReport } from '../../src/server/api.ts';
import { podsOf } from '../../scripts/lib/install-limpet.ts';
import {
  BUILD_TIMEOUT_MS,
  IMAGE,
  TIMEOUT_MS,
  bringDown,
  bringUp,
  deniedOf,
  joinLimpet,
  note,
  requestsOf,
  type Cluster,
} from './cluster.ts';
import { startFaultProxy, type FaultProxy, type ProxyFault } from './fault-proxy.ts';

const NAME = `faults-${process.pid}`;
/** How long each lasts: longer than it takes a backoff to come to its longest. */
const FAULT_MS = 75_000;
/** After it all is right within this time. */
const RETURN_MS = 60_000;
/**
 * Requests in a minute. Who gets no answer asks after 1, 2, 4, 8 s and so on, up to 30 s: 7 times in
 * the first minute. There are 10 of them: the watches of pods, services (2), config maps (2) and a
 * secret, the Node, statuses, events, mirror pods. The lease is asked for 14 times at most.
 */
const MAX_PER_MINUTE = 84;

let cluster: Cluster;
let proxy: FaultProxy;

before(
  async () => {
    cluster = await bringUp(NAME);
    proxy = await startFaultProxy(cluster.plane);
    const plane = { ...cluster.plane, port: proxy.port };
    await joinLimpet({ ...cluster, plane }, NAME);
  },
  { timeout: BUILD_TIMEOUT_MS },
);
after(async () => {
  await bringDown(NAME);
  await proxy[Symbol.asyncDispose]();
});

function podSpec(script: string, more: object = {}, mounts: readonly object[] = []): object {
  return {
    terminationGracePeriodSeconds: 1,
    containers: [
      {
        ...{ name: 'main', image: IMAGE, imagePullPolicy: 'IfNotPresent' },
        command: ['sh', '-c', script],
        volumeMounts: mounts,
      },
    ],
    ...more,
  };
}

const FOREVER = 'trap exit TERM; sleep 36000 & wait';

function web(): object {
  const volumes = [
    { name: 'c', configMap: { name: 'c' } },
    { name: 's', secret: { secretName: 's' } },
  ];
  const mounts = [
    { name: 'c', mountPath: '/c' },
    { name: 's', mountPath: '/s' },
  ];
  const labels = { app: 'web' };
  const spec = podSpec(`test -s /s/key && ${FOREVER}`, { volumes }, mounts);
  return {
    ...{ apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web' } },
    spec: {
      replicas: 2,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec },
    },
  };
}

/** Its pod ends when the machine has a file of its name. */
function job(name: string): object {
  const volumes = [{ name: 'h', hostPath: { path: '/run/faults', type: 'DirectoryOrCreate' } }];
  const wait = `until test -e /h/${name}; do sleep 0.5; done`;
  const spec = podSpec(wait, { volumes, restartPolicy: 'Never' }, [{ name: 'h', mountPath: '/h' }]);
  return {
    ...{ apiVersion: 'batch/v1', kind: 'Job', metadata: { name } },
    spec: { backoffLimit: 0, template: { metadata: { labels: { app: name } }, spec } },
  };
}

const configMap = (value: string) => ({
  ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { key: value } },
});

type Item = {
  readonly metadata: { readonly name: string; readonly uid: string };
  readonly status: {
    readonly phase: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly state: {
        readonly terminated?: { readonly exitCode: number; readonly finishedAt: string };
      };
    }[];
  };
};

async function podsIn(app: string): Promise<readonly Item[]> {
  const json = await cluster.kubectl('get', 'pods', '-l', `app=${app}`, '-o', 'json');
  return (JSON.parse(json) as { items: Item[] }).items;
}

const uidsOf = (items: readonly Item[]) => items.map(({ metadata }) => metadata.uid).sort();
const isReady = ({ status }: Item) =>
  status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;

async function own(prefix: string): Promise<readonly PodReport[]> {
  const reports = await podsOf(cluster.node);
  return reports.filter(({ pod }) => pod.metadata.name.startsWith(prefix));
}

const runOf = ({ pod, status: { containerStatuses: all } }: PodReport) =>
  `${pod.metadata.name} ${all.map((c) => `${c.containerID} ${c.restartCount}`).join()}`;

async function runs(): Promise<readonly string[]> {
  const reports = [...(await own('web-')), ...(await own('still-'))];
  return reports.filter(({ summary }) => summary === 'Running').map(runOf);
}

let looks = 0;

/** What each pod of the Deployment has of its config map. */
async function mapped(): Promise<readonly string[]> {
  const values: string[] = [];
  for (const { status } of await own('web-')) {
    const id = status.containerStatuses[0]?.containerID?.split('//')[1] ?? '';
    const exec = `ctr -n k8s.io task exec --exec-id look-${++looks} ${id} cat /c/key`;
    values.push((await cluster.node.ssh(`${exec} 2>&1; true`)).stdout.trim());
  }
  return values;
}

/** What is not as the cluster wants it: empty when all is right. */
async function wrongs(name: string, lost: string): Promise<readonly string[]> {
  const { kubectl } = cluster;
  const wrong: string[] = [];
  const pods = await podsIn('web');
  if (pods.length !== 3 || !pods.every(isReady)) {
    wrong.push(`${pods.filter(isReady).length} of ${pods.length} pods of web are Ready`);
  }
  if (uidsOf(pods).includes(lost)) wrong.push('the deleted pod is there');
  const reports = await own('web-');
  const known = reports.map(({ pod }) => pod.metadata.uid).sort();
  if (JSON.stringify(known) !== JSON.stringify(uidsOf(pods))) wrong.push('node and cluster differ');
  if ((await mapped()).some((value) => value !== name)) wrong.push('an old config map');
  const mirror = await podsIn('still');
  if (mirror.length !== 1 || !mirror.every(isReady)) wrong.push('no mirror pod is Ready');
  const [ended] = await podsIn(name);
  if (ended?.status.phase !== 'Succeeded') wrong.push(`the job's pod is ${ended?.status.phase}`);
  const ready = `jsonpath={.status.conditions[?(@.type=="Ready")].status}`;
  if ((await kubectl('get', 'node', NAME, '-o', ready)) !== 'True') wrong.push('the Node');
  return wrong;
}

/** What the proxy got of the node since it had `from` requests, and the most in any minute. */
function traffic(from: number): { readonly most: number; readonly text: string } {
  const since = proxy.requests.slice(from);
  const inMinuteFrom = (at: number) =>
    since.filter(({ atMs }) => atMs >= at && atMs < at + 60_000).length;
  const most = Math.max(0, ...since.map(({ atMs }) => inMinuteFrom(atMs)));
  const byPath = Object.entries(
    Object.groupBy(since, ({ method, path }) => {
      const parts = path.split('?', 1)[0]!.split('/').slice(3);
      const what = parts.filter((part) => !/^(namespaces|default|v1|kube-.*)$/.test(part))[0] ?? '';
      return `${method} ${what}`;
    }),
  );
  const counts = byPath.map(([path, all]) => `${path} ${all?.length}`).sort();
  return { most, text: `${since.length}, ${most} in the worst minute (${counts.join(', ')})` };
}

/** Changes all that may change while `fault` lasts. */
async function endure(name: string, fault: ProxyFault): Promise<void> {
  const { apply, kubectl, node, until } = cluster;
  await kubectl('scale', 'deployment/web', '--replicas=2');
  // It forgets how often it has failed before, and so asks the more often.
  await node.ssh('systemctl restart limpet');
  await apply(job(name));
  await until('two are left', async () => {
    const isSettled = (await runs()).length === 3 && (await podsIn('web')).length === 2;
    return isSettled ? true : undefined;
  });
  await kubectl('wait', '--for=condition=Ready', 'pod', '-l', `app=${name}`, '--timeout=60s');
  const before = await runs();
  const doomed = (await podsIn('web'))[0]!.metadata;
  const [from, connections] = [proxy.requests.length, proxy.connections()];
  const beganMs = performance.now();
  proxy.inject(fault);
  await pause(10_000);
  await kubectl('scale', 'deployment/web', '--replicas=3');
  await kubectl('delete', 'pod', doomed.name, '--wait=false');
  await apply(configMap(name));
  const endedMs = Date.now();
  await node.ssh(`touch /run/faults/${name}`);
  await pause(FAULT_MS - (performance.now() - beganMs));
  const since = await runs();
  for (const run of before.filter((run) => !run.startsWith(`${doomed.name} `))) {
    assert.ok(since.includes(run), `${run} is not among ${since.join('; ')}`);
  }
  const { most, text } = traffic(from);
  note(`${name}: ${text}, ${proxy.connections() - connections} connections`);
  proxy.inject(undefined);
  const againMs = performance.now();
  let wrong: readonly string[] = [];
  await until(
    'all is right again',
    async () => ((wrong = await wrongs(name, doomed.uid)).length === 0 ? true : undefined),
    RETURN_MS,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${wrong.join('; ')}`);
  });
  const tookMs = performance.now() - againMs;
  note(`${name}: all is right ${(tookMs / 1000).toFixed(1)} s after the end`);
  await checkEnd(name, endedMs);
  await checkEvents(name, doomed.name);
  assert.ok(most <= MAX_PER_MINUTE, `${most} requests in a minute`);
}

/** The pod that ended during the fault is told of as it was. */
async function checkEnd(name: string, endedMs: number): Promise<void> {
  const { kubectl } = cluster;
  const pods = await podsIn(name);
  assert.equal(pods.length, 1);
  const [pod] = pods;
  const terminated = pod?.status.containerStatuses?.[0]?.state.terminated;
  assert.equal(terminated?.exitCode, 0);
  const lateMs = Date.parse(terminated?.finishedAt ?? '') - endedMs;
  assert.ok(lateMs > -2_000 && lateMs < 5_000, `it ended ${lateMs} ms after it was let`);
  await kubectl('wait', '--for=condition=Complete', `job/${name}`, '--timeout=60s');
}

/** Of the job's pod, which started just before the fault, and of the one that was deleted in it. */
async function checkEvents(name: string, deleted: string): Promise<void> {
  const { kubectl, until } = cluster;
  type Event = { readonly reason: string; readonly involvedObject: { readonly name: string } };
  await until('the events are there', async () => {
    const json = await kubectl('get', 'events', '-o', 'json');
    const { items } = JSON.parse(json) as { readonly items: readonly Event[] };
    const told = (reason: string, prefix: string) =>
      items.filter((e) => e.reason === reason && e.involvedObject.name.startsWith(prefix)).length;
    const started = ['Created', 'Started'].map((reason) => told(reason, `${name}-`));
    return [...started, told('Killing', deleted)].every((count) => count === 1) ? true : undefined;
  });
}

test('pods run and the proxy keeps the identity of the node', { timeout: TIMEOUT_MS }, async () => {
  const { apply, kubectl, node, plane, until } = cluster;
  await apply(
    configMap('first'),
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { key: 'x' } },
    web(),
  );
  const file = join(plane.directory, 'still.json');
  const metadata = { name: 'still', labels: { app: 'still' } };
  const spec = podSpec(FOREVER);
  await writeFile(file, JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata, spec }));
  await node.copyIn(file, '/etc/kubernetes/manifests/still.json');
  await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
  await until('the mirror pod is Ready', async () => {
    const [mirror] = await podsIn('still');
    return mirror !== undefined && isReady(mirror) ? true : undefined;
  });
  const users = new Set(proxy.requests.map(({ user }) => user));
  assert.deepEqual([...users], [undefined, `system:node:${NAME}`]);
});

const FAULTS: readonly (readonly [name: string, fault: ProxyFault])[] = [
  ['slow', { kind: 'slow', delayMs: 8_000, bytesPerSecond: 500 }],
  ['half', { kind: 'half' }],
  ['too-many', { kind: 'refuse', status: 429 }],
  ['too-many-after', { kind: 'refuse', status: 429, retryAfterSeconds: 5 }],
  ['broken', { kind: 'refuse', status: 500 }],
  ['forbidden', { kind: 'refuse', status: 403 }],
  ['no-secrets', { kind: 'refuse', status: 403, paths: /\/secrets\b/ }],
];

// Those that LIMPET_FAULTS names, or all.
const wanted = process.env['LIMPET_FAULTS']?.split(',') ?? FAULTS.map(([name]) => name);
for (const [name, fault] of FAULTS.filter(([name]) => wanted.includes(name))) {
  test(`all goes on while the API server is: ${name}`, { timeout: TIMEOUT_MS }, async () => {
    await endure(name, fault);
  });
}

test('the API server itself has denied nothing', async () => {
  const requests = await requestsOf(cluster);
  assert.ok(requests.length > 100);
  assert.deepEqual(deniedOf(requests), []);
});
