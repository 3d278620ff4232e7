import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { Failure } from '../../src/base/failure.ts';
import type { KubeletLimits, KubeletOptions } from '../../src/server/kubelet.ts';
import { aReport } from './canned.ts';
import {
  aContainer,
  admin,
  aSandbox,
  aWorld,
  createRig,
  type Rig,
  type World,
} from './kubelet-rig.ts';
import { createStreamingServer, SWITCHING, type StreamingServer } from './streaming-server.ts';

const EXEC = '/exec/default/web/app?command=sh&command=-c&command=a%20b&input=1&output=1&error=1';
const SPDY = ['Connection: Upgrade', 'Upgrade: SPDY/3.1'];
const WEBSOCKET = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];

type Over = Partial<KubeletOptions> & { readonly only?: Partial<KubeletLimits> };

async function withStreams(
  over: Partial<World> = {},
  options: Over = {},
): Promise<Rig & { readonly runtime: StreamingServer }> {
  const runtime = await createStreamingServer();
  const pods = [aReport('web')];
  const world = aWorld({ pods, sandboxes: [aSandbox()], containers: [aContainer()], ...over });
  world.streamUrl = over.streamUrl ?? runtime.url;
  const rig = await createRig(world, options);
  return {
    ...rig,
    runtime,
    [Symbol.asyncDispose]: async () => {
      await rig[Symbol.asyncDispose]();
      await runtime[Symbol.asyncDispose]();
    },
  };
}

type Client = {
  readonly socket: TLSSocket;
  readonly seen: () => Buffer;
  readonly text: () => string;
  readonly closed: Promise<unknown>;
};

/** Sends a request's head, and `rest` in the same write. */
async function send(
  rig: Rig,
  method: string,
  path: string,
  headers: readonly string[],
  rest: Buffer | string = '',
): Promise<Client> {
  const socket = await rig.connect(admin);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = once(socket, 'close');
  const head = [`${method} ${path} HTTP/1.1`, 'Host: pi-1:10250', ...headers, '', ''].join('\r\n');
  socket.write(Buffer.concat([Buffer.from(head), Buffer.from(rest)]));
  const seen = (): Buffer => Buffer.concat(chunks);
  return { socket, seen, text: () => seen().toString('latin1'), closed };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never: ${what}`);
}

test('an exec over SPDY is handed through byte for byte, both ways', async () => {
  await using rig = await withStreams();
  const { runtime } = rig;
  const answerHead = `${SWITCHING}X-Stream-Protocol-Version: v4.channel.k8s.io\r\nupgrade: SPDY/3.1\r\nConnection: Upgrade\r\n\r\n`;
  const [up, down] = [Buffer.alloc(3_000_000), Buffer.alloc(3_000_000)];
  [up, down].forEach((buffer) => randomFillSync(buffer));
  runtime.answer = (socket) => {
    socket.write(Buffer.concat([Buffer.from(answerHead), Buffer.from('first')]));
    socket.write(down);
  };
  const headers = [
    ...SPDY,
    'X-Stream-Protocol-Version: v4.channel.k8s.io',
    'X-Stream-Protocol-Version: v3.channel.k8s.io',
    'Authorization: Bearer canary',
    'Cookie: canary',
    'Content-Length: 0',
  ];
  const client = await send(rig, 'POST', EXEC, headers, 'early');
  client.socket.write(up);
  await until('all of it', () => client.seen().length === answerHead.length + 5 + down.length);
  assert.equal(client.text().slice(0, answerHead.length), answerHead);
  const expected = Buffer.concat([Buffer.from('first'), down]);
  assert.ok(client.seen().subarray(answerHead.length).equals(expected));
  await until('the other way', () => runtime.bytes().length === 5 + up.length);
  assert.ok(runtime.bytes().equals(Buffer.concat([Buffer.from('early'), up])));
  const [host] = /127\.0\.0\.1:\d+/.exec(runtime.url)!;
  assert.equal(
    runtime.heads[0],
    ['POST /exec/token HTTP/1.1', `Host: ${host}`, ...headers.slice(0, 4), 'Content-Length: 0']
      .map((line) => `${line}\r\n`)
      .join('') + '\r\n',
  );
  assert.deepEqual(
    rig.world.asked.at(-1),
    `exec ${JSON.stringify({
      containerId: 'container-1',
      cmd: ['sh', '-c', 'a b'],
      stdin: true,
      stdout: true,
      stderr: true,
      tty: false,
    })}`,
  );
  runtime.sockets[0]!.end('bye');
  await client.closed;
  assert.ok(client.text().endsWith('bye'));
});

test('WebSocket channels of versions 4 and 5 are handed through, and so is a refusal', async () => {
  await using rig = await withStreams();
  const { runtime } = rig;
  for (const version of ['v4.channel.k8s.io', 'v5.channel.k8s.io']) {
    const protocol = `Sec-WebSocket-Protocol: ${version}`;
    runtime.answer = (socket) => {
      const lines = ['Upgrade: websocket', 'Connection: Upgrade', protocol];
      socket.write(`${SWITCHING}${lines.join('\r\n')}\r\n\r\n`);
      socket.on('data', (frame) => socket.write(frame));
    };
    const client = await send(rig, 'GET', EXEC, [...WEBSOCKET, protocol]);
    await until('the agreement', () => client.text().includes(`${protocol}\r\n\r\n`));
    const frame = Buffer.from([0x82, 0x85, 1, 2, 3, 4, 1, 105, 103, 104, 107]);
    client.socket.write(frame);
    await until('the echo', () => client.seen().subarray(-frame.length).equals(frame));
    assert.match(runtime.heads.at(-1)!, new RegExp(`^GET /exec/token HTTP/1.1\r\n[^]*${protocol}`));
    client.socket.destroy();
  }
  await until('the runtime learns that they left', () => runtime.sockets.every((s) => s.destroyed));
  runtime.answer = (socket) => socket.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
  const refused = await send(rig, 'GET', EXEC, WEBSOCKET);
  await refused.closed;
  assert.match(refused.text(), /^HTTP\/1\.1 403 Forbidden\r\n[^]*Connection: close\r\n\r\nno$/);
});

test('attach and port-forward ask the runtime for what the request says', async () => {
  const pods = [aReport('web')];
  (pods[0]!.pod.spec.containers[0] as { tty?: boolean }).tty = true;
  const sandboxes = [
    aSandbox(),
    aSandbox({ id: 'newer', metadata: { ...aSandbox().metadata, attempt: 1 } }),
    aSandbox({
      id: 'dead',
      state: 'SANDBOX_NOTREADY',
      metadata: { ...aSandbox().metadata, attempt: 2 },
    }),
  ];
  await using rig = await withStreams({ pods, sandboxes });
  const asked = async (path: string, headers = SPDY): Promise<string> => {
    const client = await send(rig, 'POST', path, headers);
    await until('an answer', () => client.seen().length > 0);
    client.socket.destroy();
    return rig.world.asked.filter((line) => !line.startsWith('access')).at(-1) ?? '';
  };
  const streams = { stdin: false, stdout: true, stderr: true, tty: true };
  assert.equal(
    await asked('/attach/default/web/app?output=1&error=1'),
    `attach ${JSON.stringify({ containerId: 'container-1', ...streams })}`,
  );
  assert.equal(await asked('/portForward/default/web'), 'portForward newer ');
  assert.equal(await asked('/portForward/default/web/uid-web?port=1'), 'portForward newer ');
  const ports = '/portForward/default/web?port=80&port=443,8080';
  assert.equal(await asked(ports, WEBSOCKET), 'portForward newer 80,443,8080');
  const tty = { containerId: 'container-1', cmd: ['sh'], stdin: true, stdout: true };
  assert.equal(
    await asked('/exec/default/web/uid-web/app?command=sh&input=1&output=1&error=1&tty=1'),
    `exec ${JSON.stringify({ ...tty, stderr: false, tty: true })}`,
  );
});

test('what can’t be streamed is refused with a status, and the connection is closed', async () => {
  await using rig = await withStreams();
  const status = async (path: string, headers = SPDY, method = 'POST'): Promise<string> => {
    const client = await send(rig, method, path, headers, 'GET /pods HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.closed;
    assert.equal(client.text().match(/HTTP\/1\.1/g)?.length, 1, 'nothing is read behind it');
    assert.ok(!/location:/i.test(client.text()));
    return client.text().slice(9, 12);
  };
  const cases: readonly (readonly [string, string])[] = [
    ['/exec/default/web/app?command=a', '400'],
    ['/exec/default/web/app?command=a&output=true', '400'],
    ['/attach/default/web/app', '400'],
    ['/exec/default/no/app?output=1', '404'],
    ['/exec/default/web/no?output=1', '404'],
    ['/exec/default/web/other-uid/app?output=1', '404'],
    ['/portForward/default/no', '404'],
    ['/portForward/default/web/other-uid', '404'],
  ];
  for (const [path, expected] of cases) assert.equal(await status(path), expected, path);
  for (const query of ['', '?port=', '?port=0', '?port=65536', '?port=1,,2', '?port=0x50']) {
    const found = await status(`/portForward/default/web${query}`, WEBSOCKET, 'GET');
    assert.equal(found, '400', query);
  }
  const plain = await rig.ask(EXEC, { method: 'POST' });
  assert.deepEqual([plain.status, plain.body], [400, 'Upgrade request required\n']);
  const withBody = await rig.ask(EXEC, {
    method: 'POST',
    headers: { connection: 'Upgrade', upgrade: 'SPDY/3.1' },
    body: 'x',
  });
  assert.equal(withBody.status, 400);
  rig.world.sandboxes = [];
  assert.equal(await status('/portForward/default/web'), '404');
  for (const [code, expected] of [
    ['NotFound', '404'],
    ['InvalidArgument', '400'],
    ['Unavailable', '500'],
    ['ResourceExhausted', '429'],
  ] as const) {
    rig.world.streamUrl = new Failure(code, 'said the runtime');
    assert.equal(await status(EXEC), expected, code);
  }
  assert.equal(rig.runtime.heads.length, 0);
});

test('a streaming server that is not on this machine is not connected', async () => {
  await using rig = await withStreams();
  const urls = [
    'http://192.0.2.1:8000/exec/t',
    'http://localhost:8000/exec/t',
    'http://127.0.0.1.example.com:80/x',
    'http://[::ffff:192.0.2.1]:8000/exec/t',
    'https://127.0.0.1:8000/exec/t',
    'http://127.0.0.1/exec/t',
    'file:///etc/passwd',
    'rubbish',
    '',
  ];
  for (const url of urls) {
    rig.world.streamUrl = url;
    const client = await send(rig, 'POST', EXEC, SPDY);
    await client.closed;
    assert.match(client.text(), /^HTTP\/1\.1 500 [^]*limpet takes only plain http/, url);
    assert.ok(!client.text().includes('exec/t'), 'its token is not told');
  }
});

test('any other answer than 101 is an error, never a redirect and never a second request', async () => {
  await using rig = await withStreams();
  const { runtime } = rig;
  const answers: readonly (readonly [string, RegExp])[] = [
    [
      'HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n',
      /^HTTP\/1\.1 500 /,
    ],
    ['HTTP/1.1 307 Temporary\r\nLocation: http://evil/\r\n\r\n', /^HTTP\/1\.1 500 /],
    ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok', /^HTTP\/1\.1 500 [^]*status code 200$/],
    ['HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone', /^HTTP\/1\.1 404 [^]*gone$/],
    ['rubbish\r\n\r\n', /^HTTP\/1\.1 500 /],
    [`${SWITCHING}X: ${'x'.repeat(100_000)}\r\n\r\n`, /^HTTP\/1\.1 500 /],
    ['', /^HTTP\/1\.1 500 /],
  ];
  for (const [answer, expected] of answers) {
    runtime.answer = (socket) => socket.end(answer);
    const client = await send(rig, 'POST', EXEC, SPDY, 'GET /pods HTTP/1.1\r\nHost: a\r\n\r\n');
    await client.closed;
    assert.match(client.text(), expected, answer.slice(0, 40));
    assert.ok(!client.text().includes('evil'), answer.slice(0, 40));
    assert.equal(client.text().match(/HTTP\/1\.1/g)?.length, 1);
    assert.equal(runtime.bytes().length, 0, 'nothing behind the request goes to the runtime');
  }
  runtime.answer = (socket) => socket.end(`HTTP/1.1 500 X\r\n\r\n${'x'.repeat(1e6)}`);
  const long = await send(rig, 'POST', EXEC, SPDY);
  await long.closed;
  assert.ok(long.seen().length < 20_000, `${long.seen().length}`);
  const gone = createServer().listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as { port: number };
  gone.close();
  rig.world.streamUrl = `http://127.0.0.1:${port}/exec/t`;
  const refused = await send(rig, 'POST', EXEC, SPDY);
  await refused.closed;
  assert.match(refused.text(), /^HTTP\/1\.1 500 [^]*ECONNREFUSED/);
});

test('a stream that is silent for too long is closed, one that talks is not', async () => {
  await using rig = await withStreams({}, { idleMs: 300 });
  const client = await send(rig, 'POST', EXEC, SPDY);
  await until('the agreement', () => client.text().startsWith(SWITCHING));
  for (let i = 0; i < 8; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    client.socket.write('still here');
  }
  assert.equal(client.socket.destroyed, false);
  await client.closed;
  await until('the runtime learns it', () => rig.runtime.sockets[0]!.destroyed);
});

test('there are only so many streams, and an ended one makes room', async () => {
  await using rig = await withStreams({}, { only: { kubeletStreams: 2 } });
  const two = [await send(rig, 'POST', EXEC, SPDY), await send(rig, 'POST', EXEC, SPDY)];
  for (const { text } of two) await until('the agreement', () => text().startsWith(SWITCHING));
  const third = await send(rig, 'POST', EXEC, SPDY);
  await third.closed;
  assert.match(third.text(), /^HTTP\/1\.1 429 Too Many Requests\r\n[^]*retry-after: 10/);
  two[0]!.socket.destroy();
  await until('the end of it', () => rig.runtime.sockets[0]!.destroyed);
  const fourth = await send(rig, 'POST', EXEC, SPDY);
  await until('the agreement', () => fourth.text().startsWith(SWITCHING));
});

test('a client that does not read holds the runtime up, not the memory', async () => {
  await using rig = await withStreams();
  let written = 0;
  rig.runtime.answer = (socket) => {
    socket.write(`${SWITCHING}Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n`);
    const more = (): void => {
      while (written < 200e6 && socket.write(Buffer.alloc(65536))) written += 65536;
    };
    socket.on('drain', more);
    more();
  };
  const client = await send(rig, 'POST', EXEC, SPDY);
  client.socket.pause();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.ok(written < 40e6, `${written}`);
  client.socket.destroy();
});

test('the end of the server is the end of its streams', async () => {
  const rig = await withStreams();
  const client = await send(rig, 'POST', EXEC, SPDY);
  await until('the agreement', () => client.text().startsWith(SWITCHING));
  await rig[Symbol.asyncDispose]();
  await client.closed;
});
