/**
 * A manifest as a tree in which every node knows its line, the same for JSON and YAML, and the
 * problems that are found in it. Readers of both formats fill it, `parse-fields.ts` walks it.
 */
import { LIMITS } from '../base/limits.ts';

export type ManifestNode = {
  /** Counted from 1; 0 where there are no lines. */
  readonly line: number;
  readonly value: Scalar | readonly ManifestNode[] | ReadonlyMap<string, ManifestNode>;
  /** How a YAML scalar that is not text is written: `0644`, `yes`. */
  readonly source?: string;
};
export type Scalar = string | number | boolean | null;

/** `['spec', 'containers', 0, 'image']` */
export type Path = readonly (string | number)[];

/** One thing that is wrong with a manifest. */
export type Problem = {
  /** `spec.containers[0].image`; empty when it is about the whole text. */
  readonly path: string;
  readonly message: string;
  /** The value as JSON, cut short. */
  readonly value?: string;
  /** What to do about it. */
  readonly remedy?: string;
  readonly line?: number;
  /** Which document of a YAML stream, counted from 1; absent when there is only one. */
  readonly document?: number;
};

/** The text is no JSON or no YAML, or it is too large to be a manifest. */
export class ManifestSyntaxError extends Error {
  readonly line: number | undefined;
  readonly remedy: string | undefined;

  constructor(message: string, line?: number, remedy?: string) {
    super(message);
    this.name = 'ManifestSyntaxError';
    this.line = line;
    this.remedy = remedy;
  }
}

/** Counts nodes and depth while a tree is built, so that a small text can't become a large one. */
export type Budget = { take(depth: number, line: number): void };

/**
 * A budget for one manifest, all its documents together.
 * @throws ManifestSyntaxError from `take`, when a limit is passed
 */
export function createBudget(): Budget {
  let left: number = LIMITS.manifestNodes;
  return {
    take: (depth, line) => {
      if (depth > LIMITS.manifestDepth) {
        throw new ManifestSyntaxError(`is nested deeper than ${LIMITS.manifestDepth} levels`, line);
      }
      left -= 1;
      if (left < 0) {
        throw new ManifestSyntaxError(
          `has more than ${LIMITS.manifestNodes} values, aliases counted wherever they are used`,
          line,
          'split the manifest',
        );
      }
    },
  };
}

/**
 * The tree of a value that was JSON, such as an object of the API; it has no lines.
 * @throws ManifestSyntaxError when it has too many values or is nested too deep
 */
export function nodeOf(value: unknown, budget = createBudget(), depth = 0): ManifestNode {
  budget.take(depth, NO_LINE);
  if (Array.isArray(value)) {
    return { line: NO_LINE, value: value.map((item) => nodeOf(item, budget, depth + 1)) };
  }
  if (typeof value !== 'object' || value === null) {
    return { line: NO_LINE, value: (value ?? null) as Scalar };
  }
  const entries = Object.entries(value).filter(([, entry]) => entry !== undefined);
  return {
    line: NO_LINE,
    value: new Map(entries.map(([key, entry]) => [key, nodeOf(entry, budget, depth + 1)])),
  };
}

const NO_LINE = 0;

/** The fields of a map; undefined of anything else. */
export function mapOf({ value }: ManifestNode): ReadonlyMap<string, ManifestNode> | undefined {
  return value instanceof Map ? (value as ReadonlyMap<string, ManifestNode>) : undefined;
}

/** The items of a list; undefined of anything else. */
export function listOf({ value }: ManifestNode): readonly ManifestNode[] | undefined {
  return Array.isArray(value) ? (value as readonly ManifestNode[]) : undefined;
}

/** What a node is, in words for people. */
export function kindOf(node: ManifestNode): string {
  const { value } = node;
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Map) return 'a map';
  if (typeof value === 'boolean') return 'true or false';
  return typeof value === 'string' ? 'text' : 'a number';
}

/** `spec.containers[0].image`; a key that is no plain word is put in brackets. */
export function formatPath(path: Path): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (/^[A-Za-z_][\w-]*$/.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${cut(part)}]`;
  }
  return text;
}

/** The line of the node at `path`, or of its nearest parent that is there. */
export function lineAt(root: ManifestNode, path: Path): number {
  let node = root;
  for (const part of path) {
    const next = typeof part === 'number' ? listOf(node)?.[part] : mapOf(node)?.get(part);
    if (next === undefined) break;
    node = next;
  }
  return node.line;
}

const MAX_VALUE_LENGTH = 80;

/** A value for an error message: JSON, on one line, cut short. */
export function formatValue(value: unknown): string {
  const text = typeof value === 'string' ? cut(value) : value;
  const json = JSON.stringify(text) ?? String(value);
  return json.length > 2 * MAX_VALUE_LENGTH ? `${json.slice(0, MAX_VALUE_LENGTH)}…` : json;
}

function cut(text: string): string {
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
}

/**
 * One line: `FILE:12: spec.containers[0].image: "a b": what is wrong; what to do`, or
 * `line 12: spec…` where the file is named elsewhere.
 */
export function formatProblem(file: string | undefined, problem: Problem): string {
  const { path, message, value, remedy, line, document } = problem;
  const parts: string[] = [];
  if (file !== undefined) parts.push(line === undefined ? file : `${file}:${line}`);
  else if (line !== undefined) parts.push(`line ${line}`);
  if (document !== undefined) parts.push(`document ${document}`);
  if (path !== '') parts.push(path);
  if (value !== undefined) parts.push(value);
  parts.push(remedy === undefined ? message : `${message}; ${remedy}`);
  return parts.join(': ');
}
