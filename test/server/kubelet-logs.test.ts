import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFile, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { logOf } from '../../src/server/container-logs.ts';
import { aReport, aStatus } from './canned.ts';
import { aContainer, admin, aWorld, createRig, writeLog, type Rig } from './kubelet-rig.ts';

const running = aStatus('app', { containerID: 'containerd://container-1' });
const web = aReport('web', { statuses: [running] });
const LOGS = '/containerLogs/default/web/app';
const directory = (rig: Rig): string => join(rig.logs, 'default_web_uid-web', 'app');
const at = (second: number, rest: string): string =>
  `2026-11-25T10:00:${String(second).padStart(2, '0')}.5Z ${rest}`;

function withLogs(): Promise<Rig> {
  return createRig(aWorld({ pods: [web], containers: [aContainer()] }));
}

/** Follows a log; `text` is what has come so far. */
async function follow(rig: Rig, query = '') {
  const sent = request({
    host: '127.0.0.1',
    port: rig.server.port,
    path: `${LOGS}?follow=true${query}`,
    agent: false,
    rejectUnauthorized: false,
    ...admin,
  });
  sent.on('error', () => undefined);
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const seen = { text: '', ended: false, response, leave: () => void sent.destroy() };
  response.setEncoding('utf8').on('data', (chunk: string) => (seen.text += chunk));
  response.on('end', () => (seen.ended = true));
  response.on('error', () => undefined);
  return seen;
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never: ${what}`);
}

test('a log is read with all its options', async () => {
  await using rig = await withLogs();
  const lines = [
    at(1, 'stdout F one'),
    at(2, 'stderr F two'),
    at(3, 'stdout P thr'),
    at(4, 'stdout F ee'),
    at(5, 'stdout F '),
    at(6, 'stderr F six'),
  ];
  await writeLog(directory(rig), 0, lines);
  const cases: readonly (readonly [string, string])[] = [
    ['', 'one\ntwo\nthree\n\nsix\n'],
    ['?tailLines=2', '\nsix\n'],
    ['?tail=2', '\nsix\n'],
    ['?tail=all&tailLines=1', 'one\ntwo\nthree\n\nsix\n'],
    ['?tailLines=0', ''],
    ['?limitBytes=6', 'one\ntw'],
    ['?limitBytes=1', 'o'],
    ['?stream=Stdout', 'one\nthree\n\n'],
    ['?stream=Stderr', 'two\nsix\n'],
    ['?stream=All&tailLines=1', 'six\n'],
    ['?sinceTime=2026-11-25T10:00:05Z', '\nsix\n'],
    ['?sinceTime=2026-11-25T12:00:05%2B02:00', '\nsix\n'],
    ['?sinceTime=2099-01-01T00:00:00Z', ''],
    ['?sinceTime=', 'one\ntwo\nthree\n\nsix\n'],
    ['?tailLines=1&timestamps=true', '2026-11-25T10:00:06.500000000Z six\n'],
    ['?tailLines=1&timestamps=false', 'six\n'],
    ['?tailLines=1&timestamps=0', 'six\n'],
    ['?tailLines=1&timestamps=yes&limitBytes=5', '2026-'],
    ['?stream=Stdout&timestamps=1&limitBytes=38', '2026-11-25T10:00:01.500000000Z one\n202'],
    ['?insecureSkipTLSVerifyBackend=true&container=app&tailLines=1', 'six\n'],
  ];
  for (const [query, expected] of cases) {
    const answer = await rig.ask(`${LOGS}${query}`);
    assert.deepEqual([answer.status, answer.body], [200, expected], query);
    assert.equal(answer.headers['transfer-encoding'], 'chunked');
  }
  const parts = await rig.ask(`${LOGS}?timestamps=1&sinceTime=2026-11-25T10:00:03Z&limitBytes=37`);
  assert.equal(parts.body, '2026-11-25T10:00:03.500000000Z three\n');
});

test('sinceSeconds counts from now', async () => {
  await using rig = await withLogs();
  const ago = (seconds: number) => new Date(Date.now() - seconds * 1000).toISOString();
  await writeLog(directory(rig), 0, [`${ago(60)} stdout F old`, `${ago(5)} stdout F new`]);
  assert.equal((await rig.ask(`${LOGS}?sinceSeconds=30`)).body, 'new\n');
  assert.equal((await rig.ask(`${LOGS}?sinceSeconds=90`)).body, 'old\nnew\n');
});

test('options that make no sense are refused as the kubelet does', async () => {
  await using rig = await withLogs();
  await writeLog(directory(rig), 0, [at(1, 'stdout F one')]);
  const invalid = [
    'tailLines=-1',
    'limitBytes=0',
    'limitBytes=-1',
    'sinceSeconds=0',
    'sinceSeconds=5&sinceTime=2026-11-25T10:00:00Z',
    'stream=stdout',
    'stream=',
    'stream=Stdout&tailLines=1',
  ];
  for (const query of invalid) {
    const answer = await rig.ask(`${LOGS}?${query}`);
    assert.equal(answer.status, 422, query);
    assert.match((JSON.parse(answer.body) as { message: string }).message, /^Invalid request/);
  }
  const unreadable = ['tailLines=x', 'tailLines=', 'limitBytes=1e3', 'sinceSeconds=1.5'];
  const more = ['sinceTime=yesterday', 'sinceTime=2026-11-25', 'tailLines=99999999999999999999'];
  for (const query of [...unreadable, ...more]) {
    const answer = await rig.ask(`${LOGS}?${query}`);
    assert.equal(answer.status, 400, query);
    assert.equal(answer.body, '{"message":"Unable to decode query."}');
  }
});

test('a pod, a container or a log that is not there is told apart', async () => {
  await using rig = await withLogs();
  const said = async (path: string): Promise<string> => {
    const { status, body } = await rig.ask(path);
    return `${status} ${body.trim()}`;
  };
  assert.equal(await said('/containerLogs/default/no/app'), '404 pod "no" does not exist');
  assert.equal(await said('/containerLogs/other/web/app'), '404 pod "web" does not exist');
  assert.equal(
    await said('/containerLogs/default/web/no'),
    '404 container "no" not found in pod "web"',
  );
  assert.match(await said(LOGS), /^400 failed to open the log directory .*: ENOENT$/);
  await mkdir(directory(rig), { recursive: true });
  assert.match(await said(LOGS), /^400 there is no log of attempt 0 in the log directory of/);
  assert.match(
    await said(`${LOGS}?previous=true`),
    /^400 previous terminated container "app" in pod "web" not found$/,
  );
});

test('which log is meant follows the status, in the kubelet’s words', () => {
  const ended = { exitCode: 1, reason: 'Error', containerID: 'containerd://old' };
  const of = (over: object, previous = false): unknown => {
    const statuses = [aStatus('app', { restartCount: 3, ...over })];
    const { status } = aReport('web', { statuses });
    try {
      return logOf('web', status, 'app', previous);
    } catch (error) {
      return (error as Error).message.replace('container "app" in pod "web" ', '');
    }
  };
  const now = { containerID: 'containerd://now' };
  assert.deepEqual(of(now), { containerId: 'now', attempt: 3 });
  const again = { ...now, lastState: { terminated: ended } };
  assert.deepEqual(of(again, true), { containerId: 'old', attempt: 2 });
  assert.deepEqual(of({ state: { terminated: ended } }), { containerId: 'old', attempt: 3 });
  const waiting = (reason: string) => ({ state: { waiting: { reason } } });
  const crashing = { ...waiting('CrashLoopBackOff'), lastState: { terminated: ended } };
  assert.deepEqual(of(crashing), { containerId: 'old', attempt: 3 });
  assert.deepEqual(of(crashing, true), { containerId: 'old', attempt: 3 });
  assert.equal(of(waiting('ErrImagePull')), "is waiting to start: image can't be pulled");
  const trying = 'is waiting to start: trying and failing to pull image';
  assert.equal(of(waiting('ImagePullBackOff')), trying);
  assert.equal(of(waiting('PodInitializing')), 'is waiting to start: PodInitializing');
  assert.equal(of({ state: {} }), 'is waiting to start - no logs yet');
  assert.equal(of({ state: { terminated: { exitCode: 1, reason: 'Error' } } }), 'is terminated');
});

test('the previous run, and a run whose container the runtime has forgotten', async () => {
  const lastState = {
    terminated: { exitCode: 1, reason: 'Error', containerID: 'containerd://c0' },
  };
  const status = aStatus('app', { ...running, restartCount: 1, lastState });
  const pods = [aReport('web', { statuses: [status] })];
  await using rig = await createRig(aWorld({ pods, containers: [aContainer({ attempt: 1 })] }));
  await writeLog(directory(rig), 0, [at(1, 'stdout F first')]);
  await writeLog(directory(rig), 1, [at(1, 'stdout F second')]);
  assert.equal((await rig.ask(LOGS)).body, 'second\n');
  assert.equal((await rig.ask(`${LOGS}?previous=true`)).body, 'first\n');
});

test('a log that is followed goes on through rotations and ends with the container', async () => {
  await using rig = await withLogs();
  const path = await writeLog(directory(rig), 0, [at(1, 'stdout F one'), at(2, 'stdout F two')]);
  const seen = await follow(rig, '&tailLines=1');
  await until('the first line', () => seen.text === 'two\n');
  await appendFile(path, `${at(3, 'stdout F three')}\n${at(4, 'stdout P fo')}\n`);
  await until('a new line', () => seen.text === 'two\nthree\nfo');
  await rename(path, `${path}.20261125-100005`);
  await writeFile(path, `${at(5, 'stdout F ur')}\n`);
  await until('a line after rotation', () => seen.text === 'two\nthree\nfour\n');
  await appendFile(path, `${at(6, 'stdout F last')}\n`);
  rig.world.containers = [aContainer({ state: 'CONTAINER_EXITED' })];
  await until('the end', () => seen.ended);
  assert.equal(seen.text, 'two\nthree\nfour\nlast\n');
  // Of a container that has ended already, following is reading.
  const again = await follow(rig);
  await until('the end', () => again.ended);
  assert.equal(again.text, 'one\ntwo\nthree\nfour\nlast\n');
});

test('who follows is not led into the next run', async () => {
  await using rig = await withLogs();
  await writeLog(directory(rig), 0, [at(1, 'stdout F one')]);
  const seen = await follow(rig);
  await until('the first line', () => seen.text === 'one\n');
  await writeLog(directory(rig), 1, [at(2, 'stdout F two')]);
  await until('the end', () => seen.ended);
  assert.equal(seen.text, 'one\n');
});

test('a follower of a silent log gets its head at once, and one that leaves is forgotten', async () => {
  const only = { kubeletStreams: 1 };
  const world = aWorld({ pods: [web], containers: [aContainer()] });
  await using rig = await createRig(world, { only });
  await writeLog(directory(rig), 0, []);
  const seen = await follow(rig);
  assert.equal(seen.response.statusCode, 200);
  const refused = await rig.ask(LOGS);
  assert.equal(refused.status, 429);
  assert.equal(refused.headers['retry-after'], '10');
  assert.equal((await rig.ask('/pods')).status, 200, 'what is no stream still works');
  seen.leave();
  let status = 429;
  for (let i = 0; i < 100 && status === 429; i++) ({ status } = await rig.ask(LOGS));
  assert.equal(status, 200);
});

test('a follower that nothing is said to for too long is cut off, a connection that goes on is not', async () => {
  const world = aWorld({ pods: [web], containers: [aContainer()] });
  await using rig = await createRig(world, { idleMs: 300 });
  await writeLog(directory(rig), 0, [at(1, 'stdout F one')]);
  const socket = await rig.connect(admin);
  socket.setEncoding('latin1');
  for (let i = 0; i < 12; i++) {
    socket.write(`GET ${LOGS} HTTP/1.1\r\nHost: a\r\n\r\n`);
    const [answer] = (await once(socket, 'data')) as [string];
    assert.match(answer, /^HTTP\/1\.1 200 /);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await new Promise((resolve) => setTimeout(resolve, 600));
  assert.equal(socket.destroyed, false);
  socket.destroy();
  const seen = await follow(rig);
  await until('the cut', () => seen.response.destroyed);
  assert.deepEqual([seen.text, seen.ended], ['one\n', false]);
});

test('a client that does not read keeps the log on the disk, not in memory', async () => {
  await using rig = await withLogs();
  const line = at(1, `stdout F ${'x'.repeat(10_000)}`);
  await writeLog(
    directory(rig),
    0,
    Array.from({ length: 5_000 }, () => line),
  );
  const socket = await rig.connect(admin);
  const before = process.memoryUsage();
  socket.write(`GET ${LOGS} HTTP/1.1\r\nHost: a\r\n\r\n`);
  socket.pause();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const { arrayBuffers } = process.memoryUsage();
  assert.ok(arrayBuffers - before.arrayBuffers < 8e6, `${arrayBuffers - before.arrayBuffers}`);
  socket.destroy();
});

test('rotated and packed files are part of the log', async () => {
  await using rig = await withLogs();
  const path = await writeLog(directory(rig), 0, [at(3, 'stdout F three')]);
  await writeFile(`${path}.20261125-100001.gz`, gzipSync(`${at(1, 'stdout F one')}\n`));
  await writeFile(`${path}.20261125-100002`, `${at(2, 'stdout F two')}\n`);
  assert.equal((await rig.ask(LOGS)).body, 'one\ntwo\nthree\n');
  assert.equal((await rig.ask(`${LOGS}?tailLines=2`)).body, 'two\nthree\n');
});

test('a link in place of a log, its directory or its pod’s directory leads nowhere', async () => {
  await using rig = await withLogs();
  const secret = await writeLog(join(rig.logs, 'secret'), 0, [at(1, 'stdout F canary')]);
  const inside = directory(rig);
  await mkdir(inside, { recursive: true });
  const tries = async (what: string): Promise<void> => {
    for (const query of ['', '?follow=1', '?tailLines=1']) {
      const answer = await rig.ask(`${LOGS}${query}`);
      assert.equal(answer.status, 400, what);
      assert.ok(!answer.body.includes('canary'), what);
    }
  };
  await symlink(secret, join(inside, '0.log'));
  await tries('file');
  await rm(inside, { recursive: true });
  await symlink(join(rig.logs, 'secret'), inside);
  await tries('directory');
  await rm(join(rig.logs, 'default_web_uid-web'), { recursive: true });
  await mkdir(join(rig.logs, 'other', 'app'), { recursive: true });
  await writeLog(join(rig.logs, 'other', 'app'), 0, [at(1, 'stdout F canary')]);
  await symlink(join(rig.logs, 'other'), join(rig.logs, 'default_web_uid-web'));
  await tries('pod');
});

test('a log that becomes a link while it is followed cuts the answer off', async () => {
  await using rig = await withLogs();
  const secret = await writeLog(join(rig.logs, 'secret'), 0, [at(1, 'stdout F canary')]);
  const path = await writeLog(directory(rig), 0, [at(1, 'stdout F one')]);
  const seen = await follow(rig);
  await until('the first line', () => seen.text === 'one\n');
  await rename(path, `${path}.20261125-100001`);
  await symlink(secret, path);
  await until('the cut', () => seen.response.destroyed);
  assert.equal(seen.ended, false);
  assert.equal(seen.text, 'one\n');
});
