import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { openLibc, socketAddress } from '../../src/linux/libc.ts';
import { createNotifier } from '../../src/linux/notify.ts';

const dir = mkdtempSync(join(tmpdir(), 'limpet-notify-'));
after(() => rmSync(dir, { recursive: true }));

/** A datagram socket, which Node has not got, that prints what it is sent. */
async function listen(address: string, count: number): Promise<[ChildProcess, Promise<string[]>]> {
  const program =
    'import socket,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n' +
    's.bind(sys.argv[1].replace("@","\\0",1))\nprint("bound",flush=True)\n' +
    'for i in range(int(sys.argv[2])): print(s.recv(4096).decode(),flush=True)';
  const child = spawn('python3', ['-c', program, address, String(count)]);
  let text = '';
  const ended = new Promise<string[]>((resolve) =>
    child.on('close', () => resolve(text.trimEnd().split('\n').slice(1))),
  );
  await new Promise<void>((resolve) =>
    child.stdout.on('data', (chunk) => {
      text += String(chunk);
      resolve();
    }),
  );
  return [child, ended];
}

for (const [kind, address] of [
  ['a path', join(dir, 'notify')],
  ['an abstract address', `@limpet-test-${process.pid}`],
] as const) {
  test(`messages reach ${kind}`, { timeout: 10_000 }, async () => {
    const [child, received] = await listen(address, 4);
    try {
      const warnings: string[] = [];
      const env = { NOTIFY_SOCKET: address, WATCHDOG_USEC: '60000000' };
      const notifier = createNotifier(env, process.pid, openLibc, (text) => warnings.push(text));
      notifier.ready();
      notifier.status('10 pods,\nall is well');
      notifier.watchdog();
      notifier.stopping();
      assert.equal(notifier.watchdogMs, 60_000);
      assert.deepEqual(await received, [
        'READY=1',
        'STATUS=10 pods, all is well',
        'WATCHDOG=1',
        'STOPPING=1',
      ]);
      assert.deepEqual(warnings, []);
    } finally {
      child.kill();
    }
  });
}

test('without a socket nothing is loaded, sent or said', () => {
  const notifier = createNotifier(
    {},
    1,
    () => assert.fail('loaded'),
    () => assert.fail('warned'),
  );
  notifier.ready();
  assert.equal(notifier.watchdogMs, undefined);
});

test('a watchdog that is meant for another process is not ours', () => {
  const env = { NOTIFY_SOCKET: '@x', WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' };
  assert.equal(createNotifier(env, 2, openLibc, () => undefined).watchdogMs, undefined);
  assert.equal(createNotifier(env, 1, openLibc, () => undefined).watchdogMs, 1);
});

test('a dead socket and a missing libc are told once', () => {
  const warnings: string[] = [];
  const dead = createNotifier({ NOTIFY_SOCKET: join(dir, 'none') }, 1, openLibc, (text) =>
    warnings.push(text),
  );
  dead.ready();
  dead.watchdog();
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /took no message/);
  createNotifier(
    { NOTIFY_SOCKET: '@x' },
    1,
    () => undefined,
    (text) => warnings.push(text),
  ).ready();
  assert.equal(warnings.length, 2);
  assert.match(warnings[1]!, /Type=exec/);
});

test('addresses of sockets', () => {
  assert.deepEqual(socketAddress('/a'), Buffer.from('\x01\0/a\0', 'latin1'));
  assert.deepEqual(socketAddress('@a'), Buffer.from('\x01\0\0a', 'latin1'));
  assert.equal(socketAddress('vsock:2:1'), undefined);
  assert.equal(socketAddress('/a\0b'), undefined);
  assert.equal(socketAddress(`/${'a'.repeat(107)}`), undefined);
});

test('loading ffi prints no warning, and other warnings still come', () => {
  const program =
    `import { openLibc } from ${JSON.stringify(join(import.meta.dirname, '../../src/linux/libc.ts'))};` +
    'const libc = openLibc(); libc.trimHeap(); process.emitWarning("another");';
  const { stderr, status } = spawnSync(
    process.execPath,
    ['--input-type=module', '--eval', program],
    { encoding: 'utf8' },
  );
  assert.equal(status, 0, stderr);
  assert.match(stderr, /Warning: another/);
  assert.doesNotMatch(stderr, /Experimental/);
});
