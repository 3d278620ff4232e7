/** The outbox on a real disk. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../../src/base/clock.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { createLog } from '../../src/base/log.ts';
import { seededRandom } from '../../src/base/random.ts';
import { openOutbox } from '../../src/store/outbox.ts';

const log = createLog('error', () => undefined);
const WALL_MS = 1_800_000_000_000;

/** A clock that stands still; `timers` counts what waits. */
function stoppedClock(wallMs = WALL_MS) {
  const timers = new Set<() => void>();
  const clock: Clock = {
    now: () => ({ monoMs: 0, wallMs, boot: 'boot' }),
    sleep: () => Promise.resolve(),
    at: (_, run) => {
      timers.add(run);
      return { cancel: () => void timers.delete(run) };
    },
    soon: (run) => run(),
  };
  return { clock, timers };
}

function place(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-outbox-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const event = (n: number, kind: 'warning' | 'normal' = 'warning') =>
  ({ class: kind, key: `${kind} ${n}`, t: n, body: `{"n":${n}}` }) as const;

test('what matters most goes first, in order; statuses fold; events count', (t) => {
  const directory = place(t);
  const { clock } = stoppedClock();
  {
    using outbox = openOutbox(directory, { clock, log });
    for (let n = 0; n < 3; n++) outbox.add(event(n, 'normal'));
    for (let n = 0; n < 50; n++) outbox.add({ class: 'status', key: 'pod a', t: n, body: `${n}` });
    for (let n = 0; n < 3; n++) outbox.add(event(n));
    outbox.add(event(1));
  }
  using outbox = openOutbox(directory, { clock, log });
  const first = outbox.take(10);
  assert.deepEqual(
    first.map(({ key, count }) => [key, count]),
    [
      ...[
        ['warning 0', 1],
        ['warning 1', 2],
        ['warning 2', 1],
      ],
    ],
  );
  // It is under way: what comes now is another one.
  outbox.add(event(1));
  for (const { q } of first) outbox.acknowledge(q);
  assert.deepEqual(
    outbox.take(10).map(({ key, count }) => [key, count]),
    [['warning 1', 1]],
  );
  assert.deepEqual(
    outbox.take(2).map(({ key }) => key),
    ['normal 0', 'normal 1'],
  );
  assert.deepEqual(
    outbox.take(9).map(({ key }) => key),
    ['normal 2'],
  );
  assert.deepEqual(
    outbox.take(9).map(({ body }) => body),
    ['49'],
  );
  assert.deepEqual(outbox.take(9), []);
  outbox.release();
  assert.equal(outbox.take(1)[0]?.key, 'warning 1');
});

test('no number stands for two statuses, also when the power went before the first was gone', (t) => {
  const directory = place(t);
  const copy = place(t);
  const { clock } = stoppedClock();
  const status = (body: string) => ({ class: 'status', key: 'pod a', t: 1, body }) as const;
  const told = new Map<number, string>();
  using outbox = openOutbox(directory, { clock, log });
  outbox.add(status('first'));
  for (const { q, body } of outbox.take(5)) told.set(q, body);
  outbox.release();
  outbox.flush();
  cpSync(directory, copy, { recursive: true });
  outbox.add(status('second'));
  for (const { q, body } of outbox.take(5)) {
    assert.ok(!told.has(q), 'its number was told with another body');
    told.set(q, body);
  }
  using afterCut = openOutbox(copy, { clock, log });
  for (const { q, body } of afterCut.take(5)) assert.equal(told.get(q), body);
});

test('it holds its limits, drops what matters least, and counts it', (t) => {
  const directory = place(t);
  const { clock } = stoppedClock();
  {
    using outbox = openOutbox(directory, { clock, log });
    for (let n = 0; n < LIMITS.outboxRows; n++) outbox.add(event(n, 'normal'));
    for (let n = 0; n < 2000; n++) outbox.add(event(n));
    assert.equal(outbox.waiting, LIMITS.outboxRows);
    assert.equal(outbox.dropped, 2000);
  }
  using outbox = openOutbox(directory, { clock, log });
  assert.equal(outbox.dropped, 2000);
  assert.equal(outbox.take(5000).length, 2000);
  for (let n = 0; n < 3000; n++) {
    outbox.add({ class: 'normal', key: `big ${n}`, t: 0, body: 'x'.repeat(2000) });
  }
  assert.ok(outbox.waiting < LIMITS.outboxRows);
  outbox.flush();
  assert.ok(statSync(join(directory, 'outbox.db')).size < 4 * LIMITS.outboxBytes);
});

test('what is acknowledged in time is never written, and nothing waits then', (t) => {
  const directory = place(t);
  const { clock, timers } = stoppedClock();
  using outbox = openOutbox(directory, { clock, log });
  outbox.number();
  const size = () => statSync(join(directory, 'outbox.db-wal')).size;
  const before = size();
  for (let n = 0; n < 100; n++) {
    outbox.add(event(n));
    for (const { q } of outbox.take(5)) outbox.acknowledge(q);
  }
  assert.equal(timers.size, 0);
  assert.equal(size(), before);
});

test('a damaged file is thrown away, and the numbers go on beyond it', (t) => {
  const directory = place(t);
  let last: number;
  {
    using outbox = openOutbox(directory, { clock: stoppedClock().clock, log });
    last = outbox.number();
  }
  writeFileSync(join(directory, 'outbox.db'), 'rubbish'.repeat(2000));
  using outbox = openOutbox(directory, { clock: stoppedClock(WALL_MS + 60_000).clock, log });
  assert.ok(outbox.number() > last);
  assert.equal(outbox.waiting, 0);
});

test('a folder in its place is thrown away too', (t) => {
  const directory = place(t);
  mkdirSync(join(directory, 'outbox.db', 'inside'), { recursive: true });
  using outbox = openOutbox(directory, { clock: stoppedClock().clock, log });
  assert.ok(outbox.number() > 0);
});

test('killed at any moment: no row is lost, no number comes twice', async (t) => {
  const directory = place(t);
  const random = seededRandom(5);
  const numbers = new Set<number>();
  const stored = new Set<string>();
  const sent = new Set<string>();
  for (let round = 0; round < 20; round++) {
    const writer = join(import.meta.dirname, 'outbox-writer.ts');
    const child = spawn(process.execPath, [writer, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
    await once(child.stdout, 'data');
    await sleep(random.next() * 60);
    child.kill('SIGKILL');
    await once(child, 'close');
    for (const line of said.split('\n').slice(0, -1)) {
      const [what = '', value = ''] = line.split(' ');
      if (what === 'stored') stored.add(value);
      if (what === 'sent') sent.add(value);
      if (what !== 'number') continue;
      assert.ok(!numbers.has(Number(value)), `number ${value} came twice`);
      numbers.add(Number(value));
    }
  }
  using outbox = openOutbox(directory, { clock: stoppedClock().clock, log });
  const left = new Set(outbox.take(100_000).map(({ key }) => key));
  const lost = [...stored].filter((key) => !sent.has(key) && !left.has(key));
  t.diagnostic(`${numbers.size} numbers, ${stored.size} rows stored, ${left.size} left`);
  assert.ok(stored.size > 100);
  assert.equal(outbox.dropped, 0);
  assert.deepEqual(lost, []);
});
