/**
 * Runs the tests: types, lint, unit, simulation, then the suites in virtual nodes. One closing line
 * a suite, then a summary; exit code 0 only if every suite ran tests and none failed.
 */
import { spawn } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { programsToTest, require } from './lib/prerequisites.ts';

const ROOT = join(import.meta.dirname, '..');
const NODE = process.execPath;
/** A test that hangs fails; suites in virtual nodes have timeouts of their own. */
const UNIT_TIMEOUT_MS = 300_000;

const HELP = `Usage: scripts/test [PART]… [-- ARGUMENT…]

Parts, in this order when none is named:
  types        tsc, with the strictest settings
  lint         ESLint with the layer rules, and the formatter
  unit         what needs no virtual node
  sim          the core, and a node with its cluster, under seeded faults; the planted bugs
  node         limpet in virtual nodes, with containerd 1.7 and 2
  node NAME…   only these suites of test/node, e.g. scripts/test node power-cuts

Only when it is named, since it builds Kubernetes the first time (20 minutes):
  control-plane  a real control plane, and the official kubelet in a virtual node

Options of a part follow it:
  scripts/test sim --seeds 20000 --from 5000
  scripts/test sim --seeds 1 --from 4711 --trace
  LIMPET_CUTS=25 scripts/test node power-cuts
`;

type Result = { readonly suite: string; readonly passed: number; readonly failed: number };

/** Runs a command, shows what it says, and gives its code and output. */
function run(command: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const take = (chunk: Buffer) => {
      output += chunk.toString();
      process.stdout.write(chunk);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

/** A suite that is one check. */
async function check(suite: string, command: string, args: readonly string[]): Promise<Result> {
  const { code } = await run(command, args);
  return code === 0 ? { suite, passed: 1, failed: 0 } : { suite, passed: 0, failed: 1 };
}

function bin(name: string): string {
  return join(ROOT, 'node_modules', ...name.split('/'));
}

async function lint(): Promise<Result> {
  const source = ['src', 'test', 'scripts'];
  const rules = await check('lint', NODE, [
    bin('eslint/bin/eslint.js'),
    '--config',
    'scripts/eslint.config.js',
    '--max-warnings',
    '0',
    ...source,
  ]);
  const format = await check('format', NODE, [
    bin('prettier/bin/prettier.cjs'),
    '--config',
    'scripts/prettier.json',
    '--log-level',
    'warn',
    '--check',
    ...source.map((folder) => `${folder}/**/*.ts`),
  ]);
  return {
    suite: 'lint',
    passed: rules.passed + format.passed,
    failed: rules.failed + format.failed,
  };
}

/** Runs test files with Node's runner and reads its closing counts. */
async function files(
  suite: string,
  paths: readonly string[],
  flags: readonly string[],
): Promise<Result> {
  // Mounts take root; who is not may have a namespace of his own.
  const root = process.getuid?.() === 0;
  const [command, ...before] = root
    ? [NODE]
    : ['unshare', '--map-root-user', '--mount', '--', NODE];
  const { code, output } = await run(command ?? NODE, [
    ...before,
    '--disable-warning=ExperimentalWarning',
    '--test',
    '--test-reporter=spec',
    ...flags,
    ...paths,
  ]);
  const count = (name: string) =>
    [...output.matchAll(new RegExp(`^ℹ ${name} (\\d+)$`, 'gm'))].reduce(
      (sum, match) => sum + Number(match[1]),
      0,
    );
  const passed = count('pass');
  // A skipped test proves nothing: it counts as failed.
  const failed = count('fail') + count('cancelled') + count('skipped') + count('todo');
  const broken = failed === 0 && (code !== 0 || passed === 0) ? 1 : 0;
  return { suite, passed, failed: failed + broken };
}

async function sim(args: readonly string[]): Promise<Result> {
  const { code, output } = await run(NODE, [join(ROOT, 'scripts/sim.ts'), ...args]);
  const line = [...output.matchAll(/^sim: (\d+) passed, (\d+) failed$/gm)].at(-1);
  const passed = Number(line?.[1] ?? 0);
  const failed = Number(line?.[2] ?? 1);
  return { suite: 'sim', passed, failed: code !== 0 && failed === 0 ? 1 : failed };
}

function unitFiles(): readonly string[] {
  return globSync('test/**/*.test.ts', { cwd: ROOT }).sort();
}

function suiteFiles(folder: string, names: readonly string[]): readonly string[] {
  const all = globSync(`test/${folder}/*.suite.ts`, { cwd: ROOT }).sort();
  if (names.length === 0) return all;
  return names.map((name) => {
    const path = all.find((file) => file.endsWith(`/${name}.suite.ts`));
    if (path !== undefined) return path;
    const known = all.map((file) => file.replace(/^.*\/|\.suite\.ts$/g, '')).join(', ');
    throw new Error(`no suite ${name} in test/${folder}; there are: ${known}`);
  });
}

const PARTS: Record<string, (args: readonly string[]) => Promise<Result>> = {
  types: () => check('types', NODE, [bin('typescript/bin/tsc'), '--project', '.']),
  lint,
  unit: async (args) => {
    await require(programsToTest, (line) => process.stdout.write(`${line}\n`));
    return await files('unit', args.length > 0 ? args : unitFiles(), [
      `--test-concurrency=${availableParallelism()}`,
      `--test-timeout=${UNIT_TIMEOUT_MS}`,
    ]);
  },
  sim,
  // One virtual node at a time: two would only take each other's processor.
  node: (args) => files('node', suiteFiles('node', args), ['--test-concurrency=1']),
  'control-plane': (args) =>
    files('control-plane', suiteFiles('control-plane', args), ['--test-concurrency=1']),
};

const ONLY_WHEN_NAMED = ['control-plane'];

/** The parts that were asked for, each with what follows it. */
function asked(words: readonly string[]): readonly (readonly [string, readonly string[]])[] {
  const parts: [string, string[]][] = [];
  for (const word of words) {
    const last = parts.at(-1);
    if (word in PARTS) parts.push([word, []]);
    else if (last !== undefined) last[1].push(word);
    else throw new Error(`unknown part ${word}; see scripts/test --help`);
  }
  if (parts.length > 0) return parts;
  const usual = Object.keys(PARTS).filter((part) => !ONLY_WHEN_NAMED.includes(part));
  return usual.map((part) => [part, []] as const);
}

async function main(words: readonly string[]): Promise<number> {
  if (words.includes('--help') || words.includes('-h')) {
    process.stdout.write(HELP);
    return 0;
  }
  const results: Result[] = [];
  const closing: string[] = [];
  for (const [part, args] of asked(words)) {
    const beganMs = Date.now();
    process.stdout.write(`== ${part}\n`);
    const result = await PARTS[part]!(args);
    results.push(result);
    const seconds = Math.round((Date.now() - beganMs) / 1000);
    closing.push(
      `${part.padEnd(6)} ${result.passed} passed, ${result.failed} failed, in ${seconds} s`,
    );
    process.stdout.write(`== ${closing.at(-1)}\n\n`);
  }
  const sum = (key: 'passed' | 'failed') => results.reduce((n, r) => n + r[key], 0);
  process.stdout.write(`${closing.join('\n')}\n`);
  process.stdout.write(`\n${sum('passed')} passed, ${sum('failed')} failed\n`);
  return sum('failed') === 0 && results.every((r) => r.passed > 0) ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`scripts/test: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
