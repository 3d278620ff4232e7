/**
 * Pods of the API server on a node that runs limpet: they run, end, and are told of, with the
 * cluster in reach and out of it.
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

const NAME = `pods-${process.pid}`;
/** After coming back all is right within this time. */
const RETURN_MS = 60_000;

let cluster: Cluster;

before(
  async () => {
    cluster = await bringUp(NAME);
    await joinLimpet(cluster, NAME);
  },
  { timeout: BUILD_TIMEOUT_MS },
);
after(() => bringDown(NAME));

type Item = {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly deletionTimestamp?: string;
  };
  readonly status: {
    readonly phase: string;
    readonly reason?: string;
    readonly message?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly containerID?: string;
      readonly restartCount: number;
    }[];
  };
};

async function podsIn(selector: string): Promise<readonly Item[]> {
  const json = await cluster.kubectl('get', 'pods', '-l', selector, '-o', 'json');
  return (JSON.parse(json) as { items: Item[] }).items;
}

function isReady({ status }: Item): boolean {
  return status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') === true;
}

/** What limpet itself says of its pods. */
async function own(prefix: string): Promise<readonly PodReport[]> {
  const pods = await podsOf(cluster.node);
  return pods.filter(({ pod }) => pod.metadata.name.startsWith(prefix));
}

const SCRIPT = 'trap exit TERM; sleep 3600 & wait';

function podSpec(script = SCRIPT, more: object = {}): object {
  return {
    terminationGracePeriodSeconds: 2,
    // What they would mount is shown elsewhere.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    containers: [
      {
        name: 'main',
        image: IMAGE,
        imagePullPolicy: 'IfNotPresent',
        command: ['sh', '-c', script],
      },
    ],
    ...more,
  };
}

function workload(kind: string, name: string, more: object, spec = podSpec()): object {
  const labels = { app: name };
  return {
    ...{ apiVersion: 'apps/v1', kind, metadata: { name } },
    spec: { selector: { matchLabels: labels }, template: { metadata: { labels }, spec }, ...more },
  };
}

function job(name: string, spec: object): object {
  const template = { metadata: { labels: { app: name } }, spec };
  return {
    ...{ apiVersion: 'batch/v1', kind: 'Job', metadata: { name } },
    spec: { backoffLimit: 2, template },
  };
}

test('a Deployment runs, rolls out another image, and goes', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, apply, until } = cluster;
  await apply(workload('Deployment', 'web', { replicas: 2 }));
  await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
  note('the Deployment is rolled out');
  await kubectl('set', 'env', 'deployment/web', 'A=b');
  await kubectl('rollout', 'status', 'deployment/web', '--timeout=120s');
  await until('only the new pods are left', async () => {
    return (await podsIn('app=web')).length === 2 ? true : undefined;
  });
  await kubectl('delete', 'deployment', 'web');
  await until('no pod is left in the cluster', async () => {
    return (await podsIn('app=web')).length === 0 ? true : undefined;
  });
  // Of a pod that is over the cluster forgets at once, before all is put away.
  await until('no pod is left on the node', async () => {
    return (await own('web-')).length === 0 ? true : undefined;
  });
});

test('a pod whose image is set anew keeps its uid', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, apply, until } = cluster;
  const metadata = { name: 'solo', labels: { app: 'solo' } };
  await apply({ apiVersion: 'v1', kind: 'Pod', metadata, spec: podSpec() });
  await kubectl('wait', '--for=condition=Ready', 'pod/solo', '--timeout=60s');
  const [first] = await podsIn('app=solo');
  await kubectl('set', 'image', 'pod/solo', 'main=docker.io/library/busybox:latest');
  await until('its container is another one', async () => {
    const [now] = await podsIn('app=solo');
    const status = now?.status.containerStatuses?.[0];
    const was = first?.status.containerStatuses?.[0];
    const isNew = status?.restartCount === 1 && status.containerID !== was?.containerID;
    return isNew && now?.metadata.uid === first?.metadata.uid ? true : undefined;
  });
  await kubectl('delete', 'pod', 'solo', '--force', '--grace-period=0');
  await until('it is gone from the node', async () => {
    return (await own('solo')).length === 0 ? true : undefined;
  });
});

test('a Job completes, a failing one fails', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, apply } = cluster;
  const once = (script: string) => podSpec(script, { restartPolicy: 'Never' });
  await apply(job('good', once('exit 0')), job('bad', once('echo why; exit 3')));
  await kubectl('wait', '--for=condition=Complete', 'job/good', '--timeout=120s');
  await kubectl('wait', '--for=condition=Failed', 'job/bad', '--timeout=300s');
  await kubectl('delete', 'job', 'good', 'bad');
});

test('a DaemonSet and a StatefulSet run', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, apply } = cluster;
  await apply(
    workload('DaemonSet', 'agent', {}),
    workload('StatefulSet', 'db', { replicas: 2, serviceName: 'db' }),
  );
  await kubectl('rollout', 'status', 'daemonset/agent', '--timeout=120s');
  await kubectl('rollout', 'status', 'statefulset/db', '--timeout=120s');
});

test('what is not carried out is refused by name', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, apply, until } = cluster;
  const volumes = [{ name: 'v', nfs: { server: '10.0.0.1', path: '/' } }];
  const metadata = { name: 'refused', labels: { app: 'refused' } };
  await apply({ apiVersion: 'v1', kind: 'Pod', metadata, spec: podSpec(SCRIPT, { volumes }) });
  const item = await until('it has failed', async () => {
    const [pod] = await podsIn('app=refused');
    return pod?.status.phase === 'Failed' ? pod : undefined;
  });
  assert.equal(item.status.reason, 'PodFeatureUnsupported');
  assert.match(item.status.message ?? '', /spec\.volumes\[0\]\.nfs/);
  await kubectl('delete', 'pod', 'refused');
  assert.deepEqual(await podsIn('app=refused'), []);
});

test(
  'a static pod has a mirror pod that can not be got rid of',
  { timeout: TIMEOUT_MS },
  async () => {
    const { kubectl, node, plane, until } = cluster;
    const pod = {
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'still', labels: { app: 'still' } } },
      spec: {
        ...podSpec(),
        automountServiceAccountToken: undefined,
        enableServiceLinks: undefined,
      },
    };
    const file = join(plane.directory, 'still.json');
    await writeFile(file, JSON.stringify(pod));
    await node.copyIn(file, '/etc/kubernetes/manifests/still.json');
    const mirrored = async () => {
      const [mirror] = await podsIn('app=still');
      return mirror !== undefined && isReady(mirror) ? mirror : undefined;
    };
    const first = await until('the mirror pod is Ready', mirrored);
    assert.equal(first.metadata.name, `still-${NAME}`);
    const [before] = await own('still-');
    await kubectl('delete', 'pod', first.metadata.name, '--timeout=60s');
    await until('another mirror pod is Ready', async () => {
      const now = await mirrored();
      return now?.metadata.uid === first.metadata.uid ? undefined : now;
    });
    const [since] = await own('still-');
    const idOf = (report: PodReport | undefined) =>
      report?.status.containerStatuses[0]?.containerID;
    assert.equal(idOf(since), idOf(before), 'the pod itself went on');
    await node.ssh('rm /etc/kubernetes/manifests/still.json');
    await until('the mirror pod is gone', async () => {
      return (await podsIn('app=still')).length === 0 ? true : undefined;
    });
  },
);

test('an API server that is gone or hangs harms no pod', { timeout: TIMEOUT_MS }, async () => {
  const { plane, node } = cluster;
  const ids = async () =>
    (await podsOf(node))
      .map((r) => `${r.pod.metadata.name} ${r.status.containerStatuses[0]?.containerID ?? ''}`)
      .sort();
  const first = await ids();
  assert.equal(first.length, 3);
  const before = (await requestsOf(cluster)).length;
  await plane.kill('kube-apiserver');
  await pause(20_000);
  await plane.start('kube-apiserver');
  const api = (await plane.parts()).find(({ component }) => component === 'kube-apiserver');
  assert.ok(api);
  process.kill(api.pid, 'SIGSTOP');
  await pause(100_000);
  process.kill(api.pid, 'SIGCONT');
  await pause(20_000);
  assert.deepEqual(await ids(), first);
  const asked = (await requestsOf(cluster)).length - before;
  note(`${asked} requests in these 140 s`);
  assert.ok(asked < 140, `${asked} requests`);
  await cluster.kubectl('wait', '--for=condition=Ready', '--timeout=60s', `node/${NAME}`);
});

test('cable out, pods deleted and made anew, power cut', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, node, until } = cluster;
  const before = await podsIn('app in (db,agent)');
  assert.equal(before.length, 3);
  await node.unplug();
  await kubectl('delete', 'pod', 'db-0', '--force', '--grace-period=0');
  await kubectl('delete', 'pod', 'db-1', '--wait=false');
  await node.cut();
  await node.boot({ unplugged: true });
  const reports = await until('all three run again without a network', async () => {
    const pods = await podsOf(node).catch(() => []);
    return pods.length === 3 && pods.every((r) => r.summary === 'Running') ? pods : undefined;
  });
  const uids = (items: readonly { uid: string }[]) => items.map(({ uid }) => uid).sort();
  assert.deepEqual(
    uids(reports.map((r) => r.pod.metadata)),
    uids(before.map((item) => item.metadata)),
    'absence of news ends no pod',
  );
  const [daemon] = await own('agent-');
  const idOf = (report: PodReport | undefined) => report?.status.containerStatuses[0]?.containerID;
  await node.plug();
  const beganMs = performance.now();
  await until(
    'the deleted ones are gone and new ones run',
    async () => {
      const now = await podsIn('app=db');
      const old = new Set(before.map(({ metadata }) => metadata.uid));
      const isNew = now.every((item) => !old.has(item.metadata.uid) && isReady(item));
      return now.length === 2 && isNew && (await own('db-')).length === 2 ? true : undefined;
    },
    RETURN_MS,
  );
  note(`all is right ${((performance.now() - beganMs) / 1000).toFixed(1)} s after the cable`);
  const [same] = await own('agent-');
  assert.equal(idOf(same), idOf(daemon), 'who was not deleted went on');
});

test('events of pods and of the Node are in the cluster, once each', async () => {
  type Event = {
    readonly type: string;
    readonly reason: string;
    readonly message: string;
    readonly involvedObject: {
      readonly kind: string;
      readonly name: string;
      readonly uid: string;
      readonly fieldPath?: string;
    };
    readonly source: { readonly component?: string; readonly host?: string };
  };
  const list = JSON.parse(await cluster.kubectl('get', 'events', '-o', 'json')) as {
    readonly items: readonly Event[];
  };
  const told = list.items.filter(({ source }) => source.component === 'kubelet');
  const reasonsOf = (name: string) =>
    told.filter(({ involvedObject }) => involvedObject.name === name).map(({ reason }) => reason);
  for (const reason of ['Created', 'Started', 'Killing']) {
    assert.ok(reasonsOf('solo').includes(reason), `${reason} of a pod`);
    assert.ok(reasonsOf(`still-${NAME}`).includes(reason), `${reason} of a static pod`);
  }
  for (const reason of ['Starting', 'Rebooted']) {
    assert.ok(reasonsOf(NAME).includes(reason), `${reason} of the Node`);
  }
  const same = told.map(({ type, reason, message, involvedObject: { uid, fieldPath } }) =>
    JSON.stringify([type, reason, message, uid, fieldPath]),
  );
  assert.equal(new Set(same).size, same.length);
  assert.ok(told.every(({ source }) => source.host === NAME));
});

test('nothing that it asked for was denied, and it lists no more than its own', async () => {
  const requests = await requestsOf(cluster);
  assert.deepEqual(deniedOf(requests), []);
  const lists = requests
    .filter(({ verb }) => verb === 'list' || verb === 'watch')
    .map(({ requestURI }) => decodeURIComponent(requestURI))
    // Its own request for a certificate, by name.
    .filter((uri) => !/certificatesigningrequests\?fieldSelector=metadata.name=node-csr/.test(uri))
    .filter((uri) => !uri.startsWith('/api/v1/pods?') || !uri.includes(`spec.nodeName=${NAME}`))
    .filter(
      (uri) => !/^\/api\/v1\/namespaces\/default\/services\?.*metadata\.name=kubernetes/.test(uri),
    );
  assert.deepEqual(lists, []);
});
