import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';

import { systemClock } from '../../src/base/clock.ts';
import { Failure, type FailureCode } from '../../src/base/failure.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Channel, type Method } from '../../src/cri/channel.ts';
import { encode } from '../../src/cri/codec.ts';
import * as schema from '../../src/cri/schema.ts';
import { createPeer, framed, refuse, respond } from './peer.ts';

const VERSION: Method<typeof schema.VersionRequest, typeof schema.VersionResponse> = {
  path: '/runtime.v1.RuntimeService/Version',
  request: schema.VersionRequest,
  response: schema.VersionResponse,
};
const EVENTS: Method<typeof schema.GetEventsRequest, typeof schema.ContainerEventResponse> = {
  path: '/runtime.v1.RuntimeService/GetContainerEvents',
  request: schema.GetEventsRequest,
  response: schema.ContainerEventResponse,
};
const never = new AbortController().signal;
const GRPC = { ':status': 200, 'content-type': 'application/grpc' } as const;

const version = (channel: Channel, deadlineMs: number | undefined = 5000, signal = never) =>
  channel.unary(VERSION, { version: 'v1' }, { signal, deadlineMs });

const named = (name: string) => encode(schema.VersionResponse, { runtimeName: name });

const fails = (code: FailureCode, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.match(error.message, text);
  assert.equal(error.code, code, error.message);
  return true;
};

test('a call and its answer, with the headers of gRPC', async () => {
  await using peer = await createPeer();
  peer.answer = (call) => respond(call, [named('containerd')]);
  const channel = peer.channel();
  assert.deepEqual(await version(channel), {
    runtimeName: 'containerd',
    runtimeVersion: '',
    runtimeApiVersion: '',
  });
  const { headers, request } = peer.calls[0]!;
  assert.equal(headers[':path'], '/runtime.v1.RuntimeService/Version');
  assert.equal(headers['content-type'], 'application/grpc');
  assert.equal(headers['te'], 'trailers');
  assert.equal(headers['grpc-timeout'], '5000m');
  assert.equal(request.toString('hex'), '0a027631');
});

test('calls share one connection, and may overlap', async () => {
  await using peer = await createPeer();
  peer.answer = async (call) => {
    // The first waits longest, so the answers come in reverse.
    await pause(60 - 10 * peer.calls.length);
    respond(call, [named(`n${call.request.length}`)]);
  };
  const channel = peer.channel();
  const names = await Promise.all(
    [1, 2, 3, 4].map(async (n) => {
      const request = { version: 'v'.repeat(n) };
      const answer = await channel.unary(VERSION, request, { signal: never, deadlineMs: 5000 });
      return answer.runtimeName;
    }),
  );
  assert.deepEqual(names, ['n3', 'n4', 'n5', 'n6']);
  assert.equal(peer.sockets.size, 1);
});

test('an answer in single bytes, and one of many frames', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  peer.answer = async ({ stream }) => {
    stream.respond(GRPC, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    for (const byte of framed(named('slow'))) {
      stream.write(Buffer.from([byte]));
      await pause(1);
    }
    stream.end();
  };
  assert.equal((await version(channel)).runtimeName, 'slow');
  const long = 'x'.repeat(900_000);
  peer.answer = (call) => respond(call, [named(long)]);
  for (let i = 0; i < 3; i++) assert.equal((await version(channel)).runtimeName, long);
});

test('the status in trailers and the status alone', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  peer.answer = (call) => respond(call, [], 5, 'no such container');
  await assert.rejects(version(channel), fails('NotFound', /^Version: no such container$/));
  peer.answer = (call) => refuse(call, 2, 'Gerät: no space left on device');
  await assert.rejects(version(channel), fails('NoSpace', /Gerät: no space left/));
  peer.answer = ({ stream }) =>
    stream.respond({ ...GRPC, 'grpc-status': '2', 'grpc-message': '%zz' }, { endStream: true });
  await assert.rejects(version(channel), fails('Unknown', /%zz/));
  peer.answer = (call) => respond(call, [named('ok')]);
  assert.equal((await version(channel)).runtimeName, 'ok', 'the connection has not suffered');
  assert.equal(peer.sockets.size, 1);
});

test('answers that are no gRPC', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  peer.answer = ({ stream }) => {
    stream.respond({ ':status': 404 });
    stream.end('not found');
  };
  await assert.rejects(version(channel), fails('Unknown', /HTTP status 404/));
  peer.answer = ({ stream }) => stream.respond({ ':status': 503 }, { endStream: true });
  await assert.rejects(version(channel), fails('Unavailable', /HTTP status 503/));
  peer.answer = ({ stream }) => {
    stream.respond({ ':status': 200, 'content-type': 'text/html' });
    stream.end('<html>');
  };
  await assert.rejects(version(channel), fails('Unknown', /content type "text\/html"/));
  peer.answer = (call) => respond(call, []);
  await assert.rejects(version(channel), fails('Unknown', /OK without an answer/));
  peer.answer = (call) => respond(call, [named('a'), named('b')]);
  await assert.rejects(version(channel), fails('Unknown', /two answers/));
  peer.answer = (call) => respond(call, [Buffer.from([0x80])]);
  await assert.rejects(version(channel), fails('Unknown', /malformed VersionResponse/));
  peer.answer = ({ stream }) => {
    stream.respond(GRPC);
    stream.end(framed(named('a'), 1));
  };
  await assert.rejects(version(channel), fails('Unknown', /compressed/));
  peer.answer = ({ stream }) => {
    stream.respond(GRPC, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(framed(named('abcdef')).subarray(0, 8));
  };
  await assert.rejects(
    version(channel),
    fails('Unknown', /in the middle of a message|without an answer/),
  );
});

test('a message that is too long is refused before it has come', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  let sent = 0;
  peer.answer = ({ stream }) => {
    stream.respond(GRPC);
    const head = Buffer.alloc(5);
    head.writeUInt32BE(1024 * 1024 + 1, 1);
    stream.write(head);
    sent = 5;
  };
  await assert.rejects(
    version(channel),
    fails(
      'ResourceExhausted',
      /Version: the runtime answers with 1048577 bytes; limpet takes 1048576/,
    ),
  );
  assert.equal(sent, 5);
});

test('a deadline ends the call and tells the runtime', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  let reset: number | undefined;
  peer.answer = ({ stream }) => {
    stream.on('close', () => (reset = stream.rstCode));
  };
  await assert.rejects(
    version(channel, 50),
    fails('DeadlineExceeded', /Version: no answer from the runtime within 0.05 s/),
  );
  await pause(20);
  assert.equal(reset, 8, 'CANCEL');
  peer.answer = (call) => respond(call, [named('ok')]);
  assert.equal((await version(channel)).runtimeName, 'ok');
  assert.equal(peer.sockets.size, 1, 'a peer that answers pings keeps its connection');
});

test('an abort ends the call, before and in its course', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  await assert.rejects(version(channel, 1000, AbortSignal.abort()), fails('Cancelled', /Version/));
  const controller = new AbortController();
  peer.answer = () => controller.abort(new Error('enough'));
  await assert.rejects(version(channel, 1000, controller.signal), (error: Error) => {
    assert.equal((error.cause as Error).message, 'enough');
    return fails('Cancelled', /Version was cancelled/)(error);
  });
});

test('a reset, a goaway and a death in mid-message are Unavailable, and the next call works', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  const ok = async () => {
    peer.answer = (call) => respond(call, [named('ok')]);
    // The first call after a death may still meet the backoff.
    for (let i = 0; ; i++) {
      try {
        return assert.equal((await version(channel)).runtimeName, 'ok');
      } catch (error) {
        if (i > 20) throw error;
        await pause(20);
      }
    }
  };
  for (const code of [2, 7, 8]) {
    peer.answer = ({ stream }) => stream.close(code);
    await assert.rejects(
      version(channel),
      fails('Unavailable', /lost the runtime at .* in mid-call/),
    );
  }
  await ok();
  peer.answer = ({ stream }) => {
    stream.respond(GRPC);
    stream.write(framed(named('half of it')).subarray(0, 8));
    setTimeout(() => peer.sockets.forEach((socket) => socket.destroy()), 10);
  };
  await assert.rejects(version(channel), fails('Unavailable', /in mid-call/));
  await ok();
  // A runtime that goes down in order: what is under way ends well, what comes next is on a new line.
  peer.answer = (call) => {
    for (const session of peer.sessions) session.goaway(0);
    respond(call, [named('last')]);
  };
  assert.equal((await version(channel)).runtimeName, 'last');
  await ok();
  peer.answer = () => peer.sessions.forEach((session) => session.destroy());
  await assert.rejects(version(channel), fails('Unavailable', /in mid-call/));
  await ok();
});

test('a runtime that restarts: failures at once, backoff, and back again', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  peer.answer = (call) => respond(call, [named('one')]);
  assert.equal((await version(channel)).runtimeName, 'one');
  await peer.die();
  // One call may find it out in its course.
  await version(channel).catch(() => undefined);
  const refusals = new Set<string>();
  const started = performance.now();
  for (let i = 0; i < 200; i++) {
    await version(channel).catch((error: Failure) =>
      refusals.add(`${error.code}: ${error.message}`),
    );
  }
  assert.ok(performance.now() - started < 500, 'it does not wait');
  assert.deepEqual(
    [...refusals],
    [
      `Unavailable: can't reach the container runtime at ${peer.path}: there is no such socket: ` +
        'is the runtime installed and running?',
    ],
  );
  await peer.revive();
  peer.answer = (call) => respond(call, [named('two')]);
  await pause(100);
  assert.equal((await version(channel)).runtimeName, 'two');
});

test('a runtime that hangs loses the connection, and all calls on it', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'limpet-hang-'));
  const path = join(dir, 's');
  // It takes connections and whatever is sent, as a stopped process does, and says nothing.
  const connections: net.Socket[] = [];
  const server = net.createServer((socket) => {
    connections.push(socket);
    socket.on('error', () => undefined);
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const clock = systemClock('boot', () => 0);
  const common = { clock, random: seededRandom(1), maxMessageBytes: 1024 };
  await using channel = new Channel(path, { ...common, pingTimeoutMs: 50, minBackoffMs: 1 });
  try {
    const pull = version(channel, undefined);
    const settled = assert.rejects(pull, fails('Unavailable', /in mid-call/));
    await assert.rejects(version(channel, 50), fails('DeadlineExceeded', /within 0.05 s/));
    await settled;
    await pause(20);
    await assert.rejects(version(channel, 50), fails('DeadlineExceeded', /within 0.05 s/));
    assert.equal(connections.length, 2, 'the next call tries a new connection');
  } finally {
    server.close();
    for (const socket of connections) socket.destroy();
    rmSync(dir, { recursive: true });
  }
});

test('a stream: many messages, in odd pieces, and its end', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  const event = (id: string) => framed(encode(schema.ContainerEventResponse, { containerId: id }));
  peer.answer = async ({ stream }) => {
    stream.respond(GRPC, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    const all = Buffer.concat(['a', 'b'.repeat(5000), 'c', 'd'].map(event));
    for (const [from, to] of [
      [0, 3],
      [3, 12],
      [12, 4000],
      [4000, all.length],
    ] as const) {
      stream.write(all.subarray(from, to));
      await pause(5);
    }
    stream.end();
  };
  const seen: string[] = [];
  const read = () =>
    channel.stream(EVENTS, {}, { signal: never, deadlineMs: undefined }, ({ containerId }) =>
      seen.push(containerId),
    );
  await read();
  assert.deepEqual(seen, ['a', 'b'.repeat(5000), 'c', 'd']);
  assert.equal(peer.calls[0]!.headers['grpc-timeout'], undefined);
  // What the reader throws ends the stream and comes out.
  const broken = channel.stream(EVENTS, {}, { signal: never, deadlineMs: undefined }, () => {
    throw new RangeError('mine');
  });
  await assert.rejects(broken, RangeError);
  peer.answer = (call) => respond(call, [], 12, 'unknown method GetContainerEvents');
  await assert.rejects(read(), fails('Unimplemented', /unknown method/));
});

test('closing ends calls under way, and later ones', async () => {
  await using peer = await createPeer();
  const channel = peer.channel();
  peer.answer = () => undefined;
  const waiting = assert.rejects(version(channel), fails('Unavailable', /in mid-call/));
  await pause(20);
  await channel[Symbol.asyncDispose]();
  await waiting;
  await assert.rejects(version(channel), fails('Unavailable', /was closed/));
  await channel[Symbol.asyncDispose]();
});

test('closing in any moment of opening is nothing that throws', async () => {
  await using peer = await createPeer();
  peer.answer = () => undefined;
  for (let round = 0; round < 60; round++) {
    const channel = peer.channel();
    const call = version(channel).catch(() => undefined);
    for (let turn = 0; turn < round % 6; turn++) await new Promise(setImmediate);
    await channel[Symbol.asyncDispose]();
    await call;
  }
});

test(
  'nothing is left behind by 3,000 calls that end in every way',
  { timeout: 60_000 },
  async () => {
    await using peer = await createPeer();
    const channel = peer.channel();
    const controller = new AbortController();
    peer.answer = (call) => {
      const kind = peer.calls.length % 4;
      if (kind === 0) call.stream.close(2);
      else if (kind === 1) refuse(call, 5, 'no');
      else if (kind === 2) respond(call, [named('x'.repeat(1000))]);
      else setTimeout(() => call.stream.close(), 20);
      peer.calls[peer.calls.length - 1] = undefined!;
    };
    const round = async (count: number) => {
      for (let i = 0; i < count; i++) {
        await version(channel, i % 4 === 2 ? 1 : 5000, controller.signal).catch(() => undefined);
      }
    };
    await round(1000);
    v8.setFlagsFromString('--expose-gc');
    const collect = vm.runInNewContext('gc') as () => void;
    collect();
    const before = process.memoryUsage().heapUsed;
    await round(2000);
    collect();
    const grownBytes = process.memoryUsage().heapUsed - before;
    assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
    assert.ok(grownBytes < 1024 * 1024, `${grownBytes} bytes more`);
    assert.equal(peer.sockets.size, 1);
  },
);
