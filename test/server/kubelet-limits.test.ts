import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import { LIMITS } from '../../src/base/limits.ts';
import { seededRandom } from '../../src/base/random.ts';
import { admin, aWorld, createRig, type Rig } from './kubelet-rig.ts';

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function silent(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  // Who does not read does not notice that the other side has closed.
  return socket.resume();
}

/** Sends `bytes` after a handshake and returns what comes until the server closes. */
async function exchange(rig: Rig, bytes: string | Buffer): Promise<string> {
  const socket = await rig.connect(admin);
  let text = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
  socket.write(bytes);
  await once(socket, 'close');
  return text;
}

test('a head of the largest size is read, a larger one is a 431', async () => {
  await using rig = await createRig();
  const head = (bytes: number): string => {
    const start = 'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ';
    return `${start}${'x'.repeat(bytes - start.length - 4)}\r\n\r\n`;
  };
  const most = LIMITS.kubeletHeaderBytes;
  assert.match(await exchange(rig, head(most - 100)), /^HTTP\/1\.1 200 /);
  assert.match(await exchange(rig, head(most + 100)), /^HTTP\/1\.1 431 /);
  const path = `GET /exec/a/b/c?command=${'x'.repeat(most)} HTTP/1.1\r\nHost: a\r\n\r\n`;
  assert.match(await exchange(rig, path), /^HTTP\/1\.1 431 /);
});

test('who is slow is cut off: in the handshake, in the head, between requests', async () => {
  const only = { kubeletHandshakeMs: 500, kubeletHeadersMs: 600, kubeletIdleMs: 400 };
  await using rig = await createRig(aWorld(), { only });
  const handshake = silent(rig.server.port);
  const half = silent(rig.server.port);
  half.write(Buffer.from('16030100c8010000c40303', 'hex'));
  const mute = await rig.connect();
  mute.resume();
  const slow = await rig.connect(admin);
  let said = '';
  slow.setEncoding('latin1').on('data', (chunk: string) => (said += chunk));
  slow.write('GET /healthz HTTP/1.1\r\nHost: a\r\nX-');
  const drip = setInterval(() => slow.write('x'), 50);
  const idle = await rig.connect(admin);
  idle.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  idle.resume();
  await Promise.all([handshake, half, mute, slow, idle].map((socket) => once(socket, 'close')));
  clearInterval(drip);
  assert.match(said, /^HTTP\/1\.1 408 /);
});

test('of those who have not said who they are the oldest gives way, others stay', async () => {
  await using rig = await createRig();
  const { port } = rig.server;
  const known = await rig.connect(admin);
  known.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(known, 'data');
  const strangers = Array.from({ length: 500 }, () => silent(port));
  const open = () => strangers.filter(({ destroyed }) => !destroyed).length;
  for (let i = 0; i < 200 && open() > LIMITS.kubeletStrangers; i++) await pause(50);
  assert.equal(open(), LIMITS.kubeletStrangers);
  assert.equal((await rig.ask('/healthz')).status, 200, 'a newcomer gets in');
  known.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(known, 'data');
  for (const socket of [...strangers, known]) socket.destroy();
});

test('there are only so many connections', async () => {
  await using rig = await createRig(aWorld(), { only: { kubeletConnections: 3 } });
  const three = await Promise.all([1, 2, 3].map(() => rig.connect(admin)));
  const fourth = silent(rig.server.port);
  await once(fourth, 'close');
  three[0]!.destroy();
  await pause(50);
  assert.equal((await rig.ask('/healthz')).status, 200);
  for (const socket of three) socket.destroy();
});

test('a second request while the first is under way ends the connection', async () => {
  await using rig = await createRig();
  const one = 'GET /configz HTTP/1.1\r\nHost: a\r\n\r\n';
  assert.equal(await exchange(rig, one.repeat(1000)), '');
  const upgrade =
    'POST /exec/a/b/c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n';
  assert.equal(await exchange(rig, one + upgrade), '');
  assert.ok(rig.world.asked.length <= 2, rig.world.asked.join());
});

test('bytes of all kinds do not end the process', async () => {
  await using rig = await createRig();
  const random = seededRandom(20261125);
  const below = (most: number): number => Math.floor(random.next() * most);
  const noise = (): Buffer => Buffer.from(Array.from({ length: below(400) }, () => below(256)));
  const upgrade = 'Host: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n';
  const starts = [
    '',
    'GET /healthz HTTP/1.1\r\n',
    'GET /healthz HTTP/1.1\r\nHost: a\r\n__proto__: x\r\nconstructor: y\r\n\r\n',
    'POST /pods HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n',
    'POST /pods HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n',
    'GET /containerLogs/default/%E0%A4%A/x?tailLines=%zz HTTP/1.1\r\nHost: a\r\n\r\n',
    `POST /exec/a/b/c?input=1 HTTP/1.1\r\n${upgrade}\r\n`,
    `GET /portForward/a/b?port=1 HTTP/1.1\r\n${upgrade}Expect: 100-continue\r\n`,
    'CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: a\r\n\r\n',
    'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n',
    'GET http://evil/pods HTTP/1.1\r\nHost: a\r\nExpect: nonsense\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'GET /pods HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \u00e9\u0000\r\n\r\n',
  ];
  const hello = Buffer.from('1603010200010001fc0303', 'hex');
  const plain = async (): Promise<void> => {
    const socket = silent(rig.server.port);
    const start = [hello, Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(0)][below(3)]!;
    socket.resume().end(Buffer.concat([start, noise()]));
    if (!socket.destroyed) await once(socket, 'close');
  };
  const inside = async (as: typeof admin | undefined): Promise<void> => {
    const options = { host: '127.0.0.1', port: rig.server.port, rejectUnauthorized: false, ...as };
    const socket = connectTls(options);
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk));
    socket.on('error', () => undefined);
    const start = starts[below(starts.length)]!;
    socket.end(Buffer.concat([Buffer.from(start, 'latin1'), noise()]));
    if (!socket.destroyed) await once(socket, 'close');
    assert.ok(!/HTTP\/1\.1 3\d\d/.test(text), text);
  };
  for (let round = 0; round < 40; round++) {
    const batch = Array.from({ length: 30 }, plain);
    batch.push(...Array.from({ length: 10 }, (_, at) => inside(at % 2 === 0 ? admin : undefined)));
    await Promise.all(batch);
  }
  assert.equal((await rig.ask('/healthz')).status, 200);
  assert.ok(!rig.lines.some((line) => line.startsWith('ERROR')), rig.lines.join(''));
});

test('10,000 slow and half-open requests cost less than 20 MiB', async (t) => {
  // As the agent is shipped, and with the heap that V8 takes on a board of 1 GB: the more memory a
  // machine has, the more garbage V8 lets lie about.
  const flags = ['--max-semi-space-size=1', '--max-old-space-size=256', '--expose-gc'];
  const shipped = [...flags, join(import.meta.dirname, 'kubelet-process.ts')];
  const child = spawn(process.execPath, shipped, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, MALLOC_ARENA_MAX: '1' },
  });
  t.after(() => child.stdin.end());
  const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
  const { port, healthzPort } = JSON.parse(line) as { port: number; healthzPort: number };
  const rss = (): number => {
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024;
  };
  const healthy = async (): Promise<void> => {
    const sent = request({ host: '127.0.0.1', port: healthzPort, path: '/healthz', agent: false });
    sent.end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    assert.equal(response.resume().statusCode, 200);
  };
  const open: Socket[] = [];
  const keep = (socket: Socket): void => {
    socket.on('error', () => undefined);
    open.push(socket);
    if (open.length > 400) open.shift()?.destroy();
  };
  const head = 'GET /pods HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nX: ';
  const tls = async (bytes: string): Promise<void> => {
    const socket = connectTls({ host: '127.0.0.1', port, rejectUnauthorized: false });
    keep(socket);
    await Promise.race([once(socket, 'secureConnect'), once(socket, 'close')]).catch(() => 0);
    if (!socket.destroyed && bytes !== '') socket.write(bytes);
  };
  const wave = async (): Promise<void> => {
    const waves = Array.from({ length: 100 }, async (_, at) => {
      if (at < 3) return await tls(['', head, `${head}${'x'.repeat(60_000)}`][at]!);
      const socket = silent(port);
      keep(socket);
      if (at % 2 === 0) socket.write(Buffer.from('1603010200010001fc0303', 'hex'));
      await Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => 0);
    });
    await Promise.all(waves);
  };
  // Once through everything, so that code and pools are loaded that any load would load.
  await wave();
  await healthy();
  child.stdin.write('rest\n');
  await once(child.stdout, 'data');
  const before = rss();
  let most = 0;
  for (let count = 0; count < 100; count++) {
    await wave();
    most = Math.max(most, rss());
  }
  await healthy();
  t.diagnostic(`grew by ${((most - before) / 1048576).toFixed(1)} MiB from ${before / 1048576}`);
  assert.ok(most - before < 20 * 1048576, `${most - before}`);
  for (const socket of open) socket.destroy();
});
