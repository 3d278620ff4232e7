/**
 * Reads probes and lifecycle hooks of a container, with what Kubernetes fills in.
 * Source: k8s.io/kubernetes pkg/apis/core (v1/defaults.go, validation/validation.go), v1.36.
 */
import { FIELDS } from './field-tables.ts';
import { httpHeaderNameProblem, portNameProblem } from './names.ts';
import {
  asInteger,
  field,
  openFields,
  present,
  readChoice,
  readInteger,
  readItems,
  readMap,
  readText,
  readTexts,
  type Fields,
  type Item,
} from './parse-fields.ts';
import type {
  ExecAction,
  GRPCAction,
  HTTPGetAction,
  HTTPHeader,
  Lifecycle,
  LifecycleHandler,
  PortRef,
  Probe,
  ProbeHandler,
  SleepAction,
  TCPSocketAction,
} from './pod.ts';

export type ProbeField = 'startupProbe' | 'livenessProbe' | 'readinessProbe';

const MAX_INT32 = 2 ** 31 - 1;

/** A probe; undefined when it is not there. */
export function readProbe(parent: Fields, name: ProbeField): Probe | undefined {
  const fields = readMap(parent, name, FIELDS.Probe);
  if (fields === undefined) return undefined;
  const handler = readHandler(fields, ['exec', 'httpGet', 'tcpSocket', 'grpc']);
  // Zero is how Kubernetes writes "the default".
  const seconds = (of: string, otherwise: number) =>
    readInteger(fields, of, 0, MAX_INT32) || otherwise;
  const successThreshold = seconds('successThreshold', 1);
  if (name !== 'readinessProbe' && successThreshold !== 1) {
    const details = { value: successThreshold };
    fields.report.add([...fields.path, 'successThreshold'], 'must be 1', details);
  }
  return {
    handler: (handler as ProbeHandler | undefined) ?? NOTHING,
    initialDelaySeconds: seconds('initialDelaySeconds', 0),
    timeoutSeconds: seconds('timeoutSeconds', 1),
    periodSeconds: seconds('periodSeconds', 10),
    successThreshold,
    failureThreshold: seconds('failureThreshold', 3),
    ...present({ terminationGracePeriodSeconds: readGrace(fields, name) }),
  };
}

/** Stands for a handler that is missing, which is a problem already. */
const NOTHING: ExecAction = { kind: 'exec', command: [] };

function readGrace(fields: Fields, name: ProbeField): number | undefined {
  const grace = readInteger(
    fields,
    'terminationGracePeriodSeconds',
    Number.MIN_SAFE_INTEGER,
    Number.MAX_SAFE_INTEGER,
  );
  if (grace === undefined) return undefined;
  const path = [...fields.path, 'terminationGracePeriodSeconds'];
  if (name === 'readinessProbe') {
    fields.report.add(path, 'must not be set for readinessProbes', { value: grace });
  } else if (grace <= 0) {
    fields.report.add(path, 'must be greater than 0', { value: grace });
  }
  return grace;
}

/** The hooks of a container; undefined when there are none. */
export function readLifecycle(parent: Fields): Lifecycle | undefined {
  const fields = readMap(parent, 'lifecycle', FIELDS.Lifecycle);
  if (fields === undefined) return undefined;
  const [postStart, preStop] = [readHook(fields, 'postStart'), readHook(fields, 'preStop')];
  if (postStart === undefined && preStop === undefined) return undefined;
  return present({ postStart, preStop });
}

function readHook(parent: Fields, name: keyof Lifecycle): LifecycleHandler | undefined {
  const fields = readMap(parent, name, FIELDS.LifecycleHandler);
  if (fields === undefined) return undefined;
  const handler = readHandler(fields, ['exec', 'httpGet', 'tcpSocket', 'sleep']);
  return (handler as LifecycleHandler | undefined) ?? NOTHING;
}

const READERS = {
  exec: readExec,
  httpGet: readHttpGet,
  tcpSocket: readTcpSocket,
  grpc: readGrpc,
  sleep: readSleep,
};
const TABLES = {
  exec: FIELDS.ExecAction,
  httpGet: FIELDS.HTTPGetAction,
  tcpSocket: FIELDS.TCPSocketAction,
  grpc: FIELDS.GRPCAction,
  sleep: FIELDS.SleepAction,
};

/** The one handler that is there, the first if there are more. */
function readHandler(fields: Fields, kinds: readonly (keyof typeof READERS)[]) {
  const [kind, ...more] = kinds.filter((one) => field(fields, one) !== undefined);
  for (const other of more) {
    fields.report.add([...fields.path, other], 'may not specify more than 1 handler type', {
      remedy: `remove it or "${kind}"`,
    });
  }
  if (kind === undefined) {
    const remedy = `give it one of ${kinds.map((one) => `"${one}"`).join(', ')}`;
    fields.report.add(fields.path, 'must specify a handler type', { remedy });
    return undefined;
  }
  const its = readMap(fields, kind, TABLES[kind]);
  return its === undefined ? undefined : READERS[kind](its);
}

function readExec(fields: Fields): ExecAction {
  const command = readTexts(fields, 'command') ?? [];
  const node = field(fields, 'command');
  const isEmpty = node === undefined || (Array.isArray(node.value) && node.value.length === 0);
  if (isEmpty) fields.report.add([...fields.path, 'command'], 'is required');
  return { kind: 'exec', command };
}

function readHttpGet(fields: Fields): HTTPGetAction {
  const path = readText(fields, 'path') ?? '';
  return {
    kind: 'httpGet',
    path: path === '' ? '/' : path,
    port: readPortRef(fields),
    ...readHost(fields),
    scheme: readChoice(fields, 'scheme', ['HTTP', 'HTTPS'], 'HTTP'),
    httpHeaders: readItems(fields, 'httpHeaders').map((item) => readHeader(fields, item)),
  };
}

function readHeader({ report }: Fields, item: Item): HTTPHeader {
  const fields = openFields(report, item.node, item.path, FIELDS.HTTPHeader);
  const name = readText(fields, 'name') ?? '';
  const problem = httpHeaderNameProblem(name);
  if (problem !== undefined) report.add([...item.path, 'name'], problem, { value: name });
  return { name, value: readText(fields, 'value', { hidden: true }) ?? '' };
}

function readTcpSocket(fields: Fields): TCPSocketAction {
  return { kind: 'tcpSocket', port: readPortRef(fields), ...readHost(fields) };
}

function readGrpc(fields: Fields): GRPCAction {
  const path = [...fields.path, 'port'];
  if (field(fields, 'port') === undefined) fields.report.add(path, 'is required');
  return {
    kind: 'grpc',
    port: readInteger(fields, 'port', 1, 65535) ?? 0,
    service: readText(fields, 'service') ?? '',
  };
}

function readSleep(fields: Fields): SleepAction {
  const path = [...fields.path, 'seconds'];
  if (field(fields, 'seconds') === undefined) fields.report.add(path, 'is required');
  const [min, max] = [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER];
  return { kind: 'sleep', seconds: readInteger(fields, 'seconds', min, max) ?? 0 };
}

function readHost(fields: Fields): { host?: string } {
  const host = readText(fields, 'host');
  return host === undefined || host === '' ? {} : { host };
}

function readPortRef(fields: Fields): PortRef {
  const node = field(fields, 'port');
  const path = [...fields.path, 'port'];
  if (node === undefined) {
    fields.report.add(path, 'is required');
    return 0;
  }
  if (typeof node.value !== 'string') return asInteger(fields.report, node, path, 1, 65535) ?? 0;
  const problem = portNameProblem(node.value);
  if (problem !== undefined) {
    const isNumber = /^\d+$/.test(node.value);
    const remedy = isNumber ? { remedy: 'remove the quotes' } : {};
    fields.report.add(path, problem, { value: node.value, ...remedy });
  }
  return node.value;
}
