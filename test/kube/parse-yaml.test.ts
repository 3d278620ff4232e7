import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { createBudget, type ManifestNode } from '../../src/kube/manifest-node.ts';
import { parseYaml } from '../../src/kube/parse-yaml.ts';

function plain({ value }: ManifestNode): unknown {
  if (value instanceof Map) {
    const map = value as ReadonlyMap<string, ManifestNode>;
    return Object.fromEntries([...map].map(([key, node]) => [key, plain(node)]));
  }
  return Array.isArray(value) ? (value as ManifestNode[]).map(plain) : value;
}

const read = (text: string) => parseYaml(text, yaml, createBudget()).map(plain);

/** As sigs.k8s.io/yaml v1.6.0 reads them; 22,000 more texts were compared once. */
const VALUES: readonly [string, unknown][] = [
  ...['', '~', 'null', 'Null', 'NULL'].map((text) => [text, null] as [string, unknown]),
  ...['y', 'Y', 'yes', 'YES', 'true', 'True', 'on', 'ON'].map(
    (t) => [t, true] as [string, unknown],
  ),
  ...['n', 'N', 'no', 'NO', 'false', 'FALSE', 'off', 'Off'].map(
    (t) => [t, false] as [string, unknown],
  ),
  // Text that a parser of YAML 1.1 takes for something else.
  ...[
    '.',
    '..',
    '._',
    '._5',
    'e9',
    '-e7',
    'E4',
    '1:30',
    '1:30:20',
    '22:22',
    '2001-12-14',
    '1.2.3',
    '2001-12-14T00:00:00Z',
    '10.0.0.1',
    '1e',
    '0x',
    '0xg',
    '_1',
    '1e999',
    '+',
    'yEs',
    'nUll',
    '=',
    'tRue',
    '1 2',
    '100m',
    '64Mi',
    'a:b',
    'a#b',
    'http://x',
    '--x',
    '/',
    '*'.replace('*', 'a*'),
  ].map((text) => [text, text] as [string, unknown]),
  ['0644', 420],
  ['0o644', 420],
  ['-0644', -420],
  ['0899', 899],
  ['0_', 0],
  ['00', 0],
  ['-0', 0],
  ['0x1F', 31],
  ['-0x1f', -31],
  ['0b11', 3],
  ['1_000', 1000],
  ['+12', 12],
  ['.5', 0.5],
  ['5.', 5],
  ['-1.5e+3', -1500],
  ['1e3', 1000],
  ['0.0', 0],
  ['"1"', '1'],
  ["'yes'", 'yes'],
  ['""', ''],
  ['!!str 1', '1'],
  ['!!str', ''],
  ['"a\\x41\\u00e9\\n"', 'aAé\n'],
  ['|\n  yes\n   y\n\n', 'yes\n y\n'],
  ['|-\n  1\n', '1'],
  ['>\n  x\n  y\n\n  z\n', 'x y\nz\n'],
  ['a\n  b', 'a b'],
  ['&x z', 'z'],
  ['[a, 1, {c: yes}, ]', ['a', 1, { c: true }]],
  ['{a: b, "c": 0644, e}', { a: 'b', c: 420, e: null }],
];

test('values mean what they mean to the kubelet', () => {
  for (const [text, expected] of VALUES) {
    const [document] = read(`a: ${text}`) as { a: unknown }[];
    assert.deepEqual(document!.a, expected, text);
  }
});

test('keys are texts, whatever they look like', () => {
  assert.deepEqual(read('yes: 1\n0644: 2\n1.5: 3\n"no": 4\n.: 5'), [
    { true: 1, 420: 2, 1.5: 3, no: 4, '.': 5 },
  ]);
});

test('an alias is what was last anchored under its name, a merge fills in what is missing', () => {
  assert.deepEqual(read('- &a 1\n- *a\n- &a 2\n- *a'), [[1, 1, 2, 2]]);
  assert.deepEqual(read('a: &a {x: 1, w: 1}\nb: &b {w: 2, z: 2}\nc: {z: 3, <<: [*a, *b]}'), [
    { a: { x: 1, w: 1 }, b: { w: 2, z: 2 }, c: { z: 3, x: 1, w: 1 } },
  ]);
  assert.deepEqual(read('"<<": {a: 1}'), [{ '<<': { a: 1 } }], 'in quotes it is a key');
});

test('documents without anything in them are passed over', () => {
  assert.deepEqual(read('# a\n---\n---\na: 1\n...\n---\n~\n---\nb: 2\n'), [{ a: 1 }, { b: 2 }]);
  assert.deepEqual(read(''), []);
});

test('every node knows its line', () => {
  const [root] = parseYaml(
    '\n# x\na:\n  - b\n  -\n    c: |\n     text\n    d: 1',
    yaml,
    createBudget(),
  );
  const a = (root!.value as Map<string, ManifestNode>).get('a')!;
  const [b, map] = a.value as ManifestNode[];
  const fields = map!.value as Map<string, ManifestNode>;
  assert.deepEqual(
    [root!.line, a.line, b!.line, map!.line, fields.get('c')!.line, fields.get('d')!.line],
    [3, 4, 4, 6, 6, 8],
  );
});
