/**
 * Cut off for long, with certificates and tokens that are good for a short time, a clock that starts in
 * 1970 and power cuts; meanwhile pods are deleted, changed and made anew. Then a cluster that comes
 * back older than it was.
 */
import assert from 'node:assert/strict';
import { cp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { PodReport } from '../../src/server/api.ts';
import { podsOf } from '../../scripts/lib/install-limpet.ts';
import { run } from '../../scripts/lib/process.ts';
import {
  BUILD_TIMEOUT_MS,
  IMAGE,
  bringDown,
  bringUp,
  deniedOf,
  joinLimpet,
  note,
  requestsOf,
  type Cluster,
} from './cluster.ts';

const NAME = `return-${process.pid}`;
const TIMEOUT_MS = 1_200_000;
/** After coming back all is right within this time. */
const RETURN_MS = 60_000;
const CERTIFICATE_MS = 5 * 60_000;
/** What no file, log or event may have. */
const CANARY = `canary-${crypto.randomUUID()}`;

let cluster: Cluster;

before(
  async () => {
    cluster = await bringUp(NAME, { signingDuration: '5m' });
    await joinLimpet(cluster, NAME);
  },
  { timeout: BUILD_TIMEOUT_MS },
);
after(() => bringDown(NAME));

const SCRIPT = [
  'cat /c/key /s/key >/dev/null',
  'test -s /var/run/secrets/kubernetes.io/serviceaccount/token',
  'trap exit TERM',
  'sleep 36000 & wait',
].join('; ');

function template(app: string): object {
  return {
    metadata: { labels: { app } },
    spec: {
      terminationGracePeriodSeconds: 2,
      containers: [
        {
          ...{ name: 'main', image: IMAGE, imagePullPolicy: 'IfNotPresent' },
          command: ['sh', '-c', `set -e; ${SCRIPT}`],
          env: [{ name: 'FROM_MAP', valueFrom: { configMapKeyRef: { name: 'c', key: 'key' } } }],
          volumeMounts: [
            { name: 'c', mountPath: '/c' },
            { name: 's', mountPath: '/s' },
          ],
        },
      ],
      volumes: [
        { name: 'c', configMap: { name: 'c' } },
        { name: 's', secret: { secretName: 's' } },
      ],
    },
  };
}

function workload(kind: string, name: string, more: object): object {
  const selector = { matchLabels: { app: name } };
  return {
    ...{ apiVersion: 'apps/v1', kind, metadata: { name } },
    spec: { selector, template: template(name), ...more },
  };
}

type Item = { readonly metadata: { readonly name: string; readonly uid: string } };

async function uidsIn(app: string): Promise<readonly string[]> {
  const json = await cluster.kubectl('get', 'pods', '-l', `app=${app}`, '-o', 'json');
  return (JSON.parse(json) as { items: Item[] }).items.map(({ metadata }) => metadata.uid).sort();
}

async function own(): Promise<readonly PodReport[]> {
  return await podsOf(cluster.node).catch(() => []);
}

const isRunning = (report: PodReport) => report.summary === 'Running';
const uidOf = (report: PodReport) => report.pod.metadata.uid;
const idOf = (report: PodReport) => report.status.containerStatuses[0]?.containerID;

/** Waits until the pods of all apps run, in the cluster's eyes and the node's, and no others. */
async function allRight(apps: readonly string[], timeoutMs: number): Promise<void> {
  await cluster.until(
    'cluster and node agree, and all runs',
    async () => {
      const uids = (await Promise.all(apps.map(uidsIn))).flat().sort();
      const reports = await own();
      const isSame = JSON.stringify(reports.map(uidOf).sort()) === JSON.stringify(uids);
      if (!isSame || !reports.every(isRunning)) return undefined;
      const ready = await cluster.kubectl(
        ...['get', 'pods', '-o'],
        'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}',
      );
      return ready.includes('False') ? undefined : true;
    },
    timeoutMs,
  );
}

/** Whether a certificate that was issued before has expired on the side of the cluster. */
async function expire(issuedMs: number): Promise<void> {
  const leftMs = issuedMs + CERTIFICATE_MS + 20_000 - Date.now();
  note(`waiting ${(leftMs / 1000).toFixed(0)} s for the certificate to expire`);
  await pause(Math.max(0, leftMs));
}

test('workloads with a config map, a secret and a token run', { timeout: TIMEOUT_MS }, async () => {
  const { apply, kubectl } = cluster;
  await apply(
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c' }, data: { key: 'plain' } },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's' }, stringData: { key: CANARY } },
    workload('StatefulSet', 'db', { replicas: 2, serviceName: 'db' }),
    workload('Deployment', 'web', { replicas: 2 }),
    workload('DaemonSet', 'agent', {}),
  );
  for (const name of ['statefulset/db', 'deployment/web', 'daemonset/agent']) {
    await kubectl('rollout', 'status', name, '--timeout=180s');
  }
  note('all run');
});

test(
  'two power cuts without a network, the second with a clock of 1970',
  { timeout: TIMEOUT_MS },
  async () => {
    const { kubectl, node, until } = cluster;
    const cutMs = Date.now();
    await node.unplug();
    // Deleted, changed and made anew while nobody can tell the node.
    await kubectl('delete', 'pod', 'db-0', '--force', '--grace-period=0');
    await kubectl('scale', 'deployment/web', '--replicas=1');
    await kubectl('set', 'env', 'daemonset/agent', 'A=b');
    const before = (await own()).map(uidOf).sort();
    assert.equal(before.length, 5);
    for (const clock of [new Date(Date.now() + 48 * 3_600_000), new Date(3_600_000)]) {
      await node.cut();
      await node.boot({ unplugged: true, clock });
      const beganMs = performance.now();
      await until('all five run again', async () => {
        const reports = await own();
        return reports.length === 5 && reports.every(isRunning) ? true : undefined;
      });
      assert.deepEqual((await own()).map(uidOf).sort(), before);
      const seconds = ((performance.now() - beganMs) / 1000).toFixed(1);
      note(`${clock.toISOString()}: all five run ${seconds} s after ssh answered`);
      await checkFiles();
    }
    await expire(cutMs);
  },
);

/** Each container has its config map, its secret and a token. */
async function checkFiles(): Promise<void> {
  const { node } = cluster;
  const ids = (await own()).map(idOf).map((id) => id?.replace('containerd://', '') ?? '');
  for (const id of ids) {
    const { stdout } = await node.ssh(
      `ctr -n k8s.io tasks exec --exec-id x ${id} sh -c ` +
        `'cat /c/key; echo; cat /s/key; echo; wc -c </var/run/secrets/kubernetes.io/serviceaccount/token; echo $FROM_MAP'`,
    );
    const [map, secret, length, variable] = stdout.split('\n');
    assert.deepEqual([map, secret, variable], ['plain', CANARY, 'plain']);
    assert.ok(Number(length) > 100);
  }
}

test(
  'back again all is right within a minute, without a hand',
  { timeout: TIMEOUT_MS },
  async () => {
    const { node } = cluster;
    await node.plug();
    await node.clock(new Date());
    const beganMs = performance.now();
    await allRight(['db', 'web', 'agent'], RETURN_MS);
    note(`all is right after ${((performance.now() - beganMs) / 1000).toFixed(1)} s`);
    await checkFiles();
  },
);

const ids = async () =>
  (await own()).map((r) => `${r.pod.metadata.name} ${String(idOf(r))}`).sort();

test('a cluster that is older than it was ends no pod', { timeout: TIMEOUT_MS }, async () => {
  const { apply, kubectl, node, plane, until } = cluster;
  const data = join(plane.directory, 'etcd');
  const copy = join(plane.directory, 'etcd-before');
  const stop = async () => {
    await plane.kill('kube-apiserver');
    await plane.kill('etcd');
  };
  const start = async () => {
    await plane.start('etcd');
    await plane.start('kube-apiserver');
  };
  await stop();
  await cp(data, copy, { recursive: true });
  await start();
  const metadata = { name: 'young', labels: { app: 'young' } };
  const { spec } = template('young') as { spec: object };
  await apply({ apiVersion: 'v1', kind: 'Pod', metadata, spec });
  await kubectl('wait', '--for=condition=Ready', 'pod/young', '--timeout=120s');
  const before = await ids();
  const asked = (await requestsOf(cluster)).length;
  await stop();
  await rm(data, { recursive: true });
  await cp(copy, data, { recursive: true });
  await start();
  note('etcd is as it was before');
  await until('the node is followed again', async () => {
    const { stdout } = await node.ssh('limpet status');
    return /restored from a backup.*default\/young/s.test(stdout) ? true : undefined;
  });
  await pause(20_000);
  assert.deepEqual(await ids(), before);
  const requests = (await requestsOf(cluster)).length - asked;
  note(`${requests} requests since`);
  await node.ssh('limpet delete pod young');
  await allRight(['db', 'web', 'agent'], RETURN_MS);
});

test('when it crashes it leaves no image of its memory', { timeout: TIMEOUT_MS }, async () => {
  const { node, until } = cluster;
  const mainPid = async () =>
    (await node.ssh('systemctl show limpet -p MainPID --value')).stdout.trim();
  const before = await ids();
  await node.ssh('echo /var/core.%e > /proc/sys/kernel/core_pattern');
  // The machine would keep one, if it were let.
  await node.ssh("(ulimit -c unlimited; exec sh -c 'kill -SEGV $$') || test -s /var/core.sh");
  const pid = await mainPid();
  await node.ssh(`kill -SEGV ${pid}`);
  await until('it runs again', async () => {
    const { stdout } = await node.ssh('systemctl is-active limpet', { check: false });
    return stdout.trim() === 'active' && (await mainPid()) !== pid ? true : undefined;
  });
  await until('it has looked at its containers', async () =>
    (await ids()).every((id) => !id.endsWith('undefined')) ? true : undefined,
  );
  const { stdout } = await node.ssh('ls /var/core.*');
  assert.equal(stdout.trim(), '/var/core.sh');
  assert.deepEqual(await ids(), before, 'and no container ended');
});

test('the secret is in no file, log or event', { timeout: TIMEOUT_MS }, async () => {
  const { kubectl, node } = cluster;
  const texts = [
    await kubectl('get', 'events', '-A', '-o', 'json'),
    await kubectl('get', 'pods,nodes', '-A', '-o', 'json'),
    (
      await node.ssh(
        'journalctl --no-pager; limpet status -o json; limpet pods -o json; limpet events',
      )
    ).stdout,
  ];
  for (const text of texts) assert.ok(!text.includes(CANARY));
  await node.ssh('sync');
  await node.cut();
  const disk = join(node.directory, 'disk.qcow2');
  const { stdout } = await run('grep', ['-a', '-c', CANARY, disk], { check: false });
  assert.equal(stdout.trim(), '0', 'the raw disk has no canary');
  const { stdout: known } = await run('grep', ['-a', '-c', 'limpet.db', disk], { check: false });
  assert.notEqual(known.trim(), '0', 'the disk is one that can be searched');
});

test('nothing that it asked for was denied', async () => {
  const requests = await requestsOf(cluster);
  // That its certificate had expired is no denial.
  const denied = deniedOf(requests).filter(({ responseStatus }) => responseStatus?.code === 403);
  assert.deepEqual(denied, []);
  assert.ok((await readFile(cluster.plane.auditLog, 'utf8')).length > 0);
});
