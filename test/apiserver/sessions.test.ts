/** All shares one connection where the server speaks HTTP/2, and works where it does not. */
import assert from 'node:assert/strict';
import net, { type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import type { ApiClient } from '../../src/apiserver/client.ts';
import type { Failure } from '../../src/base/failure.ts';
import { createPeer, json, plainCredentials, refuse, SERVER, until, type Peer } from './peer.ts';

type Watch = {
  readonly heard: string[];
  readonly ended: Promise<Failure | undefined>;
  abort(): void;
};

function watch(client: ApiClient, name: string, silenceMs = 10_000, openMs = 10_000): Watch {
  const heard: string[] = [];
  const controller = new AbortController();
  const ended = client
    .stream(
      { method: 'GET', path: `/${name}` },
      {
        ...{ signal: controller.signal, openMs, silenceMs },
        onOpen: () => heard.push('open'),
        onData: (chunk) => heard.push(chunk.toString('utf8')),
      },
    )
    .then(
      () => undefined,
      (error: unknown) => error as Failure,
    );
  return { heard, ended, abort: () => controller.abort() };
}

function openAll(peer: Peer): void {
  peer.answer = ({ response, url }) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write(`hello ${url.pathname}`);
  };
}

const opened = (watches: readonly Watch[]) => watches.every(({ heard }) => heard.length > 1);

test('thirty watches and what is asked beside them take one connection', async () => {
  await using peer = await createPeer();
  openAll(peer);
  const client = peer.client();
  const watches = Array.from({ length: 30 }, (_, n) => watch(client, `w${n}`));
  await until(() => opened(watches), 'all open');
  assert.equal(peer.accepted, 1);
  assert.deepEqual(watches[7]?.heard, ['open', 'hello /w7']);
  assert.equal(peer.calls[0]?.request.httpVersion, '2.0');
  assert.equal(peer.calls[0]?.user, 'system:node:pi1');
  peer.answer = ({ response, request }) => json(response, { kind: request.httpVersion });
  const answer = await client.json({ method: 'GET', path: '/x' }, call(10_000));
  assert.equal(answer['kind'], '2.0');
  assert.equal(peer.accepted, 1);
  watches.forEach(({ abort }) => abort());
  const ends = await Promise.all(watches.map(({ ended }) => ended));
  assert.ok(ends.every((end) => end?.code === 'Cancelled'));
});

test('a server that speaks HTTP/1.1 alone has it so, and no connection is wasted', async () => {
  await using peer = await createPeer(SERVER, { onlyHttp1: true });
  openAll(peer);
  const client = peer.client();
  const watches = Array.from({ length: 3 }, (_, n) => watch(client, `w${n}`));
  await until(() => opened(watches), 'all open');
  assert.equal(peer.accepted, 3);
  assert.equal(peer.calls[0]?.request.httpVersion, '1.1');
  peer.calls[0]?.response.end();
  assert.equal(await watches[0]!.ended, undefined);
});

test('more watches than the server takes on one connection get more connections', async () => {
  await using peer = await createPeer(SERVER, { settings: { maxConcurrentStreams: 2 } });
  openAll(peer);
  const client = peer.client();
  const watches = Array.from({ length: 5 }, (_, n) => watch(client, `w${n}`));
  await until(() => opened(watches), 'all open');
  assert.equal(peer.accepted, 3);
  watches.slice(0, 2).forEach(({ abort }) => abort());
  await Promise.all(watches.slice(0, 2).map(({ ended }) => ended));
  // Node's server counts them for a moment longer.
  await pause(50);
  const again = [watch(client, 'a'), watch(client, 'b')];
  await until(() => opened(again), 'open in the places that are free');
  assert.equal(peer.accepted, 3);
});

test('after silence nothing new goes over that connection; what is on it goes on', async () => {
  await using peer = await createPeer();
  openAll(peer);
  const client = peer.client();
  const good = watch(client, 'good');
  await until(() => opened([good]), 'open');
  const silent = watch(client, 'silent', 50);
  assert.equal((await silent.ended)?.code, 'DeadlineExceeded');
  const next = watch(client, 'next');
  await until(() => opened([next]), 'open');
  assert.equal(peer.accepted, 2);
  peer.calls[0]?.response.write('more');
  await until(() => good.heard.includes('more'), 'more');
  good.abort();
  await until(() => peer.sockets.size === 1, 'the old connection is closed when nobody needs it');
});

test('a connection that breaks ends all that is on it, and the next one is new', async () => {
  await using peer = await createPeer();
  openAll(peer);
  const client = peer.client();
  const watches = [watch(client, 'a'), watch(client, 'b')];
  await until(() => opened(watches), 'open');
  peer.drop();
  for (const { ended } of watches) assert.equal((await ended)?.code, 'Unavailable');
  const next = watch(client, 'next');
  await until(() => opened([next]), 'open');
  assert.equal(peer.accepted, 2);
});

test('a server that says goodbye is left when its streams have ended', async () => {
  await using peer = await createPeer();
  openAll(peer);
  const client = peer.client();
  const old = watch(client, 'old');
  await until(() => opened([old]), 'open');
  const { stream } = peer.calls[0]!.response as unknown as import('node:http2').Http2ServerResponse;
  stream.session?.goaway();
  await pause(20);
  const next = watch(client, 'next');
  await until(() => opened([next]), 'open');
  assert.equal(peer.accepted, 2);
  peer.calls[0]?.response.end('the end');
  assert.equal(await old.ended, undefined);
  assert.equal(old.heard.at(-1), 'the end');
});

test('a stream that the server cuts is no end in order', async () => {
  await using peer = await createPeer();
  peer.answer = ({ response }) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write('half');
    const { stream } = response as unknown as import('node:http2').Http2ServerResponse;
    setTimeout(() => stream.close(2), 20);
  };
  const cut = watch(peer.client(), 'x');
  assert.equal((await cut.ended)?.code, 'Unavailable');
});

test('refusals and strangers are known over HTTP/2 as well', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  peer.answer = ({ response }) => refuse(response, 403, 'Forbidden', 'not yours');
  const refused = await watch(client, 'x').ended;
  assert.equal(refused?.code, 'PermissionDenied');
  assert.match(refused?.message ?? '', /not yours/);
  peer.answer = ({ response }) => {
    response.writeHead(200, { 'content-type': 'text/html' });
    response.end('<html>');
  };
  assert.match((await watch(client, 'x').ended)?.message ?? '', /web page/);
});

test('much for one watch does not hold up another', async () => {
  await using peer = await createPeer();
  openAll(peer);
  const client = peer.client();
  const [big, small] = [watch(client, 'big'), watch(client, 'small')];
  await until(() => opened([big, small]), 'open');
  const response = (path: string) => peer.calls.find(({ url }) => url.pathname === path)!.response;
  response('/big').write('x'.repeat(8_000_000));
  response('/small').write('quick');
  await until(() => small.heard.includes('quick'), 'quick');
  const length = () => big.heard.reduce((sum, chunk) => sum + chunk.length, 0);
  await until(() => length() > 8_000_000, 'all of it');
});

test('a server that never ends its handshake is given up, and asked anew the next time', async () => {
  const sockets = new Set<net.Socket>();
  const mute = net.createServer((socket) => sockets.add(socket));
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  await using peer = await createPeer();
  const { port } = mute.address() as AddressInfo;
  const credentials = plainCredentials(`https://127.0.0.1:${port}`);
  const client = peer.client({ credentials });
  const both = [watch(client, 'a', 1000, 50), watch(client, 'b', 1000, 60)];
  for (const { ended } of both)
    assert.match((await ended)?.code ?? '', /DeadlineExceeded|Unavailable/);
  assert.equal(sockets.size, 1);
  assert.equal((await watch(client, 'c', 1000, 50).ended)?.code, 'DeadlineExceeded');
  assert.equal(sockets.size, 2);
  const given = watch(client, 'd', 1000, 10_000);
  await pause(20);
  given.abort();
  assert.equal((await given.ended)?.code, 'Cancelled');
  client.close();
  sockets.forEach((socket) => socket.destroy());
  await new Promise((resolve) => mute.close(resolve));
});

function call(deadlineMs: number) {
  return { signal: new AbortController().signal, deadlineMs };
}
