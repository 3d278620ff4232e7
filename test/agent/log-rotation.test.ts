import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import {
  keepLogsSmall,
  rotateLogs,
  timestamp,
  type Rotation,
} from '../../src/agent/log-rotation.ts';
import type { Clock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { aPod } from '../pod/a-pod.ts';
import { scratch } from '../volume/scratch.ts';

const signal = AbortSignal.timeout(60_000);
const START = Date.UTC(2026, 0, 17, 10, 15, 0);

/** A runtime as far as logs go: it writes to what it has opened, until it is told to reopen. */
function bench(path: string, policy: Partial<Rotation['policy']> = {}) {
  const directory = join(path, 'default_shop_1f0a-22/web');
  mkdirSync(directory, { recursive: true });
  const file = join(directory, '0.log');
  let fd = openSync(file, 'a', 0o640);
  const said: string[] = [];
  const sleeps: number[] = [];
  const control = {
    directory,
    file,
    said,
    sleeps,
    wallMs: START,
    reopened: 0,
    lines: 0,
    /** What ReopenContainerLog does, if not what it should. */
    onReopen: undefined as (() => void) | undefined,
    write(bytes: number) {
      for (let written = 0; written < bytes; control.lines++) {
        written += writeSync(fd, `2026-01-17T10:15:00Z stdout F line ${control.lines}\n`);
      }
    },
    reopen() {
      closeSync(fd);
      fd = openSync(file, 'a', 0o640);
      control.reopened++;
    },
    /** All that was ever written and is still there, in order. */
    text(): string {
      const rotated = readdirSync(directory)
        .filter((name) => name !== '0.log')
        .sort();
      const parts = rotated.map((name) => {
        const bytes = readFileSync(join(directory, name));
        return name.endsWith('.gz') ? gunzipSync(bytes) : bytes;
      });
      return Buffer.concat([...parts, readFileSync(file)]).toString('utf8');
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
  const clock: Clock = {
    now: () => ({ monoMs: 0, wallMs: control.wallMs, boot: 'b' }),
    sleep: (ms, until) => {
      sleeps.push(ms);
      until.throwIfAborted();
      return Promise.resolve();
    },
    at: () => ({ cancel: () => undefined }),
    soon: () => undefined,
  };
  const rotation: Rotation = {
    logRoot: path,
    policy: { maxBytes: 10_000, maxFiles: 5, intervalMs: 10_000, ...policy },
    clock,
    log: createLog('warn', (text) => void said.push(text)),
    running: () => [{ id: 'c0', pod: aPod(), name: 'web', attempt: 0 }],
    reopen: () => {
      if (control.onReopen !== undefined) control.onReopen();
      else control.reopen();
      return Promise.resolve();
    },
  };
  return { control, rotation, [Symbol.dispose]: control[Symbol.dispose] };
}

function allLines(text: string): readonly number[] {
  return [...text.matchAll(/ line (\d+)\n/g)].map((match) => Number(match[1]));
}

test('a small log is only looked at', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  at.control.write(9000);
  const before = statSync(at.control.directory, { bigint: true });
  for (let i = 0; i < 100; i++) assert.equal(await rotateLogs(at.rotation, signal), 0);
  const after = statSync(at.control.directory, { bigint: true });
  assert.deepEqual([after.mtimeNs, after.atimeNs], [before.mtimeNs, before.atimeNs]);
  assert.equal(at.control.reopened, 0);
});

test('a large log: five files, the newest as it was, older ones packed, nothing in between lost', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const { control, rotation } = at;
  for (let round = 0; round < 4; round++) {
    control.write(10_000);
    assert.equal(await rotateLogs(rotation, signal), 1);
    control.wallMs += 60_000;
  }
  assert.deepEqual(readdirSync(control.directory).sort(), [
    '0.log',
    '0.log.20260117-101500.gz',
    '0.log.20260117-101600.gz',
    '0.log.20260117-101700.gz',
    '0.log.20260117-101800',
  ]);
  assert.equal(control.reopened, 4);
  assert.equal(statSync(join(control.directory, '0.log.20260117-101500.gz')).mode & 0o777, 0o640);
  const all = Array.from({ length: control.lines }, (_, i) => i);
  assert.deepEqual(allLines(control.text()), all);
  control.write(10_000);
  await rotateLogs(rotation, signal);
  const names = readdirSync(control.directory).sort();
  assert.equal(names.length, 5);
  assert.equal(names[1], '0.log.20260117-101600.gz', 'the oldest went');
  const kept = allLines(control.text());
  assert.deepEqual(
    kept,
    Array.from({ length: kept.length }, (_, i) => kept[0]! + i),
  );
  assert.equal(kept.at(-1), control.lines - 1);
});

test('with two files there is one rotated log', async () => {
  using dir = scratch();
  using at = bench(dir.path, { maxFiles: 2 });
  for (let round = 0; round < 3; round++) {
    at.control.write(10_000);
    at.control.wallMs += 1000;
    await rotateLogs(at.rotation, signal);
  }
  assert.deepEqual(readdirSync(at.control.directory).sort(), ['0.log', '0.log.20260117-101503']);
});

test('logs of other attempts and containers are not touched', async () => {
  using dir = scratch();
  using at = bench(dir.path, { maxFiles: 2 });
  const others = ['00.log.20200101-000000', '10.log', '10.log.20200101-000000', 'notes'];
  for (const name of others) writeFileSync(join(at.control.directory, name), 'x'.repeat(20_000));
  at.control.write(10_000);
  await rotateLogs(at.rotation, signal);
  for (const name of others) assert.equal(statSync(join(at.control.directory, name)).size, 20_000);
});

test('what a rotation before us left unfinished is put right', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const { directory } = at.control;
  writeFileSync(join(directory, '0.log.20260101-000000.tmp'), 'half');
  writeFileSync(join(directory, '0.log.20260102-000000'), 'already packed');
  writeFileSync(join(directory, '0.log.20260102-000000.gz'), 'packed');
  writeFileSync(join(directory, '0.log.20260103-000000'), 'to be packed');
  writeFileSync(join(directory, '0.log.20260103-000000.tmp'), 'half');
  at.control.write(10_000);
  await rotateLogs(at.rotation, signal);
  assert.deepEqual(readdirSync(directory).sort(), [
    '0.log',
    '0.log.20260102-000000.gz',
    '0.log.20260103-000000.gz',
    '0.log.20260117-101500',
  ]);
  const packed = readFileSync(join(directory, '0.log.20260103-000000.gz'));
  assert.equal(gunzipSync(packed).toString(), 'to be packed');
});

test('a runtime that does not answer: the log is where it was, and rotated the next time', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const { control, rotation } = at;
  control.onReopen = () => {
    throw new Error('the runtime is away');
  };
  control.write(10_000);
  assert.equal(await rotateLogs(rotation, signal), 0);
  assert.deepEqual(readdirSync(control.directory), ['0.log']);
  assert.match(control.said.join(''), /pod=shop container=web .*the runtime is away/);
  control.write(100);
  control.onReopen = undefined;
  assert.equal(await rotateLogs(rotation, signal), 1);
  assert.equal(allLines(control.text()).length, control.lines);
});

test('a runtime that did it and whose answer was lost: the new log is not overwritten', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const { control, rotation } = at;
  control.onReopen = () => {
    control.reopen();
    control.write(100);
    throw new Error('deadline exceeded');
  };
  control.write(10_000);
  await rotateLogs(rotation, signal);
  assert.deepEqual(readdirSync(control.directory).sort(), ['0.log', '0.log.20260117-101500']);
  const all = Array.from({ length: control.lines }, (_, i) => i);
  assert.deepEqual(allLines(control.text()), all);
});

test('a log that somebody removed is opened again', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  unlinkSync(at.control.file);
  await rotateLogs(at.rotation, signal);
  assert.equal(at.control.reopened, 1);
  assert.ok(existsSync(at.control.file));
});

test('a log that was swapped for a link is neither followed nor packed', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const { control, rotation } = at;
  const victim = join(dir.path, 'victim');
  writeFileSync(victim, 'x'.repeat(20_000));
  unlinkSync(control.file);
  symlinkSync(victim, control.file);
  await rotateLogs(rotation, signal);
  assert.match(control.said.join(''), /no plain file/);
  unlinkSync(control.file);
  control.reopen();
  symlinkSync(victim, join(control.directory, '0.log.20260103-000000'));
  control.write(10_000);
  assert.equal(await rotateLogs(rotation, signal), 1, 'what cannot be packed stops nothing');
  assert.match(control.said.at(-1) ?? '', /cannot pack .*symbolic link/);
  assert.equal(statSync(victim).size, 20_000);
  assert.deepEqual(
    readdirSync(control.directory).filter((name) => name.endsWith('.gz')),
    [],
  );
});

test('on a full disk it goes on without packing, and leaves nothing half done', async () => {
  using dir = scratch();
  execFileSync('mount', ['-n', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dir.path]);
  using at = bench(dir.path);
  const { control, rotation } = at;
  control.write(60_000);
  assert.equal(await rotateLogs(rotation, signal), 1);
  control.write(60_000);
  assert.throws(() => writeFileSync(join(dir.path, 'filler'), Buffer.alloc(2 ** 20)), /ENOSPC/);
  control.wallMs += 60_000;
  assert.equal(await rotateLogs(rotation, signal), 1);
  assert.match(control.said.join(''), /cannot pack a rotated log .*no space left/);
  assert.deepEqual(readdirSync(control.directory).sort(), [
    '0.log',
    '0.log.20260117-101500',
    '0.log.20260117-101600',
  ]);
});

test('given up while packing: the log is whole and nothing is half done', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const { control, rotation } = at;
  control.write(10_000);
  await rotateLogs(rotation, signal);
  control.write(10_000);
  const stop = new AbortController();
  setImmediate(() => stop.abort(new Error('stopping')));
  await assert.rejects(rotateLogs(rotation, stop.signal), /stopping/);
  assert.deepEqual(readdirSync(control.directory).sort(), ['0.log', '0.log.20260117-101500']);
  const all = Array.from({ length: control.lines }, (_, i) => i);
  assert.deepEqual(allLines(control.text()), all);
});

test('one bad log does not keep the others from being rotated', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  at.control.write(10_000);
  mkdirSync(join(dir.path, 'default_bad_u/web/0.log'), { recursive: true });
  const bad = { id: 'b', pod: aPod({}, { name: 'bad', uid: 'u' }), name: 'web', attempt: 0 };
  const rotation = { ...at.rotation, running: () => [bad, ...at.rotation.running()] };
  assert.equal(await rotateLogs(rotation, signal), 1);
  assert.match(at.control.said.join(''), /pod=bad/);
});

test('names stay in order when the clock goes back', () => {
  const iso = (text: string) => Date.parse(text);
  const now = iso('2026-01-17T10:15:00Z');
  assert.equal(timestamp(now, undefined), '20260117-101500');
  assert.equal(timestamp(now, '0.log.20260117-101459.gz'), '20260117-101500');
  assert.equal(timestamp(now, '0.log.20260117-101500'), '20260117-101501');
  assert.equal(
    timestamp(iso('1970-01-01T00:00:09Z'), '0.log.20251231-235959.gz'),
    '20260101-000000',
  );
});

test('logs are checked in the interval until the agent stops', async () => {
  using dir = scratch();
  using at = bench(dir.path);
  const stop = new AbortController();
  let checks = 0;
  const running = () => {
    if (++checks === 3) stop.abort(new Error('stopping'));
    return [];
  };
  await assert.rejects(keepLogsSmall({ ...at.rotation, running }, stop.signal), /stopping/);
  assert.equal(checks, 3);
  assert.deepEqual(new Set(at.control.sleeps), new Set([10_000]));
});
