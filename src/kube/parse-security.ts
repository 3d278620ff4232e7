/** Reads the security contexts of a pod and of a container. */
import { FIELDS } from './field-tables.ts';
import {
  asInteger,
  field,
  notCarriedOut,
  present,
  readBoolean,
  readInteger,
  readItems,
  readMap,
  readText,
  readTexts,
  type Fields,
} from './parse-fields.ts';
import type { Capabilities, PodSecurityContext, SeccompProfile, SecurityContext } from './pod.ts';

/** The largest user and group id that Kubernetes allows. */
const MAX_ID = 2 ** 31 - 1;

export function readPodSecurityContext(parent: Fields): PodSecurityContext {
  const fields = readMap(parent, 'securityContext', FIELDS.PodSecurityContext);
  if (fields === undefined) return {};
  const groups = readItems(fields, 'supplementalGroups').flatMap(({ node, path }) => {
    return asInteger(fields.report, node, path, 0, MAX_ID) ?? [];
  });
  return present({
    ...readUser(fields),
    supplementalGroups: groups.length === 0 ? undefined : groups,
    fsGroup: readInteger(fields, 'fsGroup', 0, MAX_ID),
    seccompProfile: readSeccompProfile(fields),
  });
}

export function readSecurityContext(parent: Fields): SecurityContext {
  const fields = readMap(parent, 'securityContext', FIELDS.SecurityContext);
  if (fields === undefined) return {};
  const context: SecurityContext = present({
    ...readUser(fields),
    privileged: readBoolean(fields, 'privileged'),
    allowPrivilegeEscalation: readBoolean(fields, 'allowPrivilegeEscalation'),
    readOnlyRootFilesystem: readBoolean(fields, 'readOnlyRootFilesystem'),
    capabilities: readCapabilities(fields),
    seccompProfile: readSeccompProfile(fields),
  });
  if (context.allowPrivilegeEscalation === false) {
    if (context.privileged === true) {
      const message = 'cannot set `allowPrivilegeEscalation` to false and `privileged` to true';
      fields.report.add(fields.path, message);
    }
    if (context.capabilities?.add.some((name) => /^(CAP_)?SYS_ADMIN$/.test(name)) === true) {
      const message =
        'cannot set `allowPrivilegeEscalation` to false and `capabilities.add` CAP_SYS_ADMIN';
      fields.report.add(fields.path, message);
    }
  }
  return context;
}

function readUser(fields: Fields) {
  return {
    runAsUser: readInteger(fields, 'runAsUser', 0, MAX_ID),
    runAsGroup: readInteger(fields, 'runAsGroup', 0, MAX_ID),
    runAsNonRoot: readBoolean(fields, 'runAsNonRoot'),
  };
}

function readSeccompProfile(parent: Fields): SeccompProfile | undefined {
  const fields = readMap(parent, 'seccompProfile', FIELDS.SeccompProfile);
  if (fields === undefined) return undefined;
  const path = [...fields.path, 'type'];
  const type = readText(fields, 'type');
  if (type === 'RuntimeDefault' || type === 'Unconfined') return { type };
  if (type === 'Localhost') {
    notCarriedOut(fields.report, path, 'localhostProfile', type);
  } else if (type !== undefined && type !== '') {
    const message = 'must be one of "RuntimeDefault", "Unconfined", "Localhost"';
    fields.report.add(path, message, { value: type });
  } else if (type === '' || field(fields, 'type') === undefined) {
    fields.report.add(path, 'is required');
  }
  return undefined;
}

function readCapabilities(parent: Fields): Capabilities | undefined {
  const fields = readMap(parent, 'capabilities', FIELDS.Capabilities);
  if (fields === undefined) return undefined;
  for (const list of ['add', 'drop']) checkCapabilities(fields, list);
  return { add: readTexts(fields, 'add') ?? [], drop: readTexts(fields, 'drop') ?? [] };
}

/** The API server takes any text here, and the container fails much later. */
function checkCapabilities(fields: Fields, list: string): void {
  for (const { node, path } of readItems(fields, list)) {
    if (typeof node.value !== 'string' || /^[A-Za-z_]+$/.test(node.value)) continue;
    fields.report.add(path, 'must be the name of a capability', {
      value: node.value,
      remedy: 'write it as in "NET_ADMIN", or "ALL"',
    });
  }
}
