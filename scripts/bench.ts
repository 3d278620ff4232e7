/**
 * limpet and the official kubelet in the same kind of machine, against the same control plane, one
 * after the other: what they cost at rest, and how long they take.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bench, type AgentName, type Round, type Task } from './lib/bench-round.ts';
import { attach, list, up, type ControlPlane } from './lib/control-plane.ts';
import { run } from './lib/process.ts';
import { megabytes } from './lib/table.ts';
import { attach as attachNode, list as listNodes } from './lib/virtual-node.ts';

const ROOT = join(import.meta.dirname, '..');

const HELP = `Usage: scripts/bench [OPTION…]

Measures limpet and the official kubelet, each in a new virtual node, and prints a table.

  --rounds 3              times that each is measured; the table has the medians
  --only limpet|kubelet   one of them
  --pods 0,10,50,110      rests with so many pods
  --minutes 5             how long each rest is
  --batches 1,10,30       pods that are created at once
  --arch amd64|arm64      this machine's own unless told
  --json FILE             writes every figure of every round there
  --with FILE             takes what an earlier run has written into the table as well

At rest: memory, processor, wake-ups, what is exchanged with the API server and written to the disk.
The machine's processor time is that of the whole virtual machine: it holds on a busy host too.
Then, from the request to the moment at which the API server shows it: pods started and deleted, the
agent restarted, the node rebooted without a network. containerd's own part is read from its log.
Pods are bound to the node, their image is on it. What is measured is measured for both alike.
`;

const beganMs = performance.now();
function say(line: string): void {
  const seconds = ((performance.now() - beganMs) / 1000).toFixed(0).padStart(4);
  process.stderr.write(`${seconds} s  ${line}\n`);
}

/** What `--json` writes. */
type Report = {
  readonly machine: { readonly processor: string; readonly cores: number; readonly kernel: string };
  readonly task: Task;
  readonly rounds: readonly Round[];
};

type Row = {
  readonly name: string;
  readonly of: (round: Round) => number | undefined;
  readonly show: (value: number) => string;
};

const count = (value: number) => String(Math.round(value));
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`;
const kilobytes = (bytes: number) => `${(bytes / 1e3).toFixed(1)} kB`;
const milliseconds = (ms: number) => `${Math.round(ms)} ms`;

function restRows(pods: number): readonly Row[] {
  const row = (
    name: string,
    show: Row['show'],
    key: keyof Round['rests'][number],
    perMinute = false,
  ): Row => ({
    name: `${pods} pods: ${name}`,
    of: ({ rests }) => {
      const rest = rests.find((of) => of.pods === pods);
      const value = rest?.[key];
      return rest && value !== undefined ? value / (perMinute ? rest.minutes : 1) : undefined;
    },
    show,
  });
  return [
    row('private dirty memory', megabytes, 'privateDirtyBytes'),
    row('PSS', megabytes, 'pssBytes'),
    row('RSS', megabytes, 'rssBytes'),
    row('processor, a minute', milliseconds, 'cpuMsPerMinute'),
    row("containerd's processor, a minute", milliseconds, 'runtimeCpuMsPerMinute'),
    row("the machine's processor, a minute", milliseconds, 'machineCpuMsPerMinute'),
    row('wake-ups, a minute', count, 'wakeUpsPerMinute'),
    row('to the API server, a minute', kilobytes, 'sentBytesPerMinute'),
    row('from the API server, a minute', kilobytes, 'receivedBytesPerMinute'),
    row('written by the agent, a minute', kilobytes, 'writtenBytes', true),
    row('written to the disk by all, a minute', kilobytes, 'diskWrittenBytes', true),
    row('flushes of the disk by all, a minute', (n) => n.toFixed(1), 'diskFlushes', true),
  ];
}

function batchRows(pods: number): readonly Row[] {
  const row = (name: string, key: keyof Round['batches'][number]): Row => ({
    name: `${pods === 1 ? 'one pod' : `${pods} pods at once`}: ${name}`,
    of: ({ batches }) => batches.find((of) => of.pods === pods)?.[key],
    show: seconds,
  });
  return [
    ...(pods === 1 ? [] : [row('half of them Ready at the API server', 'readyHalfMs')]),
    row(pods === 1 ? 'Ready at the API server' : 'all Ready at the API server', 'readyAllMs'),
    row(pods === 1 ? 'container started' : 'last container started', 'startedAllMs'),
    row('in which containerd was busy with it', 'runtimeMs'),
    row("the machine's processor time", 'machineCpuMs'),
    row('deletion, until gone at the API server', 'goneAllMs'),
  ];
}

function timeRows(rounds: readonly Round[]): readonly Row[] {
  const restarted = rounds.find(({ restart }) => restart)?.restart?.pods;
  if (restarted === undefined) return [];
  const pods = `with ${restarted} pods`;
  return [
    {
      name: `restart of the agent ${pods}, until node and pods are right at the API server`,
      of: ({ restart }) => restart?.readyMs,
      show: seconds,
    },
    {
      name: `reboot without a network ${pods}: containers that were started`,
      of: ({ reboot }) => reboot?.offlineStarted,
      show: count,
    },
    {
      name: "the same, from the kernel's start until all were",
      of: ({ reboot }) => reboot?.offlineAllMs,
      show: seconds,
    },
    {
      name: 'then the cable: until node and pods are right at the API server',
      of: ({ reboot }) => reboot?.onlineReadyMs,
      show: seconds,
    },
  ];
}

function median(values: readonly number[]): number | undefined {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  if (sorted.length % 2 === 1 || sorted.length === 0) return sorted[middle];
  return (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function markdown(rounds: readonly Round[]): string {
  const numbers = (of: (round: Round) => readonly { readonly pods: number }[]) =>
    [...new Set(rounds.flatMap(of).map(({ pods }) => pods))].sort((a, b) => a - b);
  const rows = [
    ...numbers(({ rests }) => rests).flatMap(restRows),
    ...numbers(({ batches }) => batches).flatMap(batchRows),
    ...timeRows(rounds),
  ];
  const lines = rows.map(({ name, of, show }) => {
    const value = (agent: AgentName) =>
      median(rounds.flatMap((round) => (round.agent === agent ? (of(round) ?? []) : [])));
    const [kubelet, limpet] = [value('kubelet'), value('limpet')];
    const ratio = kubelet && limpet ? `${(kubelet / limpet).toFixed(2)}` : '–';
    const cell = (shown: number | undefined) => (shown === undefined ? '–' : show(shown));
    return `| ${name} | ${cell(kubelet)} | ${cell(limpet)} | ${ratio} |`;
  });
  const head = ['| what | kubelet | limpet | kubelet / limpet |', '| --- | ---: | ---: | ---: |'];
  return `${[...head, ...lines].join('\n')}\n`;
}

function heading({ machine, rounds }: Report): string {
  const each = rounds.map(
    ({ agent, version, containerd, date, accel, load }) =>
      `${date}  ${agent} (${version}), ${containerd}, ${accel}, load ${load}`,
  );
  const { processor, cores, kernel } = machine;
  return `${[`${processor}, ${cores} cores, Linux ${kernel}`, ...each].join('\n')}\n\n`;
}

function optionsOf() {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      only: { type: 'string' },
      pods: { type: 'string', default: '0,10,50,110' },
      minutes: { type: 'string', default: '5' },
      batches: { type: 'string', default: '1,10,30' },
      arch: { type: 'string', default: process.arch === 'x64' ? 'amd64' : 'arm64' },
      json: { type: 'string' },
      with: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const { arch, only } = values;
  const numbers = (option: string, text: string, least: number) => {
    const all = text === '' ? [] : text.split(',').map(Number);
    if (all.every((n) => Number.isFinite(n) && n >= least)) return all.sort((a, b) => a - b);
    throw new Error(`--${option} "${text}": numbers of at least ${least}, separated by commas`);
  };
  if (arch !== 'amd64' && arch !== 'arm64') throw new Error('--arch is amd64 or arm64');
  if (only !== undefined && only !== 'limpet' && only !== 'kubelet') {
    throw new Error('--only is limpet or kubelet');
  }
  const [minutes = 5] = numbers('minutes', values.minutes, 0.1);
  const [rounds = 1] = numbers('rounds', values.rounds, 1);
  const pods = numbers('pods', values.pods, 0);
  const batches = numbers('batches', values.batches, 1);
  const agents: readonly AgentName[] = only === undefined ? ['kubelet', 'limpet'] : [only];
  return { ...values, agents, rounds, task: { arch, pods, batches, minutes } satisfies Task };
}

async function main(): Promise<number> {
  const options = optionsOf();
  if (options.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  const { agents, rounds, task, json } = options;
  const earlier = options.with === undefined ? [] : (await read(options.with)).rounds;
  if (agents.includes('limpet')) {
    const build = ['--arch', task.arch === 'amd64' ? 'x64' : 'arm64'];
    await run(process.execPath, [join(ROOT, 'scripts/build.ts'), ...build]);
  }
  const name = `bench-${process.pid}`;
  const end = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => end.abort(new Error(`ended by ${signal}`)));
  }
  const interrupted = new Promise<never>((_, reject) => {
    end.signal.addEventListener('abort', () => reject(end.signal.reason as Error));
  });
  try {
    const plane = await up(name, say);
    const work = measureAll(plane, { agents, rounds, task, json }, earlier);
    process.stdout.write(await Promise.race([work, interrupted]));
    return 0;
  } finally {
    for (const left of await listNodes()) {
      if (left.startsWith(`${name}-`)) await (await attachNode(left)).down();
    }
    if ((await list()).includes(name)) await (await attach(name)).down();
  }
}

type Given = {
  readonly agents: readonly AgentName[];
  readonly rounds: number;
  readonly task: Task;
  readonly json: string | undefined;
};

async function measureAll(
  plane: ControlPlane,
  { agents, rounds, task, json }: Given,
  earlier: readonly Round[],
): Promise<string> {
  const [processor] = cpus();
  const machine = {
    processor: processor?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
  };
  let report: Report = { machine, task, rounds: earlier };
  for (let round = 1; round <= rounds; round++) {
    for (const agent of round % 2 === 1 ? agents : agents.toReversed()) {
      say(`round ${round} of ${rounds}: ${agent}`);
      const measured = await bench(agent, plane, task, say);
      report = { ...report, rounds: [...report.rounds, measured] };
      // What was measured is not lost when a later round fails.
      if (json !== undefined) await writeFile(json, `${JSON.stringify(report, undefined, 2)}\n`);
    }
  }
  return heading(report) + markdown(report.rounds);
}

async function read(path: string): Promise<Report> {
  return JSON.parse(await readFile(path, 'utf8')) as Report;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(
    `scripts/bench: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}
