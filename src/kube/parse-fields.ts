/**
 * Reads single fields out of a manifest tree. A wrong type, an unknown field and a field that is
 * not carried out become problems; the reader goes on, so that one look shows all of them.
 * Like the API server it takes null for "not there".
 */
import { FIELDS, INSTEAD, type FieldTable } from './field-tables.ts';
import {
  formatPath,
  formatValue,
  kindOf,
  lineAt,
  listOf,
  mapOf,
  type ManifestNode,
  type Path,
  type Problem,
} from './manifest-node.ts';

export type Details = { readonly value?: unknown; readonly remedy?: string };

/** Where problems go. */
export type Report = {
  readonly problems: readonly Problem[];
  /**
   * An API server has checked the object and a scheduler has placed it: what both have dealt with
   * is no problem, nor is a field that the server knows and this table does not.
   */
  readonly isChecked?: true;
  add(path: Path, message: string, details?: Details): void;
};

/** Enough to repair a manifest by, and too few to fill a screen or a card. */
const MAX_PROBLEMS = 20;

/** Collects the problems of one document. */
export function createReport(
  root: ManifestNode,
  document?: number,
  { isChecked }: Pick<Report, 'isChecked'> = {},
): Report {
  const problems: Problem[] = [];
  return {
    problems,
    ...(isChecked && { isChecked }),
    add: (path, message, details = {}) => {
      if (problems.length === MAX_PROBLEMS) {
        problems.push({ path: '', message: 'has more problems, which are not shown' });
      }
      if (problems.length > MAX_PROBLEMS) return;
      problems.push({
        path: formatPath(path),
        message,
        ...(details.value === undefined ? {} : { value: formatValue(details.value) }),
        ...(details.remedy === undefined ? {} : { remedy: details.remedy }),
        ...(root.line > 0 && { line: lineAt(root, path) }),
        ...(document === undefined ? {} : { document }),
      });
    },
  };
}

/** One map of the manifest, its fields checked against its table. */
export type Fields = {
  readonly report: Report;
  readonly path: Path;
  readonly map: ReadonlyMap<string, ManifestNode>;
};

/**
 * Opens a map; anything else is a problem and reads as an empty one. Without a table the map may
 * have any fields.
 */
export function openFields(
  report: Report,
  node: ManifestNode,
  path: Path,
  table?: FieldTable,
): Fields {
  const map = mapOf(node) ?? new Map<string, ManifestNode>();
  if (mapOf(node) === undefined) report.add(path, `must be a map, not ${kindOf(node)}`);
  if (table === undefined) return { report, path, map };
  for (const [name, entry] of map) checkField(report, table, name, entry, [...path, name]);
  return { report, path, map };
}

function checkField(
  report: Report,
  table: FieldTable,
  name: string,
  node: ManifestNode,
  path: Path,
): void {
  if (table.carried.includes(name) || table.dropped.includes(name)) return;
  const isScheduled = table.scheduled.includes(name);
  if (report.isChecked && (isScheduled || !table.later.includes(name))) return;
  if (!isScheduled && !table.later.includes(name)) {
    const remedy = suggest(table, name);
    return report.add(path, `${table.type} has no such field`, { remedy });
  }
  const { value } = node;
  const allowed: readonly unknown[] | undefined = table.harmless[name];
  const asksForNothing =
    table.type === 'Volume'
      ? value === null
      : allowed === undefined
        ? isEmpty(node)
        : value === null || value === '' || allowed.includes(value);
  if (!asksForNothing) notCarriedOut(report, path, name);
}

/** The problem of a field, or of a value of it, that limpet has no code for. */
export function notCarriedOut(report: Report, path: Path, name: string, value?: unknown): void {
  const remedy = INSTEAD[name] ?? 'remove it, if the pod can do without';
  report.add(path, 'is not carried out by limpet yet', {
    ...(value === undefined ? {} : { value }),
    remedy,
  });
}

/** Whether a value is Go's zero value, which Kubernetes takes for "not there". */
function isEmpty({ value }: ManifestNode): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (value instanceof Map) return value.size === 0;
  return value === null || value === false || value === 0 || value === '';
}

function suggest(table: FieldTable, name: string): string {
  const { carried, later, dropped, scheduled } = table;
  const near = nearest(name, [...carried, ...later, ...dropped, ...scheduled]);
  if (near !== undefined) return `did you mean "${near}"?`;
  const owners = Object.values(FIELDS).filter(
    (other: FieldTable) => other.carried.includes(name) || other.later.includes(name),
  );
  const owner = owners[0];
  return owner === undefined ? 'remove it' : `it is a field of ${owner.type}: move it there`;
}

/** The word that is at most two changes away from `word`, case aside. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  if (word.length > 64) return undefined;
  const wanted = word.toLowerCase();
  const most = word.length <= 4 ? 1 : 2;
  let best: string | undefined;
  let bestDistance = most + 1;
  for (const candidate of words) {
    const distance = editDistance(wanted, candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Changes, insertions, removals and swaps of neighbours between two words. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1];
      let least = Math.min(
        above[column]! + 1,
        current[column - 1]! + 1,
        above[column - 1]! + (same ? 0 : 1),
      );
      const swapped = a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (row > 1 && column > 1 && swapped) least = Math.min(least, before[column - 2]! + 1);
      current.push(least);
    }
    [before, above] = [above, current];
  }
  return above[b.length]!;
}

/** The field's node, unless it is not there or null. */
export function field(fields: Fields, name: string): ManifestNode | undefined {
  const node = fields.map.get(name);
  return node === undefined || node.value === null ? undefined : node;
}

/** A map within a map; undefined when it is not there. */
export function readMap(fields: Fields, name: string, table: FieldTable): Fields | undefined {
  const node = field(fields, name);
  if (node === undefined) return undefined;
  return openFields(fields.report, node, [...fields.path, name], table);
}

export type Item = { readonly node: ManifestNode; readonly path: Path };

/** The items of a list; none when it is not there. */
export function readItems(fields: Fields, name: string): readonly Item[] {
  const node = field(fields, name);
  if (node === undefined) return [];
  const path = [...fields.path, name];
  const items = listOf(node);
  if (items === undefined) {
    fields.report.add(path, `must be a list, not ${kindOf(node)}`, {
      remedy: 'begin each item with "- "',
    });
    return [];
  }
  return items.map((item, index) => ({ node: item, path: [...path, index] }));
}

/** Text; the values of secrets-to-be (`env`) are not repeated in problems. */
export function readText(
  fields: Fields,
  name: string,
  options: { readonly hidden?: boolean } = {},
): string | undefined {
  const node = field(fields, name);
  return node === undefined
    ? undefined
    : asText(fields.report, node, [...fields.path, name], options.hidden === true);
}

/** @see readText */
export function asText(
  report: Report,
  node: ManifestNode,
  path: Path,
  hidden: boolean,
): string | undefined {
  const { value, source } = node;
  if (typeof value === 'string') {
    if (!value.includes('\0')) return value;
    report.add(path, 'must not contain a NUL character');
    return undefined;
  }
  const message = `must be text, not ${kindOf(node)}`;
  if (typeof value === 'number' || typeof value === 'boolean') {
    const written = formatValue(source ?? String(value));
    report.add(path, message, { remedy: `write it in quotes${hidden ? '' : `: ${written}`}` });
  } else {
    report.add(path, message);
  }
  return undefined;
}

/** A list of texts; undefined when it is not there. */
export function readTexts(fields: Fields, name: string): readonly string[] | undefined {
  if (field(fields, name) === undefined) return undefined;
  return readItems(fields, name).flatMap(({ node, path }) => {
    const text = asText(fields.report, node, path, false);
    return text === undefined ? [] : [text];
  });
}

/** A map of texts; undefined when it is not there. */
export function readTextMap(
  fields: Fields,
  name: string,
): Readonly<Record<string, string>> | undefined {
  const node = field(fields, name);
  if (node === undefined) return undefined;
  const path = [...fields.path, name];
  const entries: [string, string][] = [];
  for (const [key, value] of openFields(fields.report, node, path).map) {
    const text = asText(fields.report, value, [...path, key], false);
    if (text !== undefined) entries.push([key, text]);
  }
  return plainRecord(entries);
}

/** The same object without what is undefined, for fields that may be absent. */
export function present<T extends object>(
  object: T,
): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

/** A record in which even the key `__proto__` is only a key. */
export function plainRecord<T>(entries: Iterable<readonly [string, T]>): Record<string, T> {
  return Object.fromEntries(entries);
}

export function readBoolean(fields: Fields, name: string): boolean | undefined {
  const node = field(fields, name);
  return node === undefined ? undefined : asBoolean(fields.report, node, [...fields.path, name]);
}

/** @see readBoolean */
export function asBoolean(report: Report, node: ManifestNode, path: Path): boolean | undefined {
  if (typeof node.value === 'boolean') return node.value;
  const quoted = node.value === 'true' || node.value === 'false';
  report.add(path, `must be true or false, not ${kindOf(node)}`, {
    ...(typeof node.value === 'string' ? { value: node.value } : {}),
    ...(quoted ? { remedy: 'remove the quotes' } : {}),
  });
  return undefined;
}

/** A whole number from `min` to `max`, both included. */
export function readInteger(
  fields: Fields,
  name: string,
  min: number,
  max: number,
): number | undefined {
  const node = field(fields, name);
  return node === undefined
    ? undefined
    : asInteger(fields.report, node, [...fields.path, name], min, max);
}

/** @see readInteger */
export function asInteger(
  report: Report,
  node: ManifestNode,
  path: Path,
  min: number,
  max: number,
): number | undefined {
  const { value } = node;
  if (typeof value !== 'number' || !Number.isInteger(value)) {
    const quoted = typeof value === 'string' && /^-?\d+$/.test(value);
    const what = typeof value === 'number' ? String(value) : kindOf(node);
    report.add(path, `must be a whole number, not ${what}`, {
      ...(typeof value === 'string' ? { value } : {}),
      ...(quoted ? { remedy: 'remove the quotes' } : {}),
    });
    return undefined;
  }
  if (value >= min && value <= max) return value;
  const message =
    max === Number.MAX_SAFE_INTEGER
      ? `must be greater than or equal to ${min}`
      : `must be between ${min} and ${max}, inclusive`;
  report.add(path, message, { value });
  return undefined;
}

/** One of a few words, `fallback` when it is not there or empty. */
export function readChoice<T extends string>(
  fields: Fields,
  name: string,
  choices: readonly T[],
  fallback: T,
): T {
  const text = readText(fields, name) ?? '';
  if (text === '') return fallback;
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  noSuchChoice(fields.report, [...fields.path, name], text, choices);
  return fallback;
}

/** The problem of a word that is none of `choices`. */
export function noSuchChoice(
  report: Report,
  path: Path,
  text: string,
  choices: readonly string[],
): void {
  const words = choices.filter((one) => one !== '').map((one) => `"${one}"`);
  report.add(path, `must be one of ${words.join(', ')}`, { value: text, ...near(text, choices) });
}

function near(text: string, choices: readonly string[]): Details {
  const found = nearest(text, choices);
  return found === undefined || found === '' ? {} : { remedy: `did you mean "${found}"?` };
}
