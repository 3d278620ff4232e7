import type { BoardReport, BrokerReport, ClusterReport, NodeReport } from '../server/api.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand } from './command.ts';
import { EXIT } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';
import { inOrder } from './pod-lookup.ts';
import { podTable } from './pod-table.ts';
import { ageOf, fields, printable, table } from './table.ts';

export const command = defineCommand({
  name: 'status',
  usage: '[--output json|yaml]',
  summary: 'How this node is, what is wrong with it, and its pods.',
  details: `
Exits with 0 whenever the agent answers, whatever it says; "limpet doctor" exits with 1 when
something is broken.`,
  options: { output: OUTPUT_OPTION, socket: SOCKET_OPTION },
  examples: [
    ['sudo limpet status', 'the node and its pods'],
    ['sudo limpet status -o json', 'everything, for machines'],
  ],
  async run({ options }, io) {
    const format = outputFormat(options.output, ['json', 'yaml']);
    const question = { method: 'GET', path: '/v1/status' } as const;
    const report = await ask<NodeReport>(options.socket, question, 'NodeReport', io);
    if (format !== 'table') await writeObject(io, format, report);
    else await io.out(describeNode(report, io.clock.now().wallMs));
    return EXIT.ok;
  },
});

export function describeNode(report: NodeReport, nowMs: number): string {
  const { runtime, store } = report;
  const parts = [
    fields([
      ['Node', report.nodeName],
      ['Agent', `limpet ${report.version}, up ${ageOf(report.agentStartedAt, nowMs)}`],
      ['Runtime', describeRuntime(runtime)],
      ['Cgroups', report.cgroupDriver],
      ...(report.cluster === undefined
        ? []
        : ([['Cluster', describeCluster(report.cluster, nowMs)]] as const)),
      ...(report.relay === undefined
        ? []
        : ([['Relay', printable(describeRelay(report.relay, nowMs))]] as const)),
      ['Board', printable(describeBoard(report.board))],
      ['Store', `${[store.state, store.message].filter(Boolean).join(': ')} (${store.path})`],
      ['Pods', describeCounts(report.pods)],
    ]),
  ];
  const turned = report.board.conditions.filter(({ status }) => status !== 'False');
  if (turned.length > 0) {
    const rows = turned.map(({ type, status, since, message }) => [
      ...[type, status, ageOf(since, nowMs), message],
    ]);
    parts.push('\nConditions of the board:\n', table(['TYPE', 'STATUS', 'SINCE', 'MESSAGE'], rows));
  }
  const { troubles } = report.board;
  if (troubles.length > 0) {
    parts.push('\nWhat the kernel says of the board and can not be used:\n');
    for (const trouble of troubles) parts.push(`  ${printable(trouble)}\n`);
  }
  const wrong = report.findings.filter((finding) => finding.health !== 'ok');
  if (wrong.length > 0) {
    parts.push('\nFindings:\n');
    for (const { health, check, message, remedy } of wrong) {
      parts.push(`  ${health.padEnd(8)}  ${printable(`${check}: ${message}`)}\n`);
      if (remedy !== undefined) parts.push(`            -> ${printable(remedy)}\n`);
    }
  }
  if (report.manifestErrors.length > 0) {
    const rows = report.manifestErrors.map(({ path, message }) => [path, message]);
    parts.push('\nManifests that were not taken:\n', table(['FILE', 'ERROR'], rows));
  }
  parts.push('\n', podTable(inOrder(report.pod), nowMs, false));
  return parts.join('');
}

function describeCluster(cluster: ClusterReport, nowMs: number): string {
  const { phase, since, server, lastHeard, registered, certificateExpires } = cluster;
  const stands = phase === 'connected' ? phase : phase.toUpperCase();
  const parts = [
    `${server ?? cluster.kubeconfig}, ${stands} for ${ageOf(since, nowMs)}`,
    phase === 'connected' || lastHeard === undefined
      ? ''
      : `last heard ${ageOf(lastHeard, nowMs)} ago`,
    registered ? 'node registered' : 'NODE NOT REGISTERED',
    certificateExpires === undefined ? '' : `certificate until ${certificateExpires}`,
  ];
  return parts.filter((part) => part !== '').join(', ');
}

function describeRelay(relay: BrokerReport, nowMs: number): string {
  const { broker, connected, since, version, message, waiting, dropped, ignored } = relay;
  const stands = connected ? `connected (MQTT ${version ?? '?'})` : 'NOT CONNECTED';
  const parts = [
    `${broker}, ${stands} for ${ageOf(since, nowMs)}`,
    waiting === 0 ? '' : `${waiting} messages waiting`,
    dropped === 0 ? '' : `${dropped} DROPPED`,
    ignored === 0 ? '' : `${ignored} unknown commands ignored`,
  ];
  const why = message === undefined ? '' : `: ${message}`;
  return `${parts.filter((part) => part !== '').join(', ')}${why}`;
}

function describeBoard({ facts, figures, conditions }: BoardReport): string {
  const hottest = Math.max(
    ...figures.flatMap(({ name, value }) => (name === 'temperature_celsius' ? value : [])),
  );
  const bad = conditions.filter(({ status }) => status === 'True').length;
  const parts = [
    facts['model'] ?? 'unknown',
    hottest === -Infinity ? '' : `${Math.round(hottest)} °C`,
    conditions.length === 0 ? 'not looked at yet' : bad === 0 ? 'well' : `${bad} WRONG`,
  ];
  return parts.filter((part) => part !== '').join(', ');
}

function describeRuntime(runtime: NodeReport['runtime']): string {
  const name = `${runtime.name} ${runtime.version}`.trim();
  const state = !runtime.connected
    ? 'NOT CONNECTED'
    : runtime.networkReady
      ? 'connected, network ready'
      : 'connected, NETWORK NOT READY';
  const message = runtime.message === undefined ? '' : `: ${runtime.message}`;
  return `${name === '' ? 'unknown' : name}, ${state}${message} (${runtime.socket})`;
}

function describeCounts(pods: NodeReport['pods']): string {
  const counts = (['running', 'pending', 'succeeded', 'failed'] as const)
    .filter((phase) => pods[phase] > 0)
    .map((phase) => `${pods[phase]} ${phase}`);
  return [`${pods.desired} wanted`, ...counts].join(', ');
}
