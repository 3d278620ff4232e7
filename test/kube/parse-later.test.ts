/** Fields of Kubernetes that limpet does not carry out yet. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { parseManifest } from '../../src/kube/parse.ts';
import { inContainer, inSpec } from './parse-manifest.ts';

/** Fields that are real, each with a value that asks for something, and where it stands. */
const LATER: readonly [string, string, string][] = [
  ['spec', 'nodeSelector: {disk: ssd}', 'spec.nodeSelector'],
  [
    'spec',
    'affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}}',
    'spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution',
  ],
  ['spec', 'readinessGates: [{conditionType: x}]', 'spec.readinessGates'],
  ['spec', 'runtimeClassName: gvisor', 'spec.runtimeClassName'],
  ['spec', 'overhead: {cpu: 1}', 'spec.overhead'],
  ['spec', 'setHostnameAsFQDN: true', 'spec.setHostnameAsFQDN'],
  ['spec', 'hostUsers: "x"', 'spec.hostUsers'],
  ['spec', 'hostUsers: false', 'spec.hostUsers'],
  ['spec', 'schedulingGates: [{name: x}]', 'spec.schedulingGates'],
  ['spec', 'resourceClaims: [{name: x}]', 'spec.resourceClaims'],
  ['spec', 'resources: {limits: {cpu: 1}}', 'spec.resources'],
  ['spec', 'ephemeralContainers: [{name: x}]', 'spec.ephemeralContainers'],
  ['spec', 'securityContext: {sysctls: [{name: x}]}', 'spec.securityContext.sysctls'],
  ['spec', 'securityContext: {seLinuxOptions: {level: x}}', 'spec.securityContext.seLinuxOptions'],
  [
    'spec',
    'securityContext: {supplementalGroupsPolicy: Strict}',
    'spec.securityContext.supplementalGroupsPolicy',
  ],
  ['spec', 'securityContext: {appArmorProfile: {type: x}}', 'spec.securityContext.appArmorProfile'],
  [
    'spec',
    'securityContext: {seccompProfile: {type: Localhost}}',
    'spec.securityContext.seccompProfile.type',
  ],
  [
    'spec',
    'volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: x}}]}}]',
    'spec.volumes[0].projected.sources[0].clusterTrustBundle',
  ],
  [
    'spec',
    'volumes: [{name: v, projected: {sources: [{podCertificate: {keyType: x}}]}}]',
    'spec.volumes[0].projected.sources[0].podCertificate',
  ],
  [
    'spec',
    'volumes: [{name: v, persistentVolumeClaim: {}}]',
    'spec.volumes[0].persistentVolumeClaim',
  ],
  [
    'spec',
    'volumes: [{name: v, emptyDir: {medium: HugePages}}]',
    'spec.volumes[0].emptyDir.medium',
  ],
  ['container', 'lifecycle: {stopSignal: SIGUSR1}', 'spec.containers[0].lifecycle.stopSignal'],
  [
    'container',
    'env: [{name: A, valueFrom: {fileKeyRef: {key: x}}}]',
    'spec.containers[0].env[0].valueFrom.fileKeyRef',
  ],
  [
    'container',
    'env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.ephemeral-storage}}}]',
    'spec.containers[0].env[0].valueFrom.resourceFieldRef.resource',
  ],
  [
    'container',
    'env: [{name: A, valueFrom: {resourceFieldRef: {resource: requests.hugepages-2Mi}}}]',
    'spec.containers[0].env[0].valueFrom.resourceFieldRef.resource',
  ],
  ['container', 'restartPolicyRules: [{action: Restart}]', 'spec.containers[0].restartPolicyRules'],
  ['container', 'restartPolicy: Always', 'spec.containers[0].restartPolicy'],
  ['container', 'volumeDevices: [{name: x}]', 'spec.containers[0].volumeDevices'],
  [
    'container',
    'volumeMounts: [{name: v, mountPath: /v, subPath: x}]',
    'spec.containers[0].volumeMounts[0].subPath',
  ],
  [
    'container',
    'volumeMounts: [{name: v, mountPath: /v, readOnly: true, recursiveReadOnly: Enabled}]',
    'spec.containers[0].volumeMounts[0].recursiveReadOnly',
  ],
  ['container', 'resources: {claims: [{name: x}]}', 'spec.containers[0].resources.claims'],
  [
    'container',
    'resources: {limits: {ephemeral-storage: 1Gi}}',
    'spec.containers[0].resources.limits.ephemeral-storage',
  ],
  [
    'container',
    'resources: {limits: {hugepages-2Mi: 2Mi}}',
    'spec.containers[0].resources.limits.hugepages-2Mi',
  ],
  [
    'container',
    'resources: {limits: {nvidia.com/gpu: 1}}',
    'spec.containers[0].resources.limits[nvidia.com/gpu]',
  ],
  [
    'container',
    'securityContext: {procMount: Unmasked}',
    'spec.containers[0].securityContext.procMount',
  ],
  [
    'container',
    'securityContext: {windowsOptions: {hostProcess: true}}',
    'spec.containers[0].securityContext.windowsOptions',
  ],
];

test('a field that is not carried out yet is refused by its path, with what to do', () => {
  for (const [where, lines, path] of LATER) {
    const text = where === 'spec' ? inSpec(lines) : inContainer(lines);
    const { pods, problems } = parseManifest(text, yaml);
    assert.deepEqual(pods, [], lines);
    assert.equal(problems.length, 1, lines);
    assert.equal(problems[0]!.path, path);
    assert.equal(problems[0]!.message, 'is not carried out by limpet yet', lines);
    assert.ok((problems[0]!.remedy ?? '').length > 5, lines);
  }
});
