import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readApiPod } from '../../src/kube/parse-api.ts';
import { v1Pod } from '../../src/kube/v1-pod.ts';

const META = {
  name: 'web-0',
  namespace: 'shop',
  uid: '6f6c1f7e-0000-4000-8000-000000000001',
  creationTimestamp: '2026-01-02T03:04:05Z',
  generation: 3,
};

/** As an API server, a scheduler and the DaemonSet controller leave it. */
const OBJECT = {
  metadata: {
    ...META,
    resourceVersion: '812',
    labels: { app: 'web' },
    annotations: { note: 'x' },
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'DaemonSet', name: 'web', uid: 'u' }],
    aFieldOfTomorrow: { is: ['not', 'known'] },
  },
  spec: {
    nodeName: 'pi1',
    nodeSelector: { disk: 'ssd' },
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [
            { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['pi1'] }] },
          ],
        },
      },
    },
    tolerations: [{ operator: 'Exists', effect: 'NoExecute', key: 'node.kubernetes.io/not-ready' }],
    schedulerName: 'default-scheduler',
    serviceAccountName: 'default',
    serviceAccount: 'default',
    enableServiceLinks: true,
    preemptionPolicy: 'PreemptLowerPriority',
    priority: 0,
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 12,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    anotherOfTomorrow: true,
    imagePullSecrets: [{ name: 'registry' }],
    initContainers: [
      { name: 'init', image: 'a/b:1', imagePullPolicy: 'IfNotPresent', resources: {} },
    ],
    containers: [
      {
        name: 'web',
        image: 'a/b:1',
        imagePullPolicy: 'IfNotPresent',
        resources: { requests: { cpu: '10m', 'ephemeral-storage': '1Mi' } },
        resizePolicy: [{ resourceName: 'cpu', restartPolicy: 'NotRequired' }],
        env: [
          { name: 'A', value: 'b' },
          { name: 'N', valueFrom: { fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.name' } } },
          { name: 'S', valueFrom: { secretKeyRef: { name: 's', key: 'k', optional: true } } },
          { name: 'R', valueFrom: { resourceFieldRef: { resource: 'limits.cpu', divisor: '1' } } },
        ],
        envFrom: [{ prefix: 'P_', configMapRef: { name: 'c' } }],
        ports: [{ containerPort: 80, protocol: 'TCP', name: 'http' }],
        livenessProbe: { httpGet: { path: '/', port: 'http', scheme: 'HTTP' }, periodSeconds: 7 },
        readinessProbe: { exec: { command: ['true'] } },
        startupProbe: { grpc: { port: 80, service: '' } },
        lifecycle: { postStart: { sleep: { seconds: 1 } }, preStop: { exec: { command: ['x'] } } },
        volumeMounts: [{ name: 'token', mountPath: '/var/run/x', readOnly: true }],
        terminationMessagePath: '/dev/termination-log',
        terminationMessagePolicy: 'File',
      },
    ],
    volumes: [
      {
        name: 'token',
        projected: {
          defaultMode: 420,
          sources: [
            { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
            { configMap: { name: 'ca', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
            {
              downwardAPI: {
                items: [{ path: 'n', fieldRef: { fieldPath: 'metadata.namespace' } }],
              },
            },
          ],
        },
      },
      { name: 'c', configMap: { name: 'c', defaultMode: 420 } },
      { name: 's', secret: { secretName: 's', defaultMode: 256, optional: true } },
      {
        name: 'd',
        downwardAPI: { items: [{ path: 'l', fieldRef: { fieldPath: 'metadata.labels' } }] },
      },
      { name: 'e', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
      { name: 'h', hostPath: { path: '/tmp', type: '' } },
    ],
  },
  status: { phase: 'Pending' },
};

test('a pod as an API server sends it is read, whatever else is in it', () => {
  const read = readApiPod(OBJECT, META);
  assert.ok(read.ok, read.ok ? '' : read.problems.join('\n'));
  const { metadata, spec } = read.pod;
  assert.equal(metadata.uid, META.uid);
  assert.equal(metadata.generation, 3);
  assert.equal(spec.containers[0]?.env.length, 4);
  assert.equal(spec.terminationGracePeriodSeconds, 12);
});

test('what is read of a pod goes back into the same pod', () => {
  const read = readApiPod(OBJECT, META);
  const again = readApiPod(structuredClone(v1Pod(read.pod)), META);
  assert.ok(again.ok, again.ok ? '' : again.problems.join('\n'));
  assert.deepEqual(again.pod, read.pod);
});

test('what is not carried out is named, and a pod without containers stands for the object', () => {
  const spec = { ...OBJECT.spec, runtimeClassName: 'kata', volumes: [{ name: 'v', nfs: {} }] };
  const read = readApiPod({ ...OBJECT, spec }, META);
  assert.ok(!read.ok);
  assert.match(read.problems.join('\n'), /spec\.runtimeClassName.*not carried out/);
  assert.match(read.problems.join('\n'), /spec\.volumes\[0\]\.nfs/);
  assert.doesNotMatch(read.problems.join('\n'), /line/);
  assert.equal(read.pod.metadata.uid, META.uid);
  assert.deepEqual(read.pod.spec.containers, []);
});

test('nothing that an object can be ends the reader', () => {
  const deep: unknown[] = [];
  let at = deep;
  for (let i = 0; i < 1000; i++) at.push((at = []));
  for (const object of [undefined, null, 7, 'x', [], {}, { spec: deep }, { spec: 3 }]) {
    assert.equal(readApiPod(object, META).ok, false);
  }
});
