/**
 * Reads YAML into trees with line numbers, one a document. Plain values mean what they mean to the
 * kubelet: `yes` is true, `0644` is octal, `22:22` is text. The library is an argument, because an
 * agent whose manifests are JSON never needs to load it.
 *
 * The library's own conversion is not used: it looks for duplicate keys in quadratic time and
 * does not count what merge keys copy.
 */
import type { Alias, Document, Node, Pair, YAMLMap, YAMLSeq } from 'yaml';
import { LIMITS } from '../base/limits.ts';
import {
  listOf,
  ManifestSyntaxError,
  mapOf,
  type Budget,
  type ManifestNode,
} from './manifest-node.ts';
import { duplicateKey } from './parse-json.ts';
import { plainValue } from './parse-yaml-scalar.ts';

export type Yaml = Pick<
  typeof import('yaml'),
  | 'Lexer'
  | 'LineCounter'
  | 'parseAllDocuments'
  | 'visit'
  | 'isAlias'
  | 'isMap'
  | 'isScalar'
  | 'isSeq'
>;

type Source = {
  readonly yaml: Yaml;
  readonly budget: Budget;
  lineOf(offset: number): number;
  /** What each alias stands for: the last anchor of its name before it. */
  readonly targets: ReadonlyMap<Alias, Node>;
  /** Aliased nodes that are being read, to find one that contains itself. */
  readonly open: Set<Node>;
};

/**
 * The documents of `text` that are not empty.
 * @throws ManifestSyntaxError with the line
 */
export function parseYaml(text: string, yaml: Yaml, budget: Budget): readonly ManifestNode[] {
  const lines = new yaml.LineCounter();
  const lineOf = (offset: number) => Math.max(1, lines.linePos(offset).line);
  checkSize(text, yaml);
  const documents = compose(text, yaml, lines);
  const nodes: ManifestNode[] = [];
  for (const document of documents) {
    const error = document.errors[0] ?? document.warnings[0];
    if (error !== undefined) throw syntaxError(error, lineOf(error.pos[0]));
    if (document.contents === null) continue;
    const targets = linkAliases(document, yaml);
    const source: Source = { yaml, budget, lineOf, targets, open: new Set() };
    const node = convert(source, document.contents, 0);
    if (node.value !== null) nodes.push(node);
  }
  return nodes;
}

function syntaxError(
  error: { readonly message: string; readonly code: string },
  line: number,
): ManifestSyntaxError {
  const message = error.message.split('\n', 1)[0]!;
  // The composer is recursive, and makes an error of its own overflow.
  if (message.includes('call stack')) return new ManifestSyntaxError('is nested too deeply', line);
  return new ManifestSyntaxError(`is no valid YAML: ${message}`, line, REMEDIES[error.code]);
}

const REMEDIES: Readonly<Record<string, string>> = {
  TAB_AS_INDENT: 'indent with spaces',
  BLOCK_AS_IMPLICIT_KEY: 'put text that has ": " in it in quotes',
  BAD_INDENT: 'align the fields of one map',
  BAD_ALIAS: 'put text that begins with "*" or "&" in quotes',
  MISSING_CHAR: 'close the quote or bracket, or write "key: value" with a space',
  TAG_RESOLVE_FAILED: 'remove the tag',
};

/**
 * Counts tokens before anything is built of them: a megabyte of brackets would keep the library
 * busy for seconds and take a gigabyte.
 */
function checkSize(text: string, yaml: Yaml): void {
  let tokens = 0;
  let flowDepth = 0;
  /** Of nested items on one line: `- - - x`. */
  let lineDepth = 0;
  let isText = false;
  for (const token of new yaml.Lexer().lex(text)) {
    tokens += 1;
    if (tokens > LIMITS.manifestTokens) {
      const message = `has more than ${LIMITS.manifestTokens} words and signs of YAML`;
      throw new ManifestSyntaxError(message, undefined, 'split the manifest');
    }
    if (isText) isText = false;
    else if (token === TEXT_FOLLOWS) isText = true;
    else if (token === '[' || token === '{') flowDepth += 1;
    else if (token === ']' || token === '}') flowDepth -= 1;
    else if (token === '-' || token === '?') lineDepth += 1;
    else if (token === '\n' || token === '\r\n') lineDepth = 0;
    if (Math.max(flowDepth, lineDepth) > LIMITS.manifestDepth) {
      throw new ManifestSyntaxError(`is nested deeper than ${LIMITS.manifestDepth} levels`);
    }
  }
}

/** What the lexer says before a plain scalar. */
const TEXT_FOLLOWS = '\x1f';

function compose(text: string, yaml: Yaml, lines: { addNewLine: (offset: number) => void }) {
  try {
    const documents = yaml.parseAllDocuments(text, {
      version: '1.1',
      // Only the shape: what plain values and `<<` mean is said below.
      customTags: (tags) => tags.filter((tag) => typeof tag !== 'object' || isShape(tag)),
      lineCounter: lines as InstanceType<Yaml['LineCounter']>,
      prettyErrors: false,
      uniqueKeys: false,
      keepSourceTokens: false,
    });
    return 'empty' in documents ? [] : documents;
  } catch (error) {
    if (error instanceof RangeError) throw new ManifestSyntaxError('is nested too deeply');
    const message = error instanceof Error ? error.message : String(error);
    throw new ManifestSyntaxError(`is no valid YAML: ${message.split('\n', 1)[0]}`);
  }
}

function isShape({ tag }: { readonly tag: string }): boolean {
  return /:(map|seq|str)$/.test(tag);
}

function linkAliases(document: Document.Parsed, yaml: Yaml): Map<Alias, Node> {
  const anchors = new Map<string, Node>();
  const targets = new Map<Alias, Node>();
  yaml.visit(document, {
    Alias: (_key, alias) => {
      const target = anchors.get(alias.source);
      if (target !== undefined) targets.set(alias, target);
    },
    Value: (_key, node) => {
      if (node.anchor !== undefined) anchors.set(node.anchor, node);
    },
  });
  return targets;
}

function convert(source: Source, node: Node, depth: number): ManifestNode {
  const { yaml } = source;
  const line = source.lineOf(node.range?.[0] ?? 0);
  source.budget.take(depth, line);
  if (yaml.isAlias(node)) return convertAlias(source, node, line, depth);
  if (yaml.isSeq(node)) {
    const items = (node as YAMLSeq<Node | Pair | null>).items;
    return { line, value: items.map((item) => convertItem(source, item, line, depth + 1)) };
  }
  if (yaml.isMap(node)) return { line, value: convertMap(source, node, depth) };
  return convertScalar(node, line);
}

function convertScalar(node: { value: unknown; type?: string; tag?: string }, line: number) {
  const text = node.value;
  if (typeof text !== 'string') {
    throw new ManifestSyntaxError('has a value of a kind that no manifest has', line);
  }
  // What is in quotes, in a block, or has the tag `!!str`, is text whatever it says.
  const value = node.type === 'PLAIN' && node.tag === undefined ? plainValue(text) : text;
  return value === text ? { line, value } : { line, value, source: text };
}

function convertItem(
  source: Source,
  item: Node | Pair | null,
  line: number,
  depth: number,
): ManifestNode {
  if (item === null) return { line, value: null };
  if ('key' in item) throw new ManifestSyntaxError('has a list with a bare "key: value"', line);
  return convert(source, item, depth);
}

function convertAlias(source: Source, alias: Alias, line: number, depth: number): ManifestNode {
  const target = source.targets.get(alias);
  const name = `*${alias.source.slice(0, 80)}`;
  if (target === undefined) {
    throw new ManifestSyntaxError(`has the alias ${name} without an anchor before it`, line);
  }
  if (source.open.has(target)) {
    throw new ManifestSyntaxError(`has the alias ${name} within what it stands for`, line);
  }
  source.open.add(target);
  const node = convert(source, target, depth);
  source.open.delete(target);
  return node;
}

function convertMap(
  source: Source,
  map: YAMLMap,
  depth: number,
): ReadonlyMap<string, ManifestNode> {
  const entries = new Map<string, ManifestNode>();
  const merges: Node[] = [];
  let mergeLine = 0;
  for (const { key, value } of map.items as Pair<Node | null, Node | null>[]) {
    const line = source.lineOf(key?.range?.[0] ?? map.range?.[0] ?? 0);
    if (isMergeKey(source, key)) {
      if (mergeLine > 0) throw duplicateKey('<<', line, mergeLine);
      mergeLine = line;
      if (value !== null) merges.push(value);
      continue;
    }
    const name = keyText(source, key, line);
    const first = entries.get(name);
    if (first !== undefined) throw duplicateKey(name, line, first.line);
    entries.set(name, value === null ? { line, value: null } : convert(source, value, depth + 1));
  }
  for (const merge of merges) mergeInto(entries, convert(source, merge, depth), mergeLine);
  return entries;
}

/** What a map says itself wins over what it merges, and an earlier merge over a later one. */
function mergeInto(entries: Map<string, ManifestNode>, merged: ManifestNode, line: number): void {
  for (const source of listOf(merged) ?? [merged]) {
    const map = mapOf(source);
    if (map === undefined) {
      throw new ManifestSyntaxError('merges ("<<") something that is not a map', line);
    }
    for (const [key, node] of map) {
      if (!entries.has(key)) entries.set(key, node);
    }
  }
}

function isMergeKey(source: Source, key: Node | null): boolean {
  return source.yaml.isScalar(key) && key.type === 'PLAIN' && key.value === '<<';
}

function keyText(source: Source, key: Node | null, line: number): string {
  const target = source.yaml.isAlias(key) ? source.targets.get(key) : key;
  const value = source.yaml.isScalar(target) ? convertScalar(target, line).value : null;
  if (value !== null) return String(value);
  throw new ManifestSyntaxError('has a field name that is not a word', line);
}
