/**
 * What the runtime is told of a container.
 * Source: pkg/kubelet/kuberuntime/kuberuntime_container.go, labels.go.
 */
import { containerHash, HASH_ANNOTATION } from '../kube/container-hash.ts';
import type { ContainerConfig, Labels } from '../kube/cri.ts';
import type { Container, ContainerPort, Pod } from '../kube/pod.ts';
import { commandAndArgs, type Variable } from './environment.ts';
import { containerMounts, type MountFacts, type Result } from './mounts.ts';
import {
  CONTAINER_NAME_LABEL,
  POD_NAMESPACE_LABEL,
  POD_NAME_LABEL,
  POD_UID_LABEL,
  containerLogPath,
} from './names.ts';
import { PRE_STOP_ANNOTATION, preStopAnnotation } from './pre-stop-annotation.ts';
import { containerResources, type ResourceFacts } from './resources.ts';
import { containerSecurity, type ImageUser } from './security.ts';

export const RESTART_COUNT_ANNOTATION = 'io.kubernetes.container.restartCount';
export const TERMINATION_MESSAGE_PATH_ANNOTATION = 'io.kubernetes.container.terminationMessagePath';
export const TERMINATION_MESSAGE_POLICY_ANNOTATION =
  'io.kubernetes.container.terminationMessagePolicy';
export const PORTS_ANNOTATION = 'io.kubernetes.container.ports';
export const TERMINATION_GRACE_ANNOTATION = 'io.kubernetes.pod.terminationGracePeriod';
export const DELETION_GRACE_ANNOTATION = 'io.kubernetes.pod.deletionGracePeriod';

export type ContainerFacts = MountFacts &
  ResourceFacts & {
    readonly pod: Pod;
    readonly container: Container;
    /** Also the restart count. */
    readonly attempt: number;
    /** What the runtime calls the image. */
    readonly imageRef: string;
    readonly imageUser: ImageUser;
    readonly environment: readonly Variable[];
    readonly deletionGraceSeconds?: number;
    /** Paths to mask beside the usual ones, e.g. each CPU's `thermal_throttle`. */
    readonly maskedPaths?: readonly string[];
  };

/** The configuration of a container; a fault if the pod asks for what it cannot have. */
export function containerConfig(facts: ContainerFacts): Result<ContainerConfig> {
  const { pod, container, attempt } = facts;
  const mounts = containerMounts(pod, container, facts);
  if (!mounts.ok) return mounts;
  const security = containerSecurity(pod, container, facts.imageUser, facts.maskedPaths);
  if (!security.ok) return security;
  const envs = facts.environment;
  return {
    ok: true,
    value: {
      metadata: { name: container.name, attempt },
      image: { image: facts.imageRef, userSpecifiedImage: container.image },
      ...commandAndArgs(container, envs),
      workingDir: container.workingDir ?? '',
      envs,
      mounts: mounts.value,
      labels: {
        [POD_NAME_LABEL]: pod.metadata.name,
        [POD_NAMESPACE_LABEL]: pod.metadata.namespace,
        [POD_UID_LABEL]: pod.metadata.uid,
        [CONTAINER_NAME_LABEL]: container.name,
      },
      annotations: annotations(facts),
      logPath: containerLogPath(container.name, attempt),
      stdin: container.stdin,
      stdinOnce: container.stdinOnce,
      tty: container.tty,
      linux: {
        resources: containerResources(pod, container, facts),
        securityContext: security.value,
      },
    },
  };
}

/** All that a restarted agent has of a container whose pod it no longer knows. */
function annotations({ pod, container, attempt, deletionGraceSeconds }: ContainerFacts): Labels {
  return {
    [HASH_ANNOTATION]: containerHash(container),
    [RESTART_COUNT_ANNOTATION]: String(attempt),
    [TERMINATION_MESSAGE_PATH_ANNOTATION]: container.terminationMessagePath,
    [TERMINATION_MESSAGE_POLICY_ANNOTATION]: container.terminationMessagePolicy,
    [TERMINATION_GRACE_ANNOTATION]: String(pod.spec.terminationGracePeriodSeconds),
    ...(deletionGraceSeconds === undefined
      ? {}
      : { [DELETION_GRACE_ANNOTATION]: String(deletionGraceSeconds) }),
    ...(container.lifecycle?.preStop === undefined
      ? {}
      : { [PRE_STOP_ANNOTATION]: preStopAnnotation(container.lifecycle.preStop) }),
    ...(container.ports.length === 0
      ? {}
      : { [PORTS_ANNOTATION]: JSON.stringify(container.ports.map(portAsJson)) }),
  };
}

/** Fields in the order in which Go writes them, empty ones left out. */
function portAsJson({ name, hostPort, containerPort, protocol, hostIP }: ContainerPort) {
  return {
    name: name === '' ? undefined : name,
    hostPort: hostPort === 0 ? undefined : hostPort,
    containerPort,
    protocol,
    hostIP: hostIP === '' ? undefined : hostIP,
  };
}
