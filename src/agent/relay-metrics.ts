/**
 * The figures that the relay tells of the node: the use of it, looked at in the relay's own interval
 * and only while the broker hears, and what the board was last found to be.
 */
import type { Clock } from '../base/clock.ts';
import { withRates, type NetworkUsage, type UsageReport } from '../node/usage.ts';
import type { Figure } from '../node/board.ts';
import type { Met } from '../relay/message.ts';
import type { ReadUsage } from '../usage/usage.ts';

export type MetricsOptions = {
  readonly clock: Clock;
  readonly intervalMs: number;
  readonly usage: ReadUsage;
  /** Of the board. */
  readonly figures: () => readonly Figure[];
  readonly isHeard: () => boolean;
  /** There are new ones. */
  readonly onMetrics: () => void;
};

export type Metrics = {
  /** Those of the last look; undefined before the first and after nobody heard. */
  now(): Met | undefined;
  run(signal: AbortSignal): Promise<void>;
};

/** How long figures mean something when they are not told anew: they stay within their bands. */
const MIN_TTL_MS = 3_600_000;
/** A reader may miss one of them. */
const LOOKS_OF_TTL = 4;

export function createMetrics(options: MetricsOptions): Metrics {
  const { clock, intervalMs, usage, figures, isHeard, onMetrics } = options;
  const ttl = Math.ceil(Math.max(LOOKS_OF_TTL * intervalMs, MIN_TTL_MS) / 1000);
  let met: Met | undefined;
  return {
    now: () => met,
    run: async (signal) => {
      let before: UsageReport | undefined;
      while (!signal.aborted) {
        await clock.sleep(intervalMs, signal).catch(() => undefined);
        if (signal.aborted) return;
        if (!isHeard()) {
          [before, met] = [undefined, undefined];
          continue;
        }
        const report = await usage('node', intervalMs / 2);
        if (before !== undefined) {
          const t = Math.floor(clock.now().wallMs / 1000);
          met = { t, ttl, ...metOf(withRates(before, report), figures()) };
          onMetrics();
        }
        before = report;
      }
    },
  };
}

/** What a report with rates and the board's figures say, in the units of the message. */
export function metOf({ node }: UsageReport, figures: readonly Figure[]): Omit<Met, 't' | 'ttl'> {
  const { cpu, memory, capacity, fs, load, network } = node;
  const highest = (name: string) => {
    const values = figures.flatMap((one) => (one.name === name ? one.value : []));
    return values.length === 0 ? undefined : Math.max(...values);
  };
  const hertz = highest('processor_clock_hertz');
  const all = {
    cpuPercent: percent(cpu?.usageNanoCores, capacity?.cpus && capacity.cpus * 1e9),
    memoryPercent: percent(memory?.workingSetBytes, capacity?.memoryBytes),
    diskPercent: percent(fs?.usedBytes, fs?.capacityBytes),
    load1: load?.[0],
    receivedKBps: kilobytes(network, 'rxBytesPerSecond'),
    sentKBps: kilobytes(network, 'txBytesPerSecond'),
    temperatureC: highest('temperature_celsius'),
    cpuMHz: hertz && hertz / 1e6,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

function percent(part: number | undefined, whole: number | undefined): number | undefined {
  if (part === undefined || whole === undefined || whole === 0) return undefined;
  return (100 * part) / whole;
}

/** Of all interfaces together. */
function kilobytes(
  network: NetworkUsage | undefined,
  which: 'rxBytesPerSecond' | 'txBytesPerSecond',
): number | undefined {
  const known = network?.interfaces.flatMap((one) => one[which] ?? []) ?? [];
  return known.length === 0 ? undefined : known.reduce((sum, one) => sum + one, 0) / 1000;
}
