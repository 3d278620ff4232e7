/** Whatever is thrown at the parser, it answers with pods or problems, and soon. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { LIMITS } from '../../src/base/limits.ts';
import { seededRandom, type Random } from '../../src/base/random.ts';
import { FIELDS } from '../../src/kube/field-tables.ts';
import { formatProblem, ManifestSyntaxError } from '../../src/kube/manifest-node.ts';
import { decodeManifest, parseManifest, type ParseResult } from '../../src/kube/parse.ts';

const FOLDER = new URL('../manifests/', import.meta.url);
const SEEDS = readdirSync(FOLDER).map((name) => readFileSync(new URL(name, FOLDER), 'utf8'));

/** Milliseconds of processor for one text: at most 400 when measured, and once it was 15,000. */
const PATIENCE_MS = 3000;

function parse(text: string): ParseResult {
  const began = process.cpuUsage();
  const result = parseManifest(text, yaml, 'api');
  const { user, system } = process.cpuUsage(began);
  const tookMs = (user + system) / 1000;
  assert.ok(tookMs < PATIENCE_MS, `took ${tookMs} ms: ${text.slice(0, 100)}`);
  if (result.problems.length === 0) {
    assert.ok(result.pods.length > 0, 'neither a pod nor a problem');
    for (const pod of result.pods) {
      assert.match(pod.metadata.name, /^[a-z0-9.-]{1,253}$/);
      assert.ok(pod.spec.containers.length > 0);
      for (const container of pod.spec.containers) assert.notEqual(container.image, '');
      assert.deepEqual(JSON.parse(JSON.stringify(pod)), pod, 'no plain data');
    }
  } else {
    assert.equal(result.pods.length, 0);
    assert.ok(result.problems.length <= 100 * 21);
    for (const problem of result.problems) {
      const line = formatProblem('f', problem);
      assert.ok(line.length < 2000, line);
      assert.doesNotMatch(line, /\n|undefined|\[object|NaN:/);
    }
  }
  return result;
}

const pick = <T>(random: Random, list: readonly T[]): T =>
  list[Math.floor(random.next() * list.length)]!;

const PIECES = [
  ...[
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '- ',
    '? ',
    '"',
    "'",
    '|',
    '>',
    '#',
    '&a ',
    '*a',
    '<<: *a',
    '!x ',
  ],
  ...['\n', '\r\n', '\t', ' ', '\0', '\uFEFF', '\u2028', '\ud800', '---\n', '...\n', '%YAML 1.2\n'],
  ...['null', '~', 'yes', '0644', '1e999', '-1', '.nan', '99999999999999999999', '..', '/', 'é'],
  ...Object.values(FIELDS).flatMap(({ carried, later }) => [...carried, ...later]),
];

function mutate(text: string, random: Random): string {
  const at = Math.floor(random.next() * text.length);
  const size = Math.floor(random.next() ** 3 * 80);
  const lines = text.split('\n');
  const line = Math.floor(random.next() * lines.length);
  switch (Math.floor(random.next() * 8)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return text.slice(0, at) + text.slice(at + size);
    case 2:
      return text.slice(0, at) + pick(random, PIECES) + text.slice(at);
    case 3:
      return text.slice(0, at) + pick(random, PIECES) + text.slice(at + size);
    case 4:
      return text.slice(0, at) + text.slice(at, at + size).repeat(3) + text.slice(at + size);
    case 5:
      return lines.toSpliced(line, 1).join('\n');
    case 6:
      return lines.toSpliced(line, 0, pick(random, lines)).join('\n');
    default:
      return lines.with(line, `${' '.repeat(size % 9)}${lines[line]!.trim()}`).join('\n');
  }
}

test('thousands of damaged manifests give pods or problems, and nothing else', () => {
  const random = seededRandom(20261121);
  const counts = { pods: 0, problems: 0 };
  for (let round = 0; round < 2000; round += 1) {
    let text = pick(random, SEEDS);
    for (let change = 0; change <= random.next() * 4; change += 1) text = mutate(text, random);
    const { problems } = parse(text);
    counts[problems.length === 0 ? 'pods' : 'problems'] += 1;
  }
  // Both ways are well trodden, or the mutations prove nothing.
  assert.ok(counts.pods > 100 && counts.problems > 400, JSON.stringify(counts));
});

type Tree = Record<string | number, unknown>;

test('values of every kind in every field give pods or problems', () => {
  const values = [null, true, 0, -1, 1.5, 1e300, '', 'x', '\0', [], [null], [[]], {}, { x: 1 }];
  const seeds = SEEDS.flatMap((text) =>
    yaml.parseAllDocuments(text).map((one) => one.toJS() as unknown),
  );
  let changed = 0;
  for (const seed of seeds) {
    const places: (string | number)[][] = [];
    const walk = (node: unknown, path: (string | number)[]) => {
      if (typeof node !== 'object' || node === null) return;
      for (const key of Array.isArray(node) ? node.keys() : Object.keys(node)) {
        places.push([...path, key]);
        walk((node as Tree)[key], [...path, key]);
      }
    };
    walk(seed, []);
    for (const place of places) {
      for (const value of values) {
        const copy = structuredClone(seed);
        const parent = place.slice(0, -1).reduce((node, key) => (node as Tree)[key], copy) as Tree;
        parent[place.at(-1)!] = value;
        parse(JSON.stringify(copy));
        changed += 1;
      }
    }
  }
  assert.ok(changed > 2000, String(changed));
});

test('random bytes never get through', () => {
  const random = seededRandom(7);
  for (let round = 0; round < 500; round += 1) {
    const bytes = Uint8Array.from({ length: random.next() * 400 }, () => random.next() * 256);
    try {
      parse(decodeManifest(bytes));
    } catch (error) {
      assert.ok(error instanceof ManifestSyntaxError, String(error));
    }
  }
});

/** `unit` as often as it fits into a manifest of the largest size. */
function filled(unit: (index: number) => string, head = '', tail = ''): string {
  let text = head;
  for (let index = 0; ; index += 1) {
    const next = unit(index);
    if (text.length + next.length + tail.length >= LIMITS.manifestBytes) return text + tail;
    text += next;
  }
}

test('a megabyte that is made to be slow to read is not', () => {
  let laughs = 'a0: &a0 [x,x,x,x,x,x,x,x,x]\n';
  let merges = 'a0: &a0 {x: 1}\n';
  for (let i = 1; i < 60; i += 1) {
    laughs += `a${i}: &a${i} [${Array(9)
      .fill(`*a${i - 1}`)
      .join(',')}]\n`;
    merges += `a${i}: &a${i}\n  <<: [*a${i - 1}, *a${i - 1}, *a${i - 1}]\n  k${i}: 1\n`;
  }
  const texts = [
    laughs,
    merges,
    ...[
      '[',
      '{',
      '- ',
      '? ',
      ': ',
      '&a ',
      '!x ',
      '*',
      '"',
      "'",
      '%',
      '\t',
      ' ',
      '-',
      '#\n',
      '---\n',
    ],
    ...[
      '{a: ',
      '[a, ',
      '- &a ',
      '[]',
      '{}',
      '[? ',
      'a:\n- b\n c:\n',
      'a: b\r',
      '- x\n',
      '|\n',
      ',',
    ],
  ].map((text) => (text.length > 100 ? text : text.repeat(LIMITS.manifestBytes / text.length - 1)));
  texts.push(
    filled((i) => `k${i}: 1\n`),
    filled((i) => `- &a${i} x\n- *a${i}\n`),
    filled((i) => `"k${i}":1,`, '{', '"z":1}'),
    filled(() => '{"a":'),
    filled(() => '1,', '{"a":[', '1]}'),
    filled(() => '\\u0041', '{"a":"', '"}'),
    filled(() => '\\x41', 'a: "', '"'),
    filled(() => ' x\n', 'a: |\n'),
    Array.from({ length: 1000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
    // Just below the limits: what is really read.
    `a: [${'x,'.repeat(LIMITS.manifestNodes - 10)}]`,
    Array.from({ length: 10_000 }, (_, i) => `k${i}: v`).join('\n'),
  );
  for (const text of texts) {
    const { problems } = parse(text.slice(0, LIMITS.manifestBytes));
    assert.ok(problems.length > 0, text.slice(0, 50));
  }
});
