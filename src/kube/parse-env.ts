/** Reads the environment of a container. */
import { FIELDS } from './field-tables.ts';
import { dnsSubdomainProblem, envNameProblem } from './names.ts';
import {
  openFields,
  present,
  readBoolean,
  readItems,
  readMap,
  readText,
  type Fields,
  type Item,
} from './parse-fields.ts';
import { given, readFieldRef, readKeySelector, readResourceFieldRef } from './parse-selector.ts';
import { readRequired } from './parse-text.ts';
import type { EnvFromSource, EnvVar, EnvVarSource } from './pod.ts';

export function readEnv(report: Fields['report'], item: Item): EnvVar {
  const fields = openFields(report, item.node, item.path, FIELDS.EnvVar);
  const name = readRequired(fields, 'name', envNameProblem);
  const value = readText(fields, 'value', { hidden: true }) ?? '';
  return { name, value, ...present({ valueFrom: readValueFrom(fields, value) }) };
}

const VALUE_SOURCES = ['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'secretKeyRef'] as const;

function readValueFrom(parent: Fields, value: string): EnvVarSource | undefined {
  const fields = readMap(parent, 'valueFrom', FIELDS.EnvVarSource);
  if (fields === undefined) return undefined;
  const { report, path } = fields;
  const sources = given(fields, VALUE_SOURCES);
  // What is in it besides is a problem of its own already.
  if (sources.length === 0 && fields.map.size === 0) {
    const words = VALUE_SOURCES.map((one) => `"${one}"`).join(', ');
    report.add(path, `must specify one of: ${words}`);
  } else if (value !== '') {
    report.add(path, 'may not be specified when `value` is not empty', {
      remedy: 'remove one of the two',
    });
  } else if (sources.length > 1) {
    report.add(path, 'may not have more than one field specified at a time', {
      remedy: `remove "${sources[1]}" or "${sources[0]}"`,
    });
  }
  const fieldRef = readFieldRef(fields, 'env');
  const resourceFieldRef = readResourceFieldRef(fields, 'env');
  const configMapKeyRef = readKeySelector(fields, 'configMapKeyRef');
  const secretKeyRef = readKeySelector(fields, 'secretKeyRef');
  if (fieldRef !== undefined) return { kind: 'fieldRef', ...fieldRef };
  if (resourceFieldRef !== undefined) return { kind: 'resourceFieldRef', ...resourceFieldRef };
  if (configMapKeyRef !== undefined) return { kind: 'configMapKeyRef', ...configMapKeyRef };
  if (secretKeyRef !== undefined) return { kind: 'secretKeyRef', ...secretKeyRef };
  return undefined;
}

/** Undefined where there is none. */
export function readEnvFrom(parent: Fields): readonly EnvFromSource[] | undefined {
  const sources = readItems(parent, 'envFrom').flatMap((item) => readSource(parent, item));
  return sources.length === 0 ? undefined : sources;
}

function readSource({ report }: Fields, item: Item): readonly EnvFromSource[] {
  const fields = openFields(report, item.node, item.path, FIELDS.EnvFromSource);
  const prefix = readText(fields, 'prefix') ?? '';
  const problem = prefix === '' ? undefined : envNameProblem(prefix);
  if (problem !== undefined) report.add([...item.path, 'prefix'], problem, { value: prefix });
  const kinds = ['configMapRef', 'secretRef'] as const;
  const sources = given(fields, kinds);
  if (sources.length === 0) {
    report.add(item.path, 'must specify one of: `configMapRef` or `secretRef`');
  } else if (sources.length > 1) {
    report.add(item.path, 'may not have more than one field specified at a time');
  }
  return kinds.flatMap((kind) => {
    const table = kind === 'secretRef' ? FIELDS.SecretEnvSource : FIELDS.ConfigMapEnvSource;
    const reference = readMap(fields, kind, table);
    if (reference === undefined) return [];
    const name = readRequired(reference, 'name', dnsSubdomainProblem);
    return [{ kind, name, optional: readBoolean(reference, 'optional') ?? false, prefix }];
  });
}
