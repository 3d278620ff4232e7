/**
 * Reads one configuration file by a table of fields. What is wrong becomes a problem with its path
 * and line; a field that nobody knows is a warning where the kubelet has one (a newer kubeadm may
 * have written it), or a problem.
 */
import type { Field, Fields, Group, Shape } from './config-fields.ts';
import { isGroup, leaves } from './config-fields.ts';
import { parseDuration } from './go-duration.ts';
import {
  kindOf,
  listOf,
  ManifestSyntaxError,
  mapOf,
  type ManifestNode,
  type Path,
  type Problem,
} from './manifest-node.ts';
import { ipProblem } from './names.ts';
import {
  asBoolean,
  asInteger,
  asText,
  createReport,
  nearest,
  noSuchChoice,
  plainRecord,
  type Report,
} from './parse-fields.ts';
import { inOrder, parseDocuments, syntaxProblem } from './parse.ts';
import type { Yaml } from './parse-yaml.ts';
import { parseQuantity } from './quantity.ts';

/** A value that a file gives. Null takes away what an earlier file gave. */
export type Given = { readonly value: unknown; readonly line: number };

export type ConfigReading = {
  /** By path: `authentication.x509.clientCAFile`. */
  readonly given: ReadonlyMap<string, Given>;
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
};

export type ConfigKind = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly fields: Fields;
  /** What is made of a field that is not in the table. */
  readonly unknownFields: 'warning' | 'problem';
};

/**
 * Reads the text of a file. Never throws. `directory`: where relative paths begin.
 * `yaml`: the YAML library; without it only JSON is read.
 */
export function readConfig(
  text: string,
  { apiVersion, kind, fields, unknownFields }: ConfigKind,
  { yaml, directory }: { readonly yaml: Yaml | undefined; readonly directory: string },
): ConfigReading {
  const given = new Map<string, Given>();
  let root: ManifestNode;
  try {
    root = onlyDocument(parseDocuments(text, yaml), kind, apiVersion);
  } catch (error) {
    if (!(error instanceof ManifestSyntaxError)) throw error;
    return { given, problems: [syntaxProblem(error)], warnings: [] };
  }
  const report = createReport(root);
  const warnings = createReport(root);
  const map = new Map(mapOf(root));
  checkHeader(report, map, 'apiVersion', apiVersion);
  checkHeader(report, map, 'kind', kind);
  const unknown = unknownFields === 'warning' ? warnings : report;
  const reader: Reader = { report, unknown, directory, kind, given };
  if (report.problems.length === 0) readGroup(reader, map, { fields }, []);
  return {
    given,
    problems: inOrder(report.problems),
    warnings: inOrder(warnings.problems),
  };
}

function onlyDocument(
  documents: readonly ManifestNode[],
  kind: string,
  apiVersion: string,
): ManifestNode {
  const [root, second] = documents;
  const remedy = `begin it with "apiVersion: ${apiVersion}" and "kind: ${kind}"`;
  if (root === undefined) throw new ManifestSyntaxError('is empty', undefined, remedy);
  if (second !== undefined) {
    throw new ManifestSyntaxError('has a second document', second.line, 'remove all but one');
  }
  if (mapOf(root) === undefined) {
    throw new ManifestSyntaxError(`is no ${kind} but ${kindOf(root)}`, root.line, remedy);
  }
  return root;
}

function checkHeader(
  report: Report,
  map: Map<string, ManifestNode>,
  name: string,
  wanted: string,
): void {
  const value = map.get(name)?.value;
  map.delete(name);
  if (value === wanted) return;
  const remedy = `write "${name}: ${wanted}"`;
  if (value === undefined || value === null || value === '') {
    return report.add([name], 'is required', { remedy });
  }
  report.add([name], `must be "${wanted}"`, {
    ...(typeof value === 'string' ? { value } : {}),
    remedy,
  });
}

type Reader = {
  readonly report: Report;
  readonly unknown: Report;
  readonly directory: string;
  readonly kind: string;
  readonly given: Map<string, Given>;
};

function readGroup(
  reader: Reader,
  map: ReadonlyMap<string, ManifestNode>,
  { fields }: Group,
  path: readonly string[],
): void {
  for (const [name, node] of map) {
    const entry = Object.hasOwn(fields, name) ? fields[name] : undefined;
    const at = [...path, name];
    if (entry === undefined) unknownField(reader, at, Object.keys(fields));
    else if (!isGroup(entry)) readField(reader, node, entry, at);
    else if (node.value === null) {
      for (const [leaf] of leaves(entry.fields, `${at.join('.')}.`)) {
        reader.given.set(leaf, { value: null, line: node.line });
      }
    } else {
      const inner = mapOf(node);
      if (inner === undefined) reader.report.add(at, `must be a map, not ${kindOf(node)}`);
      else readGroup(reader, inner, entry, at);
    }
  }
}

function unknownField(reader: Reader, path: Path, known: readonly string[]): void {
  const near = nearest(String(path.at(-1)), known);
  const remedy = near === undefined ? 'remove it' : `did you mean "${near}"?`;
  reader.unknown.add(path, `${reader.kind} has no such field, it has no effect`, { remedy });
}

function readField(
  reader: Reader,
  node: ManifestNode,
  field: Field<unknown>,
  path: readonly string[],
): void {
  const value = node.value === null ? null : readShape(reader, node, field.shape, path);
  if (value !== undefined) reader.given.set(path.join('.'), { value, line: node.line });
}

/** The value of a node; undefined when it is wrong, which is a problem then. */
function readShape(reader: Reader, node: ManifestNode, shape: Shape, path: Path): unknown {
  const { report } = reader;
  switch (shape.type) {
    case 'boolean':
      return asBoolean(report, node, path);
    case 'integer':
      return asInteger(report, node, path, shape.min, shape.max);
    case 'number':
      if (typeof node.value === 'number' && Number.isFinite(node.value)) return node.value;
      return report.add(path, `must be a number, not ${kindOf(node)}`);
    case 'duration':
      return readDuration(report, node, path, shape.numbersAreNanos === true);
    case 'quantity':
      return readQuantity(report, node, path);
    case 'text':
      return readText(reader, node, shape, path);
    case 'list':
      return readList(reader, node, shape.items, path);
    case 'map':
      return readMap(reader, node, shape.values, path);
    case 'object':
      return readObject(reader, node, shape, path);
  }
}

function readDuration(report: Report, node: ManifestNode, path: Path, numbersAreNanos: boolean) {
  const { value } = node;
  if (numbersAreNanos && typeof value === 'number' && Number.isSafeInteger(value)) {
    return value / 1e6;
  }
  const remedy = 'write it as in "30s", "5m" or "1h30m"';
  if (typeof value !== 'string') {
    return report.add(path, `must be a duration, not ${kindOf(node)}`, { remedy });
  }
  const durationMs = parseDuration(value);
  if (durationMs === undefined) report.add(path, 'must be a duration', { value, remedy });
  return durationMs;
}

function readQuantity(report: Report, node: ManifestNode, path: Path): string | undefined {
  const { value } = node;
  const text = typeof value === 'number' ? String(value) : asText(report, node, path, false);
  if (text === undefined || text === '' || parseQuantity(text) !== undefined) return text;
  const remedy = 'write it as in "500m", "64Mi" or "2G"';
  report.add(path, 'must be a quantity', { value: text, remedy });
  return undefined;
}

function readText(
  reader: Reader,
  node: ManifestNode,
  { choices, form }: Extract<Shape, { type: 'text' }>,
  path: Path,
): string | undefined {
  const text = asText(reader.report, node, path, false);
  if (text === undefined || text === '') return text;
  if (form === 'path') return absolutePath(reader.directory, text);
  const problem = form === 'ip' ? ipProblem(text) : undefined;
  if (problem !== undefined) reader.report.add(path, problem, { value: text });
  else if (choices?.includes(text) === false) noSuchChoice(reader.report, path, text, choices);
  else return text;
  return undefined;
}

/** A path that begins with "/", without "." and "..". */
export function absolutePath(directory: string, path: string): string {
  if (path.startsWith('/')) return path;
  const parts: string[] = [];
  for (const part of `${directory}/${path}`.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '' && part !== '.') parts.push(part);
  }
  return `/${parts.join('/')}`;
}

function readList(reader: Reader, node: ManifestNode, items: Shape, path: Path) {
  const nodes = listOf(node);
  if (nodes === undefined) {
    const remedy = 'begin each item with "- "';
    return reader.report.add(path, `must be a list, not ${kindOf(node)}`, { remedy });
  }
  return nodes.flatMap((item, index) => {
    const value = readShape(reader, item, items, [...path, index]);
    return value === undefined ? [] : [value];
  });
}

function readMap(reader: Reader, node: ManifestNode, values: Shape, path: Path) {
  const map = mapOf(node);
  if (map === undefined) return reader.report.add(path, `must be a map, not ${kindOf(node)}`);
  const entries: [string, unknown][] = [];
  for (const [key, item] of map) {
    // Null takes the key away from what an earlier file gave.
    const value = item.value === null ? null : readShape(reader, item, values, [...path, key]);
    if (value !== undefined) entries.push([key, value]);
  }
  return plainRecord(entries);
}

function readObject(
  reader: Reader,
  node: ManifestNode,
  { members, required }: Extract<Shape, { type: 'object' }>,
  path: Path,
) {
  const map = mapOf(node);
  if (map === undefined) return reader.report.add(path, `must be a map, not ${kindOf(node)}`);
  const entries: [string, unknown][] = [];
  for (const [name, item] of map) {
    const shape = Object.hasOwn(members, name) ? members[name] : undefined;
    if (shape === undefined) {
      unknownField(reader, [...path, name], Object.keys(members));
    } else if (item.value !== null) {
      const value = readShape(reader, item, shape, [...path, name]);
      if (value !== undefined) entries.push([name, value]);
    }
  }
  for (const name of required) {
    const value = map.get(name)?.value;
    if (value === undefined || value === null) {
      reader.report.add([...path, name], 'is required');
    }
  }
  return plainRecord(entries);
}
