/** Reads texts that have a form: names, absolute paths, quantities. */
import { dnsLabelProblem } from './names.ts';
import { field, readInteger, readText, type Fields } from './parse-fields.ts';
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

/** A text that has to be there and may not be empty; `problemOf` says what is wrong with it. */
export function readRequired(
  fields: Fields,
  name: string,
  problemOf: (text: string) => string | undefined = () => undefined,
): string {
  const text = readText(fields, name) ?? '';
  const path = [...fields.path, name];
  if (text !== '') {
    const problem = problemOf(text);
    if (problem !== undefined) fields.report.add(path, problem, { value: text });
  } else if ((field(fields, name)?.value ?? '') === '') {
    fields.report.add(path, 'is required');
  }
  return text;
}

/** The path of a file in a volume: relative, without climbing, not one of the volume's own. */
export function readPathInVolume(fields: Fields, name = 'path'): string {
  return readRequired(fields, name, (path) => {
    if (path.startsWith('/')) return 'must be a relative path';
    if (path.split('/').includes('..')) return "must not contain '..'";
    return path.startsWith('..') ? "must not start with '..'" : undefined;
  });
}

const MAX_MODE = 0o777;

/** Permission bits. JSON has no octal numbers, so a mode may well be written as 420. */
export function readMode(fields: Fields, name: string): number | undefined {
  const node = field(fields, name);
  if (typeof node?.value !== 'number' || (node.value >= 0 && node.value <= MAX_MODE)) {
    return readInteger(fields, name, 0, MAX_MODE);
  }
  fields.report.add(
    [...fields.path, name],
    'must be a number between 0 and 0777 (octal), both inclusive',
    {
      value: node.value,
      ...(/^[0-7]{3}$/.test(String(node.value)) && { remedy: `in octal it is 0${node.value}` }),
    },
  );
  return undefined;
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
