// Children that ask drives, and what is kept of it.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createDrives } from '../../src/agent/drives.ts';
import type { DriveLogs } from '../../src/hardware/nvme.ts';
import { healthPage } from '../hardware/health-log.ts';
import { makeTree, REAL } from '../hardware/tree.ts';
import { captureLog, handClock, untilWaiting } from '../store/world.ts';

const FIRST_MS = 2 * 60_000;
const EVERY_MS = 6 * 3_600_000;
const ASKED = 'require("fs").appendFileSync(process.argv[1], process.argv.slice(2) + "\\n");';
const telling = (logs: object) => `console.log(${JSON.stringify(JSON.stringify(logs))})`;

/** A board with two drives; its `run` stays over restarts. */
function board(t: TestContext): string {
  const root = makeTree(t, {});
  for (const path of ['run', 'sys/class/nvme/nvme0', 'sys/class/nvme/nvme1']) {
    mkdirSync(join(root, path), { recursive: true });
  }
  mkdirSync(join(root, 'sys/class/nvme/nvme-subsys0'));
  return root;
}

function start(t: TestContext, root: string, script: string, clock = handClock()) {
  const { log, lines } = captureLog();
  const askedPath = join(root, 'asked');
  const drives = createDrives({
    ...{ clock, log, root, runDirectory: join(root, 'run') },
    argvFor: (names) => [process.execPath, '-e', ASKED + script, askedPath, ...names],
  });
  const controller = new AbortController();
  const running = drives.run(controller.signal);
  const stop = async () => {
    controller.abort();
    await running;
  };
  t.after(stop);
  return {
    ...{ clock, drives, lines, stop },
    /** Until it waits for the time of something. */
    waits: async () => await untilWaiting(clock, running),
    asked: () => (existsSync(askedPath) ? readFileSync(askedPath, 'utf8') : ''),
    knows: async (so: (logs: DriveLogs) => boolean) => {
      while (!so(drives.logs())) await REAL.sleep(2, controller.signal);
    },
  };
}

const kept = (root: string) => readFileSync(join(root, 'run/drives.json'), 'utf8');
const isAny = (logs: DriveLogs) => Object.keys(logs).length > 0;

test('drives are asked some minutes after the start, a few times a day, and not by a restart', async (t) => {
  const root = board(t);
  const logs = { nvme0: healthPage(), nvme1: { error: 'no answer' } };
  const first = start(t, root, telling(logs));
  await first.waits();
  first.clock.advance(FIRST_MS - 1);
  assert.deepEqual(first.drives.logs(), {});
  first.clock.advance(1);
  await first.knows(isAny);
  assert.deepEqual(first.drives.logs(), logs);
  assert.equal(first.asked(), 'nvme0,nvme1\n');
  while (!existsSync(join(root, 'run/drives.json'))) await REAL.sleep(2, t.signal);
  await first.stop();

  const newer = { nvme0: healthPage({ used: 38 }), nvme1: healthPage() };
  const second = start(t, root, telling(newer), first.clock);
  await second.waits();
  assert.deepEqual(second.drives.logs(), logs, 'known from the start');
  second.clock.advance(EVERY_MS - 1);
  await second.waits();
  assert.equal(second.asked(), 'nvme0,nvme1\n');
  second.clock.advance(1);
  await second.knows((now) => JSON.stringify(now) === JSON.stringify(newer));
  assert.equal(second.asked(), 'nvme0,nvme1\n'.repeat(2));
});

test('what is kept of another boot, or is rubbish, is not known', async (t) => {
  const root = board(t);
  const logs = { nvme0: healthPage() };
  for (const text of [
    JSON.stringify({ boot: 'boot-0', monoMs: 0, logs }),
    JSON.stringify({ boot: 'boot-1', monoMs: '0', logs }),
    JSON.stringify({ boot: 'boot-1', monoMs: 0, logs: { nvme0: { page: 7 } } }),
    JSON.stringify({ boot: 'boot-1', monoMs: 0, logs: { nvme0: null } }),
    ...['', 'rubbish', '[]', JSON.stringify({ boot: 'boot-1', monoMs: 0 })],
  ]) {
    writeFileSync(join(root, 'run/drives.json'), text);
    const started = start(t, root, telling(logs));
    await started.waits();
    assert.deepEqual(started.drives.logs(), {}, text);
    await started.stop();
  }
});

test('a child that tells nothing is a trouble of each drive', async (t) => {
  for (const [script, hangs, said] of [
    ['process.exit(3)', false, 'it ended with 3'],
    ['console.log("[]")', false, 'what it printed are no health logs'],
    [telling({ nvme0: 7 }), false, 'what it printed are no health logs'],
    ['setInterval(() => 0, 1000)', true, 'it took longer than 60 s'],
  ] as const) {
    const root = board(t);
    const { clock, drives, lines, waits, knows } = start(t, root, script);
    await waits();
    clock.advance(FIRST_MS);
    if (hangs) {
      await waits();
      clock.advance(60_000);
    }
    await knows(isAny);
    assert.deepEqual(drives.logs(), { nvme0: { error: said }, nvme1: { error: said } });
    // Then it waits for its next time, which it does only when the child is gone.
    await waits();
    assert.ok(kept(root).includes(said));
    assert.match(JSON.stringify(lines), /have not told of their health/);
  }
});

test('a board without such drives starts no child', async (t) => {
  const root = makeTree(t, {});
  mkdirSync(join(root, 'run'));
  const { clock, waits, asked } = start(t, root, telling({}));
  await waits();
  clock.advance(FIRST_MS);
  await waits();
  assert.equal(asked(), '');
  assert.equal(existsSync(join(root, 'run/drives.json')), false);
});
