import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { LIMITS } from '../../src/base/limits.ts';
import { decodeManifest, needsYaml, parseManifest } from '../../src/kube/parse.ts';
import type { Container } from '../../src/kube/pod.ts';
import { inContainer, inSpec, podsOf, problemsOf } from './parse-manifest.ts';

const read = (name: string) =>
  readFileSync(new URL(`../manifests/${name}`, import.meta.url), 'utf8');

const containerOf = (lines: string): Container =>
  podsOf(inContainer(lines))[0]!.spec.containers[0]!;

test('a pod that says little gets what Kubernetes fills in', () => {
  const [pod] = podsOf(read('job.json'));
  assert.deepEqual(pod, {
    metadata: { name: 'job', namespace: 'default', uid: '' },
    spec: {
      containers: [
        {
          name: 'once',
          image: 'busybox:1',
          imagePullPolicy: 'IfNotPresent',
          args: ['date', 'é'],
          env: [],
          ports: [],
          resources: { requests: {}, limits: {} },
          volumeMounts: [],
          terminationMessagePath: '/dev/termination-log',
          terminationMessagePolicy: 'File',
          securityContext: {},
          stdin: false,
          stdinOnce: false,
          tty: false,
        },
      ],
      initContainers: [],
      volumes: [],
      restartPolicy: 'Never',
      terminationGracePeriodSeconds: 30,
      dnsPolicy: 'ClusterFirst',
      hostNetwork: false,
      hostPID: false,
      hostIPC: false,
      shareProcessNamespace: false,
      hostAliases: [],
      securityContext: {},
    },
  });
});

test('a pod that says nearly everything is read as it is written', () => {
  const [pod] = podsOf(read('worker.yaml'));
  assert.ok(pod !== undefined);
  assert.deepEqual(pod.metadata, {
    name: 'worker',
    namespace: 'edge',
    uid: '',
    labels: { 'app.kubernetes.io/name': 'worker', tier: '' },
    annotations: { 'example.com/note': 'kept: with the sandbox' },
  });
  const { spec } = pod;
  assert.deepEqual(spec.volumes, [
    { name: 'shared', kind: 'emptyDir', medium: '' },
    { name: 'tmp', kind: 'emptyDir', medium: 'Memory', sizeLimit: '16Mi' },
    { name: 'dev', kind: 'hostPath', path: '/dev', type: 'Directory' },
  ]);
  assert.deepEqual(spec.dnsConfig, {
    nameservers: ['192.0.2.1', '2001:db8::1'],
    searches: ['example.com.', '_tcp.example.com'],
    options: [{ name: 'ndots', value: '2' }, { name: 'edns0' }],
  });
  assert.deepEqual(spec.securityContext, {
    runAsUser: 1000,
    runAsGroup: 1000,
    runAsNonRoot: true,
    supplementalGroups: [20, 44],
    fsGroup: 2000,
    seccompProfile: { type: 'RuntimeDefault' },
  });
  const [prepare, sidecar] = spec.initContainers;
  const [main] = spec.containers;
  assert.equal(prepare?.imagePullPolicy, 'IfNotPresent', 'a digest needs no pull');
  assert.equal(prepare.restartPolicy, undefined);
  assert.equal(sidecar?.restartPolicy, 'Always');
  assert.equal(sidecar.imagePullPolicy, 'Always', 'no tag is latest');
  assert.deepEqual(sidecar.args, ['22:22', '0644'], 'no base 60');
  assert.deepEqual(sidecar.volumeMounts, [
    { name: 'shared', mountPath: '/shared', readOnly: true },
  ]);
  assert.deepEqual(main?.env, prepare.env, 'an alias is what it stands for');
  assert.deepEqual(main.resources, {
    requests: { cpu: '0.25', memory: '1000000' },
    limits: { memory: '2M' },
  });
  assert.deepEqual(main.ports, [
    { containerPort: 53, hostPort: 5353, hostIP: '127.0.0.1', protocol: 'UDP' },
    { containerPort: 53, hostPort: 5353, protocol: 'TCP' },
    { containerPort: 9000, protocol: 'TCP' },
  ]);
  assert.deepEqual(main.securityContext, {
    runAsUser: 0,
    runAsNonRoot: false,
    allowPrivilegeEscalation: true,
    readOnlyRootFilesystem: true,
    capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] },
    seccompProfile: { type: 'Unconfined' },
  });
});

test('a stream of documents and lists gives all its pods, in order', () => {
  const pods = podsOf(read('several.yaml'));
  const names = pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  assert.deepEqual(names, ['default/one', 'default/two', 'other/two', 'default/three']);
  const pulls = pods.map(({ spec }) => spec.containers[0]!.imagePullPolicy);
  assert.deepEqual(pulls, ['Always', 'IfNotPresent', 'Always', 'Always']);
  assert.equal(pods[0]!.spec.hostNetwork, true, '"on" is true, as to the kubelet');
  assert.equal(pods[0]!.spec.containers[0]!.ports[0]!.hostPort, 80, 'a port of the host');
});

test('the same pod in JSON and in YAML is the same', () => {
  const [pod] = podsOf(read('web.yaml'));
  const json = JSON.stringify(yaml.parse(read('web.yaml')));
  assert.deepEqual(podsOf(json), [pod]);
  assert.deepEqual(parseManifest(json).pods, [pod], 'without the YAML library');
  assert.deepEqual(podsOf(`\uFEFF${read('web.yaml').replaceAll('\n', '\r\n')}`), [pod]);
});

test('a limit is a request, where there is none', () => {
  const { resources } = containerOf(
    'resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 0}}',
  );
  assert.deepEqual(resources.requests, { cpu: '0', memory: '1Gi' });
});

test('plain values of YAML are what the kubelet takes them for', () => {
  assert.equal(
    podsOf(inSpec('terminationGracePeriodSeconds: 010'))[0]!.spec.terminationGracePeriodSeconds,
    8,
  );
  assert.equal(
    podsOf(inSpec('terminationGracePeriodSeconds: 0x1F'))[0]!.spec.terminationGracePeriodSeconds,
    31,
  );
  assert.equal(
    podsOf(inSpec('terminationGracePeriodSeconds: -5'))[0]!.spec.terminationGracePeriodSeconds,
    1,
  );
  assert.deepEqual(containerOf('args: [2001-12-14, 1:30, "~", a: b]'.replace(', a: b', '')).args, [
    '2001-12-14',
    '1:30',
    '~',
  ]);
  const merged = containerOf('env: [&x {name: A, value: a}, {<<: *x, name: B}]');
  assert.deepEqual(merged.env, [
    { name: 'A', value: 'a' },
    { name: 'B', value: 'a' },
  ]);
});

test('what the API server adds, and what asks for nothing, is no obstacle', () => {
  const [pod] = podsOf(`
apiVersion: v1
kind: Pod
metadata:
  name: a
  generateName: a-
  uid: x
  resourceVersion: "7"
  generation: 1
  creationTimestamp: null
  managedFields: [{manager: kubectl}]
  ownerReferences: []
  finalizers: null
  annotations: {kubernetes.io/config.hash: x, kubernetes.io/config.mirror: x, keep: me}
spec:
  containers:
  - {name: c, image: i, livenessProbe: null, envFrom: [], lifecycle: {}, resources: {claims: []},
     volumeMounts: null, securityContext: {procMount: Default, seLinuxOptions: {}}}
  nodeSelector: {}
  affinity: {podAffinity: {x: 1}, nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [1]}}
  imagePullSecrets: []
  serviceAccountName: ''
  setHostnameAsFQDN: false
  hostUsers: true
  securityContext: {supplementalGroupsPolicy: Merge, sysctls: []}
  overhead: {}
status: {anything: goes}
`);
  assert.deepEqual(pod!.metadata, {
    name: 'a',
    namespace: 'default',
    uid: '',
    annotations: { keep: 'me' },
  });
});

test('all problems of a manifest are said at once, as the lines come, and not too many', () => {
  const lines = problemsOf(inContainer('stdin: 1\nfoo: 1\nports: [{containerPort: x}]\nimage2: y'));
  assert.deepEqual(
    lines.map((line) => line.split(': ', 2).join(' ')),
    [
      'f:9 spec.containers[0].stdin',
      'f:10 spec.containers[0].foo',
      'f:11 spec.containers[0].ports[0].containerPort',
      'f:12 spec.containers[0].image2',
    ],
  );
  const many = problemsOf(inContainer(`args: [${'1,'.repeat(1000)}]`));
  assert.equal(many.length, 21);
  assert.equal(many.at(-1), 'f: has more problems, which are not shown');
});

test('a problem in one document of several names the document', () => {
  const text = `${inSpec('')}\n---\n${inSpec('hostPID: x').replace('name: a', 'name: b')}`;
  assert.match(problemsOf(text)[0]!, /^f:13: document 2: spec\.hostPID: "x"/);
  const twice = `${inSpec('')}\n---\n${inSpec('')}`;
  assert.match(
    problemsOf(twice)[0]!,
    /document 2: metadata\.name: the pod default\/a is there twice$/,
  );
});

test('the value of a variable is never repeated', () => {
  for (const value of ['123456789', 'true', '[123456789]', '{a: 123456789}']) {
    const lines = problemsOf(inContainer(`env: [{name: PASSWORD, value: ${value}}]`));
    assert.doesNotMatch(lines.join(), /123456789/);
  }
});

test('the limits on a manifest hold, and a manifest below them is taken', () => {
  const long = 'x'.repeat(LIMITS.manifestBytes);
  assert.match(
    problemsOf(`# ${long}\n${inSpec('')}`)[0]!,
    /^f: has \d+ bytes, more than the 1048576/,
  );
  assert.throws(
    () => decodeManifest(new Uint8Array(LIMITS.manifestBytes + 1)),
    /has 1048577 bytes/,
  );
  assert.equal(podsOf(`# ${'x'.repeat(LIMITS.manifestBytes - 500)}\n${inSpec('')}`).length, 1);

  const pods = (count: number) =>
    Array.from({ length: count }, (_, i) => inSpec('').replace('name: a', `name: a${i}`)).join(
      '\n---\n',
    );
  assert.equal(podsOf(pods(LIMITS.podsPerManifest)).length, LIMITS.podsPerManifest);
  assert.match(problemsOf(pods(LIMITS.podsPerManifest + 1))[0]!, /has 101 pods, more than 100/);

  const nested = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`;
  assert.match(problemsOf(`a: ${nested(60)}`)[0]!, /kind: is required/);
  assert.match(problemsOf(`a: ${nested(70)}`)[0]!, /nested deeper than 64 levels/);
  assert.match(problemsOf(`{"a": ${nested(70)}}`)[0]!, /nested deeper than 64 levels/);
  const blocks = Array.from({ length: 70 }, (_, i) => `${' '.repeat(i)}a:`).join('\n');
  assert.match(problemsOf(`${blocks} x`)[0]!, /nested deeper than 64 levels/);

  const args = (count: number) => inContainer(`args: [${'a,'.repeat(count)}]`);
  assert.equal(
    podsOf(args(LIMITS.manifestNodes - 100))[0]!.spec.containers[0]!.args!.length,
    19_900,
  );
  assert.match(problemsOf(args(LIMITS.manifestNodes))[0]!, /more than 20000 values/);
  const comments = '#\n'.repeat(LIMITS.manifestTokens);
  assert.match(problemsOf(comments)[0]!, /more than 65536 words and signs/);
});

test('bytes that are no UTF-8 are refused with what to do', () => {
  const utf16 = Buffer.from('\uFEFFa: b', 'utf16le');
  assert.throws(() => decodeManifest(utf16), /is UTF-16/);
  assert.throws(() => decodeManifest(utf16.swap16()), /is UTF-16/);
  assert.throws(() => decodeManifest(Buffer.from([0x61, 0xff, 0xfe])), /is not UTF-8 text/);
  assert.equal(decodeManifest(Buffer.from('\uFEFFé')), 'é');
});

test('the YAML library is only asked for when it is needed', () => {
  assert.equal(needsYaml('{"a": 1}'), false);
  assert.equal(needsYaml('\uFEFF \n\t{}'), false);
  assert.equal(needsYaml('a: 1'), true);
  assert.equal(needsYaml('---\n{}'), true);
  assert.equal(needsYaml(''), true);
});

test('keys that mean something to JavaScript are only keys', () => {
  const text = inSpec('').replace('name: a', 'name: a, labels: {constructor: x, toString: z}');
  assert.deepEqual(podsOf(text)[0]!.metadata.labels, { constructor: 'x', toString: 'z' });
  const proto = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"__proto__": "x"}},
    "spec": {"containers": [{"name": "c", "image": "i", "__proto__": {"image": "j"}}]}}`;
  const lines = problemsOf(proto);
  assert.ok(
    lines.some((line) =>
      line.includes('spec.containers[0].__proto__: Container has no such field'),
    ),
  );
  assert.ok(lines.some((line) => line.includes('metadata.labels.__proto__: name part must')));
});
