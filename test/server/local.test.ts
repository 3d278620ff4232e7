import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, lstatSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Failure } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { createLog } from '../../src/base/log.ts';
import { seededRandom } from '../../src/base/random.ts';
import { ApiError } from '../../src/server/api.ts';
import { serveLocal } from '../../src/server/local.ts';
import { aReport, cannedApi, serveCanned } from './canned.ts';

type Answer = { readonly status: number; readonly body: { kind: string; [key: string]: unknown } };

async function call(
  socketPath: string,
  method: string,
  path: string,
  body?: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const sent = request({ socketPath, method, path, agent: false, headers });
  sent.on('error', () => undefined);
  sent.end(body);
  const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  return { status: response.statusCode ?? 0, body: JSON.parse(text) as Answer['body'] };
}

/** Sends raw bytes and returns what comes back until the server closes. */
async function raw(socketPath: string, bytes: Uint8Array | string): Promise<string> {
  const socket = connect(socketPath);
  let text = '';
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => (text += chunk));
  socket.on('error', () => undefined);
  socket.end(bytes);
  if (!socket.destroyed) await once(socket, 'close');
  return text;
}

const quiet = createLog('error', () => undefined);
const never = new AbortController().signal;

test('the directory and the socket are for their owner alone', async () => {
  await using served = await serveCanned();
  assert.equal(lstatSync(served.directory).mode & 0o777, 0o700);
  assert.equal(lstatSync(served.socket).mode & 0o777, 0o600);
});

test('each request reaches its call, and the answer is JSON with its kind', async () => {
  await using served = await serveCanned({ pods: [aReport('web')] });
  const { socket, canned } = served;
  assert.equal((await call(socket, 'GET', '/v1/status')).body.kind, 'NodeReport');
  const pods = await call(socket, 'GET', '/v1/pods');
  assert.equal((pods.body['items'] as unknown[]).length, 1);
  assert.equal((await call(socket, 'GET', '/v1/events?name=web')).body.kind, 'EventList');
  const applied = await call(socket, 'POST', '/v1/pods', 'kind: Pod\n# é');
  assert.equal(applied.body.kind, 'ApplyReport');
  assert.deepEqual(canned.manifests, ['kind: Pod\n# é']);
  const path = '/v1/pods/default/web?gracePeriodSeconds=7';
  assert.equal((await call(socket, 'DELETE', path)).body.kind, 'DeleteReport');
  assert.deepEqual(canned.asked, ['events {"name":"web"}', 'delete default/web 7']);
});

test('an ApiError keeps its status and its problems, any other error is a 500 that is logged', async () => {
  await using served = await serveCanned();
  const { socket, canned, lines } = served;
  const problems = ['spec.containers[0].image: is missing'];
  canned.applyError = new ApiError(400, { reason: 'Invalid', message: 'no', problems });
  const refused = await call(socket, 'POST', '/v1/pods', 'x');
  assert.equal(refused.status, 400);
  assert.deepEqual(refused.body['problems'], problems);
  canned.applyError = new Failure('NoSpace', 'the disk is full');
  assert.equal((await call(socket, 'POST', '/v1/pods', 'x')).status, 503);
  canned.applyError = new TypeError('boom');
  const broken = await call(socket, 'POST', '/v1/pods', 'x');
  assert.equal(broken.status, 500);
  assert.equal(broken.body['reason'], 'Internal');
  assert.match(lines.join(''), /boom/);
});

test('what is malformed gets a 4xx that says what', async () => {
  await using served = await serveCanned();
  const { socket } = served;
  const cases: [string, string, number][] = [
    ['GET', '/v1/nothing', 404],
    ['PUT', '/v1/pods', 404],
    ['DELETE', '/v1/pods/default/%zz', 400],
    ['DELETE', '/v1/pods/default/web?gracePeriodSeconds=-1', 400],
    ['DELETE', '/v1/pods/default/web?gracePeriodSeconds=1e9', 400],
    ['DELETE', '/v1/pods/default/web?gracePeriodSeconds=99999999999', 400],
    ['GET', '/v1/usage?depth=all', 400],
    ['GET', '/v1/usage?maxAgeMs=soon', 400],
    ['GET', '//[', 400],
  ];
  for (const [method, path, status] of cases) {
    const answer = await call(socket, method, path);
    assert.equal(answer.status, status, `${method} ${path}`);
    assert.equal(answer.body.kind, 'Error');
    assert.notEqual(answer.body['message'], '');
  }
  const body = await call(socket, 'GET', '/v1/pods', 'x', { 'content-length': '1' });
  assert.equal(body.status, 400);
  const text = await call(socket, 'POST', '/v1/pods', Buffer.from([0x61, 0xff, 0xfe]));
  assert.match(String(text.body['message']), /UTF-8/);
});

test('a manifest of the largest size is taken, one byte more is a 413', async () => {
  await using served = await serveCanned();
  const { socket, canned } = served;
  const most = Buffer.alloc(LIMITS.manifestBytes, 0x61);
  assert.equal((await call(socket, 'POST', '/v1/pods', most)).status, 200);
  assert.equal(canned.manifests[0]?.length, LIMITS.manifestBytes);
  const over = Buffer.alloc(LIMITS.manifestBytes + 1, 0x61);
  const declared = { 'content-length': String(over.length) };
  assert.equal((await call(socket, 'POST', '/v1/pods', over, declared)).status, 413);
  const chunked = { 'transfer-encoding': 'chunked' };
  const answer = await call(socket, 'POST', '/v1/pods', over, chunked);
  assert.equal(answer.status, 413);
  assert.equal(answer.body['reason'], 'TooLarge');
  assert.equal(canned.manifests.length, 1);
});

test('headers without end are refused', async () => {
  await using served = await serveCanned();
  const text = await raw(served.socket, `GET /v1/pods HTTP/1.1\r\nX: ${'a'.repeat(64 * 1024)}`);
  assert.match(text, /^HTTP\/1\.1 431 /);
});

test('2000 connections of garbage do not end the server', async () => {
  await using served = await serveCanned({ pods: [aReport('web')] });
  const random = seededRandom(20261121);
  const starts = [
    'GET /v1/pods HTTP/1.1\r\n',
    'POST /v1/pods HTTP/1.1\r\nHost: a\r\n',
    'PRI * HTTP/2.0',
    '',
  ];
  for (let round = 0; round < 2000; round += 20) {
    const batch = Array.from({ length: 20 }, () => {
      const start = starts[Math.floor(random.next() * starts.length)] ?? '';
      const length = Math.floor(random.next() * 300);
      const noise = Buffer.from(Array.from({ length }, () => Math.floor(random.next() * 256)));
      return raw(served.socket, Buffer.concat([Buffer.from(start), noise]));
    });
    for (const text of await Promise.all(batch)) {
      assert.ok(text === '' || text.startsWith('HTTP/1.1 4'), JSON.stringify(text.slice(0, 80)));
    }
  }
  assert.equal((await call(served.socket, 'GET', '/v1/pods')).status, 200);
});

test('connections that stay silent do not keep others out for good', async () => {
  await using served = await serveCanned();
  const silent = Array.from({ length: 100 }, () => {
    const socket = connect(served.socket);
    socket.on('error', () => undefined);
    return socket;
  });
  // The surplus is dropped at once; what was let in is dropped by its own end here.
  await new Promise((resolve) => setTimeout(resolve, 200));
  for (const socket of silent) socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal((await call(served.socket, 'GET', '/v1/status')).status, 200);
});

test('a socket that nobody listens on is replaced, a living one is not', async (t) => {
  const base = await mkdtemp(join(tmpdir(), 'limpet-stale-'));
  t.after(async () => await rm(base, { recursive: true, force: true }));
  const run = join(base, 'run');
  const path = join(run, 'limpet.sock');
  await mkdir(run, { mode: 0o755 });
  // A dead socket: its server was closed in a way that leaves the file.
  const dead = createServer().listen(`${path}.tmp`);
  await once(dead, 'listening');
  const { rename } = await import('node:fs/promises');
  await rename(`${path}.tmp`, path);
  dead.close();
  assert.ok(lstatSync(path).isSocket());

  const canned = {
    pods: [],
    node: {},
    events: [],
    usage: [],
    asked: [],
    manifests: [],
    applyError: undefined,
  };
  const first = await serveLocal(cannedApi(canned), run, { log: quiet, signal: never });
  assert.equal(lstatSync(run).mode & 0o777, 0o700, 'an open directory is closed');
  await assert.rejects(
    serveLocal(cannedApi(canned), run, { log: quiet, signal: never }),
    (error) => error instanceof Failure && error.code === 'AlreadyExists',
  );
  assert.equal((await call(path, 'GET', '/v1/pods')).status, 200, 'the first one still answers');
  await first[Symbol.asyncDispose]();
  assert.equal(existsSync(path), false);
});

test('a link, a file and a foreign directory at its place are refused and left alone', async (t) => {
  const base = await mkdtemp(join(tmpdir(), 'limpet-place-'));
  t.after(async () => await rm(base, { recursive: true, force: true }));
  const api = cannedApi({
    pods: [],
    node: {},
    events: [],
    usage: [],
    asked: [],
    manifests: [],
    applyError: undefined,
  });
  const refused = async (directory: string): Promise<void> => {
    await assert.rejects(
      serveLocal(api, directory, { log: quiet, signal: never }),
      (error) => error instanceof Failure && error.code === 'PermissionDenied',
    );
  };
  const target = join(base, 'target');
  await writeFile(target, 'keep');
  const linked = join(base, 'linked');
  await mkdir(linked);
  await symlink(target, join(linked, 'limpet.sock'));
  await refused(linked);
  const file = join(base, 'file');
  await mkdir(file);
  await writeFile(join(file, 'limpet.sock'), 'keep');
  await refused(file);
  assert.ok(lstatSync(join(file, 'limpet.sock')).isFile());
  await symlink(linked, join(base, 'run'));
  await refused(join(base, 'run'));
  await chmod(target, 0o600);
});

test('a path that no socket can have is said to be too long', async () => {
  const directory = join(tmpdir(), 'x'.repeat(120));
  await assert.rejects(
    serveLocal(
      cannedApi({
        pods: [],
        node: {},
        events: [],
        usage: [],
        asked: [],
        manifests: [],
        applyError: undefined,
      }),
      directory,
      { log: quiet, signal: never },
    ),
    /too long/,
  );
});

test('an aborted signal closes the server with its connections', async () => {
  const base = await mkdtemp(join(tmpdir(), 'limpet-abort-'));
  const controller = new AbortController();
  const canned = {
    pods: [],
    node: {},
    events: [],
    usage: [],
    asked: [],
    manifests: [],
    applyError: undefined,
  };
  const options = { log: quiet, signal: controller.signal };
  await using _server = await serveLocal(cannedApi(canned), base, options);
  const open = connect(join(base, 'limpet.sock'));
  await once(open, 'connect');
  controller.abort();
  await once(open, 'close');
  assert.equal(existsSync(join(base, 'limpet.sock')), false);
  await rm(base, { recursive: true, force: true });
});
