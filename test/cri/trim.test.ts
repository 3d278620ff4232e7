import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { decode, encode } from '../../src/cri/codec.ts';
import { createRuntimeService } from '../../src/cri/runtime.ts';
import * as schema from '../../src/cri/schema.ts';
import { createTrimmer } from '../../src/cri/trim.ts';
import { createPeer, framed, refuse, respond } from './peer.ts';

const { ExecSyncResponse } = schema;
const never = new AbortController().signal;

/** What comes out of a trimmer that is given these bytes in pieces. */
function trimmed(bytes: Buffer, piece: number, keep: number) {
  const out: unknown[] = [];
  const trimmer = createTrimmer('ExecSync', keep, (message) => {
    out.push(decode(ExecSyncResponse, message));
  });
  for (let at = 0; at < bytes.length; at += piece) trimmer.push(bytes.subarray(at, at + piece));
  return { out, partial: trimmer.partial() };
}

const answer = (stdout: string, stderr: string, exitCode: number) =>
  framed(
    encode(ExecSyncResponse, {
      ...{ stdout: Buffer.from(stdout), stderr: Buffer.from(stderr), exitCode },
    }),
  );

test('of each field the beginning is kept, however the bytes arrive', () => {
  const bytes = Buffer.concat([
    answer('abcdef', 'xy', -3),
    answer('', '', 0),
    answer('a', '', 300),
  ]);
  for (const piece of [1, 2, 3, 7, 1000]) {
    const { out, partial } = trimmed(bytes, piece, 4);
    assert.deepEqual(out, [
      { stdout: Buffer.from('abcd'), stderr: Buffer.from('xy'), exitCode: -3 },
      { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0), exitCode: 0 },
      { stdout: Buffer.from('a'), stderr: Buffer.alloc(0), exitCode: 300 },
    ]);
    assert.equal(partial, false);
  }
  assert.equal(trimmed(bytes.subarray(0, bytes.length - 1), 5, 4).partial, true);
});

test('bytes that are no such message fail', () => {
  const wrong: readonly [string, number[]][] = [
    ['a field longer than its message', [0x0a, 5, 1]],
    ['cut off in a number', [0x18, 0x80]],
    ['a tag with nothing behind it', [0x0a]],
    ['a fixed-size field', [0x0d, 1, 2, 3, 4]],
    ['a number of eleven bytes', [0x18, ...Array.from({ length: 11 }, () => 0x80), 1]],
  ];
  for (const [what, bytes] of wrong) {
    assert.throws(() => trimmed(framed(Buffer.from(bytes)), 3, 10), Failure, what);
  }
  assert.throws(() => trimmed(framed(Buffer.from([0x0a, 0]), 1), 3, 10), /compressed/);
});

test('a command in a container: what is asked, and how it ended', async () => {
  await using peer = await createPeer();
  await using channel = peer.channel();
  const runtime = createRuntimeService(channel);
  peer.answer = (call) => {
    const asked = decode(schema.ExecSyncRequest, call.request);
    assert.deepEqual(asked, { containerId: 'c1', cmd: ['cat', '/x'], timeout: 7 });
    const [stdout, stderr] = [Buffer.from('out'), Buffer.from('err')];
    respond(call, [encode(ExecSyncResponse, { stdout, stderr, exitCode: 2 })]);
  };
  const result = await runtime.execSync('c1', ['cat', '/x'], 7, never);
  assert.deepEqual(result, { exitCode: 2, output: 'outerr' });
  peer.answer = (call) => refuse(call, 4, 'timeout 7s exceeded: context deadline exceeded');
  const timedOut = (error: unknown) =>
    error instanceof Failure && error.code === 'DeadlineExceeded';
  await assert.rejects(runtime.execSync('c1', ['cat'], 7, never), timedOut);
});

const CLIENT = join(import.meta.dirname, 'exec-client.ts');

// A runtime answers with at most 16 MiB of standard output and as much of standard error.
test('a command that prints all that a runtime answers costs the agent no memory', async () => {
  await using peer = await createPeer();
  const chunk = Buffer.alloc(64 * 1024, 'x');
  peer.answer = ({ stream }) => {
    const headers = { ':status': 200, 'content-type': 'application/grpc' };
    stream.respond(headers, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    let left = 2 ** 25;
    const head = Buffer.alloc(5);
    head.writeUInt32BE(left + 5, 1);
    stream.write(Buffer.concat([head, Buffer.from([0x0a, 0x80, 0x80, 0x80, 0x10])]));
    const more = () => {
      while (left > 0) {
        left -= chunk.length;
        if (!stream.write(chunk)) return void stream.once('drain', more);
      }
      stream.end();
    };
    more();
  };
  const client = spawn(process.execPath, ['--max-semi-space-size=1', CLIENT, peer.path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  client.stdout.on('data', (data: Buffer) => (said += data.toString()));
  await once(client, 'close');
  const { grownMb, kept } = JSON.parse(said) as { grownMb: number; kept: number };
  assert.equal(kept, LIMITS.probeOutputBytes);
  assert.ok(grownMb < 16, `${grownMb} MB more`);
});
