/**
 * Simulates the core under seeded faults, and a node with its cluster. Without options: the seeds
 * that once failed, 2,000 seeds, 250 of a cluster, and the planted bugs, each of which has to be
 * found within 1,000 seeds, or 200 of a cluster.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { PLANTED_CLUSTER } from '../test/sim/cluster/planted.ts';
import { simulateCluster } from '../test/sim/cluster/simulation.ts';
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
  --cluster   only a node with its cluster: --seeds (250), --from, --seed, --trace, --planted

With --seeds, --from or --seed only those seeds are simulated.
`;

const SEEDS_FILE = join(import.meta.dirname, '../test/sim/seeds.txt');
const WORKER = new URL('../test/sim/worker.ts', import.meta.url);
const CHUNK = 20;
const BUG_SEEDS = 1000;
const CLUSTER_SEEDS = 250;
const CLUSTER_BUG_SEEDS = 200;
const CLUSTER_ROUNDS = 60;
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
    cluster: { type: 'boolean', default: false },
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
  const usual = String(values.cluster ? CLUSTER_SEEDS : 2000);
  const seeds = number('seeds', values.seed === undefined ? (values.seeds ?? usual) : '1', 1);
  if (values.trace) return await trace(from, steps);
  const isAsked =
    values.seeds !== undefined || values.from !== undefined || values.seed !== undefined;
  const kept = isAsked || values.planted || values.cluster ? [] : keptSeeds();
  const range = Array.from({ length: values.planted ? 0 : seeds }, (_, i) => from + i);
  const ofCluster = values.cluster ? range : isAsked ? [] : range.slice(0, CLUSTER_SEEDS);
  const ofCore = values.cluster ? [] : range;
  const jobs: Job[] = [];
  if (!isAsked || values.planted) {
    PLANTED_CLUSTER.forEach((_, index) =>
      jobs.push({ kind: 'cluster bug', index, seeds: CLUSTER_BUG_SEEDS }),
    );
  }
  if ((!isAsked || values.planted) && !values.cluster) {
    // The bugs that take longest to find are not known, so they come first.
    PLANTED.forEach((_, index) => jobs.push({ kind: 'bug', index, seeds: BUG_SEEDS, steps }));
  }
  for (let i = 0; i < ofCluster.length; i += CHUNK) {
    jobs.push({ kind: 'cluster seeds', seeds: ofCluster.slice(i, i + CHUNK) });
  }
  for (const list of [kept, ofCore]) {
    for (let i = 0; i < list.length; i += CHUNK) {
      jobs.push({ kind: 'seeds', seeds: list.slice(i, i + CHUNK), steps });
    }
  }
  const startMs = performance.now();
  const totals = await runJobs(jobs);
  const simulated = kept.length + ofCore.length + ofCluster.length;
  summary(totals, simulated, (performance.now() - startMs) / 1000);
  return totals.failed === 0 ? 0 : 1;
}

async function trace(seed: number, steps: number): Promise<number> {
  const print = (line: string) => void process.stdout.write(`${line}\n`);
  const { finding } = values.cluster
    ? await simulateCluster({ seed, rounds: CLUSTER_ROUNDS, print })
    : simulate({ seed, steps, print });
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
    const isOfCluster = message.startsWith('cluster');
    if (seed !== undefined && !isOfCluster) keep(seed, message);
    process.stdout.write(`${message}\n`);
    const kind = isOfCluster ? '--cluster ' : '';
    if (seed !== undefined)
      process.stdout.write(`repeat: scripts/test sim ${kind}--seed ${seed}\n\n`);
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
