/** The same configurations give the same as in the kubelet of Kubernetes v1.36.3. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as yaml from 'yaml';
import { leaves } from '../../src/kube/config-fields.ts';
import type { Findings, Settings } from '../../src/kube/config-settings.ts';
import { formatDuration } from '../../src/kube/go-duration.ts';
import { KUBELET_FIELDS } from '../../src/kube/kubelet-config.ts';
import { KUBELET_CONFIG, kubeletConfiguration } from '../../src/kube/kubelet-settings.ts';
import { CADVISOR_FLAGS, FLAGS } from '../../src/kube/kubelet-flags.ts';
import { FlagError, parseFlags, RUN_FLAGS } from '../../src/kube/parse-flags.ts';
import { readConfig } from '../../src/kube/read-config.ts';
import { CASES, type Case } from './kubelet-config/cases.ts';

type Answer = {
  readonly error?: string;
  readonly config?: Record<string, unknown>;
  readonly differs?: Record<string, unknown>;
};
const RECORDED = JSON.parse(
  readFileSync(join(import.meta.dirname, 'kubelet-config/answers.json'), 'utf8'),
) as {
  readonly flags: readonly string[];
  readonly fields: readonly string[];
  readonly answers: Record<string, Answer>;
};
const ANSWERS = RECORDED.answers;
const BASE = Object.values(ANSWERS)[0]!.config!;

/** What limpet refuses only because it has no code for it yet. */
const NOT_YET = /is not carried out by limpet/;

function read({ files, args }: Case) {
  const findings: Findings = { problems: [], warnings: [] };
  const parsed = parseFlags(args, '/DIR');
  const readOne = (name: string) => ({
    path: `/DIR/${name}`,
    reading: readConfig(files[name]!, KUBELET_CONFIG, { yaml, directory: '/DIR' }),
  });
  const drops = Object.keys(files).filter((name) => /^d\/.*\.conf$/.test(name));
  const outcome = kubeletConfiguration(
    {
      file: 'config.yaml' in files ? readOne('config.yaml') : undefined,
      dropIns: drops.length === 0 ? undefined : walked(drops).map(readOne),
      kubelet: parsed.kubelet,
      flags: parsed.flags,
      defaults: 'config.yaml' in files ? 'withFile' : 'withoutFile',
    },
    findings,
  );
  if (parsed.words.length > 0) findings.problems.push(`unknown command ${parsed.words[0]}`);
  const problems = findings.problems.filter((problem) => !NOT_YET.test(problem));
  return { problems, settings: outcome.settings };
}

/** The order in which the kubelet walks through folders. */
function walked(names: readonly string[]): readonly string[] {
  const key = (name: string) => name.replaceAll('/', '\0');
  return names.toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
}

/** As `record.ts` writes it: without what is empty, by path in lower case. */
function flat(settings: Settings): Record<string, unknown> {
  const entries = [...leaves(KUBELET_FIELDS)].flatMap(([path, { shape, secret }]) => {
    let { value } = settings.get(path)!;
    if (shape.type === 'duration') value = formatDuration(value as number);
    if (secret) value = masked(value as Record<string, unknown>);
    const isEmpty =
      value === undefined || value === '' || Object.keys(Object(value) as object).length === 0;
    const isPlain = typeof value !== 'object' && value !== undefined && value !== '';
    return isEmpty && !isPlain ? [] : [[path.toLowerCase(), value] as const];
  });
  const own = /^(tlscertfile|tlsprivatekeyfile|logging\.verbosity|failcgroupv1)$/;
  return Object.fromEntries(entries.filter(([path]) => !own.test(path)));
}

function masked(value: Record<string, unknown>): unknown {
  return Object.fromEntries(Object.keys(value).map((key) => [key, ['<masked>']]));
}

/** Go writes names of reservations as they are in its source. */
function lowerKeys(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value ?? null)
      .replaceAll('"NumaNode"', '"numaNode"')
      .replaceAll('"Limits"', '"limits"')
      .replaceAll('"Priority"', '"priority"')
      .replaceAll('"ShutdownGracePeriodSeconds"', '"shutdownGracePeriodSeconds"')
      .replaceAll('$DIR', '/DIR'),
  );
}

/** Where limpet has no such distinction: false and zero of what has nothing beside it. */
function same(name: string, wanted: Record<string, unknown>, found: Record<string, unknown>) {
  for (const path of new Set([...Object.keys(wanted), ...Object.keys(found)])) {
    const [want, have] = [lowerKeys(wanted[path]), lowerKeys(found[path])];
    if (want === null && (have === 0 || have === false || have === '0')) continue;
    if (have === null && (want === 0 || want === false || want === '0')) continue;
    assert.deepEqual(have, want, `${name}: ${path}`);
  }
}

test('every field of the kubelet is in the table, and no other', () => {
  const fields = Object.keys(KUBELET_FIELDS).map((name) => name.toLowerCase());
  const known = RECORDED.fields.map((name) => name.replace('resolverconfig', 'resolvconf'));
  assert.deepEqual(fields.toSorted(), known.toSorted());
});

test('every flag of the kubelet is known', () => {
  const known = [...FLAGS.keys(), ...CADVISOR_FLAGS.keys(), ...Object.keys(RUN_FLAGS)];
  const own = ['run-dir', 'log-level', 'limpet-config', 'pod-logs-dir'];
  assert.deepEqual(known.filter((flag) => !own.includes(flag)).toSorted(), RECORDED.flags);
});

for (const one of CASES) {
  const answer = ANSWERS[one.name];
  test(`as the kubelet: ${one.name}`, () => {
    assert.ok(answer, 'run record.ts');
    let outcome: ReturnType<typeof read>;
    try {
      outcome = read(one);
    } catch (error) {
      assert.ok(error instanceof FlagError);
      // The kubelet says what was wrong before it says how.
      const [head] = error.message.split(/: strconv|: time|, write |, got |: [^:]*expected/);
      assert.ok(answer.error !== undefined, `limpet: ${error.message}`);
      const said = answer.error.replaceAll('\\"', '"');
      assert.ok(said.includes(head!), `${error.message} / ${said}`);
      return;
    }
    if (answer.error !== undefined) {
      assert.notDeepEqual(outcome.problems, [], `the kubelet says: ${answer.error}`);
      return;
    }
    assert.deepEqual(outcome.problems, []);
    same(one.name, { ...BASE, ...answer.differs }, flat(outcome.settings));
  });
}
