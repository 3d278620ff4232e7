/**
 * Simulates the core under seeded faults. Without options: the seeds that once failed, 2,000 seeds,
 * and the planted bugs, each of which has to be found within 1,000 seeds.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { PLANTED } from '../test/sim/planted.ts';
import { simulate } from '../test/sim/simulation.ts';
import type { Done, Job } from '../test/sim/worker.ts';

const HELP = `Usage: scripts/test sim [OPTION]…

  --seeds N   how many seeds (2000)
  --from S    the first of them (1)
  --seed S    the same as --seeds 1 --from S
  --steps N   steps with faults, before the calm (500)
  --trace     print every line; for one seed
  --planted   only look for the planted bugs

With --seeds, --from or --seed only those seeds are simulated.
`;

const SEEDS_FILE = join(import.meta.dirname, '../test/sim/seeds.txt');
const WORKER = new URL('../test/sim/worker.ts', import.meta.url);
const CHUNK = 20;
const BUG_SEEDS = 1000;
const MAX_SHOWN = 5;

type Totals = { passed: number; failed: number; shown: number; done: Done[] };

const { values } = parseArgs({
  options: {
    seeds: { type: 'string' },
    from: { type: 'string' },
    seed: { type: 'string' },
    steps: { type: 'string', default: '500' },
    trace: { type: 'boolean', default: false },
    planted: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

process.exitCode = await main();

async function main(): Promise<number> {
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const steps = number('steps', values.steps, 1);
  const from = number('from', values.seed ?? values.from ?? '1', 0);
  const seeds = number('seeds', values.seed === undefined ? (values.seeds ?? '2000') : '1', 1);
  if (values.trace) return trace(from, steps);
  const isAsked =
    values.seeds !== undefined || values.from !== undefined || values.seed !== undefined;
  const kept = isAsked || values.planted ? [] : keptSeeds();
  const range = Array.from({ length: values.planted ? 0 : seeds }, (_, i) => from + i);
  const jobs: Job[] = [];
  if (!isAsked || values.planted) {
    // The bugs that take longest to find are not known, so they come first.
    PLANTED.forEach((_, index) => jobs.push({ kind: 'bug', index, seeds: BUG_SEEDS, steps }));
  }
  for (const list of [kept, range]) {
    for (let i = 0; i < list.length; i += CHUNK) {
      jobs.push({ kind: 'seeds', seeds: list.slice(i, i + CHUNK), steps });
    }
  }
  const startMs = performance.now();
  const totals = await runJobs(jobs);
  summary(totals, kept.length + range.length, (performance.now() - startMs) / 1000);
  return totals.failed === 0 ? 0 : 1;
}

function trace(seed: number, steps: number): number {
  const { finding } = simulate({ seed, steps, print: (line) => process.stdout.write(`${line}\n`) });
  if (finding !== undefined) process.stdout.write(`${finding.message.split('\n')[0]}\n`);
  const failed = finding === undefined ? 0 : 1;
  process.stdout.write(`sim: ${1 - failed} passed, ${failed} failed\n`);
  return failed;
}

function number(name: string, text: string, least: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least) return value;
  const message = `--${name} ${text}: must be a whole number, at least ${least}`;
  process.stderr.write(`scripts/test sim: ${message}; see --help\n`);
  process.exit(2);
}

/** Seeds that once failed: the first number of each line. */
function keptSeeds(): number[] {
  return readFileSync(SEEDS_FILE, 'utf8')
    .split('\n')
    .filter((line) => /^\d/.test(line))
    .map((line) => Number.parseInt(line, 10));
}

async function runJobs(jobs: readonly Job[]): Promise<Totals> {
  const totals: Totals = { passed: 0, failed: 0, shown: 0, done: [] };
  let next = 0;
  const thread = () =>
    new Promise<void>((resolve, reject) => {
      const worker = new Worker(WORKER);
      const give = () => {
        const job = jobs[next];
        next += 1;
        if (job !== undefined) return worker.postMessage(job);
        void worker.terminate().then(() => resolve());
      };
      worker.on('message', (done: Done) => {
        take(totals, done);
        give();
      });
      worker.on('error', reject);
      give();
    });
  const threads = Math.min(jobs.length, Math.max(2, availableParallelism()));
  await Promise.all(Array.from({ length: threads }, thread));
  return totals;
}

function take(totals: Totals, done: Done): void {
  totals.done.push(done);
  totals.passed += done.passed;
  totals.failed += done.failures.length;
  if (done.bug !== undefined) {
    const { name, seed, invariant } = done.bug;
    process.stdout.write(`planted: ${name}: found at seed ${seed} by ${invariant}\n`);
  }
  for (const { seed, message } of done.failures) {
    totals.shown += 1;
    if (totals.shown > MAX_SHOWN) continue;
    if (seed !== undefined) keep(seed, message);
    process.stdout.write(`${message}\n`);
    if (seed !== undefined)
      process.stdout.write(`repeat: scripts/test sim --seeds 1 --from ${seed}\n\n`);
  }
}

/** Keeps a seed that failed, so that it runs first from now on; the first few of a run. */
function keep(seed: number, message: string): void {
  if (keptSeeds().includes(seed)) return;
  const why = message.split('\n')[0]!.replace(/^seed \d+, step \d+: /, '');
  appendFileSync(SEEDS_FILE, `${seed} ${why.slice(0, 120)}\n`);
}

function summary({ passed, failed, done }: Totals, seeds: number, seconds: number): void {
  const sum = (of: (d: Done) => number) => done.reduce((total, d) => total + of(d), 0);
  const bugs = done.filter((d) => d.bug !== undefined).length;
  const hash = done.reduce((all, d) => (all ^ d.hash) >>> 0, 0);
  const most = Math.max(0, ...done.map((d) => d.mostBegun));
  const turns = Math.max(0, ...done.map((d) => d.mostTurns));
  const settleMs = Math.max(0, ...done.map((d) => d.settleMs));
  const hours = sum((d) => d.simulatedMs) / 3_600_000;
  process.stdout.write(
    `sim: ${seeds} seeds, ${sum((d) => d.steps)} steps, ${hours.toFixed(0)} simulated hours, ` +
      `${sum((d) => d.processes)} processes, at most ${most} effects and ${turns} turns a pod and minute, ` +
      `all right at most ${(settleMs / 1000).toFixed(0)} s after the last fault, ` +
      `${bugs} planted bugs found, trace ${hash.toString(16)}, ${seconds.toFixed(1)} s\n` +
      `sim: ${passed} passed, ${failed} failed\n`,
  );
}
