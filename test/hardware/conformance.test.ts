// What every source of the list has to stand: whatever the files are, it answers, soon, and never
// takes rubbish for a fact.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SOURCES } from '../../src/hardware/index.ts';
import type { Reading } from '../../src/hardware/source.ts';
import { PI_4, PI_5, PI_ZERO_2_W, ROCK64 } from './boards.ts';
import { judgeAll, makeTree, sightOf, type Tree } from './tree.ts';

/** A board that has everything. */
const ALL: Tree = { ...PI_5, ...PI_ZERO_2_W, ...ROCK64, ...PI_4 };
const PATHS = Object.keys(ALL);
const TYPES = SOURCES.flatMap(({ types }) => types);
/** A board with a bad look at each file has to answer within this. */
const SOON_MS = 5000;

type Spoil = (path: string) => void;

const fifo: Spoil = (path) => void execFileSync('mkfifo', [path]);
const of =
  (content: string | Uint8Array): Spoil =>
  (path) =>
    writeFileSync(path, content);

/** What is well and what is not, just so. */
const CALM: Tree = {
  'sys/class/hwmon/hwmon1/in0_lcrit_alarm': '0\n',
  'sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled': '0\n',
  'sys/class/thermal/thermal_zone0/temp': '79900\n',
  'sys/class/net/eth0/speed': '100\n',
  'proc/net/wireless': wireless(-79),
  'proc/meminfo': 'MemTotal: 1000000 kB\nMemAvailable: 51000 kB\n',
};
const BAD: Tree = {
  'sys/class/hwmon/hwmon1/in0_lcrit_alarm': '1\n',
  'sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled': '4\n',
  'sys/class/thermal/thermal_zone0/temp': '80100\n',
  'sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq': '600000\n',
  'sys/class/net/eth0/speed': '10\n',
  'proc/net/wireless': wireless(-81),
  'proc/meminfo': 'MemTotal: 1000000 kB\nMemAvailable: 49000 kB\n',
};

function wireless(level: number): string {
  return `one line\nanother\n wlan0: 0000   27.  ${level}.  -256        0      0      0      0     10        0\n`;
}

/** All of these go in place of a file. */
const SPOILS: Readonly<Record<string, Spoil>> = {
  missing: () => undefined,
  empty: of(''),
  'a line end': of('\n'),
  rubbish: of(Uint8Array.from({ length: 300 }, (_, index) => (index * 7919) % 256)),
  words: of('nothing that anybody would expect here 12 34 \u001b[2J\n'),
  'below any range': of('-99999999\n'),
  'above any range': of('99999999999999999999\n'),
  'not a number': of('NaN\n'),
  huge: of('1 '.repeat(500_000)),
  'huge, of one line': of('a'.repeat(1_000_000)),
  'more than is read': of('1\n'.repeat(1_000_000)),
  'a number with an exponent': of('1.5e9\n'),
  'zero bytes': of(new Uint8Array(16)),
  'the largest word': of('18446744073709551615\n'),
  'a FIFO that nobody writes to': fifo,
  'a directory': (path) => void mkdirSync(path),
  'a link to a device that never ends': (path) => symlinkSync('/dev/zero', path),
  'a link to itself': (path) => symlinkSync(path, path),
};

/** Looks with each source, and holds what must always hold. */
async function lookWithAll(root: string, times = 3): Promise<ReadonlyMap<string, string>> {
  const statuses = new Map<string, string>();
  for (const source of SOURCES) {
    const sight = sightOf(root, { isSynchronized: () => undefined });
    const readings: Reading[] = [];
    for (let index = 0; index < times; index++) readings.push(await source.read(sight));
    for (const { figures, facts, troubles } of readings) {
      for (const { name, value } of figures) {
        assert.ok(Number.isFinite(value), `${name} is a number`);
        assert.match(name, /^[a-z0-9_]+$/);
      }
      const named = figures.map(({ name, of }) => `${name} ${of ?? ''}`);
      assert.equal(new Set(named).size, named.length, 'no figure twice');
      for (const { name, of } of figures) {
        if (of !== undefined) assert.match(of, /^[\x20-\x7e]{1,256}$/, name);
      }
      for (const [name, value] of Object.entries(facts)) {
        assert.match(value, /^[\x20-\x7e]{1,128}$/, name);
      }
      assert.ok(troubles.length <= 8);
      for (const trouble of troubles) assert.ok(trouble.length < 300, trouble);
    }
    for (const { type, status, reason, message } of judgeAll(source, readings).at(-1) ?? []) {
      assert.ok(source.types.includes(type), `${source.name} says ${type}`);
      assert.match(reason, /^[A-Z][A-Za-z]+$/);
      assert.ok(message.length > 0 && message.length < 1024);
      statuses.set(type, status);
    }
  }
  // It depends on the machine that runs the tests.
  statuses.delete('StorageFull');
  return statuses;
}

test('each type and each source is there once, and no source looks often', () => {
  assert.equal(new Set(TYPES).size, TYPES.length);
  assert.equal(new Set(SOURCES.map(({ name }) => name)).size, SOURCES.length);
  for (const { name, everyMs, keep } of SOURCES) {
    assert.ok(everyMs >= 10_000, name);
    assert.ok(keep >= 1 && keep <= 60, name);
  }
});

test('each source has figures, and conditions of all its types, where the board has it all', async (t) => {
  const root = makeTree(t, ALL);
  for (const source of SOURCES) {
    const read = await source.read(sightOf(root));
    assert.ok(read.figures.length > 0, source.name);
    const types = judgeAll(source, [read, read])
      .at(-1)
      ?.map(({ type }) => type);
    assert.deepEqual(types, source.types, source.name);
  }
});

test('what is pulled out, or can not be read any more, is not said to be bad for ever', async (t) => {
  const root = makeTree(t, ALL);
  for (const source of SOURCES) {
    const read = await source.read(sightOf(root));
    for (const troubles of [[], ['a file: EIO']]) {
      const none = { figures: [], facts: {}, troubles };
      const looks = [read, read, ...Array.from({ length: source.keep + 3 }, () => none)];
      const all = judgeAll(source, looks);
      const before = all[1]?.map(({ type }) => type) ?? [];
      const after = new Map(all.at(-1)?.map(({ type, status }) => [type, status]));
      for (const type of before) assert.equal(after.get(type), 'Unknown', `${type} ${troubles[0]}`);
    }
  }
});

test('values at both ends in turn: no condition turns with each of them', async (t) => {
  const calm = makeTree(t, { ...ALL, ...CALM });
  const bad = makeTree(t, { ...ALL, ...BAD });
  for (const source of SOURCES) {
    const looks: Reading[] = [];
    for (let index = 0; index < 40; index += 1) {
      const isBad = index % 2 === 1;
      const isSynchronized = () => !isBad;
      looks.push(await source.read(sightOf(isBad ? bad : calm, { isSynchronized })));
    }
    const all = judgeAll(source, looks);
    for (const type of source.types) {
      const statuses = all.map((one) => {
        const found = one.find((verdict) => verdict.type === type);
        return `${found?.status} ${found?.reason}`;
      });
      const turns = statuses.slice(1).filter((status, index) => status !== statuses[index]);
      assert.ok(turns.length <= 2, `${type}: ${turns.join(', ')}`);
    }
  }
});

test('each source judges from its arguments alone', async (t) => {
  const root = makeTree(t, ALL);
  for (const source of SOURCES) {
    const read = await source.read(sightOf(root));
    const frozen = JSON.stringify(read);
    assert.deepEqual(judgeAll(source, [read, read, read]), judgeAll(source, [read, read, read]));
    assert.equal(JSON.stringify(read), frozen);
  }
});

for (const [kind, spoil] of Object.entries(SPOILS)) {
  test(`every file is ${kind}`, async (t) => {
    const root = makeTree(t, ALL);
    for (const path of PATHS) {
      rmSync(join(root, path));
      spoil(join(root, path));
    }
    const began = performance.now();
    const statuses = await lookWithAll(root);
    assert.ok(performance.now() - began < SOON_MS);
    for (const [type, status] of statuses) assert.notEqual(status, 'True', type);
  });
}

test('one file is spoilt: what does not need it is as before', async (t) => {
  const root = makeTree(t, ALL);
  const before = await lookWithAll(root, 1);
  let asBefore = 0;
  let judgements = 0;
  for (const path of PATHS) {
    const full = join(root, path);
    const content = readFileSync(full);
    for (const kind of ['missing', 'rubbish'] as const) {
      rmSync(full, { force: true });
      SPOILS[kind]?.(full);
      const after = await lookWithAll(root, 1);
      const turned = [...before].filter(([type, status]) => after.get(type) !== status);
      // The firmware is asked for two conditions, and a disk has several.
      assert.ok(turned.length <= 2, `${path} ${kind}: ${turned.map(String).join(' ')}`);
      for (const [type, status] of after) {
        // Fewer files are never a new evil.
        if (status === 'True') assert.equal(before.get(type), 'True', `${path} ${kind} ${type}`);
      }
      asBefore += before.size - turned.length;
      judgements += before.size;
    }
    rmSync(full, { force: true });
    writeFileSync(full, content);
  }
  t.diagnostic(`${asBefore} of ${judgements} judgements as before`);
});

test('a tree with no end of names', async (t) => {
  const root = makeTree(t, ALL);
  for (let index = 0; index < 2000; index++) {
    mkdirSync(join(root, `sys/class/thermal/thermal_zone${index + 10}`));
  }
  await lookWithAll(root);
});
