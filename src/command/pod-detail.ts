/** Everything about one pod, in the manner of `kubectl describe`. */
import type { Container, ContainerState, ContainerStatus } from '../kube/pod.ts';
import type { PodReport } from '../server/api.ts';
import { SOURCE_WORDS } from './pod-table.ts';
import { ageOf, fields, table } from './table.ts';

export function describePod(report: PodReport, nowMs: number): string {
  const { pod, status } = report;
  const labels = Object.entries(pod.metadata.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  const head: [string, string][] = [
    ['Name', pod.metadata.name],
    ['Namespace', pod.metadata.namespace],
    ['UID', pod.metadata.uid],
    ['Source', SOURCE_WORDS[report.source]],
    ['Labels', labels.length === 0 ? '<none>' : labels.join(', ')],
    ['Status', report.deleting ? `${report.summary} (being deleted)` : report.summary],
    ['Phase', status.phase],
  ];
  if (status.reason !== undefined) head.push(['Reason', status.reason]);
  if (status.message !== undefined) head.push(['Message', status.message]);
  head.push(
    [
      'IP',
      pod.spec.hostNetwork ? `${status.podIP ?? '<none>'} (host)` : (status.podIP ?? '<none>'),
    ],
    ['Started', since(status.startTime, nowMs)],
    ['QoS class', status.qosClass],
    ['Restart policy', pod.spec.restartPolicy],
  );
  const parts = [fields(head)];
  const { initContainers, containers } = pod.spec;
  if (initContainers.length > 0) {
    parts.push('Init containers:\n');
    parts.push(describeContainers(initContainers, status.initContainerStatuses, nowMs));
  }
  parts.push('Containers:\n', describeContainers(containers, status.containerStatuses, nowMs));
  if (status.conditions.length > 0) {
    const rows = status.conditions.map((condition) => [
      condition.type,
      condition.status,
      condition.reason ?? '',
      condition.message ?? '',
    ]);
    parts.push('\nConditions:\n', table(['TYPE', 'STATUS', 'REASON', 'MESSAGE'], rows));
  }
  return parts.join('');
}

function describeContainers(
  containers: readonly Container[],
  statuses: readonly ContainerStatus[],
  nowMs: number,
): string {
  return containers
    .map((container) => {
      const status = statuses.find((candidate) => candidate.name === container.name);
      const kind = container.restartPolicy === 'Always' ? ' (sidecar)' : '';
      return `  ${container.name}${kind}:\n${fields(containerRows(container, status, nowMs), '    ')}`;
    })
    .join('');
}

function containerRows(
  container: Container,
  status: ContainerStatus | undefined,
  nowMs: number,
): readonly (readonly [string, string])[] {
  const rows: (readonly [string, string])[] = [['Image', container.image]];
  if (status === undefined) return [...rows, ['State', 'not created yet']];
  if (status.imageID !== '') rows.push(['Image ID', status.imageID]);
  if (status.containerID !== undefined) rows.push(['Container ID', status.containerID]);
  rows.push(...stateRows('State', status.state, nowMs));
  if (Object.keys(status.lastState).length > 0) {
    rows.push(...stateRows('Last state', status.lastState, nowMs));
  }
  rows.push(['Ready', status.ready ? 'yes' : 'no'], ['Restarts', String(status.restartCount)]);
  const ports = container.ports.map(({ containerPort, hostPort, protocol }) =>
    hostPort === undefined
      ? `${containerPort}/${protocol}`
      : `${containerPort}/${protocol} on host port ${hostPort}`,
  );
  if (ports.length > 0) rows.push(['Ports', ports.join(', ')]);
  return rows;
}

function stateRows(
  name: string,
  { waiting, running, terminated }: ContainerState,
  nowMs: number,
): readonly (readonly [string, string])[] {
  if (running !== undefined) return [[name, `Running since ${since(running.startedAt, nowMs)}`]];
  if (terminated !== undefined) {
    const { reason, exitCode, signal, message, startedAt, finishedAt } = terminated;
    const by = signal === undefined ? '' : `, signal ${signal}`;
    const rows: [string, string][] = [[name, `Terminated: ${reason}, exit code ${exitCode}${by}`]];
    if (message !== undefined && message !== '') rows.push(['  Message', message]);
    if (startedAt !== undefined) rows.push(['  Started', since(startedAt, nowMs)]);
    if (finishedAt !== undefined) rows.push(['  Finished', since(finishedAt, nowMs)]);
    return rows;
  }
  const { reason, message } = waiting ?? { reason: 'unknown' };
  const rows: [string, string][] = [[name, `Waiting: ${reason}`]];
  if (message !== undefined && message !== '') rows.push(['  Message', message]);
  return rows;
}

function since(time: string | undefined, nowMs: number): string {
  return time === undefined ? '<unknown>' : `${time} (${ageOf(time, nowMs)} ago)`;
}
