import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FIELDS, type FieldTable } from '../../src/kube/field-tables.ts';
import { nearest } from '../../src/kube/parse-fields.ts';

/** As k8s.io/api v0.36.3 core/v1 and apimachinery meta/v1 list them (`json:"…"`). */
const KUBERNETES: Record<keyof typeof FIELDS, string> = {
  List: 'apiVersion items kind metadata',
  Pod: 'apiVersion kind metadata spec status',
  ObjectMeta: `annotations clusterName creationTimestamp deletionGracePeriodSeconds
    deletionTimestamp finalizers generateName generation labels managedFields name namespace
    ownerReferences resourceVersion selfLink uid`,
  PodSpec: `activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig
    dnsPolicy enableServiceLinks ephemeralContainers hostAliases hostIPC hostNetwork hostPID
    hostUsers hostname hostnameOverride imagePullSecrets initContainers nodeName nodeSelector os
    overhead preemptionPolicy priority priorityClassName readinessGates resourceClaims resources
    restartPolicy runtimeClassName schedulerName schedulingGates schedulingGroup securityContext
    serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain
    terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes`,
  Affinity: 'nodeAffinity podAffinity podAntiAffinity',
  NodeAffinity: `preferredDuringSchedulingIgnoredDuringExecution
    requiredDuringSchedulingIgnoredDuringExecution`,
  PodOS: 'name',
  PodDNSConfig: 'nameservers options searches',
  PodDNSConfigOption: 'name value',
  HostAlias: 'hostnames ip',
  PodSecurityContext: `appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser
    seLinuxChangePolicy seLinuxOptions seccompProfile supplementalGroups supplementalGroupsPolicy
    sysctls windowsOptions`,
  SeccompProfile: 'localhostProfile type',
  Container: `args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports
    readinessProbe resizePolicy resources restartPolicy restartPolicyRules securityContext
    startupProbe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices
    volumeMounts workingDir`,
  Probe: `exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold
    tcpSocket terminationGracePeriodSeconds timeoutSeconds`,
  Lifecycle: 'postStart preStop stopSignal',
  LifecycleHandler: 'exec httpGet sleep tcpSocket',
  ExecAction: 'command',
  HTTPGetAction: 'host httpHeaders path port scheme',
  HTTPHeader: 'name value',
  TCPSocketAction: 'host port',
  GRPCAction: 'port service',
  SleepAction: 'seconds',
  EnvVar: 'name value valueFrom',
  EnvVarSource: 'configMapKeyRef fieldRef fileKeyRef resourceFieldRef secretKeyRef',
  EnvFromSource: 'configMapRef prefix secretRef',
  ObjectFieldSelector: 'apiVersion fieldPath',
  ResourceFieldSelector: 'containerName divisor resource',
  ConfigMapKeySelector: 'key name optional',
  SecretKeySelector: 'key name optional',
  ConfigMapEnvSource: 'name optional',
  SecretEnvSource: 'name optional',
  LocalObjectReference: 'name',
  ContainerPort: 'containerPort hostIP hostPort name protocol',
  ResourceRequirements: 'claims limits requests',
  VolumeMount: 'mountPath mountPropagation name readOnly recursiveReadOnly subPath subPathExpr',
  SecurityContext: `allowPrivilegeEscalation appArmorProfile capabilities privileged procMount
    readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seLinuxOptions seccompProfile
    windowsOptions`,
  Capabilities: 'add drop',
  Volume: `awsElasticBlockStore azureDisk azureFile cephfs cinder configMap csi downwardAPI emptyDir
    ephemeral fc flexVolume flocker gcePersistentDisk gitRepo glusterfs hostPath image iscsi name
    nfs persistentVolumeClaim photonPersistentDisk portworxVolume projected quobyte rbd scaleIO
    secret storageos vsphereVolume`,
  EmptyDirVolumeSource: 'medium sizeLimit',
  HostPathVolumeSource: 'path type',
  ConfigMapVolumeSource: 'defaultMode items name optional',
  SecretVolumeSource: 'defaultMode items optional secretName',
  KeyToPath: 'key mode path',
  DownwardAPIVolumeSource: 'defaultMode items',
  DownwardAPIVolumeFile: 'fieldRef mode path resourceFieldRef',
  ProjectedVolumeSource: 'defaultMode sources',
  VolumeProjection: `clusterTrustBundle configMap downwardAPI podCertificate secret
    serviceAccountToken`,
  ConfigMapProjection: 'items name optional',
  SecretProjection: 'items name optional',
  DownwardAPIProjection: 'items',
  ServiceAccountTokenProjection: 'audience expirationSeconds path',
};

test('every field that Kubernetes has is carried out, dropped or refused, and no other', () => {
  for (const [type, table] of Object.entries(FIELDS) as [keyof typeof FIELDS, FieldTable][]) {
    const { carried, dropped, later, scheduled } = table;
    const ours = [...carried, ...dropped, ...later, ...scheduled].sort();
    const theirs = KUBERNETES[type].split(/\s+/).sort();
    assert.deepEqual(ours, theirs, type);
    for (const name of Object.keys(table.harmless)) assert.ok(table.later.includes(name), name);
  }
});

test('a word that is nearly right is found, and a far one is not', () => {
  const words = ['containers', 'hostNetwork', 'env', 'args'];
  assert.equal(nearest('contaienrs', words), 'containers');
  assert.equal(nearest('hostnetwork', words), 'hostNetwork');
  assert.equal(nearest('hostNetwrk', words), 'hostNetwork');
  assert.equal(nearest('evn', words), 'env');
  assert.equal(nearest('enb', words), 'env');
  assert.equal(nearest('x', words), undefined);
  assert.equal(nearest('volumes', words), undefined);
  assert.equal(nearest('a'.repeat(1000), words), undefined);
});
