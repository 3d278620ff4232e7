/**
 * What pods take from the API server on a node that runs limpet: config maps, secrets, tokens and
 * services, as they change, without a network, and nowhere in plain on the disk.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { PodReport } from '../../src/server/api.ts';
import { hostOfNodes } from '../../scripts/lib/control-plane-config.ts';
import { podsOf } from '../../scripts/lib/install-limpet.ts';
import { appletsOf } from '../../scripts/lib/make-root.ts';
import { busyboxImage } from '../../scripts/lib/oci-archive.ts';
import { serveRegistry } from '../../scripts/lib/registry.ts';
import { busyMs, runtimeLog, startCalls } from '../../scripts/lib/runtime-log.ts';
import { startTimes } from '../../scripts/lib/start-times.ts';
import {
  BUILD_TIMEOUT_MS,
  IMAGE,
  TIMEOUT_MS,
  bringDown,
  bringUp,
  joinLimpet,
  note,
  requestsOf,
  type Cluster,
} from './cluster.ts';

const NAME = `objects-${process.pid}`;
const CANARY = 'c4nary-in-a-secret';
/** From a change to its effect, in an emulated machine. */
const SOON_MS = 60_000;

let cluster: Cluster;

before(
  async () => {
    cluster = await bringUp(NAME);
    await joinLimpet(cluster, NAME);
  },
  { timeout: BUILD_TIMEOUT_MS },
);
after(() => bringDown(NAME));

const secret = (name: string, word: string, more: object = {}) => ({
  ...{ apiVersion: 'v1', kind: 'Secret', metadata: { name, ...more }, stringData: { word } },
});
const configMap = (name: string, greeting: string) => ({
  ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { greeting } },
});

const main = (more: object = {}) => ({
  ...{ name: 'main', image: IMAGE, imagePullPolicy: 'IfNotPresent' },
  command: ['sh', '-c', 'trap exit TERM; sleep 36000 & wait'],
  ...more,
});

function pod(name: string, secretName: string, more: object = {}, spec: object = {}): object {
  const volumeMounts = [{ name: 'secret', mountPath: '/secret' }];
  return {
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: { app: name, v: 'one' } } },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [main({ volumeMounts, ...more })],
      volumes: [{ name: 'secret', secret: { secretName } }],
      ...spec,
    },
  };
}

/** With all that there is. */
function user(): object {
  const volumeMounts = [
    { name: 'secret', mountPath: '/secret' },
    { name: 'all', mountPath: '/all' },
  ];
  const env = [{ name: 'WORD', valueFrom: { secretKeyRef: { name: 'password', key: 'word' } } }];
  const labels = { fieldRef: { fieldPath: 'metadata.labels' }, path: 'labels' };
  const sources = [{ configMap: { name: 'settings' } }, { downwardAPI: { items: [labels] } }];
  const volumes = [
    { name: 'secret', secret: { secretName: 'password' } },
    { name: 'all', projected: { sources } },
  ];
  return pod('user', 'password', { volumeMounts, env }, { volumes });
}

let looks = 0;

/** What a command says in a pod's container, without the way through the API server. */
async function inside(name: string, script: string): Promise<string> {
  const id = (await report(name))?.status.containerStatuses[0]?.containerID?.split('//')[1] ?? '';
  const exec = `ctr -n k8s.io task exec --exec-id look-${++looks} ${id} sh -c '${script}'`;
  const { stdout } = await cluster.node.ssh(`${exec} 2>&1; true`);
  return stdout.trim();
}

async function report(name: string): Promise<PodReport | undefined> {
  return (await podsOf(cluster.node)).find(({ pod: { metadata } }) => metadata.name === name);
}

async function runs(name: string, timeoutMs?: number): Promise<PodReport> {
  const running = async () => {
    const found = await report(name);
    return found?.summary === 'Running' ? found : undefined;
  };
  return await cluster.until(`${name} runs`, running, timeoutMs);
}

const TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';
const ALL = 'echo $WORD; cat /secret/word; echo; cat /all/greeting; echo; env | grep _SERVICE_HOST';

async function whoIs(token: string): Promise<unknown> {
  const { plane } = cluster;
  const review = {
    ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } },
  };
  const file = `${plane.directory}/review.json`;
  await writeFile(file, JSON.stringify(review));
  const json = await cluster.kubectl('create', '-f', file, '-o', 'json');
  return (JSON.parse(json) as { status?: { user?: { username?: string } } }).status?.user?.username;
}

test('a pod has its secret, config map, services and token', { timeout: TIMEOUT_MS }, async () => {
  const { apply } = cluster;
  await apply(configMap('settings', 'hello'), secret('password', CANARY), {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'db' },
    spec: { ports: [{ port: 5432 }] },
  });
  await apply(user());
  await runs('user');
  const said = await inside('user', ALL);
  assert.match(said, new RegExp(`^${CANARY}\\n${CANARY}\\nhello\\n`));
  assert.match(said, /^KUBERNETES_SERVICE_HOST=/m);
  assert.match(said, /^DB_SERVICE_HOST=/m);
  assert.equal(
    await whoIs(await inside('user', `cat ${TOKEN}`)),
    'system:serviceaccount:default:default',
  );
});

test('changes come to a pod that runs, and restart nothing', { timeout: TIMEOUT_MS }, async () => {
  const { apply, kubectl, until } = cluster;
  const idOf = async () => (await report('user'))?.status.containerStatuses[0]?.containerID;
  const id = await idOf();
  const beganMs = performance.now();
  await apply(secret('password', `${CANARY}-2`), configMap('settings', 'good day'));
  await kubectl('label', 'pod', 'user', 'v=two', '--overwrite');
  await until(
    'all three are new',
    async () => {
      const said = await inside('user', 'cat /secret/word; cat /all/greeting /all/labels');
      const isNew = said.startsWith(`${CANARY}-2good day`) && said.includes('v="two"');
      return isNew ? true : undefined;
    },
    SOON_MS,
  );
  note(`changes were there after ${((performance.now() - beganMs) / 1000).toFixed(1)} s`);
  assert.equal(await idOf(), id);
});

test(
  'a pod that came before its objects starts when they come',
  { timeout: TIMEOUT_MS },
  async () => {
    const { apply, until } = cluster;
    const env = [
      { name: 'A', valueFrom: { configMapKeyRef: { name: 'later-map', key: 'greeting' } } },
    ];
    await apply(pod('early', 'later'), pod('early-env', 'password', { env }));
    await until('both wait', async () => {
      const env = await report('early-env');
      const volume = await report('early');
      return env?.summary === 'CreateContainerConfigError' && volume !== undefined
        ? true
        : undefined;
    });
    // Long enough for a retry alone to come late.
    await pause(20_000);
    await apply(secret('later', 'x'), configMap('later-map', 'y'));
    const beganMs = performance.now();
    await Promise.all([runs('early', SOON_MS), runs('early-env', SOON_MS)]);
    note(
      `both ran ${((performance.now() - beganMs) / 1000).toFixed(1)} s after their objects came`,
    );
  },
);

test('after a power cut without a network all is as it was', { timeout: TIMEOUT_MS }, async () => {
  const { apply, node, until } = cluster;
  const never = { annotations: { 'limpet.dev/persist': 'never' } };
  await apply(secret('withheld', `${CANARY}-3`, never), pod('forgetful', 'withheld'));
  await runs('forgetful');
  const before = await inside('user', `${ALL}; cat ${TOKEN}`);
  await node.cut();
  await node.boot({ unplugged: true });
  await runs('user');
  const again = await inside('user', `${ALL}; cat ${TOKEN}`);
  assert.equal(again, before.replace(CANARY, `${CANARY}-2`));
  await Promise.all([runs('early'), runs('early-env')]);
  const told = await until('it is said why one pod waits', async () => {
    const { stdout } = await node.ssh('limpet events forgetful; true');
    return stdout.includes('FailedMount') ? stdout : undefined;
  });
  assert.match(told, /limpet\.dev\/persist: never/);
  assert.notEqual((await report('forgetful'))?.summary, 'Running');
  await node.plug();
  await runs('forgetful');
  assert.equal(await inside('forgetful', 'cat /secret/word'), `${CANARY}-3`);
});

test('no file on the disk has a secret in plain', { timeout: TIMEOUT_MS }, async () => {
  const { node } = cluster;
  const search = async (text: string) => {
    const { stdout } = await node.ssh(
      `find /var/lib/limpet /var/log /run/limpet -xdev -type f -exec grep -laF '${text}' {} +; true`,
    );
    return stdout.trim();
  };
  assert.equal(await search(CANARY), '');
  assert.equal(await search(Buffer.from(CANARY).toString('base64').slice(0, 16)), '');
  const token = await inside('user', `cat ${TOKEN}`);
  assert.equal(await search(token.slice(0, 200)), '');
  assert.notEqual(await search('later-map'), '', 'the search finds what is there');
});

test('many secrets cost one connection and little memory', { timeout: TIMEOUT_MS }, async () => {
  const { apply, node, kubectl } = cluster;
  const dirty = async () => {
    const { stdout } = await node.ssh(
      'grep Private_Dirty /proc/$(pidof limpet)/smaps_rollup; ss -Htnp | grep -c limpet',
    );
    return stdout.trim().replaceAll(/\s+/g, ' ');
  };
  note(`before: ${await dirty()} connections`);
  const names = Array.from({ length: 20 }, (_, n) => `s${n}`);
  const envFrom = names.map((name) => ({ secretRef: { name } }));
  await apply(...names.map((name) => secret(name, 'x')), pod('many', 's0', { envFrom }));
  await runs('many');
  note(`with 20 secrets more: ${await dirty()} connections`);
  await kubectl('delete', 'pod', 'many', '--wait');
  const { stdout } = await node.ssh('journalctl -u limpet -p warning --no-pager -o cat; true');
  note(`warnings: ${stdout.trim()}`);
});

test('an image is pulled with the secret of its pod', { timeout: TIMEOUT_MS }, async () => {
  const { node, apply, kubectl, until } = cluster;
  await using registry = await serveRegistry({ images: [], login: 'robot:password' });
  const address = `${hostOfNodes}:${registry.port}`;
  await node.trustRegistry(address);
  const program = await readFile(node.image.busybox);
  const image = `${address}/private/app:1`;
  const applets = appletsOf(program);
  registry.add(busyboxImage({ arch: node.arch, names: [image], program, applets }));
  const login = (word: string) => ({
    ...{ apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/dockerconfigjson' },
    metadata: { name: 'registry' },
    stringData: {
      '.dockerconfigjson': JSON.stringify({
        auths: { [address]: { username: 'robot', password: word } },
      }),
    },
  });
  await apply(login('wrong'));
  const spec = { imagePullSecrets: [{ name: 'registry' }] };
  await apply(pod('stranger', 'password', { image }), pod('robot', 'password', { image }, spec));
  for (const name of ['stranger', 'robot']) {
    await until(`${name} is refused`, async () => {
      const summary = (await report(name))?.summary ?? '';
      return /ErrImagePull|ImagePullBackOff/.test(summary) ? true : undefined;
    });
  }
  await apply(login('password'));
  const beganMs = performance.now();
  await runs('robot', SOON_MS);
  note(`it ran ${((performance.now() - beganMs) / 1000).toFixed(1)} s after its secret was mended`);
  await kubectl('delete', 'pod', 'stranger', 'robot', '--wait=false');
});

/** From the agent's start to ten pods that run, without what containerd itself takes. */
const OWN_MS = 10_000;

test(
  'ten pods run soon after the agent starts without a network',
  { timeout: TIMEOUT_MS },
  async () => {
    const { apply, kubectl, node, until } = cluster;
    await kubectl('delete', 'pods', '--all', '--grace-period=1', '--wait');
    const volumes = [
      { name: 'secret', secret: { secretName: 'password' } },
      { name: 'map', configMap: { name: 'settings' } },
    ];
    const volumeMounts = [
      { name: 'secret', mountPath: '/secret' },
      { name: 'map', mountPath: '/map' },
    ];
    const command = `test -s /secret/word && test -s /map/greeting && test -s ${TOKEN} && sleep 36000`;
    const more = { volumeMounts, command: ['sh', '-c', command] };
    const names = Array.from({ length: 10 }, (_, n) => `ten-${n}`);
    await apply(...names.map((name) => pod(name, 'password', more, { volumes })));
    const allRun = async () => {
      const reports = await podsOf(node);
      const running = reports.filter(({ summary }) => summary === 'Running');
      return reports.length === names.length && running.length === names.length ? true : undefined;
    };
    await until('all run', allRun);
    await node.unplug();
    await node.cut();
    await node.boot({ unplugged: true });
    await until('all run again', allRun);
    const { agentS, allS } = await startTimes(node);
    const tookMs = 1000 * (allS - agentS);
    const calls = startCalls(await runtimeLog(node));
    assert.equal(calls.filter(({ name }) => name === 'StartContainer').length, names.length);
    const runtimeMs = busyMs(calls.filter(({ fromMs }) => fromMs >= 1000 * agentS));
    const ownMs = tookMs - runtimeMs;
    const [took, runtime, own] = [tookMs, runtimeMs, ownMs].map((ms) => (ms / 1000).toFixed(1));
    note(`ten pods ran ${took} s after the agent's start, containerd's own ${runtime}: ${own} s`);
    assert.ok(ownMs <= OWN_MS, `${own} s`);
    await node.plug();
  },
);

test('the API server was asked for nothing else than its pods use', async () => {
  const requests = await requestsOf(cluster);
  const many = requests
    .map(({ requestURI }) => decodeURIComponent(requestURI))
    .filter((uri) => /\/(secrets|configmaps)\b/.test(uri) && !uri.includes('metadata.name='));
  assert.deepEqual(many, []);
  // The authorizer hears of a new pod a moment later than the node does.
  const denied = requests.filter(({ responseStatus }) => responseStatus?.code === 403);
  note(`${denied.length} of ${requests.length} requests were refused`);
  assert.deepEqual(
    denied.filter(({ requestURI }) => !/\/(secrets|configmaps|token)\b/.test(requestURI)),
    [],
  );
});
