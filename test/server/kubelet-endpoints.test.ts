import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { createLog } from '../../src/base/log.ts';
import { serveHealthz } from '../../src/server/health.ts';
import { podsOf } from '../kube/parse-manifest.ts';
import type { podListOf } from '../../src/server/pod-list.ts';
import { aReport } from './canned.ts';
import { aContainer, aSandbox, aWorld, createRig } from './kubelet-rig.ts';

async function healthz(port: number, method: string, path: string): Promise<[number, string]> {
  const sent = request({ host: '127.0.0.1', port, method, path, agent: false });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) text += chunk;
  return [response.statusCode ?? 0, text];
}

test('health on 10250: each check by itself, all of them, and what fails', async () => {
  await using rig = await createRig();
  for (const path of ['/healthz', '/healthz/', '/healthz/ping', '/healthz/syncloop']) {
    const answer = await rig.ask(path);
    assert.deepEqual([answer.status, answer.body], [200, 'ok'], path);
    assert.match(answer.headers['content-type'] ?? '', /^text\/plain/);
  }
  const head = await rig.ask('/healthz', { method: 'HEAD' });
  assert.deepEqual([head.status, head.body], [200, '']);
  const verbose = await rig.ask('/healthz?verbose');
  assert.equal(verbose.body, '[+]ping ok\n[+]syncloop ok\nhealthz check passed\n');
  rig.world.sick = 'no turn for 5 minutes';
  const sick = await rig.ask('/healthz');
  assert.equal(sick.status, 500);
  assert.match(sick.body, /\[\+\]ping ok\n\[-\]syncloop failed: reason withheld/);
  assert.match((await rig.ask('/healthz/syncloop')).body, /no turn for 5 minutes/);
  assert.equal((await rig.ask('/healthz/ping')).status, 200);
  assert.equal((await rig.ask('/healthz/other')).status, 404);
  assert.equal((await rig.ask('/healthz/constructor')).status, 404);
});

test('health on 10248: plain, for GET and HEAD alone', async () => {
  const log = createLog('error', () => undefined);
  await using health = await serveHealthz({ address: '127.0.0.1', port: 0 }, log);
  const { port } = health;
  assert.deepEqual(await healthz(port, 'GET', '/healthz'), [200, 'ok']);
  assert.deepEqual(await healthz(port, 'HEAD', '/healthz'), [200, '']);
  assert.deepEqual(await healthz(port, 'GET', '/healthz/ping?verbose'), [200, 'ok']);
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) {
    assert.equal((await healthz(port, method, '/healthz'))[0], 405, method);
  }
  for (const path of [
    '/',
    '/pods',
    '/metrics',
    '/debug/pprof/',
    '/healthz/syncloop',
    '/healthz/..',
  ]) {
    assert.equal((await healthz(port, 'GET', path))[0], 404, path);
  }
  const socket = connect(port, '127.0.0.1');
  socket.end('\x16\x03\x01 nonsense\r\n\r\n');
  await once(socket, 'close');
  assert.deepEqual(await healthz(port, 'GET', '/healthz'), [200, 'ok']);
});

test('pods are a PodList of the v1 API, with nothing lost', async () => {
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' }, annotations: { a: 'b' } },
    spec: {
      hostNetwork: true,
      containers: [
        {
          name: 'app',
          image: 'nginx:1.29',
          args: ['-v'],
          env: [{ name: 'A', value: 'b' }],
          ports: [{ containerPort: 80 }],
          resources: { limits: { memory: '64Mi' } },
          volumeMounts: [
            { name: 'tmp', mountPath: '/tmp' },
            { name: 'h', mountPath: '/h' },
          ],
          securityContext: { privileged: false, capabilities: { drop: ['ALL'] } },
        },
      ],
      initContainers: [{ name: 'side', image: 'a', restartPolicy: 'Always', tty: true }],
      volumes: [
        { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
        { name: 'plain', emptyDir: {} },
        { name: 'h', hostPath: { path: '/srv' } },
      ],
    },
  };
  const pods = podsOf(JSON.stringify(manifest));
  const report = { ...aReport('web'), pod: pods[0]! };
  await using rig = await createRig(aWorld({ pods: [report] }));
  const answer = await rig.ask('/pods');
  assert.equal(answer.headers['content-type'], 'application/json');
  const list = JSON.parse(answer.body) as ReturnType<typeof podListOf>;
  assert.deepEqual(
    { ...list, items: [] },
    { kind: 'PodList', apiVersion: 'v1', metadata: {}, items: [] },
  );
  assert.deepEqual(list.items, [
    {
      metadata: {
        name: 'web',
        namespace: 'shop',
        uid: '',
        labels: { app: 'web' },
        annotations: { a: 'b' },
      },
      spec: {
        containers: [
          {
            name: 'app',
            image: 'nginx:1.29',
            imagePullPolicy: 'IfNotPresent',
            args: ['-v'],
            env: [{ name: 'A', value: 'b' }],
            ports: [{ containerPort: 80, hostPort: 80, protocol: 'TCP' }],
            resources: { requests: { memory: '64Mi' }, limits: { memory: '64Mi' } },
            volumeMounts: [
              { name: 'tmp', mountPath: '/tmp' },
              { name: 'h', mountPath: '/h' },
            ],
            terminationMessagePath: '/dev/termination-log',
            terminationMessagePolicy: 'File',
            securityContext: { privileged: false, capabilities: { drop: ['ALL'] } },
          },
        ],
        initContainers: [
          {
            name: 'side',
            image: 'a',
            imagePullPolicy: 'Always',
            resources: {},
            terminationMessagePath: '/dev/termination-log',
            terminationMessagePolicy: 'File',
            securityContext: {},
            restartPolicy: 'Always',
            tty: true,
          },
        ],
        volumes: [
          { name: 'tmp', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
          { name: 'plain', emptyDir: {} },
          { name: 'h', hostPath: { path: '/srv', type: '' } },
        ],
        restartPolicy: 'Always',
        terminationGracePeriodSeconds: 30,
        dnsPolicy: 'ClusterFirst',
        hostNetwork: true,
        securityContext: {},
      },
      status: JSON.parse(
        JSON.stringify({ ...report.status, initContainerStatuses: undefined }),
      ) as object,
    },
  ]);
});

test('the running pods are what the runtime has: names and images of what runs', async () => {
  const world = aWorld({
    sandboxes: [
      aSandbox(),
      aSandbox({ id: 'old', state: 'SANDBOX_NOTREADY' }),
      aSandbox({ id: 's2', metadata: { name: 'idle', namespace: 'x', uid: 'u2', attempt: 0 } }),
    ],
    containers: [aContainer(), aContainer({ id: 'c2', name: 'over', state: 'CONTAINER_EXITED' })],
  });
  await using rig = await createRig(world);
  const { items } = JSON.parse((await rig.ask('/runningpods/')).body) as { items: object[] };
  assert.deepEqual(items, [
    {
      metadata: { name: 'web', namespace: 'default', uid: 'uid-web' },
      spec: { containers: [{ name: 'app', image: 'sha256:1', resources: {} }] },
      status: {},
    },
    {
      metadata: { name: 'idle', namespace: 'x', uid: 'u2' },
      spec: { containers: null },
      status: {},
    },
  ]);
});

test('configz is the configuration, and what is not there is a 404', async () => {
  await using rig = await createRig(aWorld({ rights: RIGHTS }));
  const { body } = await rig.ask('/configz');
  assert.deepEqual(JSON.parse(body), {
    kubeletconfig: { kind: 'KubeletConfiguration', maxPods: 110 },
  });
  const paths = [
    '/',
    '/logs/',
    '/debug/pprof/heap',
    '/debug/flags/v',
    '/checkpoint/a/b/c',
    '/spec/',
  ];
  const later = ['/metrics', '/metrics/cadvisor', '/metrics/resource', '/stats/summary', '/stats/'];
  const odd = ['/run/a/b/c', '/containerLogs/a/b', '/exec/a/b', '/pods/a', '/exec/a/b/c/d/e', '//'];
  for (const path of [...paths, ...later, ...odd, '/Pods', '/portforward/a/b', '/__proto__']) {
    const answer = await rig.ask(path);
    assert.deepEqual([answer.status, answer.body], [404, '404 page not found\n'], path);
  }
  for (const path of [
    '/pods/../pods',
    '/%2e%2e/pods',
    '/containerLogs/a/%2fb/c',
    '/%zz',
    '/a%00b',
  ]) {
    assert.equal((await rig.ask(path)).status, 400, path);
  }
  for (const [method, path] of [
    ['POST', '/pods'],
    ['DELETE', '/configz'],
    ['HEAD', '/pods'],
  ]) {
    assert.equal((await rig.ask(path!, { method: method! })).status, 405, `${method} ${path}`);
  }
  assert.equal((await rig.ask('/pods', { body: 'x' })).status, 400);
});

const RIGHTS = [
  ...['get', 'create', 'update', 'patch', 'delete'].map((verb) => `${verb} nodes/proxy`),
  ...['metrics', 'stats', 'log', 'spec', 'checkpoint'].map((sub) => `get nodes/${sub}`),
];

test('each request is one line at debug, without its query', async () => {
  await using rig = await createRig();
  await rig.ask('/healthz?token=canary');
  await rig.ask('/exec/a/b/c?command=canary', { headers: { authorization: 'Bearer canary' } });
  await new Promise((resolve) => setTimeout(resolve, 20));
  const text = rig.lines.join('');
  assert.match(
    text,
    /DEBUG kubelet request method=GET path=\/healthz user=apiserver-client status=200/,
  );
  assert.match(text, /path=\/exec\/a\/b\/c user=apiserver-client status=400/);
  assert.ok(!text.includes('canary'));
});

test('a port in use is said to be, and so is what can not be used', async () => {
  await using rig = await createRig();
  const { port } = rig.server;
  const taken = createRig(aWorld(), { port });
  await assert.rejects(taken, /cannot listen on 127\.0\.0\.1 port \d+: EADDRINUSE: is a kubelet/);
  await assert.rejects(createRig(aWorld(), { clientCA: 'rubbish' }), /cannot use the client CA/);
  await assert.rejects(createRig(aWorld(), { address: '192.0.2.1' }), /EADDRNOTAVAIL/);
});

test('without debugging handlers there are pods and health, and nothing that reaches into them', async () => {
  await using rig = await createRig(aWorld({ pods: [aReport('web')] }), { debugging: false });
  assert.equal((await rig.ask('/pods')).status, 200);
  assert.equal((await rig.ask('/healthz')).status, 200);
  const headers = { connection: 'upgrade', upgrade: 'websocket' };
  for (const path of ['/containerLogs/default/web/app', '/runningpods/', '/configz']) {
    assert.equal((await rig.ask(path)).status, 405, path);
  }
  const exec = '/exec/default/web/app?command=id&output=1';
  const answer = await rig.ask(exec, { headers });
  assert.deepEqual([answer.status, answer.body], [405, 'Debug endpoints are disabled.\n']);
  assert.deepEqual(
    rig.world.asked.filter((asked) => asked.startsWith('exec')),
    [],
  );
});
