/** What the node, its pods and containers use, live. */
import type { UsageDepth, UsageReport } from '../node/usage.ts';
import { withRates } from '../node/usage.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand, type Io } from './command.ts';
import { CommandFailed, EXIT, usageError } from './exit.ts';
import { OUTPUT_OPTION, outputFormat } from './output.ts';
import { NAMESPACE_OPTION } from './pod-lookup.ts';
import { describeUsage, SORTS, type Sort } from './usage-table.ts';
import { duration, namespaceName } from './values.ts';

export const command = defineCommand({
  name: 'top',
  usage: '[--containers|--volumes] [--sort cpu|memory] [--once] [--output json]',
  summary: 'What the node, its pods and their containers use.',
  details: `
On a terminal it goes on until it is interrupted; elsewhere it prints once. The agent reads only
while somebody looks. Figures of a second are those since the look before, the first of half a second.

CPU is in thousandths of a core (m). MEMORY is the working set: what the kernel can't give back at once.
A pod in the node's own network has no figures of it. Volumes are counted at most once a minute.`,
  options: {
    containers: { type: 'boolean', help: 'the containers of each pod too' },
    volumes: { type: 'boolean', help: 'how full the volumes of pods are, instead' },
    sort: { type: 'string', value: 'FIGURE', default: 'cpu', help: 'cpu (default) or memory' },
    namespace: NAMESPACE_OPTION,
    interval: { type: 'string', value: 'TIME', default: '2s', help: 'between looks (2s)' },
    once: { type: 'boolean', help: 'print once, also on a terminal' },
    watch: { type: 'boolean', short: 'w', help: 'go on, also where there is no terminal' },
    output: { ...OUTPUT_OPTION, help: 'json: all figures, one line for each look' },
    socket: SOCKET_OPTION,
  },
  examples: [
    ['sudo limpet top', 'live, the busiest pod first'],
    ['sudo limpet top --containers --sort memory', 'which container takes the memory?'],
    ['sudo limpet top --volumes --once', 'which pod fills the card?'],
    ['sudo limpet top --once -o json', 'all figures, once, for machines'],
    ['sudo limpet top --watch --interval 10s -o json', 'a line every ten seconds'],
  ],
  async run({ options, words }, io) {
    if (words.length > 0) throw usageError(`top takes no ${words[0]}: it shows all pods`);
    if (options.containers && options.volumes) {
      throw usageError('--containers and --volumes exclude one another');
    }
    if (options.once && options.watch) throw usageError('--once and --watch exclude one another');
    const isJson = outputFormat(options.output, ['json']) === 'json';
    const sort = SORTS.find((one) => one === options.sort);
    if (sort === undefined) {
      throw usageError(`--sort is one of ${SORTS.join(', ')}, not "${options.sort}"`);
    }
    const namespace =
      options.namespace === undefined ? undefined : namespaceName(options.namespace);
    const everyMs = duration('--interval', options.interval);
    if (everyMs < MIN_EVERY_MS || everyMs > MAX_EVERY_MS) {
      throw usageError('--interval is from 500ms to 1h');
    }
    const isScreen = process.stdout.isTTY && !isJson;
    const goesOn = options.watch || (isScreen && !options.once);
    await show(
      {
        depth: depthOf(options.volumes, options.containers || isJson),
        ...{ socket: options.socket, sort, namespace, everyMs, isJson, goesOn },
        clears: isScreen && goesOn,
      },
      io,
    );
    return EXIT.ok;
  },
});

function depthOf(volumes: boolean, containers: boolean): UsageDepth {
  if (volumes) return 'volumes';
  return containers ? 'containers' : 'pods';
}

const MIN_EVERY_MS = 500;
const MAX_EVERY_MS = 3_600_000;
const FIRST_MS = 500;
const HOME_AND_CLEAR = '\u001b[H\u001b[2J';

type Look = {
  readonly depth: UsageDepth;
  readonly socket: string;
  readonly sort: Sort;
  readonly namespace: string | undefined;
  readonly everyMs: number;
  readonly isJson: boolean;
  readonly goesOn: boolean;
  /** The screen is drawn anew for each look. */
  readonly clears: boolean;
};

async function show(look: Look, io: Io): Promise<void> {
  const { goesOn, isJson } = look;
  let before = await read(look, 0, io);
  for (let waitMs = FIRST_MS; ; waitMs = look.everyMs) {
    await io.clock.sleep(waitMs, io.signal);
    // What another reader was told a moment ago is new enough, but never what we were told.
    const now = await read(look, waitMs / 2, io);
    const report = onlyOf(withRates(before, now), look.namespace);
    const text = isJson ? `${JSON.stringify(report)}\n` : describeUsage(report, look.sort);
    await io.out(look.clears ? fitting(text) : text);
    if (!goesOn) return;
    if (!isJson && !look.clears) await io.out('\n');
    before = now;
  }
}

async function read({ socket, depth }: Look, maxAgeMs: number, io: Io): Promise<UsageReport> {
  const query = { depth, maxAgeMs: String(Math.floor(maxAgeMs)) };
  const question = { method: 'GET', path: '/v1/usage', query } as const;
  try {
    return await ask<UsageReport>(socket, question, 'UsageReport', io);
  } catch (error) {
    if (!(error instanceof CommandFailed) || error.exitCode !== EXIT.notFound) throw error;
    throw new CommandFailed(EXIT.failed, 'the agent is older than this command', [
      'start it anew: sudo systemctl restart limpet',
    ]);
  }
}

function onlyOf(report: UsageReport, namespace: string | undefined): UsageReport {
  if (namespace === undefined || report.pods === undefined) return report;
  return { ...report, pods: report.pods.filter(({ podRef }) => podRef.namespace === namespace) };
}

/** As many lines as the terminal has, so that it does not scroll. */
function fitting(text: string): string {
  const { rows = 24, columns = 80 } = process.stdout;
  const lines = text.trimEnd().split('\n');
  const most = Math.max(4, rows - 1);
  const shown = lines.length > most ? [...lines.slice(0, most - 1), '…'] : lines;
  return `${HOME_AND_CLEAR}${shown.map((line) => line.slice(0, columns)).join('\n')}\n`;
}
