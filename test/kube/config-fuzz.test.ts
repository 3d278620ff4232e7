/** Whatever a configuration file or a command line says, the answer is a configuration or words. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as yaml from 'yaml';
import { seededRandom, type Random } from '../../src/base/random.ts';
import type { Findings } from '../../src/kube/config-settings.ts';
import { KUBELET_FIELDS } from '../../src/kube/kubelet-config.ts';
import { FLAGS } from '../../src/kube/kubelet-flags.ts';
import { KUBELET_CONFIG, kubeletConfiguration } from '../../src/kube/kubelet-settings.ts';
import { FlagError, parseFlags, type ParsedFlags } from '../../src/kube/parse-flags.ts';
import { readConfig } from '../../src/kube/read-config.ts';
import { CASES, KUBEADM_CONFIG } from './kubelet-config/cases.ts';

const SEEDS = [KUBEADM_CONFIG, ...CASES.flatMap(({ files }) => Object.values(files))];
const FIELDS = Object.keys(KUBELET_FIELDS);
const FLAG_NAMES = [...FLAGS.keys()];
const VALUES = [
  ...['null', '0', '-1', '1.5', '1e400', '.nan', '""', '"x"', '[]', '{}', '[null]', '{a: null}'],
  ...[
    '0s',
    '1h',
    'true',
    '9007199254740993',
    '{a: {b: [1]}}',
    '[{}]',
    '[[1]]',
    '*x',
    '&a 1',
    '!!x y',
  ],
  ...['__proto__', '{__proto__: {a: 1}}', '~', '"\\u0000"', '5%', '1Gi', '/x/../y', '2020-01-01'],
];

function pick<T>(random: Random, from: readonly T[]): T {
  return from[Math.floor(random.next() * from.length)]!;
}

/** A configuration with fields of any kind and value, or one with a few characters changed. */
function text(random: Random): string {
  if (random.next() < 0.5) {
    const fields = Array.from({ length: 1 + Math.floor(random.next() * 6) }, () => {
      const name = random.next() < 0.05 ? 'constructor' : pick(random, FIELDS);
      return `${name}: ${pick(random, VALUES)}\n`;
    });
    return `apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n${fields.join('')}`;
  }
  let seed = pick(random, SEEDS);
  for (let times = 0; times < 3; times += 1) {
    const at = Math.floor(random.next() * seed.length);
    const more = pick(random, ['', ':', '\n', ' ', '- ', '"', '\t', '#', '[', '}', '0', '\0', 'é']);
    seed = seed.slice(0, at) + more + seed.slice(at + Math.floor(random.next() * 4));
  }
  return seed;
}

function words(random: Random): readonly string[] {
  return Array.from({ length: 1 + Math.floor(random.next() * 4) }, () => {
    const dashes = pick(random, ['--', '--', '--', '-', '---', '']);
    const name = pick(random, [pick(random, FLAG_NAMES), pick(random, FLAG_NAMES), 'v', 'x=']);
    const value = pick(random, [...VALUES, 'a=b', 'a<b', 'a:b', '0:memory=1Gi', 'a=b:NoSchedule']);
    return pick(random, [`${dashes}${name}=${value}`, `${dashes}${name}`, value]);
  });
}

test('random files and flags never throw, and an outcome without problems is complete', () => {
  for (let seed = 0; seed < 1000; seed += 1) {
    const random = seededRandom(seed);
    let flags: ParsedFlags;
    try {
      flags = parseFlags(words(random), '/');
    } catch (error) {
      assert.ok(error instanceof FlagError, `seed ${seed}: ${String(error)}`);
      flags = parseFlags([], '/');
    }
    const findings: Findings = { problems: [], warnings: [] };
    const one = (path: string) => {
      const reading = readConfig(text(random), KUBELET_CONFIG, { yaml, directory: '/etc' });
      return { path, reading };
    };
    const { config, settings } = kubeletConfiguration(
      {
        file: one('f'),
        dropIns: [one('d')],
        kubelet: flags.kubelet,
        flags: flags.flags,
        defaults: 'withFile',
      },
      findings,
    );
    assert.equal(({} as { a?: number }).a, undefined);
    for (const name of FIELDS) assert.ok(Object.hasOwn(config, name), `seed ${seed}: ${name}`);
    for (const line of [...findings.problems, ...findings.warnings]) {
      assert.ok(!line.includes('undefined') && !/[\0\n]/.test(line), `seed ${seed}: ${line}`);
      assert.ok(line.length < 2000, `seed ${seed}: ${line.length}`);
    }
    for (const [path, { value }] of settings) assert.notEqual(value, null, `seed ${seed}: ${path}`);
  }
});
