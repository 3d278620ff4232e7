// The loop over the sources: intervals, turns, events, and what outlives a restart.
import assert from 'node:assert/strict';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createHardware, type HardwareOptions } from '../../src/agent/hardware-loop.ts';
import { SOURCES } from '../../src/hardware/index.ts';
import type { HardwareSource, Sight } from '../../src/hardware/source.ts';
import type { Turn } from '../../src/node/board.ts';
import { PI_3, PI_4 } from '../hardware/boards.ts';
import { makeTree, REAL, type Tree } from '../hardware/tree.ts';
import { captureLog, handClock, type HandClock } from '../store/world.ts';

type Started = {
  readonly clock: HandClock;
  readonly root: string;
  readonly events: { type: string; reason: string; message: string }[];
  readonly turns: Turn[];
  readonly hardware: ReturnType<typeof createHardware>;
  stop(): Promise<void>;
  /** Lets time go by, in steps that the loop can follow. */
  pass(ms: number): Promise<void>;
};

function start(t: TestContext, tree: Tree | string, over: Partial<HardwareOptions> = {}): Started {
  const clock = (over.clock as HandClock | undefined) ?? handClock();
  const root = typeof tree === 'string' ? tree : makeTree(t, tree);
  mkdirSync(join(root, 'run'), { recursive: true });
  const events: Started['events'] = [];
  let reading = 0;
  const sources = (over.sources ?? SOURCES).map((source) => ({
    ...source,
    read: async (sight: Sight) => {
      reading += 1;
      return await source.read(sight).finally(() => (reading -= 1));
    },
  }));
  const hardware = createHardware({
    ...{ clock, root, log: captureLog().log, earliestWallMs: 0 },
    rootDirectory: '/var/lib/limpet',
    runDirectory: join(root, 'run'),
    isSynchronized: () => true,
    driveLogs: () => ({}),
    onEvent: (event) => events.push(event),
    ...over,
    sources,
  });
  const turns: Turn[] = [];
  hardware.onTurn((turn) => turns.push(turn));
  const controller = new AbortController();
  const running = hardware.run(controller.signal);
  const stop = async () => {
    controller.abort();
    await running;
  };
  t.after(stop);
  // Between two sources nothing is waited for, so a rest that lasts is the end of the round.
  const settle = async () => {
    for (let rest = 0; rest < 4; rest += 1) {
      await REAL.sleep(5, new AbortController().signal);
      if (reading > 0 || clock.timers === 0) rest = 0;
    }
  };
  const pass = async (ms: number) => {
    await settle();
    for (let passed = 0; passed < ms; passed += 10_000) {
      clock.advance(Math.min(10_000, ms - passed));
      await settle();
    }
  };
  return { clock, root, events, turns, hardware, stop, pass };
}

test('a turn is an event and a call; what does not turn is neither', async (t) => {
  const { root, events, turns, hardware, pass } = start(t, PI_4);
  await pass(10_000);
  const find = (type: string) => hardware.conditions().find((one) => one.type === type);
  assert.equal(find('Overheated')?.status, 'True');
  assert.equal(find('UnderVoltage')?.status, 'False');
  const first = turns.length;
  assert.ok(first >= 10);
  // What is well at the first look is no event.
  const bad = hardware.conditions().filter(({ status }) => status === 'True');
  assert.equal(events.filter(({ reason }) => reason !== 'LittleRoom').length, bad.length);
  assert.ok(events.every(({ type }) => type === 'Warning'));
  const since = find('Overheated')?.since;
  await pass(120_000);
  assert.equal(turns.length, first, 'no turn while nothing changes');
  writeFileSync(join(root, 'sys/class/thermal/thermal_zone0/temp'), '60000\n');
  await pass(120_000);
  assert.deepEqual(
    turns.slice(first).map(({ condition }) => `${condition.type} ${condition.status}`),
    ['Overheated False'],
  );
  assert.equal(events.at(-1)?.type, 'Normal');
  assert.match(events.at(-1)?.message ?? '', /^Overheated is False: 60 °C/);
  assert.notEqual(find('Overheated')?.since, since);
  assert.equal(hardware.facts()['model'], 'Raspberry Pi 4 Model B Rev 1.5');
  const figures = hardware.figures().map(({ name, of }) => `${name} ${of ?? ''}`);
  assert.equal(new Set(figures).size, figures.length);
});

test('a wall clock that jumps turns nothing but its own condition', async (t) => {
  const hand = handClock();
  const { now } = hand;
  let wallMs: number | undefined;
  const clock = Object.assign(hand, {
    now: () => ({ ...now(), ...(wallMs !== undefined && { wallMs }) }),
  });
  const { turns, pass } = start(t, PI_4, { clock, earliestWallMs: 1_700_000_000_000 });
  await pass(120_000);
  const first = turns.length;
  const fiftyYears = 50 * 365 * 86_400_000;
  for (const ms of [0, 1_800_000_000_000 + fiftyYears, 0]) {
    wallMs = ms;
    await pass(120_000);
  }
  assert.deepEqual(
    turns.slice(first).map(({ condition: c }) => `${c.type} ${c.reason} ${c.since}`),
    [
      'ClockUntrusted InThePast 1970-01-01T00:00:00Z',
      'ClockUntrusted Synchronized 2077-01-02T08:00:00Z',
      'ClockUntrusted InThePast 1970-01-01T00:00:00Z',
    ],
  );
});

test('a restart is no turn, a reboot is', async (t) => {
  const first = start(t, PI_3);
  await first.pass(10_000);
  await first.stop();
  const before = first.hardware.conditions();
  const second = start(t, first.root, { clock: first.clock });
  await second.pass(10_000);
  assert.deepEqual(second.turns, []);
  assert.deepEqual(second.hardware.conditions(), before);
  await second.stop();
  writeFileSync(join(first.root, 'run/board.json'), '{"boot":"another","conditions":[{}]}');
  const third = start(t, first.root, { clock: first.clock });
  await third.pass(10_000);
  assert.equal(third.turns.length, before.length);
  await third.stop();
  for (const rubbish of ['', 'rubbish', '[]', 'null', '{"boot":"boot-1","conditions":"none"}']) {
    writeFileSync(join(first.root, 'run/board.json'), rubbish);
    const again = start(t, first.root, { clock: first.clock });
    await again.pass(10_000);
    assert.equal(again.turns.length, before.length, rubbish);
    await again.stop();
  }
});

test('each source at its interval, what is not there seldom, and a broken one alone', async (t) => {
  const looked: Record<string, number> = {};
  const source = (name: string, everyMs: number, figures: boolean): HardwareSource => ({
    ...{ name, everyMs, keep: 2, types: [name] },
    read: () => {
      looked[name] = (looked[name] ?? 0) + 1;
      if (name.startsWith('Broken')) return Promise.reject(new Error('a bug'));
      const value = { name: 'one', value: 1, of: name };
      return Promise.resolve({ figures: figures ? [value] : [], facts: {}, troubles: [] });
    },
    judge: ({ samples }) =>
      samples.at(-1)?.troubles.map((message) => ({
        ...{ type: name, status: 'Unknown', reason: 'Unreadable', message },
      })) ?? [],
  });
  const sources = [
    ...[source('Often', 10_000, true), source('Seldom', 60_000, true)],
    ...[source('Absent', 10_000, false), source('Broken', 30_000, true)],
    // Once a day, but it can't be read.
    source('BrokenDaily', 24 * 3_600_000, true),
  ];
  const { hardware, pass, root } = start(t, {}, { sources });
  await pass(10_000);
  await pass(600_000);
  assert.deepEqual(looked, { Often: 61, Seldom: 11, Absent: 2, Broken: 21, BrokenDaily: 2 });
  const [broken] = hardware.conditions();
  assert.match(broken?.message ?? '', /the source Broken failed: a bug/);
  // Nothing is written while nothing turns.
  const { mtimeMs } = statSync(join(root, 'run/board.json'));
  await pass(60_000);
  assert.equal(statSync(join(root, 'run/board.json')).mtimeMs, mtimeMs);
});
