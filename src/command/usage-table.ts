/** What `limpet top` prints: lines about the node, and a table of pods and containers. */
import type {
  ContainerUsage,
  NetworkUsage,
  NodeUsage,
  PodUsage,
  Pressure,
  Usage,
  UsageReport,
} from '../node/usage.ts';
import { age, fields, printable, table } from './table.ts';

export const SORTS = ['cpu', 'memory'] as const;
export type Sort = (typeof SORTS)[number];

const NONE = '-';

/** The report with its rates, for people. */
export function describeUsage(report: UsageReport, sort: Sort): string {
  const { node, pods = [] } = report;
  if (report.depth === 'volumes') return describeVolumes(pods);
  const withContainers = report.depth === 'containers';
  const head = [
    ...['NAMESPACE', 'POD', ...(withContainers ? ['CONTAINER'] : [])],
    ...['CPU', 'MEMORY', 'RSS', 'PROCS', 'READ/S', 'WRITE/S', 'RX/S', 'TX/S'],
  ];
  const rows = sorted(pods, sort).flatMap((pod) => {
    const { namespace, name } = pod.podRef;
    const own = [namespace, name, ...(withContainers ? [''] : []), ...figuresOf(pod)];
    const containers = sorted(pod.containers ?? [], sort);
    return [own, ...containers.map((one) => ['', '', one.name, ...figuresOf(one)])];
  });
  const lines = fields(nodeRows(node));
  return rows.length === 0 ? `${lines}\nNo pods run.\n` : `${lines}\n${table(head, rows)}`;
}

/** The fullest first. */
function describeVolumes(pods: readonly PodUsage[]): string {
  const rows = pods
    .flatMap(({ podRef, volumes = [] }) => volumes.map((volume) => ({ podRef, volume })))
    .toSorted((a, b) => b.volume.usedBytes - a.volume.usedBytes)
    .map(({ podRef, volume }) => [
      ...[podRef.namespace, podRef.name, printable(volume.name)],
      `${volume.isPartial === true ? '>' : ''}${bytes(volume.usedBytes)}`,
      bytes(volume.availableBytes),
      String(volume.inodesUsed ?? NONE),
    ]);
  const head = ['NAMESPACE', 'POD', 'VOLUME', 'USED', 'AVAILABLE', 'FILES'];
  return rows.length === 0 ? 'No pod has a volume of its own.\n' : table(head, rows);
}

function sorted<T extends Usage>(all: readonly T[], sort: Sort): readonly T[] {
  const by = ({ cpu, memory }: T) =>
    (sort === 'cpu' ? cpu?.usageNanoCores : memory?.workingSetBytes) ?? -1;
  return all.toSorted((a, b) => by(b) - by(a));
}

function figuresOf(usage: PodUsage | ContainerUsage): readonly string[] {
  const { cpu, memory, io, process_stats } = usage;
  const network = 'network' in usage ? usage.network : undefined;
  return [
    milli(cpu?.usageNanoCores),
    bytes(memory?.workingSetBytes),
    bytes(memory?.rssBytes),
    String(process_stats?.process_count ?? NONE),
    bytes(io?.readBytesPerSecond),
    bytes(io?.writeBytesPerSecond),
    bytes(sumOf(network, 'rxBytesPerSecond')),
    bytes(sumOf(network, 'txBytesPerSecond')),
  ];
}

function nodeRows(node: NodeUsage): readonly (readonly [string, string])[] {
  const { cpu, memory, capacity, swap, io, fs, load, uptimeSeconds, network } = node;
  const cores = capacity?.cpus;
  const share = ratio(cpu?.usageNanoCores, cores === undefined ? undefined : cores * 1e9);
  const swapped = swap?.swapUsageBytes ?? 0;
  const row = (name: string, parts: readonly (string | undefined)[]) =>
    [name, parts.filter((part) => part !== undefined && part !== '').join(', ')] as const;
  return [
    row('CPU', [
      `${milli(cpu?.usageNanoCores)} of ${cores ?? '?'} cores${share}`,
      load && `load ${load.map((one) => one.toFixed(2)).join(' ')}`,
      pressureText(cpu?.psi),
    ]),
    row('Memory', [
      `${bytes(memory?.workingSetBytes)} of ${bytes(capacity?.memoryBytes)}` +
        ratio(memory?.workingSetBytes, capacity?.memoryBytes),
      swapped > 0 ? `${bytes(swapped)} swapped` : '',
      pressureText(memory?.psi),
    ]),
    row('Disk', [
      fs && `${bytes(fs.usedBytes)} of ${bytes(fs.capacityBytes)}`,
      io?.readBytesPerSecond === undefined
        ? ''
        : `${bytes(io.readBytesPerSecond)}/s read, ${bytes(io.writeBytesPerSecond)}/s written`,
      pressureText(io?.psi),
    ]),
    row(
      'Network',
      (network?.interfaces ?? []).map(
        ({ name, rxBytesPerSecond, txBytesPerSecond }) =>
          `${printable(name)} ${bytes(rxBytesPerSecond)}/s in ${bytes(txBytesPerSecond)}/s out`,
      ),
    ),
    row('Up', [
      uptimeSeconds === undefined ? '?' : age(uptimeSeconds * 1000),
      `${node.process_stats?.process_count ?? '?'} tasks`,
    ]),
  ];
}

/** The share of the last ten seconds in which something waited. */
function pressureText(psi: Pressure | undefined): string | undefined {
  return psi?.some && `${psi.some.avg10.toFixed(1)} % of the time something waits`;
}

function ratio(part: number | undefined, whole: number | undefined): string {
  if (part === undefined || whole === undefined || whole === 0) return '';
  return ` (${Math.round((100 * part) / whole)} %)`;
}

function sumOf(
  network: NetworkUsage | undefined,
  which: 'rxBytesPerSecond' | 'txBytesPerSecond',
): number | undefined {
  const known = network?.interfaces.flatMap((one) => one[which] ?? []) ?? [];
  return known.length === 0 ? undefined : known.reduce((sum, one) => sum + one, 0);
}

/** Thousandths of a core, as kubectl shows them. */
function milli(nanoCores: number | undefined): string {
  if (nanoCores === undefined) return NONE;
  const cores = nanoCores / 1e6;
  return `${cores < 9.95 && cores > 0 ? cores.toFixed(1) : Math.round(cores)}m`;
}

const UNITS = ['', 'Ki', 'Mi', 'Gi', 'Ti'] as const;

/** In Kubernetes' units: `12.5Mi`. */
function bytes(count: number | undefined): string {
  if (count === undefined) return NONE;
  let [value, unit] = [count, 0];
  while (value >= 1000 && unit < UNITS.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit > 0 && value < 99.95 ? value.toFixed(1) : Math.round(value)}${UNITS[unit]}`;
}
