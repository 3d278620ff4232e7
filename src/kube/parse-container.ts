/** Reads a container of a pod, with what Kubernetes fills in. */
import {
  DEFAULT_TERMINATION_MESSAGE_PATH,
  defaultPullPolicy,
  withDefaultRequests,
} from './defaults.ts';
import { FIELDS } from './field-tables.ts';
import { ipProblem, portNameProblem } from './names.ts';
import { readEnv, readEnvFrom } from './parse-env.ts';
import {
  field,
  notCarriedOut,
  openFields,
  plainRecord,
  present,
  readBoolean,
  readChoice,
  readInteger,
  readItems,
  readMap,
  readText,
  readTexts,
  type Fields,
  type Item,
} from './parse-fields.ts';
import { readAbsolutePath, readQuantity, requiredName } from './parse-text.ts';
import { readLifecycle, readProbe } from './parse-probe.ts';
import { readSecurityContext } from './parse-security.ts';
import type {
  Container,
  ContainerPort,
  MountPropagation,
  ResourceList,
  ResourceRequirements,
  VolumeMount,
} from './pod.ts';
import { parseQuantity } from './quantity.ts';

/** `init`: whether it is one of `initContainers`. */
export function readContainer(report: Fields['report'], item: Item, init: boolean): Container {
  const fields = openFields(report, item.node, item.path, FIELDS.Container);
  const image = readImage(fields);
  return {
    name: requiredName(fields),
    image,
    imagePullPolicy: readChoice(
      fields,
      'imagePullPolicy',
      ['Always', 'IfNotPresent', 'Never'],
      defaultPullPolicy(image),
    ),
    ...present({ command: readTexts(fields, 'command'), args: readTexts(fields, 'args') }),
    ...present({ workingDir: readAbsolutePath(fields, 'workingDir') }),
    env: readItems(fields, 'env').map((env) => readEnv(report, env)),
    ...present({ envFrom: readEnvFrom(fields) }),
    ports: readItems(fields, 'ports').map((port) => readPort(report, port)),
    resources: readResources(fields),
    volumeMounts: readItems(fields, 'volumeMounts').map((mount) => readMount(report, mount)),
    terminationMessagePath:
      readAbsolutePath(fields, 'terminationMessagePath') ?? DEFAULT_TERMINATION_MESSAGE_PATH,
    terminationMessagePolicy: readChoice(
      fields,
      'terminationMessagePolicy',
      ['File', 'FallbackToLogsOnError'],
      'File',
    ),
    securityContext: readSecurityContext(fields),
    stdin: readBoolean(fields, 'stdin') ?? false,
    stdinOnce: readBoolean(fields, 'stdinOnce') ?? false,
    tty: readBoolean(fields, 'tty') ?? false,
    ...readRestartPolicy(fields, init),
    ...present({
      startupProbe: readProbe(fields, 'startupProbe'),
      livenessProbe: readProbe(fields, 'livenessProbe'),
      readinessProbe: readProbe(fields, 'readinessProbe'),
      lifecycle: readLifecycle(fields),
    }),
  };
}

function readImage(fields: Fields): string {
  const image = readText(fields, 'image');
  const path = [...fields.path, 'image'];
  if (image === undefined && field(fields, 'image') !== undefined) return '';
  if (image === undefined || image === '') {
    fields.report.add(path, 'is required', { remedy: 'name the image to run' });
  } else if (/\s/.test(image)) {
    fields.report.add(path, 'must not contain whitespace', { value: image });
  }
  return image ?? '';
}

function readRestartPolicy(fields: Fields, init: boolean): { restartPolicy?: 'Always' } {
  const policy = readText(fields, 'restartPolicy');
  if (policy === undefined || policy === '') return {};
  const path = [...fields.path, 'restartPolicy'];
  if (init && policy === 'Always') return { restartPolicy: 'Always' };
  if (policy === 'Always' || policy === 'OnFailure' || policy === 'Never') {
    const remedy = init
      ? 'only "Always", which makes it a sidecar, is'
      : 'set the restartPolicy of the pod (spec.restartPolicy)';
    fields.report.add(path, 'is not carried out by limpet yet', { value: policy, remedy });
  } else {
    fields.report.add(path, 'must be one of "Always", "OnFailure", "Never"', { value: policy });
  }
  return {};
}

function readPort(report: Fields['report'], item: Item): ContainerPort {
  const fields = openFields(report, item.node, item.path, FIELDS.ContainerPort);
  const name = readText(fields, 'name');
  if (name !== undefined && name !== '') {
    const problem = portNameProblem(name);
    if (problem !== undefined) report.add([...item.path, 'name'], problem, { value: name });
  }
  if (field(fields, 'containerPort') === undefined) {
    report.add([...item.path, 'containerPort'], 'is required');
  }
  const hostIP = readText(fields, 'hostIP');
  if (hostIP !== undefined && hostIP !== '') {
    const problem = ipProblem(hostIP);
    if (problem !== undefined) report.add([...item.path, 'hostIP'], problem, { value: hostIP });
  }
  // Zero is how Kubernetes writes "none".
  const hostPort =
    field(fields, 'hostPort')?.value === 0 ? undefined : readInteger(fields, 'hostPort', 1, 65535);
  return {
    ...present({ name: name === '' ? undefined : name }),
    containerPort: readInteger(fields, 'containerPort', 1, 65535) ?? 0,
    ...present({ hostPort, hostIP: hostIP === '' ? undefined : hostIP }),
    protocol: readChoice(fields, 'protocol', ['TCP', 'UDP', 'SCTP'], 'TCP'),
  };
}

function readMount(report: Fields['report'], item: Item): VolumeMount {
  const fields = openFields(report, item.node, item.path, FIELDS.VolumeMount);
  const name = readText(fields, 'name');
  if (name === '' || field(fields, 'name') === undefined) {
    report.add([...item.path, 'name'], 'is required', { remedy: 'name a volume of spec.volumes' });
  }
  const mountPath = readAbsolutePath(fields, 'mountPath');
  const at = [...item.path, 'mountPath'];
  const written = field(fields, 'mountPath')?.value;
  if (written === undefined || written === '') {
    report.add(at, 'is required');
  } else if (mountPath?.includes(':') === true) {
    report.add(at, "must not contain ':'", { value: mountPath });
  } else if (mountPath !== undefined && /^\/[/.]*$/.test(mountPath) && !/\.\./.test(mountPath)) {
    report.add(at, "must not be '/', the root of the container's image", { value: mountPath });
  }
  const propagation = readChoice<MountPropagation | ''>(
    fields,
    'mountPropagation',
    ['', 'None', 'HostToContainer', 'Bidirectional'],
    '',
  );
  return {
    name: name ?? '',
    mountPath: mountPath ?? '',
    readOnly: readBoolean(fields, 'readOnly') ?? false,
    ...present({ mountPropagation: propagation === '' ? undefined : propagation }),
  };
}

function readResources(parent: Fields): ResourceRequirements {
  const fields = readMap(parent, 'resources', FIELDS.ResourceRequirements);
  if (fields === undefined) return { requests: {}, limits: {} };
  return withDefaultRequests({
    requests: readResourceList(fields, 'requests'),
    limits: readResourceList(fields, 'limits'),
  });
}

function readResourceList(parent: Fields, name: string): ResourceList {
  const node = field(parent, name);
  if (node === undefined) return {};
  const path = [...parent.path, name];
  const entries: [string, string][] = [];
  const fields = openFields(parent.report, node, path);
  for (const resource of fields.map.keys()) {
    const quantity = readQuantity(fields, resource);
    // What is asked for of the disk a scheduler has seen to; a limit nobody would hold yet.
    const isPlaced =
      resource === 'ephemeral-storage' && name === 'requests' && parent.report.isChecked;
    if (resource === 'cpu' || resource === 'memory' || isPlaced) {
      if (quantity !== undefined) entries.push([resource, quantity]);
    } else if (resource === 'ephemeral-storage' || /^hugepages-|\//.test(resource)) {
      if (quantity !== undefined && parseQuantity(quantity) !== 0n) {
        notCarriedOut(parent.report, [...path, resource], resource, quantity);
      }
    } else {
      parent.report.add([...path, resource], 'must be a standard resource for containers', {
        remedy: 'limpet knows "cpu" and "memory"',
      });
    }
  }
  return plainRecord(entries);
}
