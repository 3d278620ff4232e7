/**
 * Durations as Go writes them: `1m30s`, `100ms`, `1.5h`. Here they are milliseconds, with a
 * fraction where Go has micro- or nanoseconds. Source: Go's time.ParseDuration and Duration.String.
 */

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** 2^63 - 1 nanoseconds: Go has no longer ones. */
const MAX_MS = 9_223_372_036_854;
const MAX_LENGTH = 64;
const FORM = /^[-+]?(?:0|(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/;

/** Milliseconds; undefined when the text is no duration, or one that Go has no room for. */
export function parseDuration(text: string): number | undefined {
  if (text.length > MAX_LENGTH || !FORM.test(text)) return undefined;
  let sumMs = 0;
  for (const [, amount, unit] of text.matchAll(/([\d.]+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    sumMs += Number(amount) * UNIT_MS[unit!]!;
  }
  if (sumMs > MAX_MS) return undefined;
  return text.startsWith('-') ? 0 - sumMs : sumMs;
}

/** As Go prints it: `0s`, `1m30s`, `4h0m0s`, `1.5s`, `100ms`. */
export function formatDuration(durationMs: number): string {
  const sign = durationMs < 0 ? '-' : '';
  const nanos = Math.round(Math.abs(durationMs) * 1e6);
  if (nanos === 0) return '0s';
  if (nanos < 1e3) return `${sign}${nanos}ns`;
  if (nanos < 1e6) return `${sign}${nanos / 1e3}µs`;
  if (nanos < 1e9) return `${sign}${nanos / 1e6}ms`;
  const wholeSeconds = Math.floor(nanos / 1e9);
  const seconds = `${(nanos - Math.floor(wholeSeconds / 60) * 60e9) / 1e9}s`;
  const minutes = Math.floor(wholeSeconds / 60);
  if (minutes === 0) return `${sign}${seconds}`;
  const hours = Math.floor(minutes / 60);
  return hours === 0
    ? `${sign}${minutes}m${seconds}`
    : `${sign}${hours}h${minutes % 60}m${seconds}`;
}
