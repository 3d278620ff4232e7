import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { formatPath, formatProblem } from '../../src/kube/manifest-node.ts';
import { objectsOf } from '../../src/kube/objects.ts';
import { parseManifest } from '../../src/kube/parse.ts';
import type { Pod } from '../../src/kube/pod.ts';

/** Names an object in every place where a pod can. */
const GREEDY = `apiVersion: v1
kind: Pod
metadata: {name: a, namespace: app}
spec:
  serviceAccountName: robot
  imagePullSecrets: [{name: registry}, {name: ''}]
  initContainers:
  - name: i
    image: i
    envFrom: [{secretRef: {name: init}}]
  containers:
  - name: c
    image: i
    envFrom:
    - configMapRef: {name: all, optional: true}
    - prefix: X_
      secretRef: {name: login}
    env:
    - {name: A, value: a}
    - {name: B, valueFrom: {configMapKeyRef: {name: one, key: k}}}
    - {name: C, valueFrom: {secretKeyRef: {name: login, key: k, optional: true}}}
    - {name: D, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  volumes:
  - {name: e}
  - {name: f, configMap: {name: files}}
  - {name: g, secret: {secretName: keys, optional: true}}
  - name: h
    projected:
      sources:
      - configMap: {name: kube-root-ca.crt}
      - secret: {name: more}
      - downwardAPI: {items: [{path: me, fieldRef: {fieldPath: metadata.name}}]}
      - serviceAccountToken: {path: token}
`;

function podOf(text: string): Pod {
  const { pods, problems } = parseManifest(text, yaml, 'api');
  assert.deepEqual(problems, []);
  return pods[0]!;
}

test('every object that a pod names, and where', () => {
  const references = objectsOf(podOf(GREEDY));
  assert.ok(references.every(({ namespace }) => namespace === 'app'));
  assert.deepEqual(
    references.map(({ kind, name, optional, path }) => {
      return `${kind} ${name}${optional ? '?' : ''} ${formatPath(path)}`;
    }),
    [
      'Secret init spec.initContainers[0].envFrom[0].secretRef',
      'ConfigMap all? spec.containers[0].envFrom[0].configMapRef',
      'Secret login spec.containers[0].envFrom[1].secretRef',
      'ConfigMap one spec.containers[0].env[1].valueFrom.configMapKeyRef',
      'Secret login? spec.containers[0].env[2].valueFrom.secretKeyRef',
      'ConfigMap files spec.volumes[1].configMap',
      'Secret keys? spec.volumes[2].secret',
      'ConfigMap kube-root-ca.crt spec.volumes[3].projected.sources[0].configMap',
      'Secret more spec.volumes[3].projected.sources[1].secret',
      'ServiceAccount robot spec.volumes[3].projected.sources[3].serviceAccountToken',
      'Secret registry? spec.imagePullSecrets[0]',
      'ServiceAccount robot spec.serviceAccountName',
    ],
  );
});

test('a pod that names nothing, and the token of the account that it does not name', () => {
  const volumes = 'volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]';
  const text = GREEDY.replace(/spec:[^]*/, 'spec:\n  containers: [{name: c, image: i}]\n');
  assert.deepEqual(objectsOf(podOf(text)), []);
  const [token] = objectsOf(podOf(`${text}  ${volumes}\n`));
  assert.deepEqual([token?.kind, token?.name], ['ServiceAccount', 'default']);
});

test("a pod of this node's own manifests may name none of them, whichever the place", () => {
  const said = (source: 'file' | 'local') =>
    parseManifest(GREEDY, yaml, source).problems.map((problem) => formatProblem('f', problem));
  assert.deepEqual(said('file'), [
    'f:5: spec.serviceAccountName: "robot": static pods may not reference serviceaccounts; ' +
      'remove it: a service account needs an API server',
    'f:6: spec.imagePullSecrets[0]: "registry": static pods may not reference secrets; ' +
      'remove it and give containerd the credentials of the registry',
    'f:10: spec.initContainers[0].envFrom[0].secretRef: "init": ' +
      'static pods may not reference secrets; write the variables themselves under "env"',
    'f:15: spec.containers[0].envFrom[0].configMapRef: "all": ' +
      'static pods may not reference configmaps; write the variables themselves under "env"',
    'f:17: spec.containers[0].envFrom[1].secretRef: "login": ' +
      'static pods may not reference secrets; write the variables themselves under "env"',
    'f:20: spec.containers[0].env[1].valueFrom.configMapKeyRef: "one": ' +
      'static pods may not reference configmaps; write the text itself as "value"',
    'f:21: spec.containers[0].env[2].valueFrom.secretKeyRef: "login": ' +
      'static pods may not reference secrets; write the text itself as "value"',
    'f:25: spec.volumes[1].configMap: "files": static pods may not reference configmaps; ' +
      'put the files on the node and use a hostPath volume',
    'f:26: spec.volumes[2].secret: "keys": static pods may not reference secrets; ' +
      'put the files on the node and use a hostPath volume',
    'f:30: spec.volumes[3].projected.sources[0].configMap: "kube-root-ca.crt": ' +
      'static pods may not reference configmaps; put the files on the node and use a hostPath ' +
      'volume',
    'f:31: spec.volumes[3].projected.sources[1].secret: "more": static pods may not reference ' +
      'secrets; put the files on the node and use a hostPath volume',
    'f:33: spec.volumes[3].projected.sources[3].serviceAccountToken: "robot": static pods may ' +
      'not reference serviceaccounts; remove it: a token needs an API server',
  ]);
  assert.match(said('local')[0]!, /: pods that are applied on the node may not reference /);
});

test('what only the API server heeds has no part in a pod of a manifest', () => {
  const text = (field: string) => `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: c, image: i}]
  ${field}
`;
  const read = (field: string) => parseManifest(text(field), yaml, 'file');
  const plain = read('').pods;
  assert.equal(plain.length, 1);
  for (const field of [
    'automountServiceAccountToken: false',
    'enableServiceLinks: false',
    'enableServiceLinks: true',
    'serviceAccountName: ""',
    'imagePullSecrets: []',
  ]) {
    assert.deepEqual(read(field).pods, plain, field);
  }
  const [problem] = read('automountServiceAccountToken: true').problems;
  assert.equal(problem?.path, 'spec.automountServiceAccountToken');
  assert.match(problem.remedy ?? '', /set it to false/);
  assert.equal(podOf(text('enableServiceLinks: false')).spec.enableServiceLinks, false);
  assert.equal(podOf(text('serviceAccount: old')).spec.serviceAccountName, 'old');
});
