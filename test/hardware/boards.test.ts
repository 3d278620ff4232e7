// Each source on boards that are written down, then values that can't be and values that flap.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SOURCES } from '../../src/hardware/index.ts';
import type { Reading } from '../../src/hardware/source.ts';
import { board } from '../../src/hardware/board.ts';
import { fileSystemErrors } from '../../src/hardware/file-system-errors.ts';
import { link } from '../../src/hardware/link.ts';
import { readOnly } from '../../src/hardware/read-only.ts';
import { temperature } from '../../src/hardware/temperature.ts';
import { throttling } from '../../src/hardware/throttling.ts';
import { underVoltage } from '../../src/hardware/under-voltage.ts';
import { memory } from '../../src/hardware/memory.ts';
import type { Figure } from '../../src/node/board.ts';
import { PI_3, PI_4, PI_5, PI_ZERO_2_W, ROCK64 } from './boards.ts';
import { judgeAll, makeTree, reading, sightOf, turnsOf, word, type Tree } from './tree.ts';

type Seen = {
  readonly conditions: Readonly<Record<string, string>>;
  readonly messages: string;
  readonly facts: Readonly<Record<string, string>>;
  readonly figures: Readonly<Record<string, number>>;
  readonly troubles: readonly string[];
};

/** Looks `times` times, with every source. */
async function see(root: string, times = 1, over = {}): Promise<Seen> {
  const conditions: Record<string, string> = {};
  const messages: string[] = [];
  const all: Reading[] = [];
  for (const source of SOURCES) {
    const readings: Reading[] = [];
    const sight = sightOf(root, over);
    for (let index = 0; index < times; index++) readings.push(await source.read(sight));
    all.push(readings.at(-1)!);
    for (const { type, status, reason, message } of judgeAll(source, readings).at(-1) ?? []) {
      assert.ok(source.types.includes(type), `${source.name} may say ${type}`);
      // The space of the machine that runs the tests says nothing.
      if (type === 'StorageFull') continue;
      conditions[type] = `${status} ${reason}`;
      messages.push(`${type}: ${message}`);
    }
  }
  return {
    conditions,
    messages: messages.join('\n'),
    facts: Object.assign({}, ...all.map(({ facts }) => facts)) as Record<string, string>,
    figures: Object.fromEntries(
      all.flatMap(({ figures }) =>
        figures.map(({ name, of, value }) => [of === undefined ? name : `${name} ${of}`, value]),
      ),
    ),
    troubles: all.flatMap(({ troubles }) => troubles),
  };
}

const WELL = {
  Overheated: 'False TemperatureIsGood',
  ProcessorCapped: 'False ClockIsFree',
  StorageWorn: 'False LifeLeft',
  StorageErrors: 'False NoErrors',
  StorageReadOnly: 'False Writable',
  MemoryLow: 'False EnoughLeft',
  ClockUntrusted: 'False Synchronized',
  LinkDown: 'False LinkUp',
  LinkPoor: 'False LinkIsGood',
};

test('Raspberry Pi 3: a supply that dips', async (t) => {
  const seen = await see(makeTree(t, PI_3));
  assert.deepEqual(seen.troubles, []);
  assert.deepEqual(seen.conditions, {
    ...WELL,
    UnderVoltage: 'True SupplyTooWeak',
    Throttled: 'True HeldBack',
  });
  assert.match(seen.messages, /UnderVoltage: .*4\.63 V: use the power supply/);
  assert.match(seen.messages, /Throttled: .*\(throttled; 0x50005\)/);
  assert.equal(seen.facts['model'], 'Raspberry Pi 3 Model B Rev 1.2');
  assert.equal(seen.facts['serial'], '10000000a1b2c3d4');
  assert.equal(seen.facts['revision'], 'a02082');
  assert.equal(seen.facts['processor'], 'BCM2837');
  assert.equal(seen.facts['memory'], '1024 MiB');
  assert.equal(seen.facts['mmcblk0.name'], 'SC16G');
  assert.equal(seen.figures['temperature_celsius cpu-thermal'], 52.618);
  assert.equal(seen.figures['page_size_bytes'], 4096);
  assert.equal(seen.figures['disk_written_bytes mmcblk0'], 50 * 1024 ** 3);
  assert.equal(seen.figures['disk_written_since_boot_bytes mmcblk0'], 204_800 * 512);
  assert.equal(seen.figures['processor_clock_hertz policy0'], 600e6);
  assert.equal(seen.figures['link_speed_bits_per_second eth0'], 100e6);
});

test('Raspberry Pi 4: too hot', async (t) => {
  const seen = await see(makeTree(t, PI_4));
  assert.deepEqual(seen.troubles, []);
  assert.deepEqual(seen.conditions, {
    ...WELL,
    UnderVoltage: 'False SupplyIsGood',
    Throttled: 'True HeldBack',
    Overheated: 'True TooHot',
    WatchdogReset: 'Unknown KernelDoesNotTell',
  });
  assert.match(seen.messages, /Overheated: 82\.3 °C, .*heat sink/);
  assert.match(seen.messages, /WatchdogReset: the last start was a reboot or the watchdog/);
  assert.equal(seen.facts['memory'], '4096 MiB');
  assert.equal(seen.facts['processor'], 'BCM2711');
});

test('Raspberry Pi 5 with a kernel that does not tell of its voltage', async (t) => {
  const seen = await see(makeTree(t, PI_5), 1, { isSynchronized: () => false });
  assert.deepEqual(seen.troubles, []);
  assert.deepEqual(seen.conditions, {
    ...WELL,
    UnderVoltage: 'Unknown KernelDoesNotTell',
    Throttled: 'Unknown KernelDoesNotTell',
    ClockUntrusted: 'True NotSynchronized',
    WatchdogReset: 'False NoWatchdogReset',
  });
  assert.match(seen.messages, /ClockUntrusted: it goes on from rtc0/);
  assert.equal(seen.figures['page_size_bytes'], 16_384);
  assert.equal(seen.facts['processor'], 'BCM2712');
  assert.equal(seen.facts['memory'], '8192 MiB');
  assert.equal(seen.facts['last-reset'], 'power-on');
  assert.equal(seen.facts['nvme0n1.model'], 'KXG50ZNV256G');
});

test('Raspberry Pi Zero 2 W: a weak signal, and little memory left', async (t) => {
  const seen = await see(makeTree(t, PI_ZERO_2_W));
  assert.deepEqual(seen.troubles, []);
  assert.deepEqual(seen.conditions, {
    ...WELL,
    UnderVoltage: 'False SupplyIsGood',
    Throttled: 'False NotHeldBack',
    MemoryLow: 'True LittleLeft',
    LinkPoor: 'True WeakSignal',
  });
  assert.match(seen.messages, /wlan0 hears its access point at -83 dBm/);
  assert.match(seen.messages, /MemoryLow: 17 of 425 MiB available/);
});

test('another board: it has fewer, and what it has is judged', async (t) => {
  const seen = await see(makeTree(t, ROCK64));
  assert.deepEqual(seen.troubles, []);
  assert.deepEqual(seen.conditions, {
    ...WELL,
    StorageWorn: 'True NearlyWorn',
    LinkPoor: 'True SlowLink',
    WatchdogReset: 'True ResetByWatchdog',
  });
  assert.match(
    seen.messages,
    /StorageWorn: mmcblk1: up to 100 % of its life is used: make a backup/,
  );
});

test('values that can not be are troubles, not temperatures', async (t) => {
  for (const [milli, shown] of [
    [-274_000, '-274'],
    [4_000_000, '4000'],
  ] as const) {
    const root = makeTree(t, { ...PI_4, 'sys/class/thermal/thermal_zone0/temp': `${milli}\n` });
    const seen = await see(root, 3);
    assert.equal(seen.conditions['Overheated'], 'Unknown Unreadable');
    assert.match(seen.messages, new RegExp(`temp can't be: ${shown} is not within -55 to 150`));
  }
  const wrong: Tree = {
    ...ROCK64,
    'sys/block/mmcblk1/device/life_time': '0x0c 0xff\n',
    'sys/block/mmcblk1/device/pre_eol_info': '0x09\n',
    'sys/fs/ext4/mmcblk1p1/errors_count': '-1\n',
    'sys/fs/ext4/mmcblk1p1/lifetime_write_kbytes': '99999999999999999999\n',
    'sys/class/net/end0/operstate': 'sideways\n',
  };
  const seen = await see(makeTree(t, wrong), 3);
  for (const type of ['StorageWorn', 'StorageErrors', 'LinkDown']) {
    assert.equal(seen.conditions[type], 'Unknown Unreadable', type);
  }
});

const hot = (celsius: number): Reading =>
  reading({ figures: [{ name: 'temperature_celsius', value: celsius, of: 'cpu-thermal' }] });

test('a temperature that flaps turns once, and one wild value does not turn it', () => {
  const statuses = (values: readonly number[]) =>
    turnsOf(temperature, 'Overheated', values.map(hot)).map((one) => one.split(' ')[0]);
  const flapping = [81, 79, 81, 79, 81, 79, 76, 81];
  assert.deepEqual(new Set(statuses(flapping)), new Set(['True']));
  assert.equal(statuses([...flapping, 74, 74]).at(-1), 'False');
  assert.deepEqual(new Set(statuses([50, 50, 120, 50, 50])), new Set(['False']));
});

test('a reading that fails once takes nothing back', () => {
  const bad = reading({ troubles: ["can't read temp: EIO"] });
  const turns = turnsOf(temperature, 'Overheated', [hot(85), bad, bad, bad, hot(85)]);
  assert.deepEqual(turns, [
    'True TooHot',
    'True TooHot',
    'True TooHot',
    'Unknown Unreadable',
    'True TooHot',
  ]);
});

test('dips of the voltage are one turn until ten minutes are calm', () => {
  const volts = (alarm: number) => reading({ figures: [{ name: 'under_voltage', value: alarm }] });
  const calm = Array.from({ length: 59 }, () => 0);
  const turns = turnsOf(underVoltage, 'UnderVoltage', [0, 1, 0, 1, ...calm, 0].map(volts));
  assert.equal(turns[0], 'False SupplyIsGood');
  assert.deepEqual(new Set(turns.slice(1, -1)), new Set(['True SupplyTooWeak']));
  assert.equal(turns.at(-1), 'False SupplyIsGood');
});

test('what the firmware remembers from before the first look is no news, but from then on it is', () => {
  const bits = (value: number) => reading({ figures: [{ name: 'throttled_bits', value }] });
  assert.deepEqual(turnsOf(throttling, 'Throttled', [bits(0xe0000), bits(0)]), [
    'False NotHeldBack',
    'False NotHeldBack',
  ]);
  assert.equal(turnsOf(throttling, 'Throttled', [bits(0), bits(0x20000)])[1], 'True HeldBack');
});

const ALARM = (alarm: number) => reading({ figures: [{ name: 'under_voltage', value: alarm }] });

test('an agent that starts again does not take back what it has not watched for long', () => {
  const at = { monoMs: 0, wallMs: 0, boot: 'boot-1' };
  const samples = [{ ...ALARM(0), at }];
  const before = [
    { type: 'UnderVoltage', status: 'True', reason: 'SupplyTooWeak', message: '' } as const,
  ];
  assert.equal(underVoltage.judge({ samples, before }, at)[0]?.status, 'True');
  const many = Array.from({ length: 60 }, () => samples).flat();
  assert.equal(underVoltage.judge({ samples: many, before }, at)[0]?.status, 'False');
});

test('two zones of one type: the hot one counts', async (t) => {
  const root = makeTree(t, {
    'sys/class/thermal/thermal_zone0/type': 'acpitz\n',
    'sys/class/thermal/thermal_zone0/temp': '30000\n',
    'sys/class/thermal/thermal_zone1/type': 'acpitz\n',
    'sys/class/thermal/thermal_zone1/temp': '90000\n',
  });
  const read = await temperature.read(sightOf(root));
  assert.deepEqual(
    read.figures.map(({ of, value }) => [of, value]),
    [
      ['acpitz', 30],
      ['acpitz (thermal_zone1)', 90],
    ],
  );
  assert.deepEqual(turnsOf(temperature, 'Overheated', [read, read, read]).at(-1), 'True TooHot');
});

test('a file system with errors that can not be asked is not one without', () => {
  const look = (errors: Readonly<Record<string, number>>, troubles: readonly string[] = []) =>
    reading({
      figures: Object.entries(errors).map(([of, value]) => ({
        ...{ name: 'file_system_errors', value, of },
      })),
      troubles,
    });
  const bad = look({ sda1: 3, sdb1: 0 });
  const blind = look({ sdb1: 0 }, ["can't read /sys/fs/ext4/sda1/errors_count: EIO"]);
  const turns = turnsOf(fileSystemErrors, 'StorageErrors', [bad, blind, blind, blind, blind, bad]);
  assert.deepEqual(turns, [
    ...['True ErrorsFound', 'True ErrorsFound', 'True ErrorsFound'],
    ...['Unknown Unreadable', 'Unknown Unreadable', 'True ErrorsFound'],
  ]);
  // It was unmounted.
  assert.deepEqual(turnsOf(fileSystemErrors, 'StorageErrors', [bad, look({ sdb1: 0 })]), [
    ...['True ErrorsFound', 'False NoErrors'],
  ]);
});

test('a look that fails, or a file that always does, hides no mount that turned', () => {
  const blind = reading({ troubles: ["can't read /proc/self/mountinfo: EIO"] });
  const looks = [mount([1]), blind, mount([0])];
  assert.equal(turnsOf(readOnly, 'StorageReadOnly', looks).at(-1), 'True TurnedReadOnly');
  const troubled = (writable: readonly number[]) => ({ ...mount(writable), troubles: ['a: EIO'] });
  const turns = turnsOf(readOnly, 'StorageReadOnly', [troubled([1]), troubled([0])]);
  assert.deepEqual(turns, ['False Writable', 'True TurnedReadOnly']);
});

test('a root that has no device of its name', async (t) => {
  const root = makeTree(t, {
    'proc/self/mountinfo':
      '21 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw,errors=remount-ro\n',
    'sys/dev/block/179:2/uevent': 'MAJOR=179\nMINOR=2\nDEVNAME=mmcblk0p2\nDEVTYPE=partition\n',
    'sys/fs/ext4/mmcblk0p2/errors_count': '4\n',
  });
  const { figures } = await readOnly.read(sightOf(root));
  const errors = figures.find(({ name }) => name === 'file_system_stopping_errors');
  assert.deepEqual(errors, { name: 'file_system_stopping_errors', value: 4, of: '/ (/dev/root)' });
});

test('as many mounts as many pods have', async (t) => {
  const line = (index: number) =>
    `${index} 21 0:${index} / /run/containerd/${index} rw - overlay overlay rw,lowerdir=${'/layer'.repeat(200)}\n`;
  const text = Array.from({ length: 330 }, (_, index) => line(index + 100)).join('');
  const root = makeTree(t, {
    ...PI_4,
    'proc/self/mountinfo': `${text}${String(PI_4['proc/self/mountinfo'])}`,
  });
  const { figures, troubles } = await readOnly.read(sightOf(root));
  assert.deepEqual(troubles, []);
  assert.ok(figures.some(({ of }) => of === '/ (/dev/mmcblk0p2)'));
});

test('a weak signal that has other reasons beside it keeps its own limits', () => {
  const look = (dbm: number, speed: number) =>
    reading({
      figures: [
        { name: 'link_up', value: 1, of: 'wlan0' },
        { name: 'link_signal_dbm', value: dbm, of: 'wlan0' },
        { name: 'link_speed_bits_per_second', value: speed, of: 'eth0' },
      ],
    });
  // -77 dBm would do, had it been weaker before; a slow cable is no reason to say so.
  const turns = turnsOf(link, 'LinkPoor', [look(-77, 10e6), look(-77, 10e6), look(-77, 100e6)]);
  assert.deepEqual(turns, ['True SlowLink', 'True SlowLink', 'True SlowLink']);
  assert.equal(
    turnsOf(link, 'LinkPoor', Array(4).fill(look(-77, 100e6)) as Reading[])[3],
    'False LinkIsGood',
  );
});

test('a serial number that is empty is none', async (t) => {
  const root = makeTree(t, {
    'sys/class/dmi/id/sys_vendor': 'QEMU\n',
    'sys/class/dmi/id/product_name': 'Standard PC\n',
    'sys/class/dmi/id/product_serial': '\n',
  });
  const { facts, troubles } = await board.read(sightOf(root));
  assert.deepEqual({ facts, troubles }, { facts: { model: 'QEMU Standard PC' }, troubles: [] });
});

const mount = (writable: readonly number[]): Reading =>
  reading({
    figures: writable.map((value, index) => ({
      ...{ name: 'file_system_writable', value, of: `/mnt${index} (/dev/sda${index})` },
    })),
  });

test('a mount that was writable turns read-only, and is that until it is writable again', () => {
  const looks = [mount([1, 0]), mount([0, 0]), mount([0, 0]), mount([0, 0]), mount([1, 0])];
  assert.deepEqual(turnsOf(readOnly, 'StorageReadOnly', looks), [
    'False Writable',
    ...Array.from({ length: 3 }, () => 'True TurnedReadOnly'),
    'False Writable',
  ]);
  const [, lost] = judgeAll(readOnly, looks);
  assert.match(lost?.[0]?.message ?? '', /^\/mnt0 \(\/dev\/sda0\) can't be written/);
});

test('a kernel that shows a file system writable which an error has stopped', () => {
  const look = (errors: number): Reading =>
    reading({
      figures: [
        { name: 'file_system_writable', value: 1, of: '/ (/dev/mmcblk0p2)' },
        { name: 'file_system_stopping_errors', value: errors, of: '/ (/dev/mmcblk0p2)' },
      ],
    });
  // The first errors are from before: they may have been lived with.
  assert.deepEqual(turnsOf(readOnly, 'StorageReadOnly', [2, 2, 3, 3, 0].map(look)), [
    ...['False Writable', 'False Writable', 'True TurnedReadOnly', 'True TurnedReadOnly'],
    'False Writable',
  ]);
});

test('memory: on below 5 %, off above 10 %', () => {
  const left = (percent: number) =>
    reading({
      figures: [
        { name: 'memory_total_bytes', value: 1e9 },
        { name: 'memory_available_bytes', value: percent * 1e7 },
      ],
    });
  const turns = turnsOf(memory, 'MemoryLow', [20, 6, 4, 6, 9, 11].map(left));
  assert.deepEqual(
    turns.map((one) => one.split(' ')[0]),
    ['False', 'False', 'True', 'True', 'True', 'False'],
  );
});

test('links: one that goes is missed, one that never was is not, and one turned off is not', () => {
  const look = (...all: readonly (readonly [of: string, up: number, enabled: number])[]) =>
    reading({
      figures: all.flatMap(([of, up, enabled]): Figure[] => [
        { name: 'link_up', value: up, of },
        { name: 'link_enabled', value: enabled, of },
      ]),
    });
  const both = look(['eth0', 1, 1], ['wlan0', 0, 1]);
  const none = look(['eth0', 0, 1], ['wlan0', 0, 1]);
  const other = look(['eth0', 0, 1], ['wlan0', 1, 1]);
  const off = look(['eth0', 0, 0], ['wlan0', 1, 1]);
  assert.deepEqual(turnsOf(link, 'LinkDown', [both, both, none, none, both, none, both]), [
    ...['False LinkUp', 'False LinkUp', 'False LinkUp', 'True NoLink', 'False LinkUp'],
    ...['False LinkUp', 'False LinkUp'],
  ]);
  const turns = turnsOf(link, 'LinkDown', [both, other, other, off]);
  assert.deepEqual(turns, ['False LinkUp', 'False LinkUp', 'True LinkLost', 'False LinkUp']);
  assert.deepEqual(turnsOf(link, 'LinkDown', [none, none]), ['Unknown NotKnownYet', 'True NoLink']);
});

test('links: many changes in a short time', () => {
  const looks = [0, 2, 4, 6, 6, 6].map((changes) =>
    reading({
      figures: [
        { name: 'link_up', value: 1, of: 'eth0' },
        { name: 'link_changes', value: changes, of: 'eth0' },
      ],
    }),
  );
  assert.equal(turnsOf(link, 'LinkPoor', looks)[2], 'False LinkIsGood');
  assert.equal(turnsOf(link, 'LinkPoor', looks)[3], 'True LinkFlaps');
});

test('an empty machine has no conditions but those of its clock', async (t) => {
  const seen = await see(makeTree(t, { 'proc/device-tree/system/linux,revision': word(0xd) }));
  assert.deepEqual(seen.conditions, { ClockUntrusted: 'False Synchronized' });
  assert.equal(seen.facts['revision'], 'd');
});
