import assert from 'node:assert/strict';
import { test } from 'node:test';

import { commandAndArgs, containerEnvironment, expand } from '../../src/pod/environment.ts';

const KNOWN: Readonly<Record<string, string>> = { A: 'a', B: 'b', EMPTY: '', LOOP: '$(A)' };

// The cases of Kubernetes' own table (third_party/forked/golang/expansion) among them.
for (const [input, wanted] of [
  ['', ''],
  ['plain', 'plain'],
  ['$(A)', 'a'],
  ['-$(A)-', '-a-'],
  ['$(A)$(B)', 'ab'],
  ['$(EMPTY)', ''],
  ['$(LOOP)', '$(A)'],
  ['$(MISSING)', '$(MISSING)'],
  ['$$(A)', '$(A)'],
  ['$$$(A)', '$a'],
  ['$$$$(A)', '$$(A)'],
  ['$$$$$(A)', '$$a'],
  ['foo$$bar', 'foo$bar'],
  ['$', '$'],
  ['$$', '$'],
  ['$$$', '$$'],
  ['foo$', 'foo$'],
  ['$A', '$A'],
  ['$(A', '$(A'],
  ['$(A$(B)', '$(A$(B)'],
  ['$()', '$()'],
  ['$(A', '$(A'],
  ['A)', 'A)'],
  ['$((A))', '$((A))'],
  ['$$(A)$(B)', '$(A)b'],
  ['\n$(A)\n', '\na\n'],
  ['$ö$(A)', '$öa'],
  ['$😀$(A)', '$😀a'],
  ['$(constructor)', '$(constructor)'],
] as const) {
  test(`expand ${JSON.stringify(input)}`, () => {
    const lookUp = (name: string) => (Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined);
    assert.equal(expand(input, lookUp), wanted);
  });
}

test('a variable sees those before it, and not those after it', () => {
  const env = [
    { name: 'EARLY', value: '$(LATE)' },
    { name: 'A', value: '1' },
    { name: 'SUM', value: '$(A)+$(A)' },
    { name: 'A', value: '$(A)2' },
    { name: 'LATE', value: 'x' },
    { name: 'NONE', value: '' },
    { name: '__proto__', value: 'p' },
    { name: 'P', value: '$(__proto__)$(toString)' },
  ];
  assert.deepEqual(containerEnvironment({ env }), [
    { key: 'EARLY', value: '$(LATE)' },
    { key: 'A', value: '12' },
    { key: 'SUM', value: '1+1' },
    { key: 'LATE', value: 'x' },
    { key: 'NONE', value: '' },
    { key: '__proto__', value: 'p' },
    { key: 'P', value: 'p$(toString)' },
  ]);
});

test('env overrides envFrom, and both override services', () => {
  const env = [{ name: 'URL', value: '$(DB_SERVICE_HOST):$(PORT)/$(SHARED)' }];
  const from = new Map([
    ['PORT', '5432'],
    ['URL', 'of the config map'],
    ['SHARED', 'from'],
  ]);
  const service = new Map([
    ['DB_SERVICE_HOST', '10.96.0.5'],
    ['SHARED', 'service'],
  ]);
  assert.deepEqual(containerEnvironment({ env }, { from, service }), [
    { key: 'PORT', value: '5432' },
    { key: 'URL', value: '10.96.0.5:5432/from' },
    { key: 'SHARED', value: 'from' },
    { key: 'DB_SERVICE_HOST', value: '10.96.0.5' },
  ]);
  assert.equal(from.get('URL'), 'of the config map', 'what was handed in stays as it was');
});

test('command and arguments', () => {
  const environment = [{ key: 'WHO', value: 'you' }];
  assert.deepEqual(
    commandAndArgs({ command: ['echo', 'hi $(WHO)'], args: ['$$(WHO)', '$(X)'] }, environment),
    { command: ['echo', 'hi you'], args: ['$(WHO)', '$(X)'] },
  );
  assert.deepEqual(commandAndArgs({}, environment), { command: [], args: [] });
});
