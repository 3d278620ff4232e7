/** The table of pods, as `kubectl get pods` shows them. */
import { countedContainers } from '../pod/status.ts';
import type { PodReport } from '../server/api.ts';
import { age, ageOf, table } from './table.ts';

const HEAD = ['NAMESPACE', 'NAME', 'READY', 'STATUS', 'RESTARTS', 'AGE', 'IP', 'SOURCE'];
const WIDE = ['UID', 'QOS', 'IMAGES'];

export const SOURCE_WORDS = { file: 'manifest', local: 'apply', api: 'api' } as const;

export function podTable(items: readonly PodReport[], nowMs: number, wide: boolean): string {
  if (items.length === 0) return 'No pods.\n';
  const rows = items.map((report) => {
    const { pod, status } = report;
    const row = [
      pod.metadata.namespace,
      pod.metadata.name,
      readyOf(report),
      report.deleting && report.summary === 'Running' ? 'Terminating' : report.summary,
      restartsOf(report, nowMs),
      ageOf(pod.metadata.creationTimestamp ?? status.startTime, nowMs),
      status.podIP ?? '<none>',
      SOURCE_WORDS[report.source],
    ];
    const images = pod.spec.containers.map((container) => container.image).join(',');
    return wide ? [...row, pod.metadata.uid, status.qosClass, images] : row;
  });
  return table(wide ? [...HEAD, ...WIDE] : HEAD, rows);
}

function readyOf({ pod, status }: PodReport): string {
  const { total, statuses } = countedContainers(pod, status);
  return `${statuses.filter((container) => container.ready).length}/${total}`;
}

function restartsOf({ pod, status }: PodReport, nowMs: number): string {
  const { statuses } = countedContainers(pod, status);
  const restarts = statuses.reduce((sum, container) => sum + container.restartCount, 0);
  const ends = statuses
    .map((container) => Date.parse(container.lastState.terminated?.finishedAt ?? ''))
    .filter((time) => !Number.isNaN(time));
  if (restarts === 0 || ends.length === 0) return String(restarts);
  return `${restarts} (${age(nowMs - Math.max(...ends))} ago)`;
}
