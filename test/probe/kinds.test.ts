// What is special about commands, health services and hooks.
import assert from 'node:assert/strict';
import type { IncomingHttpHeaders } from 'node:http2';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import { exec } from '../../src/probe/exec.ts';
import { grpc } from '../../src/probe/grpc.ts';
import { runHook } from '../../src/probe/hook.ts';
import { runProbe } from '../../src/probe/index.ts';
import {
  deadPort,
  grpcServer,
  httpServer,
  httpsServer,
  never,
  silence,
  targetOf,
} from './servers.ts';

test('exec: what it prints is told, references to variables are filled in', async () => {
  const env = [
    { name: 'A', value: 'one' },
    { name: 'A', value: 'two' },
  ];
  const command = ['sh', '-c', 'echo "$0"; echo bad >&2; exit 3', '$(A)-$$(A)-$(B)'];
  const answer = await exec.run(targetOf({ env }), { kind: 'exec', command }, 5, never);
  assert.deepEqual(answer, { result: 'failure', text: 'two-$(A)-$(B)\nbad\n' });
});

test('exec: a timeout is worded as the kubelet words it', async () => {
  const command = ['sleep', '30'];
  const answer = await exec.run(targetOf(), { kind: 'exec', command }, 1, never);
  assert.deepEqual(answer, {
    result: 'failure',
    text: 'command timed out: "sleep 30" timed out after 1s',
  });
});

test('what could not be asked is tried three times', async () => {
  let asked = 0;
  const runtime = {
    execSync: () => {
      asked += 1;
      return Promise.reject(new Failure('Unavailable', 'the runtime is away'));
    },
  };
  const probe = {
    ...{ handler: { kind: 'exec', command: ['true'] } as const, initialDelaySeconds: 0 },
    ...{ timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 },
  };
  const answer = await runProbe({ ...targetOf(), runtime }, probe, never);
  assert.deepEqual(answer, { result: 'error', text: 'the runtime is away' });
  assert.equal(asked, 3);
});

test('grpc: what is asked, and every answer', async () => {
  const seen: { headers: IncomingHttpHeaders; body: Buffer }[] = [];
  const ask = async (answer: Parameters<typeof grpcServer>[0], service = '') => {
    await using server = await grpcServer(answer, (headers, body) => seen.push({ headers, body }));
    return await grpc.run(targetOf(), { kind: 'grpc', port: server.port, service }, 2, never);
  };
  assert.deepEqual(await ask({}, 'db'), { result: 'success', text: 'service healthy' });
  const { headers, body } = seen[0]!;
  assert.equal(headers[':path'], '/grpc.health.v1.Health/Check');
  assert.equal(headers['user-agent'], 'kube-probe/1.36');
  assert.deepEqual(body, Buffer.from([0, 0, 0, 0, 4, 0x0a, 2, 0x64, 0x62]));
  const notServing = await ask({ message: Buffer.from([0x08, 2]) });
  assert.equal(notServing.text, 'service unhealthy (responded with "NOT_SERVING")');
  const unknown = await ask({ message: Buffer.alloc(0) });
  assert.equal(unknown.text, 'service unhealthy (responded with "UNKNOWN")');
  const unimplemented = await ask({ code: 12, said: 'no' });
  assert.match(unimplemented.text, /does not implement the grpc health protocol .*: no$/);
  const notFound = await ask({ code: 5, said: 'unknown service' });
  assert.equal(
    notFound.text,
    'error: health rpc probe failed: rpc error: code = NotFound desc = unknown service',
  );
});

test('grpc: nobody there, somebody who speaks something else, somebody silent', async () => {
  const ask = (port: number) => grpc.run(targetOf(), { kind: 'grpc', port, service: '' }, 1, never);
  const refused = await ask(await deadPort());
  assert.match(
    refused.text,
    /^error: failed to connect service at .*: connect: connection refused$/,
  );
  await using web = await httpServer((_, response) => response.end());
  assert.match((await ask(web.port)).text, /^error: failed to connect service at/);
  await using silent = await silence();
  assert.match((await ask(silent.port)).text, /^timeout: failed to connect service .* within 1s/);
});

test('hooks: exec, and what is kept secret when it fails', async () => {
  const good = { kind: 'exec', command: ['true'] } as const;
  assert.equal(await runHook(targetOf(), good, never), undefined);
  const bad = { kind: 'exec', command: ['sh', '-c', 'echo s3cret; exit 4'] } as const;
  await assert.rejects(runHook(targetOf(), bad, never), {
    name: 'Failure',
    message: "command 'sh -c echo s3cret; exit 4' exited with 4",
  });
});

test('hooks: any HTTP answer is a good one, none is not', async () => {
  const agents: (string | undefined)[] = [];
  await using server = await httpServer((request, response) => {
    agents.push(request.headers['user-agent']);
    response.writeHead(500).end();
  });
  const get = (port: number) =>
    ({ kind: 'httpGet', path: '/', port, scheme: 'HTTP', httpHeaders: [] }) as const;
  assert.equal(await runHook(targetOf(), get(server.port), never), undefined);
  assert.deepEqual(agents, ['kube-lifecycle/1.36']);
  await assert.rejects(runHook(targetOf(), get(await deadPort()), never), /connection refused/);
});

test('hooks: HTTPS without a check, and HTTP where that is what is spoken', async () => {
  const httpHeaders = [{ name: 'Authorization', value: 's3cret' }];
  const get = (port: number) =>
    ({ kind: 'httpGet', path: '/', port, scheme: 'HTTPS', httpHeaders }) as const;
  await using secure = await httpsServer((_, response) => response.end());
  assert.equal(await runHook(targetOf(), get(secure.port), never), undefined);
  const asked: (string | undefined)[] = [];
  await using plain = await httpServer((request, response) => {
    asked.push(request.headers.authorization);
    response.end();
  });
  const note = await runHook(targetOf(), get(plain.port), never);
  assert.match(note ?? '', /got HTTP response, retry with HTTP succeeded$/);
  assert.deepEqual(asked, [undefined], 'nothing secret goes in clear text');
});

test('hooks: a sleep can be given up, tcpSocket is none', async () => {
  const began = performance.now();
  const controller = new AbortController();
  const sleep = runHook(targetOf(), { kind: 'sleep', seconds: 60 }, controller.signal);
  const reason = new Error('given up');
  controller.abort(reason);
  await assert.rejects(sleep, (error) => error === reason);
  assert.ok(performance.now() - began < 1000);
  await runHook(targetOf(), { kind: 'sleep', seconds: 0 }, never);
  const tcp = { kind: 'tcpSocket', port: 80 } as const;
  await assert.rejects(runHook(targetOf(), tcp, never), /not supported as a lifecycle hook/);
});
