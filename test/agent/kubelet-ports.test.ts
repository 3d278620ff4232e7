// The kubelet's ports with real TLS, real files and an API server that reviews who comes.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { get as getHttp, type IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test, type TestContext } from 'node:test';
import type { TLSSocket } from 'node:tls';

import { freePorts } from '../../scripts/lib/ports.ts';
import { readConfiguration } from '../../src/agent/configuration.ts';
import { Holds } from '../../src/agent/holds.ts';
import { createKubeletPorts, type KubeletPortsParts } from '../../src/agent/kubelet-ports.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createRecovery } from '../../src/base/recovery.ts';
import type { NewEvent } from '../../src/kube/event.ts';
import { parseFlags } from '../../src/kube/parse-flags.ts';
import type { KeyPair } from '../../src/server/self-signed.ts';
import { createPeer, json, refuse, until, type Peer } from '../apiserver/peer.ts';
import { createAuthority } from '../server/authority.ts';

const cluster = await createAuthority('kubernetes');
after(() => cluster[Symbol.asyncDispose]());
const admin = await cluster.issue({ subject: '/O=ops/CN=apiserver-client' });

/** A node with its ports; `more` are lines of its KubeletConfiguration. */
async function start(t: TestContext, more = '') {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-ports-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const [port, healthzPort] = (await freePorts(2)) as [number, number];
  const file = join(directory, 'config.yaml');
  const clientCA = join(directory, 'ca.crt');
  writeFileSync(clientCA, cluster.cert);
  const lines = [
    'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\naddress: 127.0.0.1',
    `port: ${port}\nhealthzPort: ${healthzPort}\nmaxPods: 7`,
    `authentication: { x509: { clientCAFile: ${clientCA} } }`,
    more.replaceAll('DIR', directory),
  ];
  writeFileSync(file, lines.join('\n'));
  const flags = [
    ...[`--config=${file}`, `--kubeconfig=${directory}/kubelet.conf`],
    ...[`--cert-dir=${directory}`, '--hostname-override=pi1'],
  ];
  const { options, problems, warnings } = await readConfiguration(parseFlags(flags, '/'), {
    calledAs: 'kubelet',
    directory,
  });
  assert.deepEqual(problems, []);
  const events: NewEvent[] = [];
  const real = systemClock('boot', () => 0);
  const parts = {
    options: options!,
    base: {
      // Looks and retries come soon.
      clock: { ...real, sleep: (_ms: number, signal: AbortSignal) => real.sleep(20, signal) },
      log: createLog('error', (line) => void process.stderr.write(line)),
      store: { recordEvent: (event: NewEvent) => void events.push(event) },
    },
    core: {
      cri: { runtime: {}, streaming: {} },
      turns: { workers: new Map() },
      holds: new Holds(() => undefined),
      hostIPs: () => ['192.0.2.1'],
    },
  } as unknown as KubeletPortsParts;
  const ports = createKubeletPorts(parts);
  const controller = new AbortController();
  let running: Promise<void> | undefined;
  t.after(async () => {
    controller.abort(new Error('the test is over'));
    await running;
  });
  return {
    ...{ directory, clientCA, port, healthzPort, events, ports, warnings },
    run: () => void (running = ports.run(controller.signal)),
  };
}

type Answer = { readonly status: number; readonly body: string; readonly issuer: string };

async function ask(port: number, path: string, how: object = admin): Promise<Answer> {
  const sent = request({
    ...{ host: '127.0.0.1', port, path, agent: false, rejectUnauthorized: false },
    ...how,
  });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const issuer = (response.socket as TLSSocket).getPeerX509Certificate()!.issuer;
  let body = '';
  for await (const chunk of response as AsyncIterable<Buffer>) body += chunk.toString();
  return { status: response.statusCode ?? 0, body, issuer };
}

async function health(port: number): Promise<number | undefined> {
  const sent = getHttp({ host: '127.0.0.1', port, path: '/healthz', agent: false });
  const failed = once(sent, 'error').then(() => undefined);
  const answered = once(sent, 'response').then(([response]) => {
    (response as IncomingMessage).resume();
    return (response as IncomingMessage).statusCode;
  });
  failed.catch(() => undefined);
  answered.catch(() => undefined);
  return await Promise.race([failed, answered]);
}

async function soon(so: () => Promise<boolean>, what: string): Promise<void> {
  for (let tries = 0; !(await so().catch(() => false)); tries++) {
    assert.ok(tries < 500, what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Reviews as a cluster does whose monitoring may read metrics only. */
function review(peer: Peer): void {
  peer.answer = ({ url, body, response }) => {
    const { kind, spec } = JSON.parse(body) as { kind: string; spec: Record<string, unknown> };
    if (kind === 'TokenReview') {
      assert.equal(url.pathname, '/apis/authentication.k8s.io/v1/tokenreviews');
      const user = { username: 'monitoring', groups: ['system:authenticated'] };
      const status = spec['token'] === 'good' ? { authenticated: true, user } : {};
      return json(response, { kind, metadata: {}, status }, 201);
    }
    assert.equal(url.pathname, '/apis/authorization.k8s.io/v1/subjectaccessreviews');
    const allowed = spec['user'] === 'apiserver-client';
    return json(response, { kind, metadata: {}, status: { allowed, reason: 'RBAC' } }, 201);
  };
}

function sessionOf(peer: Peer) {
  const client = peer.client();
  return {
    client,
    credentials: peer.credentials(),
    recovery: createRecovery(),
    verify: () => Promise.resolve(),
    reached: () => undefined,
    confirm: () => Promise.resolve(),
  };
}

test('who comes is reviewed by the cluster, and denied while it can not be asked', async (t) => {
  await using peer = await createPeer();
  review(peer);
  const { port, ports, run, healthzPort, warnings } = await start(t);
  assert.deepEqual(
    warnings.filter((warning) => !warning.includes('pods of the API server')),
    [],
  );
  run();
  await soon(async () => (await health(healthzPort)) === 200, 'health is served');
  await soon(async () => (await ask(port, '/healthz')).status === 200, 'the port is served');
  const alone = await ask(port, '/pods');
  assert.equal(alone.status, 403);
  assert.match(alone.body, /the API server can't be asked: this node has no way to its cluster/);
  const until = new AbortController();
  ports.useSession(sessionOf(peer), until.signal);
  assert.equal((await ask(port, '/pods')).status, 200);
  const spec = (JSON.parse(peer.calls.at(-1)!.body) as { spec: object }).spec;
  const { extra, ...told } = spec as { extra: object };
  assert.deepEqual(Object.keys(extra), ['authentication.kubernetes.io/credential-id']);
  assert.deepEqual(told, {
    user: 'apiserver-client',
    uid: '',
    groups: ['ops', 'system:authenticated'],
    resourceAttributes: {
      ...{ verb: 'get', version: 'v1', resource: 'nodes', subresource: 'pods', name: 'pi1' },
    },
  });
  const as = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  assert.equal((await ask(port, '/pods', as('good'))).status, 403);
  assert.equal((await ask(port, '/pods', as('bad'))).status, 401);
  const { kubeletconfig } = JSON.parse((await ask(port, '/configz')).body) as {
    kubeletconfig: Record<string, unknown>;
  };
  assert.deepEqual(
    ['kind', 'maxPods', 'streamingConnectionIdleTimeout'].map((field) => kubeletconfig[field]),
    ['KubeletConfiguration', 7, '4h0m0s'],
  );
  // A session that is over is not asked; what it has said is remembered for its time.
  until.abort();
  const seen = peer.calls.length;
  assert.equal((await ask(port, '/stats/summary')).status, 403);
  assert.equal(peer.calls.length, seen);
});

test('an API server that refuses to review lets nobody in', async (t) => {
  await using peer = await createPeer();
  peer.answer = ({ response }) => refuse(response, 403, 'Forbidden', 'you may not review');
  const { port, ports, run } = await start(t, 'enableDebuggingHandlers: false');
  ports.useSession(sessionOf(peer), new AbortController().signal);
  run();
  await soon(async () => (await ask(port, '/pods')).status === 403, 'denied');
  assert.match((await ask(port, '/pods')).body, /you may not review/);
});

test('a port that is taken is told, and had as soon as it is free', async (t) => {
  const { port, healthzPort, ports, run, events } = await start(t);
  const rivals = [port, healthzPort].map((taken) => createServer().listen(taken, '127.0.0.1'));
  await Promise.all(rivals.map((rival) => once(rival, 'listening')));
  run();
  await until(() => ports.findings().length === 2, 'two findings');
  const [first] = ports.findings();
  assert.match(first!.message, /cannot listen on 127\.0\.0\.1 port \d+: EADDRINUSE: is a kubelet/);
  await until(() => events.length === 2, 'told once each');
  for (const rival of rivals) rival.close();
  await soon(async () => (await health(healthzPort)) === 200, 'health is served');
  await soon(async () => (await ask(port, '/healthz')).status === 200, 'the port is served');
  assert.deepEqual(ports.findings(), []);
  assert.equal(events.length, 2);
});

test('the certificate that the cluster issues takes the place of our own, without a restart', async (t) => {
  const { port, run, directory } = await start(t, 'serverTLSBootstrap: true');
  run();
  await soon(async () => (await ask(port, '/healthz')).issuer === 'CN=pi1', 'our own');
  const serving = await cluster.issue({ subject: '/CN=system:node:pi1', usage: 'serverAuth' });
  const file = join(directory, 'kubelet-server-2026-11-25-16-00-00.pem');
  writeFileSync(file, serving.cert + serving.key);
  symlinkSync(file, join(directory, 'kubelet-server-current.pem'));
  await soon(async () => (await ask(port, '/healthz')).issuer === 'CN=kubernetes', 'issued');
});

test('certificates that are configured are read again, and bad ones change nothing', async (t) => {
  const pair = (of: KeyPair, directory: string) => {
    writeFileSync(join(directory, 'tls.crt'), of.cert);
    writeFileSync(join(directory, 'tls.key'), of.key);
  };
  const more = 'tlsCertFile: DIR/tls.crt\ntlsPrivateKeyFile: DIR/tls.key';
  const { port, run, ports, directory, clientCA } = await start(t, more);
  run();
  await until(() => ports.findings().length === 1, 'a finding');
  assert.match(ports.findings()[0]!.message, /can't read the serving certificate/);
  const foreign = await createAuthority('other');
  t.after(() => foreign[Symbol.asyncDispose]());
  pair(await foreign.issue({ subject: '/CN=a', usage: 'serverAuth' }), directory);
  await soon(async () => (await ask(port, '/healthz')).issuer === 'CN=other', 'as configured');
  assert.deepEqual(ports.findings(), []);
  writeFileSync(clientCA, 'rubbish');
  await until(() => ports.findings().length === 1, 'a finding');
  assert.match(ports.findings()[0]!.message, /the client CA.*what was there before is used/);
  assert.equal((await ask(port, '/healthz')).status, 200);
  writeFileSync(clientCA, foreign.cert);
  await soon(async () => (await ask(port, '/healthz')).status === 401, 'another CA');
  await until(() => ports.findings().length === 0, 'all is well');
});
