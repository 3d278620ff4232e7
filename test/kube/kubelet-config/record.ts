/**
 * Asks a real kubelet what it makes of the cases, and writes `answers.json`:
 *
 *     node test/kube/kubelet-config/record.ts PATH-OF-A-KUBELET
 *
 * The kubelet logs its configuration at verbosity 5, and is made to end right behind that: it may
 * not watch for contention of a lock file without one.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { CASES, type Case } from './cases.ts';

/** The end that it is made to come to. */
const END = 'cannot exit on lock file contention';
/** What the recording itself sets. */
const OWN = /^(tlscertfile|tlsprivatekeyfile|logging\.verbosity|failcgroupv1)$/;

const GROUPS =
  /^(authentication|authorization|logging|memoryswap|crashloopbackoff|usernamespaces|tracing)$|^(authentication|authorization)\.(x509|webhook|anonymous)$|^logging\.options(\.text|\.json)?$/;

type Answer = { readonly error: string } | { readonly config: Record<string, unknown> };

const [kubelet] = process.argv.slice(2);
if (kubelet === undefined) throw new Error('which kubelet?');
const answers: Record<string, unknown> = {};
const fields = new Set<string>();
let defaults: Record<string, unknown> | undefined;
for (const one of CASES) {
  const answer = ask(kubelet, one);
  if ('error' in answer) answers[one.name] = answer;
  else if (defaults === undefined) answers[one.name] = { config: (defaults = answer.config) };
  else answers[one.name] = { differs: difference(defaults, answer.config) };
}
const help = spawnSync(kubelet, ['--help'], { encoding: 'utf8' }).stdout;
const all = {
  /** Names of the flags, and of the fields of its configuration in lower case. */
  flags: [...help.matchAll(/^ {2,6}(?:-\w, )?--([\w-]+)/gm)].map((match) => match[1]),
  fields: [...fields].toSorted(),
  answers,
};
const text = `${JSON.stringify(all, undefined, 1)}\n`;
writeFileSync(join(import.meta.dirname, 'answers.json'), text);

function ask(program: string, { files, args }: Case): Answer {
  const folder = mkdtempSync(join(tmpdir(), 'kubelet-case-'));
  try {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    const names = Object.keys(files);
    const all = [
      ...(names.includes('config.yaml') ? [`--config=${folder}/config.yaml`] : []),
      ...(names.some((name) => name.startsWith('d/')) ? [`--config-dir=${folder}/d`] : []),
      ...args,
    ];
    const own = ['--v=5', '--fail-cgroupv1=false', '--exit-on-lock-contention'];
    const places = [`--cert-dir=${folder}/pki`, `--root-dir=${folder}/root`];
    const { stderr } = spawnSync(program, [...own, ...places, ...all], {
      cwd: folder,
      encoding: 'utf8',
      timeout: 60_000,
    });
    return answerOf(stderr.replaceAll(folder, '$DIR'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function answerOf(said: string): Answer {
  const error = /"command failed" err=(?:"(.*)"|<\n([^]*?)\n >)/.exec(said);
  const reason = (error?.[1] ?? error?.[2] ?? '').replace(/, path: &TypeMeta.*$/s, '');
  if (!reason.includes(END)) return { error: reason };
  const json = /"KubeletConfiguration" configuration=<\n([^]*?)\n >/.exec(said)?.[1] ?? '';
  const config = JSON.parse(json) as object;
  for (const name of Object.keys(config)) fields.add(name.toLowerCase());
  return { config: Object.fromEntries(flat(config, '')) };
}

/** By path in lower case, for names in Go and in files differ in that; without what is empty. */
function* flat(object: object, prefix: string): Generator<[string, unknown]> {
  for (const [name, value] of Object.entries(object) as [string, unknown][]) {
    const path = prefix + name.toLowerCase();
    if (OWN.test(path) || isEmpty(value)) continue;
    if (GROUPS.test(path)) yield* flat(value as object, `${path}.`);
    else yield [path.replace('resolverconfig', 'resolvconf'), value];
  }
}

function isEmpty(value: unknown): boolean {
  if (value === null || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** What is not as in `base`; null where it is not there. */
function difference(base: Record<string, unknown>, other: Record<string, unknown>) {
  const paths = new Set([...Object.keys(base), ...Object.keys(other)]);
  const changed = [...paths].filter(
    (path) => JSON.stringify(base[path]) !== JSON.stringify(other[path]),
  );
  return Object.fromEntries(changed.map((path) => [path, other[path] ?? null]));
}
