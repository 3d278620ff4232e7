import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Objects } from '../../src/kube/objects.ts';
import type {
  Container,
  ContainerResource,
  EnvVar,
  EnvVarSource,
  Pod,
} from '../../src/kube/pod.ts';
import {
  commandAndArgs,
  expand,
  resolveEnvironment,
  type EnvironmentFacts,
} from '../../src/pod/environment.ts';
import { aConfigMap, aSecret, aService, objectsOfTest } from '../kube/objects-of.ts';
import { aContainer, aPod } from './a-pod.ts';

const KNOWN: Readonly<Record<string, string>> = { A: 'a', B: 'b', EMPTY: '', LOOP: '$(A)' };

// The cases of Kubernetes' own table (third_party/forked/golang/expansion) among them.
for (const [input, wanted] of [
  ['', ''],
  ['plain', 'plain'],
  ['$(A)', 'a'],
  ['-$(A)-', '-a-'],
  ['$(A)$(B)', 'ab'],
  ['$(EMPTY)', ''],
  ['$(LOOP)', '$(A)'],
  ['$(MISSING)', '$(MISSING)'],
  ['$$(A)', '$(A)'],
  ['$$$(A)', '$a'],
  ['$$$$(A)', '$$(A)'],
  ['$$$$$(A)', '$$a'],
  ['foo$$bar', 'foo$bar'],
  ['$', '$'],
  ['$$', '$'],
  ['$$$', '$$'],
  ['foo$', 'foo$'],
  ['$A', '$A'],
  ['$(A', '$(A'],
  ['$(A$(B)', '$(A$(B)'],
  ['$()', '$()'],
  ['$(A', '$(A'],
  ['A)', 'A)'],
  ['$((A))', '$((A))'],
  ['$$(A)$(B)', '$(A)b'],
  ['\n$(A)\n', '\na\n'],
  ['$ö$(A)', '$öa'],
  ['$😀$(A)', '$😀a'],
  ['$(constructor)', '$(constructor)'],
] as const) {
  test(`expand ${JSON.stringify(input)}`, () => {
    const lookUp = (name: string) => (Object.hasOwn(KNOWN, name) ? KNOWN[name] : undefined);
    assert.equal(expand(input, lookUp), wanted);
  });
}

const FACTS: EnvironmentFacts = {
  source: 'api',
  allocatable: { cpuMilli: 4000, memoryBytes: 2 ** 32 },
  podIPs: ['10.1.0.7', 'fd00::7'],
  hostIPs: ['192.168.1.2', 'fd01::2'],
};

function resolve(
  container: Partial<Container>,
  objects: Objects = objectsOfTest({ services: [] }),
  { pod = aPod(), facts = FACTS }: { pod?: Pod; facts?: EnvironmentFacts } = {},
) {
  return resolveEnvironment(pod, aContainer(container), objects, facts);
}

/** The variables, as they would stand in /proc/PID/environ. */
function variables(...args: Parameters<typeof resolve>): readonly string[] {
  const result = resolve(...args);
  assert.ok(result.ok, JSON.stringify(result));
  return result.value.map(({ key, value }) => `${key}=${value}`);
}

function refusal(...args: Parameters<typeof resolve>): string {
  const result = resolve(...args);
  assert.ok(!result.ok);
  assert.equal(result.fault.reason, 'CreateContainerConfigError');
  return result.fault.message;
}

function from(name: string, valueFrom: EnvVarSource): EnvVar {
  return { name, value: '', valueFrom };
}

test('a variable sees those before it, and not those after it', () => {
  const env = [
    { name: 'EARLY', value: '$(LATE)' },
    { name: 'A', value: '1' },
    { name: 'SUM', value: '$(A)+$(A)' },
    { name: 'A', value: '$(A)2' },
    { name: 'LATE', value: 'x' },
    { name: 'NONE', value: '' },
    { name: '__proto__', value: 'p' },
    { name: 'P', value: '$(__proto__)$(toString)' },
  ];
  assert.deepEqual(variables({ env }), [
    'EARLY=$(LATE)',
    'A=12',
    'SUM=1+1',
    'LATE=x',
    'NONE=',
    '__proto__=p',
    'P=p$(toString)',
  ]);
});

test('env overrides envFrom, later sources earlier ones, and all of them services', () => {
  const objects = objectsOfTest({
    configMaps: [aConfigMap('db', { PORT: '5432', URL: 'of the config map', SHARED: 'map' })],
    secrets: [aSecret('login', { USER: 'me', SHARED: 'secret', 'a-b.c': 'odd names are names' })],
    services: [aService('db', { clusterIP: '10.96.0.5', ports: [{ port: 5432 }] })],
  });
  const envFrom = [
    { kind: 'configMapRef', name: 'db', optional: false, prefix: '' },
    { kind: 'secretRef', name: 'login', optional: false, prefix: '' },
    { kind: 'secretRef', name: 'login', optional: false, prefix: 'DB_' },
    { kind: 'configMapRef', name: 'gone', optional: true, prefix: '' },
  ] as const;
  const env = [
    { name: 'URL', value: '$(DB_SERVICE_HOST):$(PORT)/$(SHARED)' },
    { name: 'DB_PORT', value: 'mine' },
  ];
  assert.deepEqual(variables({ env, envFrom }, objects), [
    'PORT=5432',
    'URL=10.96.0.5:5432/secret',
    'SHARED=secret',
    'USER=me',
    'a-b.c=odd names are names',
    'DB_USER=me',
    'DB_SHARED=secret',
    'DB_a-b.c=odd names are names',
    'DB_PORT=mine',
    'DB_SERVICE_HOST=10.96.0.5',
    'DB_SERVICE_PORT=5432',
    'DB_PORT_5432_TCP=tcp://10.96.0.5:5432',
    'DB_PORT_5432_TCP_PROTO=tcp',
    'DB_PORT_5432_TCP_PORT=5432',
    'DB_PORT_5432_TCP_ADDR=10.96.0.5',
  ]);
});

const key = (
  kind: 'configMapKeyRef' | 'secretKeyRef',
  name: string,
  keyName: string,
  optional = false,
) => from('V', { kind, name, key: keyName, optional });

test('one key of a config map or a secret', () => {
  const objects = objectsOfTest({
    configMaps: [aConfigMap('c', { k: '$(X)', empty: '' })],
    secrets: [aSecret('s', { k: '\ufeffgrüße' })],
    services: [],
  });
  const before = { name: 'V', value: 'before' };
  const of = (env: EnvVar) => variables({ env: [before, env] }, objects);
  assert.deepEqual(of(key('configMapKeyRef', 'c', 'k')), ['V=$(X)'], 'it is no reference');
  assert.deepEqual(of(key('configMapKeyRef', 'c', 'empty')), ['V=']);
  assert.deepEqual(of(key('secretKeyRef', 's', 'k')), ['V=\ufeffgrüße']);
  for (const missing of [
    key('configMapKeyRef', 'c', 'x', true),
    key('secretKeyRef', 'x', 'k', true),
    key('configMapKeyRef', 'c', 'toString', true),
  ]) {
    assert.deepEqual(of(missing), ['V=before'], 'an optional one sets nothing');
  }
});

test('what is missing is said in the words of the kubelet', () => {
  const objects = objectsOfTest({
    configMaps: [aConfigMap('c', {})],
    secrets: [aSecret('s', { nul: 'a\0b', bytes: Buffer.from([0xff, 0xfe]) })],
    services: [],
  });
  const of = (env: EnvVar) => refusal({ env: [env] }, objects);
  assert.equal(of(key('configMapKeyRef', 'x', 'k')), 'configmap "x" not found');
  assert.equal(of(key('secretKeyRef', 'x', 'k')), 'secret "x" not found');
  assert.equal(of(key('configMapKeyRef', 'c', 'k')), "couldn't find key k in ConfigMap default/c");
  assert.equal(of(key('secretKeyRef', 's', 'k')), "couldn't find key k in Secret default/s");
  assert.match(of(key('secretKeyRef', 's', 'nul')), /key nul in Secret default\/s is no text/);
  assert.match(of(key('secretKeyRef', 's', 'bytes', true)), /mount it as a file/);
  const all = { kind: 'secretRef', name: 's', optional: true, prefix: '' } as const;
  assert.match(refusal({ envFrom: [all] }, objects), /key nul in Secret/);
  const gone = { ...all, name: 'x', optional: false };
  assert.equal(refusal({ envFrom: [gone] }, objects), 'secret "x" not found');
});

test('what nobody has told of yet is not taken for absent, not even where it is optional', () => {
  const objects = objectsOfTest({ services: [], otherwise: 'unknown' });
  const env = [key('configMapKeyRef', 'c', 'k', true)];
  assert.match(refusal({ env }, objects), /configmap "c" is neither stored .* nor known/);
  const envFrom = [{ kind: 'secretRef', name: 's', optional: true, prefix: '' } as const];
  assert.match(refusal({ envFrom }, objects), /secret "s" is neither/);
});

test('services: a pod of the API server waits for news of them, others do not', () => {
  const objects = objectsOfTest({ otherwise: 'unknown' });
  assert.match(refusal({}, objects), /^services have not yet been read at least once/);
  for (const source of ['file', 'local'] as const) {
    assert.deepEqual(variables({}, objects, { facts: { ...FACTS, source } }), []);
  }
});

test('fields of the pod', () => {
  const metadata = {
    labels: { app: 'shop', 'example.com/tier': 'back' },
    annotations: { note: 'a "b"' },
  };
  const spec = { nodeName: 'pi-1', serviceAccountName: 'robot' };
  const paths: readonly [string, string][] = [
    ['metadata.name', 'shop'],
    ['metadata.namespace', 'default'],
    ['metadata.uid', '1f0a-22'],
    ["metadata.labels['app']", 'shop'],
    ["metadata.labels['example.com/tier']", 'back'],
    ["metadata.labels['none']", ''],
    ["metadata.labels['constructor']", ''],
    ["metadata.annotations['note']", 'a "b"'],
    ['spec.nodeName', 'pi-1'],
    ['spec.serviceAccountName', 'robot'],
    ['status.hostIP', '192.168.1.2'],
    ['status.hostIPs', '192.168.1.2,fd01::2'],
    ['status.podIP', '10.1.0.7'],
    ['status.podIPs', '10.1.0.7,fd00::7'],
  ];
  const env = paths.map(([fieldPath]) => from(fieldPath, { kind: 'fieldRef', fieldPath }));
  assert.deepEqual(
    variables({ env }, undefined, { pod: aPod(spec, metadata) }),
    paths.map(([path, value]) => `${path}=${value}`),
  );
  const ip = [from('IP', { kind: 'fieldRef', fieldPath: 'status.podIPs' })];
  const pod = aPod({ hostNetwork: true });
  assert.deepEqual(variables({ env: ip }, undefined, { pod }), ['IP=192.168.1.2,fd01::2']);
  const odd = [from('X', { kind: 'fieldRef', fieldPath: 'status.phase' })];
  assert.equal(refusal({ env: odd }), 'unsupported fieldPath: status.phase');
});

test('resources of a container, in units of the divisor, rounded up', () => {
  const resources = { limits: { cpu: '1500m', memory: '100Mi' }, requests: { cpu: '250m' } };
  const other = aContainer({ name: 'other', resources: { limits: {}, requests: {} } });
  const pod = aPod({ initContainers: [other] });
  const cases: readonly [ContainerResource, string, string | undefined, string][] = [
    ['limits.cpu', '1', undefined, '2'],
    ['limits.cpu', '1m', undefined, '1500'],
    ['limits.memory', '1', undefined, '104857600'],
    ['limits.memory', '1Mi', undefined, '100'],
    ['limits.memory', '1Gi', undefined, '1'],
    ['requests.cpu', '1m', undefined, '250'],
    ['requests.memory', '1', undefined, '0'],
    ['limits.cpu', '1', 'other', '4'],
    ['limits.memory', '1Gi', 'other', '4'],
    ['requests.cpu', '1', 'other', '0'],
  ];
  const env = cases.map(([resource, divisor, containerName], index) =>
    from(`R${index}`, {
      kind: 'resourceFieldRef',
      resource,
      divisor,
      ...(containerName !== undefined && { containerName }),
    }),
  );
  assert.deepEqual(
    variables({ resources, env }, undefined, { pod }),
    cases.map(([, , , wanted], index) => `R${index}=${wanted}`),
  );
  const source = { resource: 'limits.cpu', divisor: '1', containerName: 'x' } as const;
  const lost = [from('L', { kind: 'resourceFieldRef', ...source })];
  assert.equal(refusal({ env: lost }), 'container x not found');
});

test('command and arguments', () => {
  const environment = [{ key: 'WHO', value: 'you' }];
  assert.deepEqual(
    commandAndArgs({ command: ['echo', 'hi $(WHO)'], args: ['$$(WHO)', '$(X)'] }, environment),
    { command: ['echo', 'hi you'], args: ['$(WHO)', '$(X)'] },
  );
  assert.deepEqual(commandAndArgs({}, environment), { command: [], args: [] });
});
