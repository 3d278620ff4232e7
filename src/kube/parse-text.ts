/** Reads texts that have a form: names, absolute paths, quantities. */
import { dnsLabelProblem } from './names.ts';
import { field, readText, type Fields } from './parse-fields.ts';
import { parseQuantity } from './quantity.ts';

/** The name of a container or a volume: required, a DNS label. */
export function requiredName(fields: Fields): string {
  const name = readText(fields, 'name');
  const path = [...fields.path, 'name'];
  if (name === undefined || name === '') {
    if (name !== undefined || field(fields, 'name') === undefined) {
      fields.report.add(path, 'is required');
    }
    return '';
  }
  const problem = dnsLabelProblem(name);
  if (problem !== undefined) fields.report.add(path, problem, { value: name });
  return name;
}

/** A path that begins with "/" and does not climb. Empty is the same as not there. */
export function readAbsolutePath(fields: Fields, name: string): string | undefined {
  const path = readText(fields, name);
  if (path === undefined || path === '') return undefined;
  const at = [...fields.path, name];
  if (!path.startsWith('/')) {
    fields.report.add(at, 'must be an absolute path', { value: path, remedy: 'begin it with "/"' });
  } else if (path.split('/').includes('..')) {
    fields.report.add(at, "must not contain '..'", { value: path });
  }
  return path;
}

/**
 * A quantity that is not negative, as text or as a bare number; undefined when it is not there or
 * wrong.
 */
export function readQuantity(fields: Fields, name: string): string | undefined {
  const node = field(fields, name);
  if (node === undefined) return undefined;
  // A bare number is the same in YAML and to Kubernetes, but for octal and the like.
  const text =
    typeof node.value === 'number' ? String(node.value) : (readText(fields, name) ?? undefined);
  if (text === undefined) return undefined;
  const path = [...fields.path, name];
  const amount = parseQuantity(text);
  if (amount === undefined) {
    fields.report.add(path, 'must be a quantity', {
      value: text,
      remedy: 'write it as in "500m", "1.5", "64Mi" or "2G"',
    });
    return undefined;
  }
  if (amount < 0n) {
    fields.report.add(path, 'must be greater than or equal to 0', { value: text });
    return undefined;
  }
  return text;
}
