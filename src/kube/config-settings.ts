/**
 * The settings of a configuration while it is put together: each value with where it comes from.
 * Files are merged as the kubelet merges them (JSON merge patch, RFC 7396): maps key by key, lists
 * and single values whole, null takes away.
 */
import type { Field, Fields } from './config-fields.ts';
import { isGroup, leaves } from './config-fields.ts';
import { formatDuration } from './go-duration.ts';
import { formatProblem, formatValue } from './manifest-node.ts';
import { plainRecord } from './parse-fields.ts';
import type { Given } from './read-config.ts';

export type Source =
  | { readonly from: 'default' }
  | { readonly from: 'file'; readonly file: string; readonly line: number }
  | { readonly from: 'flag'; readonly flag: string };

export type Setting = { readonly value: unknown; readonly source: Source };

/** By path: `authentication.x509.clientCAFile`. */
export type Settings = Map<string, Setting>;

/** `default`, `/etc/limpet/config.yaml:3`, `--max-pods`: for people. */
export function formatSource(source: Source): string {
  switch (source.from) {
    case 'default':
      return 'default';
    case 'file':
      return `${source.file}:${source.line}`;
    case 'flag':
      return `--${source.flag}`;
  }
}

/** Lays what a file gives over the settings. */
export function mergeFile(
  settings: Settings,
  fields: Fields,
  given: ReadonlyMap<string, Given>,
  file: string,
): void {
  const shapes = new Map(leaves(fields));
  for (const [path, { value, line }] of given) {
    const source: Source = { from: 'file', file, line };
    const isMap = shapes.get(path)?.shape.type === 'map';
    if (value === null) settings.delete(path);
    else if (!isMap) settings.set(path, { value, source });
    else settings.set(path, { value: mergeMaps(settings.get(path)?.value, value), source });
  }
}

function mergeMaps(under: unknown, over: unknown): unknown {
  const entries = Object.entries({ ...(under as object | undefined), ...(over as object) });
  return plainRecord(entries.filter(([, value]) => value !== null));
}

/** Fills in the defaults for all that is not given, or given as a zero that means so. */
export function fillDefaults(settings: Settings, fields: Fields, hasFile: boolean): void {
  for (const [path, field] of leaves(fields)) {
    const setting = settings.get(path);
    if (setting !== undefined && (field.zeroCounts || !isZero(setting.value))) continue;
    const value = hasFile ? field.fallback : (field.withoutFile ?? field.fallback);
    settings.set(path, { value, source: { from: 'default' } });
  }
}

/** Go's zero values, and what is empty. */
export function isZero(value: unknown): boolean {
  if (value === '' || value === 0 || value === false || value === undefined) return true;
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

/** The configuration as an object, in the order of the table. */
export function configObject(fields: Fields, settings: Settings, prefix = ''): object {
  const entries = Object.entries(fields).map(([name, entry]) => {
    const path = prefix + name;
    const value = isGroup(entry)
      ? configObject(entry.fields, settings, `${path}.`)
      : settings.get(path)?.value;
    return [name, value] as const;
  });
  return Object.fromEntries(entries);
}

/** The configuration as a file would have it; what may be secret is masked. */
export function writtenConfig(fields: Fields, config: object): object {
  const entries = Object.entries(fields).flatMap(([name, entry]) => {
    const value = (config as Readonly<Record<string, unknown>>)[name];
    if (value === undefined) return [];
    const written = isGroup(entry)
      ? writtenConfig(entry.fields, value as object)
      : writtenValue(entry, value);
    return [[name, written] as const];
  });
  return Object.fromEntries(entries);
}

/** A value as a file would have it; what may be secret is masked. */
export function writtenValue({ shape, secret }: Field<unknown>, value: unknown): unknown {
  if (secret && Object.keys(value as object).length > 0) return '<masked>';
  return shape.type === 'duration' ? formatDuration(value as number) : value;
}

export type Findings = { readonly problems: string[]; readonly warnings: string[] };

/**
 * Says of every setting that was given and that limpet does not carry out what that means. Those
 * that are only warned about share a line for one reason.
 */
export function reportEffects(fields: Fields, settings: Settings, findings: Findings): void {
  const warned = new Map<string, string[]>();
  for (const [path, field] of leaves(fields)) {
    const setting = settings.get(path);
    if (setting === undefined || asksForNothing(field, setting)) continue;
    const { effect } = field;
    if (effect.kind === 'refused') {
      const message = `is not carried out by limpet: ${effect.why}`;
      findings.problems.push(problemOf(path, setting, message, field));
    } else if (effect.kind === 'warned') {
      const name = setting.source.from === 'flag' ? formatSource(setting.source) : path;
      warned.set(effect.why, [...(warned.get(effect.why) ?? []), name]);
    }
  }
  for (const [why, names] of warned) {
    findings.warnings.push(`${names.join(', ')}: without effect, ${why}`);
  }
}

function asksForNothing(field: Field<unknown>, { value, source }: Setting): boolean {
  if (source.from === 'default') return true;
  const { effect } = field;
  const harmless = 'harmless' in effect ? effect.harmless : [];
  return [field.fallback, ...harmless].some((one) => sameValue(one, value));
}

function sameValue(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** One line: where a setting comes from, its value, and what is wrong with it. */
export function problemOf(
  path: string,
  { value, source }: Setting,
  message: string,
  { shape, secret }: Pick<Field<unknown>, 'shape' | 'secret'>,
): string {
  const told =
    shape.type === 'duration' && typeof value === 'number' ? formatDuration(value) : value;
  const shown = secret || value === undefined ? {} : { value: formatValue(told) };
  const named = source.from === 'flag' ? `${formatSource(source)} (${path})` : path;
  return source.from === 'file'
    ? formatProblem(source.file, { path, message, line: source.line, ...shown })
    : formatProblem(undefined, { path: named, message, ...shown });
}
