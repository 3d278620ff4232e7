import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  interfacesOf,
  ioBytes,
  loadOf,
  memInfoBytes,
  numberOf,
  oneNumber,
  pressureOf,
  uptimeOf,
} from '../../src/usage/parse.ts';

test('numbers by their keys', () => {
  const stat = 'anon 4096\nfile 81920\ninactive_anon 1\ninactive_file 40960\npgfault 7';
  assert.equal(numberOf(stat, 'anon'), 4096);
  assert.equal(numberOf(stat, 'file'), 81920);
  assert.equal(numberOf(stat, 'inactive_file'), 40960);
  assert.equal(numberOf(stat, 'pgfault'), 7);
  assert.equal(numberOf(stat, 'non'), undefined);
  assert.equal(numberOf('usage_usec abc\n', 'usage_usec'), undefined);
  assert.equal(numberOf('usage_usec ', 'usage_usec'), undefined);
  assert.equal(numberOf(undefined, 'anon'), undefined);
  assert.equal(oneNumber('134217728\n'), 134_217_728);
  assert.equal(oneNumber('18446744073709551615\n'), 2 ** 64);
  for (const bad of ['max\n', '', '-1\n', '1 2\n', '\0\0']) assert.equal(oneNumber(bad), undefined);
});

test('bytes of all devices', () => {
  const text =
    '8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n' +
    '8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n';
  assert.deepEqual(ioBytes(text), { readBytes: 91_889_664, writeBytes: 613_781_504 });
  // A device that has done nothing is a line without figures.
  assert.deepEqual(ioBytes('8:0 \n'), { readBytes: 0, writeBytes: 0 });
  assert.deepEqual(ioBytes(''), { readBytes: 0, writeBytes: 0 });
  assert.equal(ioBytes(undefined), undefined);
});

test('pressures', () => {
  const some = 'some avg10=1.50 avg60=0.07 avg300=0.00 total=8062\n';
  const full = 'full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n';
  const data = { total: 8_062_000, avg10: 1.5, avg60: 0.07, avg300: 0 };
  assert.deepEqual(pressureOf(some), { some: data });
  assert.deepEqual(pressureOf(some + full), {
    some: data,
    full: { total: 12_000, avg10: 0, avg60: 0, avg300: 0 },
  });
  for (const bad of ['', 'some\n', 'some avg10=1.2.3 avg60=0 avg300=0 total=1\n', undefined]) {
    assert.equal(pressureOf(bad), undefined);
  }
});

test('interfaces', () => {
  const text = [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop …',
    '    lo: 2776770   11307    0    0    0     0          0         0  2776770   11307    0    0    0     0       0          0',
    '  eth0:1215645    2751    1    0    0     0          0         0  1782404    4324    2    0    0   427       0          0',
    'eth0:1: 10 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0',
    ' short: 1 2 3',
    '  odd0: a b c d e f g h i j k l m n o p',
    '',
  ].join('\n');
  assert.deepEqual(interfacesOf(text), [
    { name: 'eth0', rxBytes: 1_215_645, rxErrors: 1, txBytes: 1_782_404, txErrors: 2 },
    { name: 'eth0:1', rxBytes: 10, rxErrors: 0, txBytes: 20, txErrors: 0 },
  ]);
});

test('the node', () => {
  assert.deepEqual(loadOf('0.20 0.18 1.12 1/80 11206\n'), { load: [0.2, 0.18, 1.12], tasks: 80 });
  assert.equal(loadOf('rubbish'), undefined);
  assert.equal(uptimeOf('350735.47 234388.90\n'), 350_735.47);
  assert.equal(uptimeOf(''), undefined);
  const memInfo =
    'MemTotal:         948304 kB\nMemFree:          100 kB\nHugePages_Total:       0\n';
  assert.equal(memInfoBytes(memInfo, 'MemTotal'), 948_304 * 1024);
  assert.equal(memInfoBytes(memInfo, 'SwapTotal'), undefined);
});
