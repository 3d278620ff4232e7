/** Reads a pod of a manifest, with what Kubernetes fills in. */
import { DEFAULT_GRACE_SECONDS, DEFAULT_NAMESPACE, withHostPorts } from './defaults.ts';
import { FIELDS } from './field-tables.ts';
import {
  dnsLabelProblem,
  dnsSubdomainProblem,
  ipProblem,
  labelValueProblem,
  qualifiedNameProblem,
  searchDomainProblem,
} from './names.ts';
import { readContainer } from './parse-container.ts';
import { policyProblem } from './offline-policy.ts';
import {
  field,
  notCarriedOut,
  openFields,
  present,
  readBoolean,
  readChoice,
  readInteger,
  readItems,
  readMap,
  readText,
  readTextMap,
  readTexts,
  type Fields,
  type Item,
  type Report,
} from './parse-fields.ts';
import { readPodSecurityContext } from './parse-security.ts';
import { readVolume } from './parse-volume.ts';
import type { HostAlias, ObjectMeta, Pod, PodDNSConfig, PodSpec } from './pod.ts';

const MAX_ANNOTATIONS_BYTES = 256 * 1024;
const MAX_INT32 = 2 ** 31 - 1;

/** Reads one pod. Its uid is empty: who accepts the pod gives it one. */
export function readPod(report: Report, item: Item): Pod {
  const fields = openFields(report, item.node, item.path, FIELDS.Pod);
  const meta = readMap(fields, 'metadata', FIELDS.ObjectMeta);
  if (meta === undefined) report.add([...item.path, 'metadata'], 'is required');
  const spec = readMap(fields, 'spec', FIELDS.PodSpec);
  if (spec === undefined) report.add([...item.path, 'spec'], 'is required');
  const empty: Fields = { report: { problems: [], add: () => {} }, path: [], map: new Map() };
  return { metadata: readMeta(meta ?? empty), spec: readSpec(spec ?? empty) };
}

function readMeta(fields: Fields): ObjectMeta {
  const name = readText(fields, 'name') ?? '';
  const at = [...fields.path, 'name'];
  if (name === '' && readText(fields, 'generateName') !== undefined) {
    fields.report.add(
      [...fields.path, 'generateName'],
      'needs an API server to make a name of it',
      {
        remedy: 'give the pod a "name"',
      },
    );
  } else if (name === '' && (field(fields, 'name')?.value ?? '') === '') {
    fields.report.add(at, 'is required', { remedy: 'give the pod a name' });
  } else if (name !== '') {
    check(fields, 'name', name, dnsSubdomainProblem);
  }
  const written = readText(fields, 'namespace') ?? '';
  if (written !== '') check(fields, 'namespace', written, dnsLabelProblem);
  const namespace = written === '' ? DEFAULT_NAMESPACE : written;
  return {
    name,
    namespace,
    uid: '',
    ...present({ labels: readLabels(fields), annotations: readAnnotations(fields) }),
  };
}

function check(
  fields: Fields,
  name: string,
  value: string,
  problemOf: (text: string) => string | undefined,
): void {
  const problem = problemOf(value);
  if (problem !== undefined) fields.report.add([...fields.path, name], problem, { value });
}

function readLabels(fields: Fields): ObjectMeta['labels'] {
  const labels = readTextMap(fields, 'labels');
  for (const [key, value] of Object.entries(labels ?? {})) {
    const path = [...fields.path, 'labels', key];
    const wrongKey = qualifiedNameProblem(key);
    if (wrongKey !== undefined) fields.report.add(path, wrongKey);
    const wrongValue = labelValueProblem(value);
    if (wrongValue !== undefined) fields.report.add(path, wrongValue, { value });
  }
  return labels;
}

/** What a kubelet itself writes on a pod is left out: it was copied from another node. */
function readAnnotations(fields: Fields): ObjectMeta['annotations'] {
  const annotations = readTextMap(fields, 'annotations');
  if (annotations === undefined) return undefined;
  const utf8 = new TextEncoder();
  let bytes = 0;
  for (const [key, value] of Object.entries(annotations)) {
    const path = [...fields.path, 'annotations', key];
    const wrongKey = qualifiedNameProblem(key.toLowerCase());
    if (wrongKey !== undefined) fields.report.add(path, wrongKey);
    const appArmor = key.startsWith('container.apparmor.security.beta.kubernetes.io/');
    if (appArmor && value !== 'runtime/default') notCarriedOut(fields.report, path, key, value);
    const wrongPolicy = policyProblem(key, value);
    if (wrongPolicy !== undefined) fields.report.add(path, wrongPolicy, { value });
    bytes += utf8.encode(key).length + utf8.encode(value).length;
  }
  if (bytes > MAX_ANNOTATIONS_BYTES) {
    const message = `must have at most ${MAX_ANNOTATIONS_BYTES} bytes, not ${bytes}`;
    fields.report.add([...fields.path, 'annotations'], message);
  }
  const own = Object.entries(annotations).filter(([key]) => !/^kubernetes\.io\/config\./.test(key));
  return Object.fromEntries(own);
}

function readSpec(fields: Fields): PodSpec {
  const { report } = fields;
  checkPlacement(fields);
  const containers = readItems(fields, 'containers').map((item) => {
    return readContainer(report, item, false);
  });
  const initContainers = readItems(fields, 'initContainers').map((item) => {
    return readContainer(report, item, true);
  });
  if (containers.length === 0 && Array.isArray(field(fields, 'containers')?.value ?? [])) {
    report.add([...fields.path, 'containers'], 'is required', {
      remedy: 'a pod has at least one container',
    });
  }
  const hostNetwork = readBoolean(fields, 'hostNetwork') ?? false;
  const withPorts = hostNetwork ? withHostPorts : <T>(container: T) => container;
  return {
    containers: containers.map(withPorts),
    initContainers: initContainers.map(withPorts),
    volumes: readItems(fields, 'volumes').map((item) => readVolume(report, item)),
    restartPolicy: readChoice(fields, 'restartPolicy', ['Always', 'OnFailure', 'Never'], 'Always'),
    terminationGracePeriodSeconds: readGrace(fields),
    ...present({
      activeDeadlineSeconds: readInteger(fields, 'activeDeadlineSeconds', 1, MAX_INT32),
    }),
    dnsPolicy: readChoice(
      fields,
      'dnsPolicy',
      ['ClusterFirst', 'ClusterFirstWithHostNet', 'Default', 'None'],
      'ClusterFirst',
    ),
    ...present({ dnsConfig: readDNSConfig(fields) }),
    hostNetwork,
    hostPID: readBoolean(fields, 'hostPID') ?? false,
    hostIPC: readBoolean(fields, 'hostIPC') ?? false,
    shareProcessNamespace: readBoolean(fields, 'shareProcessNamespace') ?? false,
    ...present({
      hostname: readName(fields, 'hostname', dnsLabelProblem),
      subdomain: readName(fields, 'subdomain', dnsLabelProblem),
    }),
    hostAliases: readItems(fields, 'hostAliases').map((item) => readHostAlias(report, item)),
    securityContext: readPodSecurityContext(fields),
    ...present({
      nodeName: readName(fields, 'nodeName', dnsSubdomainProblem),
      priority: readInteger(fields, 'priority', -MAX_INT32 - 1, MAX_INT32),
      priorityClassName: readName(fields, 'priorityClassName', dnsSubdomainProblem),
      serviceAccountName:
        readName(fields, 'serviceAccountName', dnsSubdomainProblem) ??
        readName(fields, 'serviceAccount', dnsSubdomainProblem),
      automountServiceAccountToken: readBoolean(fields, 'automountServiceAccountToken'),
      imagePullSecrets: readImagePullSecrets(fields),
      enableServiceLinks: readBoolean(fields, 'enableServiceLinks'),
    }),
  };
}

/** An empty name is none, as it is to the kubelet. */
function readImagePullSecrets(fields: Fields): readonly string[] | undefined {
  const names = readItems(fields, 'imagePullSecrets').flatMap(({ node, path }) => {
    const reference = openFields(fields.report, node, path, FIELDS.LocalObjectReference);
    return readName(reference, 'name', dnsSubdomainProblem) ?? [];
  });
  return names.length === 0 ? undefined : names;
}

/** A name that may be absent; empty is the same as absent. */
function readName(
  fields: Fields,
  name: string,
  problemOf: (text: string) => string | undefined,
): string | undefined {
  const text = readText(fields, name);
  if (text === undefined || text === '') return undefined;
  check(fields, name, text, problemOf);
  return text;
}

/** Like Kubernetes, which for a negative grace allows one second. */
function readGrace(fields: Fields): number {
  const name = 'terminationGracePeriodSeconds';
  const seconds = readInteger(fields, name, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  if (seconds === undefined) return DEFAULT_GRACE_SECONDS;
  return seconds < 0 ? 1 : Math.min(seconds, MAX_INT32);
}

function checkPlacement(fields: Fields): void {
  const affinity = readMap(fields, 'affinity', FIELDS.Affinity);
  if (affinity !== undefined) readMap(affinity, 'nodeAffinity', FIELDS.NodeAffinity);
  const os = readMap(fields, 'os', FIELDS.PodOS);
  const name = os === undefined ? 'linux' : readText(os, 'name');
  if (os !== undefined && name !== undefined && name !== 'linux') {
    os.report.add([...os.path, 'name'], 'this node runs "linux"', { value: name });
  }
}

function readHostAlias(report: Report, item: Item): HostAlias {
  const fields = openFields(report, item.node, item.path, FIELDS.HostAlias);
  const ip = readText(fields, 'ip') ?? '';
  check(fields, 'ip', ip, ipProblem);
  const hostnames = readTexts(fields, 'hostnames') ?? [];
  hostnames.forEach((hostname, index) => {
    const problem = dnsSubdomainProblem(hostname);
    const path = [...item.path, 'hostnames', index];
    if (problem !== undefined) report.add(path, problem, { value: hostname });
  });
  return { ip, hostnames };
}

const MAX_NAMESERVERS = 3;
const MAX_SEARCHES = 32;
const MAX_SEARCH_LENGTH = 2048;

function readDNSConfig(parent: Fields): PodDNSConfig | undefined {
  const fields = readMap(parent, 'dnsConfig', FIELDS.PodDNSConfig);
  if (fields === undefined) return undefined;
  const { report, path } = fields;
  const nameservers = readTexts(fields, 'nameservers');
  const searches = readTexts(fields, 'searches');
  if (nameservers !== undefined && nameservers.length > MAX_NAMESERVERS) {
    const message = `must not have more than ${MAX_NAMESERVERS} nameservers`;
    report.add([...path, 'nameservers'], message);
  }
  if (searches !== undefined && searches.length > MAX_SEARCHES) {
    const message = `must not have more than ${MAX_SEARCHES} search paths`;
    report.add([...path, 'searches'], message);
  }
  if (searches !== undefined && searches.join(' ').length > MAX_SEARCH_LENGTH) {
    const message = `must not have more than ${MAX_SEARCH_LENGTH} characters (including spaces) in the search list`;
    report.add([...path, 'searches'], message);
  }
  checkEach(fields, 'nameservers', nameservers, ipProblem);
  checkEach(fields, 'searches', searches, searchDomainProblem);
  const options = readItems(fields, 'options').map((item) => readDNSOption(report, item));
  return present({
    nameservers,
    searches,
    options: options.length === 0 ? undefined : options,
  });
}

function checkEach(
  fields: Fields,
  name: string,
  texts: readonly string[] | undefined,
  problemOf: (text: string) => string | undefined,
): void {
  texts?.forEach((value, index) => {
    const problem = problemOf(value);
    if (problem !== undefined) fields.report.add([...fields.path, name, index], problem, { value });
  });
}

function readDNSOption(report: Report, item: Item): { name: string; value?: string } {
  const fields = openFields(report, item.node, item.path, FIELDS.PodDNSConfigOption);
  const name = readText(fields, 'name') ?? '';
  if (name === '') report.add([...item.path, 'name'], 'must not be empty');
  return { name, ...present({ value: readText(fields, 'value') }) };
}
