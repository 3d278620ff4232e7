/** Values of options that are no plain text. */
import { usageError } from './exit.ts';

/** A whole number in decimal; throws a CommandFailed that names the option. */
export function wholeNumber(
  option: string,
  given: string,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  const value = /^-?\d{1,15}$/.test(given) ? Number(given) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw usageError(`${option} is a whole number from ${min} to ${max}, not "${given}"`);
}

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** A duration as Go writes it (`90s`, `1h30m`), and days; in milliseconds. */
export function duration(option: string, given: string): number {
  const parts = [...given.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join('') !== given) {
    throw usageError(`${option} is a duration such as 30s, 10m or 1h30m, not "${given}"`);
  }
  return parts.reduce((sum, part) => sum + Number(part[1]) * (UNIT_MS[part[2] ?? ''] ?? 0), 0);
}

/** A pod as kubectl names one: `web` or `pod/web`. */
export function podName(given: string): string {
  const [kind, name, ...more] = given.includes('/') ? given.split('/') : ['pod', given];
  const isPod = kind === 'pod' || kind === 'pods' || kind === 'po';
  if (isPod && name !== undefined && more.length === 0 && isDnsName(name)) return name;
  throw usageError(`"${given}" is no name of a pod`);
}

/** A namespace; throws a CommandFailed when it cannot be one. */
export function namespaceName(given: string): string {
  if (isDnsName(given)) return given;
  throw usageError(`"${given}" is no name of a namespace`);
}

function isDnsName(name: string): boolean {
  return name.length <= 253 && /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(name);
}
