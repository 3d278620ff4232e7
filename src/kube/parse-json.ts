/**
 * Reads JSON into a tree with line numbers. Its own reader because `JSON.parse` knows no lines and
 * lets the last of two equal keys win without a word. Source: RFC 8259.
 */
import { ManifestSyntaxError, type Budget, type ManifestNode } from './manifest-node.ts';

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const TEXT = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\r\n]*/y;

type Cursor = {
  readonly text: string;
  readonly budget: Budget;
  at: number;
  line: number;
};

/** @throws ManifestSyntaxError with the line */
export function parseJson(text: string, budget: Budget): ManifestNode {
  const cursor: Cursor = { text, budget, at: 0, line: 1 };
  skipSpace(cursor);
  const node = readValue(cursor, 0);
  skipSpace(cursor);
  if (cursor.at < text.length) throw unexpected(cursor, 'the end of the text');
  return node;
}

function readValue(cursor: Cursor, depth: number): ManifestNode {
  const { line, text } = cursor;
  cursor.budget.take(depth, line);
  const char = text[cursor.at];
  if (char === '{') return { line, value: readMap(cursor, depth) };
  if (char === '[') return { line, value: readList(cursor, depth) };
  if (char === '"') return { line, value: readText(cursor) };
  for (const [word, value] of WORDS) {
    if (text.startsWith(word, cursor.at)) {
      cursor.at += word.length;
      return { line, value };
    }
  }
  const number = match(cursor, NUMBER);
  if (number === undefined) throw unexpected(cursor, 'a value');
  return { line, value: Number(number), source: number };
}

const WORDS = [
  ['true', true],
  ['false', false],
  ['null', null],
] as const;

function readMap(cursor: Cursor, depth: number): ReadonlyMap<string, ManifestNode> {
  const map = new Map<string, ManifestNode>();
  cursor.at += 1;
  skipSpace(cursor);
  if (take(cursor, '}')) return map;
  for (;;) {
    if (cursor.text[cursor.at] !== '"') throw unexpected(cursor, 'a field name in double quotes');
    const { line } = cursor;
    const key = readText(cursor);
    if (map.has(key)) throw duplicateKey(key, line, map.get(key)!.line);
    skipSpace(cursor);
    if (!take(cursor, ':')) throw unexpected(cursor, '":"');
    skipSpace(cursor);
    map.set(key, readValue(cursor, depth + 1));
    skipSpace(cursor);
    if (take(cursor, '}')) return map;
    if (!take(cursor, ',')) throw unexpected(cursor, '"," or "}"');
    skipSpace(cursor);
  }
}

function readList(cursor: Cursor, depth: number): readonly ManifestNode[] {
  const list: ManifestNode[] = [];
  cursor.at += 1;
  skipSpace(cursor);
  if (take(cursor, ']')) return list;
  for (;;) {
    list.push(readValue(cursor, depth + 1));
    skipSpace(cursor);
    if (take(cursor, ']')) return list;
    if (!take(cursor, ',')) throw unexpected(cursor, '"," or "]"');
    skipSpace(cursor);
  }
}

function readText(cursor: Cursor): string {
  const raw = match(cursor, TEXT);
  if (raw === undefined) throw unexpected(cursor, 'text in double quotes, on one line');
  return JSON.parse(raw) as string;
}

function match(cursor: Cursor, pattern: RegExp): string | undefined {
  pattern.lastIndex = cursor.at;
  const found = pattern.exec(cursor.text)?.[0];
  if (found === undefined) return undefined;
  cursor.at += found.length;
  return found;
}

function skipSpace(cursor: Cursor): void {
  for (const char of match(cursor, SPACE) ?? '') if (char === '\n') cursor.line += 1;
}

function take(cursor: Cursor, char: string): boolean {
  if (cursor.text[cursor.at] !== char) return false;
  cursor.at += 1;
  return true;
}

function unexpected(cursor: Cursor, wanted: string): ManifestSyntaxError {
  const at = cursor.text[cursor.at];
  const found = at === undefined ? 'the text ends' : `found ${JSON.stringify(at)}`;
  return new ManifestSyntaxError(`is no valid JSON: expected ${wanted}, but ${found}`, cursor.line);
}

/** The error for a map that has one field twice. */
export function duplicateKey(key: string, line: number, firstLine: number): ManifestSyntaxError {
  const name = JSON.stringify(key.slice(0, 80));
  return new ManifestSyntaxError(
    `has the field ${name} twice, first in line ${firstLine}`,
    line,
    'keep one of them',
  );
}
