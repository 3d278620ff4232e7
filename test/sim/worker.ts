/** A thread of the campaign: simulates the seeds that it is given and reports. */
import { parentPort } from 'node:worker_threads';
import { PLANTED_CLUSTER } from './cluster/planted.ts';
import { simulateCluster } from './cluster/simulation.ts';
import { PLANTED } from './planted.ts';
import { simulate } from './simulation.ts';

export type Job =
  | { readonly kind: 'seeds'; readonly seeds: readonly number[]; readonly steps: number }
  /** The same with a cluster. */
  | { readonly kind: 'cluster seeds'; readonly seeds: readonly number[] }
  | { readonly kind: 'cluster bug'; readonly index: number; readonly seeds: number }
  /** Looks for the planted bug of this place in the list. */
  | {
      readonly kind: 'bug';
      readonly index: number;
      readonly seeds: number;
      readonly steps: number;
    };

export type Done = {
  readonly passed: number;
  readonly failures: readonly { readonly seed: number | undefined; readonly message: string }[];
  readonly steps: number;
  readonly processes: number;
  readonly simulatedMs: number;
  /** The most effects of one pod in one simulated minute. */
  readonly mostBegun: number;
  readonly mostTurns: number;
  /** The longest time until all had come right in the calm. */
  readonly settleMs: number;
  /** All traces together. */
  readonly hash: number;
  readonly bug?: { readonly name: string; readonly seed: number; readonly invariant: string };
};

/** Each so manieth seed is simulated twice: the same seed has to give the same trace. */
const TWICE_EVERY = 40;

export function runSeeds(seeds: readonly number[], steps: number): Done {
  const failures: { seed: number; message: string }[] = [];
  let [passed, total, processes, simulatedMs] = [0, 0, 0, 0];
  let [mostBegun, mostTurns, settleMs, hash] = [0, 0, 0, 0];
  for (const seed of seeds) {
    const report = simulate({ seed, steps });
    total += report.steps;
    processes += report.processes;
    simulatedMs += report.simulatedMs;
    mostBegun = Math.max(mostBegun, report.mostBegun);
    mostTurns = Math.max(mostTurns, report.mostTurns);
    settleMs = Math.max(settleMs, report.settleMs);
    hash = (hash ^ Math.imul(report.hash, seed | 1)) >>> 0;
    const again = seed % TWICE_EVERY === 0 ? simulate({ seed, steps }) : report;
    if (report.finding !== undefined) failures.push({ seed, message: report.finding.message });
    else if (again.hash !== report.hash) {
      const hashes = `${report.hash.toString(16)} and ${again.hash.toString(16)}`;
      failures.push({ seed, message: `seed ${seed}: I-25 broken: two traces, ${hashes}` });
    } else passed += 1;
  }
  return {
    passed,
    failures,
    steps: total,
    processes,
    simulatedMs,
    mostBegun,
    mostTurns,
    settleMs,
    hash,
  };
}

/** The first seed at which a planted bug is found by an invariant that it should be found by. */
export function findBug(index: number, seeds: number, steps: number): Done {
  const bug = PLANTED[index]!;
  const done = {
    steps: 0,
    processes: 0,
    simulatedMs: 0,
    mostBegun: 0,
    mostTurns: 0,
    settleMs: 0,
    hash: 0,
  };
  for (let seed = 1; seed <= seeds; seed += 1) {
    const { finding } = simulate({ seed, steps, ...bug });
    if (finding === undefined || !bug.foundBy.includes(finding.invariant)) continue;
    const { invariant } = finding;
    return { ...done, passed: 1, failures: [], bug: { name: bug.name, seed, invariant } };
  }
  const message = `planted bug not found in ${seeds} seeds: ${bug.name}`;
  return { ...done, passed: 0, failures: [{ seed: undefined, message }] };
}

const NOTHING: Done = {
  ...{ passed: 0, failures: [], steps: 0, processes: 0, simulatedMs: 0 },
  ...{ mostBegun: 0, mostTurns: 0, settleMs: 0, hash: 0 },
};

/** How often something happens to a node with a cluster before the calm. */
const ROUNDS = 60;

export async function runClusterSeeds(seeds: readonly number[]): Promise<Done> {
  const failures: { seed: number; message: string }[] = [];
  let [steps, simulatedMs, settleMs, hash] = [0, 0, 0, 0];
  for (const seed of seeds) {
    const report = await simulateCluster({ seed, rounds: ROUNDS });
    steps += report.steps;
    simulatedMs += report.simulatedMs;
    settleMs = Math.max(settleMs, report.settleMs);
    hash = (hash ^ Math.imul(report.hash, seed | 1)) >>> 0;
    const isTwice = seed % TWICE_EVERY === 0;
    const again = isTwice ? await simulateCluster({ seed, rounds: ROUNDS }) : report;
    if (report.finding !== undefined) failures.push({ seed, message: report.finding.message });
    else if (again.hash !== report.hash) {
      const hashes = `${report.hash.toString(16)} and ${again.hash.toString(16)}`;
      failures.push({ seed, message: `cluster seed ${seed}: I-25 broken: two traces, ${hashes}` });
    }
  }
  const passed = seeds.length - failures.length;
  return { ...NOTHING, passed, failures, steps, simulatedMs, settleMs, hash };
}

export async function findClusterBug(index: number, seeds: number): Promise<Done> {
  const bug = PLANTED_CLUSTER[index]!;
  for (let seed = 1; seed <= seeds; seed += 1) {
    const { finding } = await simulateCluster({ seed, rounds: ROUNDS, bug });
    if (finding === undefined || !bug.foundBy.includes(finding.invariant)) continue;
    const { invariant } = finding;
    return { ...NOTHING, passed: 1, bug: { name: bug.name, seed, invariant } };
  }
  const message = `planted bug not found in ${seeds} cluster seeds: ${bug.name}`;
  return { ...NOTHING, failures: [{ seed: undefined, message }] };
}

async function carryOut(job: Job): Promise<Done> {
  switch (job.kind) {
    case 'seeds':
      return runSeeds(job.seeds, job.steps);
    case 'bug':
      return findBug(job.index, job.seeds, job.steps);
    case 'cluster seeds':
      return await runClusterSeeds(job.seeds);
    case 'cluster bug':
      return await findClusterBug(job.index, job.seeds);
  }
}

parentPort?.on('message', (job: Job) => {
  void carryOut(job).then((done) => parentPort?.postMessage(done));
});
