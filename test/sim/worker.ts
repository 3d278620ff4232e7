/** A thread of the campaign: simulates the seeds that it is given and reports. */
import { parentPort } from 'node:worker_threads';
import { PLANTED } from './planted.ts';
import { simulate } from './simulation.ts';

export type Job =
  | { readonly kind: 'seeds'; readonly seeds: readonly number[]; readonly steps: number }
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

parentPort?.on('message', (job: Job) => {
  const { kind, steps } = job;
  const done = kind === 'seeds' ? runSeeds(job.seeds, steps) : findBug(job.index, job.seeds, steps);
  parentPort?.postMessage(done);
});
