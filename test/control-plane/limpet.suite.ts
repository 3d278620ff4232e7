/**
 * limpet in the place of a kubelet: an unchanged `kubeadm join` makes a node of it, and kubectl
 * reaches into its pods over WebSocket and over SPDY.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { installLimpetAsKubelet } from '../../scripts/lib/install-limpet.ts';
import { run } from '../../scripts/lib/process.ts';
import {
  BUILD_TIMEOUT_MS,
  IMAGE,
  TIMEOUT_MS,
  bringDown,
  bringUp,
  deniedOf,
  note,
  requestsOf,
  type Cluster,
} from './cluster.ts';

const NAME = `kubelet-${process.pid}`;
const COUNT = 'i=0; while true; do echo line $i; i=$((i+1)); sleep 1; done';
const SERVE = 'mkdir -p /www; echo served > /www/index.html; httpd -p 8080 -h /www';
const BOX = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'box' },
  spec: {
    terminationGracePeriodSeconds: 1,
    // What they would mount is shown elsewhere.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    containers: [
      { name: 'main', script: `${SERVE}; ${COUNT}`, stdin: false },
      { name: 'echo', script: 'while read x; do echo got $x; done; sleep 3600', stdin: true },
    ].map(({ name, script, stdin }) => ({
      ...{ name, image: IMAGE, imagePullPolicy: 'IfNotPresent', stdin },
      command: ['sh', '-c', script],
    })),
  },
};

let cluster: Cluster;

before(
  async () => {
    cluster = await bringUp(NAME);
    await installLimpetAsKubelet(cluster.node, note);
  },
  { timeout: BUILD_TIMEOUT_MS },
);
after(() => bringDown(NAME));

test('kubeadm join makes a node of a machine', { timeout: TIMEOUT_MS }, async () => {
  const { node, plane, kubectl } = cluster;
  const { stdout } = await node.ssh(await plane.joinCommand(), { timeoutMs: TIMEOUT_MS });
  assert.match(stdout, /The kubelet is healthy after/);
  assert.match(stdout, /This node has joined the cluster/);
  note('kubeadm join is done');
  await kubectl('wait', '--for=create', '--timeout=300s', `node/${NAME}`);
  await kubectl('wait', '--for=condition=Ready', '--timeout=300s', `node/${NAME}`);
  note('the node is Ready');
  const port = 'jsonpath={.status.daemonEndpoints.kubeletEndpoint.Port}';
  assert.equal(await kubectl('get', 'node', NAME, '-o', port), '10250');
  const files = await node.ssh('ls /etc/kubernetes');
  assert.match(files.stdout, /^kubelet\.conf$/m);
  assert.doesNotMatch(files.stdout, /bootstrap/);
});

test('status and doctor work without a flag', { timeout: TIMEOUT_MS }, async () => {
  const { node } = cluster;
  assert.match((await node.ssh('limpet status')).stdout, /Cluster: +https:.*node registered/);
  const doctor = await node.ssh('limpet doctor');
  assert.match(doctor.stdout, /disk-space +\/var\/lib\/kubelet: /);
  assert.match(doctor.stdout, /ok +cluster +https:/);
  // The socket is found wherever it is.
  const dropIn = '/etc/systemd/system/kubelet.service.d/20-run-dir.conf';
  const line = 'Environment=KUBELET_EXTRA_ARGS=--run-dir=/run/elsewhere';
  await node.ssh(`printf '[Service]\\n${line}\\n' > ${dropIn}`);
  await node.ssh('systemctl daemon-reload && systemctl restart kubelet', { timeoutMs: TIMEOUT_MS });
  assert.match((await node.ssh('limpet status')).stdout, /^Node: /m);
  await node.ssh(`rm ${dropIn} && systemctl daemon-reload && systemctl restart kubelet`);
});

test('a pod runs', { timeout: TIMEOUT_MS }, async () => {
  await cluster.apply(BOX);
  await cluster.kubectl('wait', '--for=condition=Ready', '--timeout=300s', 'pod/box');
  note('the pod is Ready');
});

test('logs are followed', { timeout: TIMEOUT_MS }, async () => {
  const lines: string[] = [];
  await follow(['logs', '-f', 'box', '-c', 'main', '--tail=1'], {}, (line) => {
    lines.push(line);
    return lines.length === 4;
  });
  const first = Number(lines[0]!.slice('line '.length));
  assert.deepEqual(
    lines,
    [0, 1, 2, 3].map((n) => `line ${first + n}`),
  );
});

for (const [protocol, on] of [
  ['WebSocket', 'true'],
  ['SPDY', 'false'],
] as const) {
  const env = {
    KUBECTL_REMOTE_COMMAND_WEBSOCKETS: on,
    KUBECTL_PORT_FORWARD_WEBSOCKETS: on,
  };

  test(`exec, with stdin, a terminal and an exit code, by ${protocol}`, async () => {
    const { plane } = cluster;
    const exec = ['exec', 'box', '-c', 'main'];
    const echoed = await plane.kubectl([...exec, '-i', '--', 'cat'], { env, input: 'a\nb' });
    assert.equal(echoed.stdout, 'a\nb');
    const script = 'echo out; echo err >&2; exit 7';
    const failed = await plane.kubectl([...exec, '--', 'sh', '-c', script], { env, check: false });
    assert.deepEqual([failed.code, failed.stdout], [7, 'out\n']);
    assert.match(failed.stderr, /^err\n/);
    const words = [plane.kubectlProgram, ...exec, '-it', '--', 'sh', '-c', "'tty; exit 5'"];
    const shown = await run('script', ['-qec', words.join(' '), '/dev/null'], {
      env: { ...plane.kubectlEnv, ...env },
      check: false,
      timeoutMs: TIMEOUT_MS,
    });
    assert.equal(shown.code, 5);
    assert.match(shown.stdout, /\/dev\/pts\/\d+\r\n/);
  });

  test(`cp there and back by ${protocol}`, { timeout: TIMEOUT_MS }, async () => {
    const { plane } = cluster;
    const [there, back] = [join(plane.directory, 'there'), join(plane.directory, 'back')];
    const bytes = crypto.getRandomValues(Buffer.alloc(60_000));
    await writeFile(there, Buffer.concat(Array<Buffer>(20).fill(bytes)));
    await plane.kubectl(['cp', there, 'box:/tmp/blob', '-c', 'main'], { env });
    await plane.kubectl(['cp', 'box:/tmp/blob', back, '-c', 'main'], { env });
    assert.ok((await readFile(there)).equals(await readFile(back)));
  });

  test(`port-forward by ${protocol}`, { timeout: TIMEOUT_MS }, async () => {
    const bodies: string[] = [];
    await follow(['port-forward', 'pod/box', ':8080'], env, async (line) => {
      const port = /^Forwarding from 127\.0\.0\.1:(\d+) /.exec(line)?.[1];
      if (port === undefined) return false;
      for (const _ of [1, 2]) {
        const answer = await fetch(`http://127.0.0.1:${port}/index.html`);
        bodies.push(await answer.text());
      }
      return true;
    });
    assert.deepEqual(bodies, ['served\n', 'served\n']);
  });

  test(`attach by ${protocol}`, { timeout: TIMEOUT_MS }, async () => {
    const lines: string[] = [];
    const attach = ['attach', '-i', 'box', '-c', 'echo'];
    await follow(attach, env, (line) => lines.push(line) > 0 && line === 'got hi', 'hi\n');
    assert.ok(lines.includes('got hi'));
  });
}

/** A web server with all that a pod of real use has. */
function server(app: string): object {
  const probe = (more: object) => ({
    httpGet: { path: '/', port: 'http' },
    periodSeconds: 2,
    ...more,
  });
  return {
    metadata: { labels: { app } },
    spec: {
      terminationGracePeriodSeconds: 5,
      initContainers: [
        {
          ...{ name: 'prepare', image: IMAGE, imagePullPolicy: 'IfNotPresent' },
          command: ['sh', '-c', 'cp /config/page /www/index.html'],
          volumeMounts: [
            { name: 'www', mountPath: '/www' },
            { name: 'config', mountPath: '/config' },
          ],
        },
      ],
      containers: [
        {
          ...{ name: 'main', image: IMAGE, imagePullPolicy: 'IfNotPresent' },
          command: ['sh', '-c', 'trap exit TERM; httpd -p 8080 -h /www; sleep 36000 & wait'],
          ports: [{ name: 'http', containerPort: 8080 }],
          env: [
            { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'shop', key: 'password' } } },
            { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
          ],
          envFrom: [{ configMapRef: { name: 'shop' }, prefix: 'SHOP_' }],
          resources: { requests: { cpu: '10m', memory: '16Mi' }, limits: { memory: '64Mi' } },
          startupProbe: probe({ failureThreshold: 30 }),
          livenessProbe: probe({}),
          readinessProbe: probe({}),
          lifecycle: { preStop: { exec: { command: ['sh', '-c', 'sleep 1'] } } },
          volumeMounts: [{ name: 'www', mountPath: '/www' }],
        },
      ],
      volumes: [
        { name: 'www', emptyDir: {} },
        { name: 'config', configMap: { name: 'shop' } },
      ],
    },
  };
}

function workload(kind: string, name: string, more: object): object {
  const selector = { matchLabels: { app: name } };
  return {
    ...{ apiVersion: 'apps/v1', kind, metadata: { name } },
    spec: { selector, template: server(name), ...more },
  };
}

test('workloads of real use run and roll', { timeout: TIMEOUT_MS }, async () => {
  const { apply, kubectl, until } = cluster;
  const once = {
    restartPolicy: 'Never',
    containers: [
      {
        ...{ name: 'main', image: IMAGE, imagePullPolicy: 'IfNotPresent' },
        command: ['sh', '-c', 'echo done'],
      },
    ],
  };
  const job = { template: { spec: once } };
  await apply(
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'shop' }, data: { page: 'open' } },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'shop' }, stringData: { password: 'x' } },
    {
      ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'shop' } },
      spec: { selector: { app: 'shop' }, ports: [{ port: 80, targetPort: 'http' }] },
    },
    workload('Deployment', 'shop', { replicas: 2 }),
    workload('DaemonSet', 'watch', {}),
    workload('StatefulSet', 'db', { replicas: 1, serviceName: 'db' }),
    { apiVersion: 'batch/v1', kind: 'Job', metadata: { name: 'once' }, spec: job },
    {
      ...{ apiVersion: 'batch/v1', kind: 'CronJob', metadata: { name: 'tick' } },
      spec: { schedule: '* * * * *', jobTemplate: { spec: job } },
    },
  );
  for (const name of ['deployment/shop', 'daemonset/watch', 'statefulset/db']) {
    await kubectl('rollout', 'status', name, '--timeout=240s');
  }
  note('all are rolled out');
  const page = await kubectl('exec', 'deployment/shop', '--', 'wget', '-qO-', 'localhost:8080');
  assert.equal(page.trim(), 'open');
  const script = 'echo $PASSWORD $POD $SHOP_page $SHOP_SERVICE_PORT';
  const words = (await kubectl('exec', 'db-0', '--', 'sh', '-c', script)).trim();
  assert.equal(words, 'x db-0 open 80');
  const endpoints = 'jsonpath={.items[*].endpoints[*].addresses[0]}';
  await until('both pods are behind the service', async () => {
    const slices = ['endpointslices', '-l', 'kubernetes.io/service-name=shop'];
    const found = await kubectl('get', ...slices, '-o', endpoints);
    return found.split(' ').length === 2 ? true : undefined;
  });
  await kubectl('wait', '--for=condition=Complete', 'job/once', '--timeout=120s');
  await until('the CronJob has made a Job that is done', async () => {
    const done = 'jsonpath={.status.lastSuccessfulTime}';
    return (await kubectl('get', 'cronjob', 'tick', '-o', done)) === '' ? undefined : true;
  });
  note('Job and CronJob are done');
  await kubectl('rollout', 'restart', 'deployment/shop');
  await kubectl('rollout', 'status', 'deployment/shop', '--timeout=240s');
  const describe = await kubectl('describe', 'pod', 'db-0');
  for (const word of ['Scheduled', 'Pulled', 'Created', 'Started']) {
    assert.match(describe, new RegExp(`Normal +${word} `));
  }
  await kubectl('delete', 'cronjob,job,deployment,daemonset,statefulset', '--all');
  await until('none of their pods is left', async () => {
    return (await kubectl('get', 'pods', '-l', 'app', '-o', 'name')) === '' ? true : undefined;
  });
});

test('a deleted pod goes, and nothing that limpet asked for was denied', async () => {
  const { kubectl, node } = cluster;
  await kubectl('delete', 'pod', 'box');
  assert.equal(await kubectl('get', 'pods', '-o', 'name'), '');
  assert.equal((await node.ssh('ctr -n k8s.io tasks list -q')).stdout, '');
  const requests = await requestsOf(cluster);
  assert.ok(requests.some(({ requestURI }) => requestURI.includes('subjectaccessreviews')));
  assert.deepEqual(deniedOf(requests), []);
});

/** Runs kubectl until `seen` says that a line of its output was the last to wait for. */
async function follow(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  seen: (line: string) => boolean | Promise<boolean>,
  input = '',
): Promise<void> {
  const { plane } = cluster;
  const child = spawn(plane.kubectlProgram, args, {
    env: { ...process.env, ...plane.kubectlEnv, ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  child.stdin.on('error', () => undefined);
  // Its end would be that of what is attached to.
  child.stdin.write(input);
  let rest = '';
  try {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      const lines = (rest + chunk.toString()).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (await seen(line)) return;
    }
    throw new Error(`kubectl ${args[0]} ended too early`);
  } finally {
    child.kill();
    await ended;
  }
}
