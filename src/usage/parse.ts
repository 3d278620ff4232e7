/**
 * The texts of the kernel that tell what is used. What is missing or no number is undefined.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst, accounting/psi.rst; proc(5).
 */
import type { InterfaceUsage, Pressure, PressureData } from '../node/usage.ts';

/** A text that is one number. `max` is none. */
export function oneNumber(text: string | undefined): number | undefined {
  return text === undefined ? undefined : wholeNumber(text.trimEnd());
}

/** The number behind `key` in lines of `key number`. */
export function numberOf(text: string | undefined, key: string): number | undefined {
  if (text === undefined) return undefined;
  const isFirst = text.startsWith(`${key} `);
  const before = isFirst ? 0 : text.indexOf(`\n${key} `);
  if (before === -1) return undefined;
  const begin = before + key.length + (isFirst ? 1 : 2);
  const end = text.indexOf('\n', begin);
  return wholeNumber(text.slice(begin, end === -1 ? undefined : end));
}

/** Bytes read and written of all devices in `io.stat`. An empty file has counted nothing yet. */
export function ioBytes(
  text: string | undefined,
): { readonly readBytes: number; readonly writeBytes: number } | undefined {
  if (text === undefined) return undefined;
  return { readBytes: sumOf(text, /\brbytes=(\d+)/g), writeBytes: sumOf(text, /\bwbytes=(\d+)/g) };
}

function sumOf(text: string, form: RegExp): number {
  let sum = 0;
  for (const [, digits] of text.matchAll(form)) sum += Number(digits);
  return sum;
}

/** `cpu.pressure`, `/proc/pressure/memory`, …: undefined where the kernel was told not to count. */
export function pressureOf(text: string | undefined): Pressure | undefined {
  if (text === undefined) return undefined;
  const some = pressureLine(text, 'some');
  const full = pressureLine(text, 'full');
  if (some === undefined && full === undefined) return undefined;
  return { ...(some && { some }), ...(full && { full }) };
}

const PRESSURE = /^(\w+) avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$/gm;
const NANOSECONDS = 1000;

function pressureLine(text: string, which: 'some' | 'full'): PressureData | undefined {
  for (const [, name, ...numbers] of text.matchAll(PRESSURE)) {
    if (name !== which) continue;
    const [avg10 = NaN, avg60 = NaN, avg300 = NaN, total = NaN] = numbers.map(Number);
    if (![avg10, avg60, avg300, total].every(Number.isFinite)) return undefined;
    return { total: total * NANOSECONDS, avg10, avg60, avg300 };
  }
  return undefined;
}

/** The interfaces in `/proc/net/dev`, without the loopback. */
export function interfacesOf(text: string): readonly InterfaceUsage[] {
  const found: InterfaceUsage[] = [];
  for (const line of text.split('\n')) {
    const colon = line.lastIndexOf(':');
    if (colon === -1) continue;
    const name = line.slice(0, colon).trim();
    const counters = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/);
    if (name === 'lo' || counters.length < INTERFACE_COUNTERS) continue;
    const [rxBytes, rxErrors] = [Number(counters[0]), Number(counters[2])];
    const [txBytes, txErrors] = [Number(counters[8]), Number(counters[10])];
    if (![rxBytes, rxErrors, txBytes, txErrors].every(Number.isSafeInteger)) continue;
    found.push({ name, rxBytes, rxErrors, txBytes, txErrors });
  }
  return found;
}

const INTERFACE_COUNTERS = 16;

/** `/proc/loadavg`: `0.20 0.18 0.12 1/80 11206`, with the tasks that there are. */
export function loadOf(
  text: string | undefined,
): { readonly load: readonly [number, number, number]; readonly tasks: number } | undefined {
  const [, one, five, fifteen, tasks] =
    /^([\d.]+) ([\d.]+) ([\d.]+) \d+\/(\d+) /.exec(text ?? '') ?? [];
  const load = [Number(one), Number(five), Number(fifteen)] as const;
  if (tasks === undefined || !load.every(Number.isFinite)) return undefined;
  return { load, tasks: Number(tasks) };
}

/** `/proc/uptime`, in seconds. */
export function uptimeOf(text: string | undefined): number | undefined {
  const seconds = /^\d+(\.\d+)? /.exec(text ?? '')?.[0];
  return seconds === undefined ? undefined : Number(seconds);
}

/** Bytes of a line such as `MemTotal:  1000 kB` in `/proc/meminfo`. */
export function memInfoBytes(text: string | undefined, name: string): number | undefined {
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text ?? '')?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
}

/** Counters have 64 bits; above 2^53 the last digits are lost, which no reader sees. */
function wholeNumber(digits: string): number | undefined {
  return /^\d{1,20}$/.test(digits) ? Number(digits) : undefined;
}
