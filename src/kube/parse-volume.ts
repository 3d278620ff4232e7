/** Reads a volume of a pod. */
import { FIELDS } from './field-tables.ts';
import { readConfigMap, readDownwardAPI, readProjected, readSecret } from './parse-projected.ts';
import {
  field,
  openFields,
  present,
  readChoice,
  readMap,
  readText,
  type Fields,
  type Item,
} from './parse-fields.ts';
import { readQuantity, requiredName } from './parse-text.ts';
import type { HostPathType, Volume } from './pod.ts';

const HOST_PATH_TYPES: readonly HostPathType[] = [
  '',
  'DirectoryOrCreate',
  'Directory',
  'FileOrCreate',
  'File',
  'Socket',
  'CharDevice',
  'BlockDevice',
];

export function readVolume(report: Fields['report'], item: Item): Volume {
  const fields = openFields(report, item.node, item.path, FIELDS.Volume);
  const name = requiredName(fields);
  const sources = [...fields.map.keys()].filter(
    (key) => key !== 'name' && field(fields, key) !== undefined,
  );
  const second = sources[1];
  if (second !== undefined) {
    report.add([...item.path, second], 'may not specify more than 1 volume type', {
      remedy: `remove it or "${sources[0]}"`,
    });
  }
  const hostPath = readMap(fields, 'hostPath', FIELDS.HostPathVolumeSource);
  if (hostPath !== undefined) return readHostPath(hostPath, name);
  const source =
    readConfigMap(fields) ?? readSecret(fields) ?? readDownwardAPI(fields) ?? readProjected(fields);
  return source === undefined ? readEmptyDir(fields, name) : { name, ...source };
}

/** Also what a volume without any source is: Kubernetes makes it an emptyDir. */
function readEmptyDir(parent: Fields, name: string): Volume {
  const fields = readMap(parent, 'emptyDir', FIELDS.EmptyDirVolumeSource);
  if (fields === undefined) return { name, kind: 'emptyDir', medium: '' };
  const medium = readText(fields, 'medium') ?? '';
  if (medium.startsWith('HugePages')) {
    fields.report.add([...fields.path, 'medium'], 'is not carried out by limpet yet', {
      value: medium,
      remedy: 'use "Memory" or nothing',
    });
  } else {
    readChoice(fields, 'medium', ['', 'Memory'], '');
  }
  const sizeLimit = readQuantity(fields, 'sizeLimit');
  return {
    name,
    kind: 'emptyDir',
    medium: medium === 'Memory' ? 'Memory' : '',
    ...present({ sizeLimit }),
  };
}

function readHostPath(fields: Fields, name: string): Volume {
  const path = readText(fields, 'path') ?? '';
  const at = [...fields.path, 'path'];
  const type = readChoice<HostPathType>(fields, 'type', HOST_PATH_TYPES, '');
  if (path === '') {
    const written = field(fields, 'path')?.value;
    if (written === undefined || written === '') fields.report.add(at, 'is required');
  } else if (!path.startsWith('/')) {
    fields.report.add(at, 'must be an absolute path', { value: path, remedy: 'begin it with "/"' });
  } else if (path.split('/').includes('..')) {
    fields.report.add(at, "must not contain '..'", { value: path });
  }
  return { name, kind: 'hostPath', path, type };
}
