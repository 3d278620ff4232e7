import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nearest, parseOptions } from '../../src/command/arguments.ts';
import { CommandFailed } from '../../src/command/exit.ts';
import { age, printable, table } from '../../src/command/table.ts';
import { duration, podName, wholeNumber } from '../../src/command/values.ts';

const SPECS = {
  namespace: { type: 'string', short: 'n', help: '' },
  filename: { type: 'string', short: 'f', multiple: true, help: '' },
  follow: { type: 'boolean', short: 'F', help: '' },
  all: { type: 'boolean', short: 'A', help: '' },
  tail: { type: 'string', default: '10', help: '' },
} as const;

const parse = (...argv: string[]) => parseOptions('x', argv, SPECS);

test('all spellings of a value are the same', () => {
  for (const argv of [['--namespace', 'a'], ['--namespace=a'], ['-n', 'a'], ['-na'], ['-n=a']]) {
    assert.equal(parse(...argv, 'pod').options.namespace, 'a', argv.join(' '));
    assert.deepEqual(parse('pod', ...argv).words, ['pod']);
  }
  assert.deepEqual(parse('-f', 'a', '--filename=b', '-fc').options.filename, ['a', 'b', 'c']);
  assert.deepEqual(parse('-f', '-').options.filename, ['-']);
  assert.equal(parse('--tail', '-1').options.tail, '-1');
  assert.equal(parse().options.tail, '10');
  assert.equal(parse('--namespace=a=b').options.namespace, 'a=b');
});

test('booleans may be given a value and be joined', () => {
  assert.equal(parse('--follow').options.follow, true);
  assert.equal(parse('--follow=true').options.follow, true);
  assert.equal(parse('--follow=false').options.follow, false);
  assert.equal(parse().options.follow, false);
  const { options } = parse('-AF');
  assert.deepEqual([options.all, options.follow], [true, true]);
  assert.throws(() => parse('--follow=maybe'), CommandFailed);
});

test('behind two dashes everything is a word', () => {
  assert.deepEqual(parse('a', '--', '--follow', '-n').words, ['a', '--follow', '-n']);
});

test('the nearest name is found only when it is near', () => {
  const names = ['status', 'pods', 'logs', 'events', 'apply', 'delete', 'doctor', 'version'];
  const cases = { stat: 'status', lgos: 'logs', pod: 'pods', aply: 'apply', doktor: 'doctor' };
  for (const [word, expected] of Object.entries(cases))
    assert.equal(nearest(word, names), expected);
  for (const word of ['x', 'kubernetes', 'zzzz']) assert.equal(nearest(word, names), undefined);
});

test('ages are those of kubectl', () => {
  // From the test table of k8s.io/apimachinery/pkg/util/duration.
  const [second, minute, hour, day] = [1, 60, 3600, 86_400];
  const cases: [number, string][] = [
    [0, '0s'],
    [-3, '0s'],
    [second, '1s'],
    [2 * minute - 1, '119s'],
    [2 * minute, '2m'],
    [2 * minute + second, '2m1s'],
    [10 * minute - second, '9m59s'],
    [10 * minute, '10m'],
    [10 * minute + second, '10m'],
    [3 * hour - minute, '179m'],
    [3 * hour, '3h'],
    [3 * hour + minute, '3h1m'],
    [8 * hour - minute, '7h59m'],
    [8 * hour, '8h'],
    [8 * hour + 59 * minute, '8h'],
    [2 * day - hour, '47h'],
    [2 * day, '2d'],
    [2 * day + hour, '2d1h'],
    [8 * day - hour, '7d23h'],
    [8 * day, '8d'],
    [8 * day + 23 * hour, '8d'],
    [2 * 365 * day - hour, '729d'],
    [2 * 365 * day, '2y'],
    [2 * 365 * day + day, '2y1d'],
    [8 * 365 * day - day, '7y364d'],
    [8 * 365 * day, '8y'],
    [8 * 365 * day + 364 * day, '8y'],
  ];
  for (const [seconds, expected] of cases) assert.equal(age(seconds * 1000), expected);
});

test('a cell cannot break the table or move the cursor', () => {
  assert.equal(printable('a\r\nb\u001b[2Jc\u0000'), 'a b?[2Jc?');
  assert.equal(
    table(
      ['A', 'B'],
      [
        ['1\n2', 'x'],
        ['äöü', 'y'],
      ],
    ),
    'A     B\n1 2   x\näöü   y\n',
  );
});

test('durations, numbers and names say what they are when they are wrong', () => {
  assert.equal(duration('--since', '1h30m5s'), 5_405_000);
  assert.equal(duration('--since', '1.5h'), 5_400_000);
  assert.equal(duration('--since', '2d'), 172_800_000);
  for (const bad of ['', '5', 'h', '1h 2m', '-1s', '1x']) {
    assert.throws(() => duration('--since', bad), /--since is a duration/);
  }
  assert.equal(wholeNumber('--n', '07', { min: 0, max: 9 }), 7);
  for (const bad of ['', '1.5', '1e3', '0x10', '10', 'NaN', '9'.repeat(30)]) {
    assert.throws(() => wholeNumber('--n', bad, { min: 0, max: 9 }), /from 0 to 9/);
  }
  assert.equal(podName('pod/web-1'), 'web-1');
  assert.equal(podName('web.a'), 'web.a');
  for (const bad of ['', 'a/b', 'pod/', 'pod/a/b', '../x', 'A', '-a']) {
    assert.throws(() => podName(bad), /no name of a pod/);
  }
});
