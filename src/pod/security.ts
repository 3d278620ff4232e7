/**
 * Who a container runs as and what it may do. Source: pkg/securitycontext,
 * pkg/kubelet/kuberuntime (security_context.go, security_context_others.go).
 *
 * One deviation from the kubelet's default: a container for which nothing is said runs under the
 * runtime's default seccomp profile (the kubelet's `seccompDefault: true`), and not unconfined.
 */
import type {
  LinuxContainerSecurityContext,
  NamespaceOption,
  PodSandboxConfig,
  SecurityProfile,
} from '../kube/cri.ts';
import type { Container, Pod } from '../kube/pod.ts';
import { configError, type Result } from './mounts.ts';
import { describePod } from './names.ts';

/** The user that an image asks for: a number, a name, or neither (then it is root). */
export type ImageUser = { readonly uid?: number; readonly username: string };

/** Runtimes keep ids in 32 bits with a sign: what is above may come out as root. */
export const MAX_ID = 2 ** 31 - 1;

export const MASKED_PATHS: readonly string[] = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];

export const READONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

/** The namespaces that a pod shares with the node, and its containers with one another. */
export function namespaceOptions({ spec }: Pod): NamespaceOption {
  const pid = spec.hostPID ? 'NODE' : spec.shareProcessNamespace ? 'POD' : 'CONTAINER';
  return {
    network: spec.hostNetwork ? 'NODE' : 'POD',
    pid,
    ipc: spec.hostIPC ? 'NODE' : 'POD',
  };
}

/** The sandbox always runs under the default profile, whatever its containers ask for. */
export function sandboxSecurity(pod: Pod): PodSandboxConfig['linux']['securityContext'] {
  const { runAsUser, runAsGroup } = pod.spec.securityContext;
  const containers = [...pod.spec.initContainers, ...pod.spec.containers];
  return {
    namespaceOptions: namespaceOptions(pod),
    ...(runAsUser === undefined ? {} : { runAsUser }),
    ...(runAsGroup === undefined ? {} : { runAsGroup }),
    readonlyRootfs: false,
    supplementalGroups: supplementalGroups(pod),
    privileged: containers.some(({ securityContext }) => securityContext.privileged === true),
    seccomp: { profileType: 'RuntimeDefault' },
  };
}

/**
 * What a container may do; a fault if its user is not allowed or cannot be told.
 * `moreMaskedPaths` are those that depend on the machine.
 */
export function containerSecurity(
  pod: Pod,
  container: Container,
  image: ImageUser,
  moreMaskedPaths: readonly string[] = [],
): Result<LinuxContainerSecurityContext> {
  const refused = refusedUser(pod, container, image);
  if (refused !== undefined) return configError(refused);
  const own = container.securityContext;
  const runAsUser = own.runAsUser ?? pod.spec.securityContext.runAsUser;
  const runAsGroup = own.runAsGroup ?? pod.spec.securityContext.runAsGroup;
  const privileged = own.privileged ?? false;
  return {
    ok: true,
    value: {
      capabilities: { add: own.capabilities?.add ?? [], drop: own.capabilities?.drop ?? [] },
      privileged,
      namespaceOptions: namespaceOptions(pod),
      ...user(runAsUser, image),
      ...(runAsGroup === undefined ? {} : { runAsGroup }),
      readonlyRootfs: own.readOnlyRootFilesystem ?? false,
      supplementalGroups: supplementalGroups(pod),
      noNewPrivs: own.allowPrivilegeEscalation === false,
      maskedPaths: privileged ? [] : [...MASKED_PATHS, ...moreMaskedPaths],
      readonlyPaths: privileged ? [] : READONLY_PATHS,
      seccomp: seccompProfile(pod, container),
    },
  };
}

/** The image's user is named even where the runtime would find it: every start gets the same. */
function user(
  runAsUser: number | undefined,
  image: ImageUser,
): Pick<LinuxContainerSecurityContext, 'runAsUser' | 'runAsUsername'> {
  if (runAsUser !== undefined) return { runAsUser };
  if (image.uid !== undefined) return { runAsUser: image.uid };
  return image.username === '' ? { runAsUser: 0 } : { runAsUsername: image.username };
}

function supplementalGroups(pod: Pod): readonly number[] {
  const { fsGroup, supplementalGroups: groups = [] } = pod.spec.securityContext;
  return fsGroup === undefined ? groups : [fsGroup, ...groups];
}

function seccompProfile(pod: Pod, { securityContext }: Container): SecurityProfile {
  const asked = securityContext.seccompProfile ?? pod.spec.securityContext.seccompProfile;
  if (asked !== undefined) return { profileType: asked.type };
  return { profileType: securityContext.privileged === true ? 'Unconfined' : 'RuntimeDefault' };
}

/** Why the container must not run as the user that it would run as, in the kubelet's words. */
function refusedUser(pod: Pod, container: Container, image: ImageUser): string | undefined {
  const where = `(pod: ${JSON.stringify(describePod(pod))}, container: ${container.name})`;
  const outOfRange = idOutOfRange(pod, container);
  if (outOfRange !== undefined) return `${outOfRange} ${where}`;
  const nonRoot =
    container.securityContext.runAsNonRoot ?? pod.spec.securityContext.runAsNonRoot ?? false;
  const runAsUser = container.securityContext.runAsUser ?? pod.spec.securityContext.runAsUser;
  if (runAsUser !== undefined) {
    if (!nonRoot || runAsUser !== 0) return undefined;
    return `container's runAsUser breaks non-root policy ${where}`;
  }
  const { uid, username } = image;
  if (uid !== undefined) {
    if (nonRoot && uid === 0) {
      return `container has runAsNonRoot and image will run as root ${where}`;
    }
    if (isId(uid)) return undefined;
    const policy = nonRoot ? 'container has runAsNonRoot and image' : 'image';
    return (
      `${policy} has an invalid user id (${uid}). (Must be 1-(${MAX_ID})): ` +
      `must be between 0 and ${MAX_ID}, inclusive ${where}`
    );
  }
  // A number that does not fit is handed on as a name, and some runtimes make root of it.
  if (/^[+-]?\d+(:|$)/.test(username)) {
    return (
      `image has an invalid user id (${username.slice(0, 64)}), ` +
      `must be between 0 and ${MAX_ID}, inclusive ${where}`
    );
  }
  if (!nonRoot) return undefined;
  if (username !== '') {
    return (
      `container has runAsNonRoot and image has non-numeric user (${username.slice(0, 64)}), ` +
      `cannot verify user is non-root ${where}`
    );
  }
  // Neither number nor name: the image says nothing, and that is root.
  return `container has runAsNonRoot and image will run as root ${where}`;
}

function idOutOfRange(pod: Pod, container: Container): string | undefined {
  const spec = pod.spec.securityContext;
  const ids: readonly (readonly [string, number | undefined])[] = [
    ['runAsUser', container.securityContext.runAsUser ?? spec.runAsUser],
    ['runAsGroup', container.securityContext.runAsGroup ?? spec.runAsGroup],
    ['fsGroup', spec.fsGroup],
    ...(spec.supplementalGroups ?? []).map((id) => ['supplementalGroups', id] as const),
  ];
  const bad = ids.find(([, id]) => id !== undefined && !isId(id));
  if (bad === undefined) return undefined;
  return `securityContext.${bad[0]} ${bad[1]} is invalid: must be between 0 and ${MAX_ID}, inclusive`;
}

function isId(id: number): boolean {
  return Number.isInteger(id) && id >= 0 && id <= MAX_ID;
}
