/** Reads the volumes that are filled with what the cluster and the node know. */
import { FIELDS } from './field-tables.ts';
import {
  openFields,
  present,
  readBoolean,
  readInteger,
  readItems,
  readMap,
  readText,
  type Fields,
  type Item,
} from './parse-fields.ts';
import { given, readFieldRef, readResourceFieldRef } from './parse-selector.ts';
import { readMode, readPathInVolume, readRequired } from './parse-text.ts';
import type {
  DownwardAPIVolumeFile,
  KeyToPath,
  ObjectFiles,
  Volume,
  VolumeProjection,
} from './pod.ts';

const DEFAULT_MODE = 0o644;
const DEFAULT_EXPIRATION_SECONDS = 3600;
const MIN_EXPIRATION_SECONDS = 600;
const MAX_EXPIRATION_SECONDS = 2 ** 32;

type Source<K extends Volume['kind']> = Omit<Extract<Volume, { readonly kind: K }>, 'name'>;

export function readConfigMap(parent: Fields): Source<'configMap'> | undefined {
  const fields = readMap(parent, 'configMap', FIELDS.ConfigMapVolumeSource);
  if (fields === undefined) return undefined;
  return { kind: 'configMap', ...readObject(fields, 'name'), defaultMode: readDefault(fields) };
}

export function readSecret(parent: Fields): Source<'secret'> | undefined {
  const fields = readMap(parent, 'secret', FIELDS.SecretVolumeSource);
  if (fields === undefined) return undefined;
  return { kind: 'secret', ...readObject(fields, 'secretName'), defaultMode: readDefault(fields) };
}

export function readDownwardAPI(parent: Fields): Source<'downwardAPI'> | undefined {
  const fields = readMap(parent, 'downwardAPI', FIELDS.DownwardAPIVolumeSource);
  if (fields === undefined) return undefined;
  return { kind: 'downwardAPI', items: readFiles(fields), defaultMode: readDefault(fields) };
}

export function readProjected(parent: Fields): Source<'projected'> | undefined {
  const fields = readMap(parent, 'projected', FIELDS.ProjectedVolumeSource);
  if (fields === undefined) return undefined;
  const sources = readItems(fields, 'sources').flatMap((item) => readProjection(fields, item));
  checkPaths(fields, sources);
  return { kind: 'projected', sources, defaultMode: readDefault(fields) };
}

function readDefault(fields: Fields): number {
  return readMode(fields, 'defaultMode') ?? DEFAULT_MODE;
}

function readObject(fields: Fields, nameField: 'name' | 'secretName'): ObjectFiles {
  return {
    objectName: readRequired(fields, nameField),
    items: readItems(fields, 'items').map((item) => readKeyToPath(fields, item)),
    optional: readBoolean(fields, 'optional') ?? false,
  };
}

function readKeyToPath({ report }: Fields, item: Item): KeyToPath {
  const fields = openFields(report, item.node, item.path, FIELDS.KeyToPath);
  return {
    key: readRequired(fields, 'key'),
    path: readPathInVolume(fields),
    ...present({ mode: readMode(fields, 'mode') }),
  };
}

function readFiles(fields: Fields): readonly DownwardAPIVolumeFile[] {
  return readItems(fields, 'items').flatMap((item) => readFile(fields, item));
}

function readFile({ report }: Fields, item: Item): readonly DownwardAPIVolumeFile[] {
  const fields = openFields(report, item.node, item.path, FIELDS.DownwardAPIVolumeFile);
  const sources = given(fields, ['fieldRef', 'resourceFieldRef']);
  if (sources.length === 0) {
    report.add(item.path, 'one of fieldRef and resourceFieldRef is required');
  } else if (sources.length > 1) {
    report.add(item.path, 'fieldRef and resourceFieldRef can not be specified simultaneously');
  }
  const file = {
    path: readPathInVolume(fields),
    ...present({ mode: readMode(fields, 'mode') }),
  };
  const fieldRef = readFieldRef(fields, 'volume');
  const resourceFieldRef = readResourceFieldRef(fields, 'volume');
  if (fieldRef !== undefined) return [{ ...file, from: { kind: 'fieldRef', ...fieldRef } }];
  if (resourceFieldRef === undefined) return [];
  return [{ ...file, from: { kind: 'resourceFieldRef', ...resourceFieldRef } }];
}

const PROJECTIONS = ['configMap', 'secret', 'downwardAPI', 'serviceAccountToken'] as const;

/** One source; Kubernetes also takes none, which adds nothing to the volume. */
function readProjection({ report }: Fields, item: Item): readonly VolumeProjection[] {
  const fields = openFields(report, item.node, item.path, FIELDS.VolumeProjection);
  const sources = given(fields, PROJECTIONS);
  if (sources.length > 1) {
    report.add(item.path, 'may not specify more than 1 volume type per source', {
      remedy: 'make an item of its own of each of them',
    });
  }
  const configMap = readMap(fields, 'configMap', FIELDS.ConfigMapProjection);
  if (configMap !== undefined) return [{ kind: 'configMap', ...readObject(configMap, 'name') }];
  const secret = readMap(fields, 'secret', FIELDS.SecretProjection);
  if (secret !== undefined) return [{ kind: 'secret', ...readObject(secret, 'name') }];
  const downwardAPI = readMap(fields, 'downwardAPI', FIELDS.DownwardAPIProjection);
  if (downwardAPI !== undefined) return [{ kind: 'downwardAPI', items: readFiles(downwardAPI) }];
  const token = readMap(fields, 'serviceAccountToken', FIELDS.ServiceAccountTokenProjection);
  return token === undefined ? [] : [readToken(token)];
}

function readToken(fields: Fields): VolumeProjection {
  const name = 'expirationSeconds';
  const seconds = readInteger(fields, name, -MAX_EXPIRATION_SECONDS, Number.MAX_SAFE_INTEGER);
  const path = [...fields.path, name];
  if (seconds !== undefined && seconds < MIN_EXPIRATION_SECONDS) {
    const message = 'may not specify a duration less than 10 minutes';
    fields.report.add(path, message, { value: seconds });
  } else if (seconds !== undefined && seconds > MAX_EXPIRATION_SECONDS) {
    const message = 'may not specify a duration larger than 2^32 seconds';
    fields.report.add(path, message, { value: seconds });
  }
  return {
    kind: 'serviceAccountToken',
    audience: readText(fields, 'audience') ?? '',
    expirationSeconds: seconds ?? DEFAULT_EXPIRATION_SECONDS,
    path: readPathInVolume(fields),
  };
}

/** Two sources must not write the same file. What comes of a whole object is not known yet. */
function checkPaths(fields: Fields, sources: readonly VolumeProjection[]): void {
  const paths = new Set<string>();
  for (const source of sources) {
    const written = source.kind === 'serviceAccountToken' ? [source] : source.items;
    for (const { path } of written) {
      if (path !== '' && paths.has(path)) {
        fields.report.add([...fields.path, 'sources'], 'conflicting duplicate paths', {
          value: path,
        });
      }
      paths.add(path);
    }
  }
}
