import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gzipSync } from 'node:zlib';
import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import {
  createParser,
  followLog,
  listAttempts,
  readLog,
  type LogEntry,
  type LogSelection,
} from '../../src/server/cri-log.ts';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-log-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

let second = 0;
function line(text: string, tag = 'F', stream = 'stdout', at = second++): string {
  const time = new Date(Date.UTC(2026, 0, 1, 0, 0, at)).toISOString().replace('Z', '123456Z');
  return `${time} ${stream} ${tag} ${text}\n`;
}

async function texts(entries: AsyncIterable<LogEntry>): Promise<string> {
  let all = '';
  for await (const { content, endsLine } of entries) {
    all += content.toString('utf8') + (endsLine ? '\n' : '');
  }
  return all;
}

async function read(directory: string, selection: LogSelection = {}): Promise<string> {
  return await texts(readLog(directory, 0, selection));
}

test('parts of a line are joined, empty lines kept, what is no entry left out', () => {
  const parser = createParser();
  const bytes = Buffer.from(
    `${line('first', 'P')}${line(' half', 'F')}${line('', 'F')}2026-01-01T00:00:00Z stdout F\n` +
      `garbage\n${'\0'.repeat(40)}\n${line('with tags', 'F:x')}${line('bad', 'Z')}${line('e', 'F', 'stderr')}`,
  );
  const entries: LogEntry[] = [];
  // One byte at a time: no boundary between reads may matter.
  for (let at = 0; at < bytes.length; at++)
    entries.push(...parser.push(bytes.subarray(at, at + 1)));
  assert.deepEqual(
    entries.map(({ content, endsLine, stream }) => [content.toString(), endsLine, stream]),
    [
      ['first', false, 'stdout'],
      [' half', true, 'stdout'],
      ['', true, 'stdout'],
      ['', true, 'stdout'],
      ['with tags', true, 'stdout'],
      ['e', true, 'stderr'],
    ],
  );
});

test('a line without end is bounded in memory', () => {
  const parser = createParser();
  const chunk = Buffer.alloc(64 * 1024, 0x61);
  for (let round = 0; round < 200; round++) parser.push(chunk);
  assert.ok(parser.pending() <= 1024 * 1024);
});

test('bytes that are no UTF-8 come out as they went in', async (t) => {
  const directory = scratch(t);
  const odd = Buffer.from([0xff, 0x00, 0xc3]);
  const [head, tail] = [Buffer.from('2026-01-01T00:00:00Z stdout F '), Buffer.from('\n')];
  writeFileSync(join(directory, '0.log'), Buffer.concat([head, odd, tail]));
  const [entry] = await Array.fromAsync(readLog(directory, 0, {}));
  assert.deepEqual(entry?.content, odd);
});

test('rotated files are read first, packed ones too, and tail counts through all of them', async (t) => {
  const directory = scratch(t);
  const lines = Array.from({ length: 12 }, (_, index) => line(`l${index}`));
  const at = (from: number, to: number): string => lines.slice(from, to).join('');
  writeFileSync(join(directory, '0.log.20260101-000001.gz'), gzipSync(at(0, 4)));
  writeFileSync(join(directory, '0.log.20260101-000002'), at(4, 8));
  writeFileSync(join(directory, '0.log'), at(8, 12));
  writeFileSync(join(directory, '0.log.20260101-000003.tmp'), 'half packed');
  writeFileSync(join(directory, '10.log'), line('of another attempt'));
  const expected = (from: number): string =>
    Array.from({ length: 12 - from }, (_, index) => `l${index + from}\n`).join('');
  assert.equal(await read(directory), expected(0));
  for (let tail = 0; tail <= 13; tail++) {
    assert.equal(
      await read(directory, { tailLines: tail }),
      expected(Math.max(0, 12 - tail)),
      `${tail}`,
    );
  }
  assert.deepEqual(await listAttempts(directory), [0, 10]);
});

test('tail finds its line across blocks of a large file', async (t) => {
  const directory = scratch(t);
  const lines = Array.from({ length: 3000 }, (_, index) =>
    line(`${index} ${'x'.repeat(index % 300)}`),
  );
  writeFileSync(join(directory, '0.log'), lines.join(''));
  for (const tailLines of [1, 2, 299, 700, 2999, 3000, 5000]) {
    const got = (await read(directory, { tailLines })).split('\n').length - 1;
    assert.equal(got, Math.min(tailLines, 3000));
  }
});

test('since leaves out what is older', async (t) => {
  const directory = scratch(t);
  const stamped = (at: string, text: string): string => `${at} stdout F ${text}\n`;
  writeFileSync(
    join(directory, '0.log'),
    stamped('2026-03-01T10:00:00.123456789+01:00', 'old') +
      stamped('2026-03-01T09:00:01.000000000Z', 'new'),
  );
  const sinceMs = Date.UTC(2026, 2, 1, 9, 0, 1);
  assert.equal(await read(directory, { sinceMs }), 'new\n');
});

test('a last line without newline is shown, without an end of its own', async (t) => {
  const directory = scratch(t);
  writeFileSync(join(directory, '0.log'), line('whole') + line('cut').trimEnd());
  const entries = await Array.fromAsync(readLog(directory, 0, {}));
  assert.deepEqual(
    entries.map(({ content, endsLine }) => [content.toString(), endsLine]),
    [
      ['whole', true],
      ['cut', false],
    ],
  );
});

test('links and directories in place of a log are not read', async (t) => {
  const directory = scratch(t);
  symlinkSync('/etc/passwd', join(directory, '0.log'));
  await assert.rejects(
    read(directory),
    (error) => error instanceof Failure && /link/.test(error.message),
  );
  rmSync(join(directory, '0.log'));
  mkdirSync(join(directory, '0.log'));
  await assert.rejects(read(directory), (error) => error instanceof Failure);
  await assert.rejects(
    texts(readLog(join(directory, 'missing'), 0, {})),
    (error) => error instanceof Failure && error.code === 'NotFound',
  );
});

test('follow shows what is added, through partial writes, rotation and a restart', async (t) => {
  const directory = scratch(t);
  const log = join(directory, '0.log');
  writeFileSync(log, line('a') + line('b'));
  const controller = new AbortController();
  const restarts: number[] = [];
  const entries = followLog(directory, 0, {
    tailLines: 1,
    clock: systemClock('', () => 0),
    signal: controller.signal,
    onAttempt: (attempt) => restarts.push(attempt),
  });
  const next = async (): Promise<string> => {
    const { value, done } = await entries.next();
    return done === true ? 'end' : value.content.toString();
  };
  assert.equal(await next(), 'b');
  const whole = line('c');
  appendFileSync(log, whole.slice(0, 20));
  const waiting = next();
  await new Promise((resolve) => setTimeout(resolve, 50));
  appendFileSync(log, whole.slice(20));
  assert.equal(await waiting, 'c');
  // The runtime goes on writing to the old file until it is told to open the new one.
  renameSync(log, `${log}.20260101-000000`);
  appendFileSync(`${log}.20260101-000000`, line('d'));
  assert.equal(await next(), 'd');
  appendFileSync(`${log}.20260101-000000`, line('e'));
  writeFileSync(log, line('f'));
  assert.equal(await next(), 'e');
  assert.equal(await next(), 'f');
  writeFileSync(join(directory, '1.log'), line('g'));
  assert.equal(await next(), 'g');
  assert.deepEqual(restarts, [1]);
  // Emptied by hand: goes on at its start.
  writeFileSync(join(directory, '1.log'), '');
  const emptied = next();
  await new Promise((resolve) => setTimeout(resolve, 50));
  appendFileSync(join(directory, '1.log'), line('h'));
  assert.equal(await emptied, 'h');
  const last = next();
  rmSync(directory, { recursive: true });
  assert.equal(await last, 'end');
});

test('follow ends when its signal is aborted', async (t) => {
  const directory = scratch(t);
  writeFileSync(join(directory, '0.log'), line('only'));
  const controller = new AbortController();
  const entries = followLog(directory, 0, {
    clock: systemClock('', () => 0),
    signal: controller.signal,
    onAttempt: () => undefined,
  });
  await entries.next();
  setTimeout(() => controller.abort(), 20);
  assert.equal((await entries.next()).done, true);
});
