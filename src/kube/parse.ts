/**
 * From the text of a manifest to pods: JSON or YAML, one pod or several (a YAML stream, a `List`),
 * checked field by field. Whatever the text is, the outcome is data: pods, and each problem with
 * its path and line. Nothing that a manifest asks for is silently left out.
 */
import { LIMITS } from '../base/limits.ts';
import { FIELDS } from './field-tables.ts';
import {
  createBudget,
  ManifestSyntaxError,
  mapOf,
  type ManifestNode,
  type Problem,
} from './manifest-node.ts';
import { createReport, field, nearest, openFields, readItems, readText } from './parse-fields.ts';
import type { Fields, Item, Report } from './parse-fields.ts';
import { parseJson } from './parse-json.ts';
import { readPod } from './parse-pod.ts';
import { parseYaml, type Yaml } from './parse-yaml.ts';
import type { Pod, Source } from './pod.ts';
import { validatePod } from './validate.ts';
import { withoutApi } from './without-api.ts';

export type ParseResult = {
  /** Complete, but for their uid. Empty when there is any problem. */
  readonly pods: readonly Pod[];
  readonly problems: readonly Problem[];
};

/** Whether `parseManifest` needs the YAML library for a text. What begins with "{" is JSON. */
export function needsYaml(text: string): boolean {
  return !/^[\s\uFEFF]*\{/.test(text.slice(0, 4096));
}

/**
 * The text of a manifest that was read as bytes: UTF-8, without its byte order mark.
 * @throws ManifestSyntaxError when it is too large or no text
 */
export function decodeManifest(bytes: Uint8Array): string {
  if (bytes.length > LIMITS.manifestBytes) throw tooLarge(bytes.length);
  const [first, second] = bytes;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    throw new ManifestSyntaxError('is UTF-16', undefined, 'save it as UTF-8');
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new ManifestSyntaxError('is not UTF-8 text', undefined, 'save it as UTF-8');
  }
}

function tooLarge(bytes: number): ManifestSyntaxError {
  return new ManifestSyntaxError(
    `has ${bytes} bytes, more than the ${LIMITS.manifestBytes} that a manifest may have`,
    undefined,
    'split it, or keep data out of it',
  );
}

/**
 * Reads a manifest. Never throws: what is wrong with the text is in `problems`.
 * `yaml` is the YAML library; without it only JSON is read (see `needsYaml`).
 * Only pods of the source `api` may name objects of the API server.
 */
export function parseManifest(text: string, yaml?: Yaml, source: Source = 'file'): ParseResult {
  try {
    const documents = parseDocuments(text, yaml);
    if (documents.length === 0) {
      throw new ManifestSyntaxError('is empty', undefined, 'write a pod into it, or remove it');
    }
    return readDocuments(documents, source);
  } catch (error) {
    if (error instanceof ManifestSyntaxError) return { pods: [], problems: [syntaxProblem(error)] };
    throw error;
  }
}

/** The problem that a text as a whole has. */
export function syntaxProblem(error: ManifestSyntaxError): Problem {
  const { message, line, remedy } = error;
  return {
    path: '',
    message,
    ...(line === undefined ? {} : { line }),
    ...(remedy === undefined ? {} : { remedy }),
  };
}

/**
 * The documents of a text, JSON or YAML; none when it is empty.
 * @throws ManifestSyntaxError
 */
export function parseDocuments(given: string, yaml: Yaml | undefined): readonly ManifestNode[] {
  const text = given.replace(/^\uFEFF/, '');
  if (text.length > LIMITS.manifestBytes) throw tooLarge(text.length);
  const nul = text.indexOf('\0');
  if (nul >= 0) {
    const line = text.slice(0, nul).split('\n').length;
    throw new ManifestSyntaxError('has a NUL character: it is no text file', line);
  }
  const budget = createBudget();
  if (yaml === undefined || !needsYaml(text)) return [parseJson(text, budget)];
  return parseYaml(text, yaml, budget);
}

function readDocuments(documents: readonly ManifestNode[], source: Source): ParseResult {
  const pods: Pod[] = [];
  const problems: Problem[] = [];
  documents.forEach((node, index) => {
    const report = createReport(node, documents.length > 1 ? index + 1 : undefined);
    for (const pod of readObject(report, { node, path: [] }, source)) {
      pods.push(pod);
      const twin = pods.find((other) => other !== pod && sameName(other, pod));
      if (twin === undefined || pod.metadata.name === '') continue;
      const { namespace, name } = pod.metadata;
      report.add(['metadata', 'name'], `the pod ${namespace}/${name} is there twice`);
    }
    problems.push(...inOrder(report.problems));
  });
  if (pods.length > LIMITS.podsPerManifest) {
    const message = `has ${pods.length} pods, more than ${LIMITS.podsPerManifest}`;
    problems.push({ path: '', message, remedy: 'split the manifest' });
  }
  if (pods.length === 0 && problems.length === 0) {
    problems.push({ path: 'items', message: 'has no pods', remedy: 'write a pod into it' });
  }
  return { pods: problems.length === 0 ? pods : [], problems };
}

/** Problems as the lines come; what has no line is said last. */
export function inOrder(problems: readonly Problem[]): readonly Problem[] {
  const line = (problem: Problem) => problem.line ?? Number.MAX_SAFE_INTEGER;
  return problems.toSorted((a, b) => line(a) - line(b));
}

function sameName(a: Pod, b: Pod): boolean {
  return a.metadata.name === b.metadata.name && a.metadata.namespace === b.metadata.namespace;
}

function readObject(report: Report, item: Item, source: Source): readonly Pod[] {
  const map = mapOf(item.node);
  if (map === undefined) {
    const remedy = 'begin it with "apiVersion: v1" and "kind: Pod"';
    report.add(item.path, 'is no Kubernetes object', { remedy });
    return [];
  }
  const fields: Fields = { report, path: item.path, map };
  const kind = readKind(fields);
  if (kind === undefined) return [];
  if (kind === 'Pod') return [readWholePod(report, item, source)];
  return readList(report, item, kind, source);
}

function readWholePod(report: Report, item: Item, source: Source): Pod {
  const pod = readPod(report, item);
  validatePod(report, pod, item.path);
  return source === 'api' ? pod : withoutApi(report, pod, source, item.path);
}

/** A list in a list is not taken: nobody writes one, and it would have no bottom. */
function readList(report: Report, item: Item, kind: string, source: Source): readonly Pod[] {
  const fields = openFields(report, item.node, item.path, FIELDS.List);
  return readItems(fields, 'items').flatMap((entry) => {
    const map = mapOf(entry.node);
    const typed = map?.has('kind') === true || map?.has('apiVersion') === true;
    if (kind === 'PodList' && !typed) return [readWholePod(report, entry, source)];
    const entryKind = map?.get('kind')?.value;
    if (typeof entryKind !== 'string' || !entryKind.endsWith('List'))
      return readObject(report, entry, source);
    report.add([...entry.path, 'kind'], 'is a list within a list');
    return [];
  });
}

const WORKLOADS: readonly string[] = [
  'Deployment',
  'StatefulSet',
  'DaemonSet',
  'ReplicaSet',
  'ReplicationController',
  'Job',
  'CronJob',
];

/** `Pod`, `PodList` or `List`; anything else is a problem. */
function readKind(fields: Fields): 'Pod' | 'PodList' | 'List' | undefined {
  const { report, path } = fields;
  const kind = readText(fields, 'kind');
  const version = readText(fields, 'apiVersion');
  if (kind === undefined || kind === '') {
    if (kind === '' || field(fields, 'kind') === undefined) {
      report.add([...path, 'kind'], 'is required', { remedy: 'write "kind: Pod"' });
    }
    return undefined;
  }
  if (kind !== 'Pod' && kind !== 'PodList' && kind !== 'List') {
    report.add([...path, 'kind'], 'limpet runs pods and nothing else', {
      value: kind,
      remedy: kindRemedy(kind),
    });
    return undefined;
  }
  if (version === 'v1') return kind;
  if (version === undefined && field(fields, 'apiVersion') !== undefined) return undefined;
  report.add([...path, 'apiVersion'], `must be "v1" for a ${kind}`, {
    ...(version === undefined ? {} : { value: version }),
    remedy: 'write "apiVersion: v1"',
  });
  return undefined;
}

function kindRemedy(kind: string): string {
  if (WORKLOADS.includes(kind)) {
    return `write the pod template of the ${kind} as a pod of its own ("kind: Pod")`;
  }
  const near = nearest(kind, ['Pod', 'PodList', 'List']);
  return near === undefined ? 'remove it' : `did you mean "${near}"?`;
}
