/**
 * Every field of Kubernetes v1.36 that a pod can have, and what limpet does with it.
 * - `carried`: read by the parser and carried out.
 * - `dropped`: belongs to the API server, the scheduler or a controller, a kubelet does nothing
 *   with it, and neither does limpet.
 * - `later`: real, but not carried out yet. Any value but an empty one is refused by name, for a
 *   pod that runs without what it asks for is worse than one that does not run.
 * Source: k8s.io/api v0.36 core/v1 and meta/v1.
 */
export type FieldTable = {
  readonly type: string;
  readonly carried: readonly string[];
  readonly dropped: readonly string[];
  readonly later: readonly string[];
  readonly scheduled: readonly string[];
  /**
   * Values that ask for nothing, of `later` fields for which they are not just null, false, 0 and
   * what is empty.
   */
  readonly harmless: Readonly<Record<string, readonly (string | boolean)[]>>;
};

type Columns = {
  readonly carried: string;
  readonly dropped?: string;
  readonly later?: string;
  readonly scheduled?: string;
  readonly harmless?: FieldTable['harmless'];
};

function table(type: string, columns: Columns): FieldTable {
  const words = (text = '') => text.split(/\s+/).filter((word) => word !== '');
  return {
    type,
    carried: words(columns.carried),
    dropped: words(columns.dropped),
    later: words(columns.later),
    scheduled: words(columns.scheduled),
    harmless: columns.harmless ?? {},
  };
}

/** By name of the Kubernetes type. */
export const FIELDS = {
  List: table('List', { carried: 'apiVersion kind items', dropped: 'metadata' }),
  Pod: table('Pod', { carried: 'apiVersion kind metadata spec', dropped: 'status' }),
  // A uid in a manifest was copied from somewhere: two pods must not share one.
  ObjectMeta: table('ObjectMeta', {
    carried: 'name generateName namespace labels annotations',
    dropped: `uid creationTimestamp deletionTimestamp deletionGracePeriodSeconds generation
      ownerReferences finalizers managedFields clusterName resourceVersion selfLink`,
  }),
  PodSpec: table('PodSpec', {
    carried: `containers initContainers volumes restartPolicy terminationGracePeriodSeconds
      activeDeadlineSeconds dnsPolicy dnsConfig hostNetwork hostPID hostIPC shareProcessNamespace
      hostname subdomain hostAliases securityContext nodeName priority priorityClassName affinity
      os serviceAccountName serviceAccount imagePullSecrets enableServiceLinks
      automountServiceAccountToken`,
    // Of taints a kubelet heeds only NoExecute ones of its node, and a node alone has no taints.
    dropped: 'schedulerName tolerations topologySpreadConstraints preemptionPolicy',
    scheduled: 'nodeSelector',
    later: `ephemeralContainers readinessGates runtimeClassName overhead
      setHostnameAsFQDN hostUsers schedulingGates resourceClaims resources hostnameOverride
      schedulingGroup`,
    harmless: { hostUsers: [true] },
  }),
  Affinity: table('Affinity', { carried: 'nodeAffinity', dropped: 'podAffinity podAntiAffinity' }),
  NodeAffinity: table('NodeAffinity', {
    carried: '',
    dropped: 'preferredDuringSchedulingIgnoredDuringExecution',
    scheduled: 'requiredDuringSchedulingIgnoredDuringExecution',
  }),
  PodOS: table('PodOS', { carried: 'name' }),
  PodDNSConfig: table('PodDNSConfig', { carried: 'nameservers searches options' }),
  PodDNSConfigOption: table('PodDNSConfigOption', { carried: 'name value' }),
  HostAlias: table('HostAlias', { carried: 'ip hostnames' }),
  // How ownership is changed only matters to volumes that outlive a pod, SELinux where there is any.
  PodSecurityContext: table('PodSecurityContext', {
    carried: 'runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup seccompProfile',
    dropped: 'fsGroupChangePolicy',
    later: `seLinuxOptions windowsOptions supplementalGroupsPolicy sysctls appArmorProfile
      seLinuxChangePolicy`,
    harmless: { supplementalGroupsPolicy: ['Merge'] },
  }),
  SeccompProfile: table('SeccompProfile', { carried: 'type', later: 'localhostProfile' }),
  Container: table('Container', {
    carried: `name image imagePullPolicy command args workingDir env envFrom ports resources
      volumeMounts terminationMessagePath terminationMessagePolicy securityContext stdin stdinOnce
      tty restartPolicy livenessProbe readinessProbe startupProbe lifecycle`,
    // What a resize would do; there is none.
    dropped: 'resizePolicy',
    later: 'restartPolicyRules volumeDevices',
  }),
  EnvVar: table('EnvVar', { carried: 'name value valueFrom' }),
  EnvVarSource: table('EnvVarSource', {
    carried: 'fieldRef resourceFieldRef configMapKeyRef secretKeyRef',
    later: 'fileKeyRef',
  }),
  EnvFromSource: table('EnvFromSource', { carried: 'prefix configMapRef secretRef' }),
  ObjectFieldSelector: table('ObjectFieldSelector', { carried: 'apiVersion fieldPath' }),
  ResourceFieldSelector: table('ResourceFieldSelector', {
    carried: 'containerName resource divisor',
  }),
  ConfigMapKeySelector: table('ConfigMapKeySelector', { carried: 'name key optional' }),
  SecretKeySelector: table('SecretKeySelector', { carried: 'name key optional' }),
  ConfigMapEnvSource: table('ConfigMapEnvSource', { carried: 'name optional' }),
  SecretEnvSource: table('SecretEnvSource', { carried: 'name optional' }),
  LocalObjectReference: table('LocalObjectReference', { carried: 'name' }),
  Probe: table('Probe', {
    carried: `exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds
      successThreshold failureThreshold terminationGracePeriodSeconds`,
  }),
  Lifecycle: table('Lifecycle', { carried: 'postStart preStop', later: 'stopSignal' }),
  LifecycleHandler: table('LifecycleHandler', { carried: 'exec httpGet tcpSocket sleep' }),
  ExecAction: table('ExecAction', { carried: 'command' }),
  HTTPGetAction: table('HTTPGetAction', { carried: 'path port host scheme httpHeaders' }),
  HTTPHeader: table('HTTPHeader', { carried: 'name value' }),
  TCPSocketAction: table('TCPSocketAction', { carried: 'port host' }),
  GRPCAction: table('GRPCAction', { carried: 'port service' }),
  SleepAction: table('SleepAction', { carried: 'seconds' }),
  ContainerPort: table('ContainerPort', {
    carried: 'name containerPort hostPort hostIP protocol',
  }),
  ResourceRequirements: table('ResourceRequirements', {
    carried: 'requests limits',
    later: 'claims',
  }),
  VolumeMount: table('VolumeMount', {
    carried: 'name mountPath readOnly mountPropagation',
    later: 'subPath subPathExpr recursiveReadOnly',
    harmless: { recursiveReadOnly: ['Disabled'] },
  }),
  SecurityContext: table('SecurityContext', {
    carried: `runAsUser runAsGroup runAsNonRoot privileged allowPrivilegeEscalation
      readOnlyRootFilesystem capabilities seccompProfile`,
    later: 'seLinuxOptions windowsOptions procMount appArmorProfile',
    harmless: { procMount: ['Default'] },
  }),
  Capabilities: table('Capabilities', { carried: 'add drop' }),
  // A volume source counts even when it is empty, so `parse-volume.ts` looks at `later` itself.
  Volume: table('Volume', {
    carried: 'name emptyDir hostPath configMap secret downwardAPI projected',
    later: `awsElasticBlockStore azureDisk azureFile cephfs cinder csi ephemeral fc flexVolume
      flocker gcePersistentDisk gitRepo glusterfs image iscsi nfs persistentVolumeClaim
      photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume`,
  }),
  EmptyDirVolumeSource: table('EmptyDirVolumeSource', { carried: 'medium sizeLimit' }),
  HostPathVolumeSource: table('HostPathVolumeSource', { carried: 'path type' }),
  ConfigMapVolumeSource: table('ConfigMapVolumeSource', {
    carried: 'name items defaultMode optional',
  }),
  SecretVolumeSource: table('SecretVolumeSource', {
    carried: 'secretName items defaultMode optional',
  }),
  KeyToPath: table('KeyToPath', { carried: 'key path mode' }),
  DownwardAPIVolumeSource: table('DownwardAPIVolumeSource', { carried: 'items defaultMode' }),
  DownwardAPIVolumeFile: table('DownwardAPIVolumeFile', {
    carried: 'path mode fieldRef resourceFieldRef',
  }),
  ProjectedVolumeSource: table('ProjectedVolumeSource', { carried: 'sources defaultMode' }),
  VolumeProjection: table('VolumeProjection', {
    carried: 'configMap secret downwardAPI serviceAccountToken',
    later: 'clusterTrustBundle podCertificate',
  }),
  ConfigMapProjection: table('ConfigMapProjection', { carried: 'name items optional' }),
  SecretProjection: table('SecretProjection', { carried: 'name items optional' }),
  DownwardAPIProjection: table('DownwardAPIProjection', { carried: 'items' }),
  ServiceAccountTokenProjection: table('ServiceAccountTokenProjection', {
    carried: 'audience expirationSeconds path',
  }),
} as const satisfies Record<string, FieldTable>;

/** What to do instead, where there is something better than to remove the field. */
export const INSTEAD: Readonly<Record<string, string>> = {
  fileKeyRef: 'write the text itself as "value"',
  nodeSelector: 'remove it: on a single node there is nothing to select',
  requiredDuringSchedulingIgnoredDuringExecution:
    'remove it: on a single node there is nothing to select',
  persistentVolumeClaim: 'use a hostPath volume',
  nfs: 'mount it on the node and use a hostPath volume',
  localhostProfile: 'use the type RuntimeDefault',
};
