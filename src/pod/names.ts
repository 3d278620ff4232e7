/**
 * What things of a pod are called on the node: paths, labels, host names. The same as the
 * kubelet's, because log collectors, backups and people look for them.
 * Source: pkg/kubelet (kubelet_getters.go, kuberuntime/helpers.go, kuberuntime/legacy.go).
 */
import { Failure } from '../base/failure.ts';
import type { Pod } from '../kube/pod.ts';

export const POD_NAME_LABEL = 'io.kubernetes.pod.name';
export const POD_NAMESPACE_LABEL = 'io.kubernetes.pod.namespace';
export const POD_UID_LABEL = 'io.kubernetes.pod.uid';
export const CONTAINER_NAME_LABEL = 'io.kubernetes.container.name';

/** The kernel's host name holds 64 bytes with its closing zero. */
const MAX_HOSTNAME_LENGTH = 63;
const MAX_FILE_NAME_LENGTH = 255;
const LOG_SUFFIX = '.log';

type Meta = Pick<Pod, 'metadata'>;

/** `name_namespace(uid)`: how the kubelet names a pod in messages. */
export function describePod({ metadata }: Meta): string {
  return `${metadata.name}_${metadata.namespace}(${metadata.uid})`;
}

/**
 * `value` if it can be one segment of a path, whatever it came from.
 * @throws Failure InvalidArgument if it is empty, `.`, `..`, too long, or has a slash or a NUL.
 */
export function pathSegment(value: string, what: string): string {
  const bad =
    value === '' ||
    value === '.' ||
    value === '..' ||
    value.length > MAX_FILE_NAME_LENGTH ||
    /[/\0]/.test(value);
  if (bad) {
    throw new Failure(
      'InvalidArgument',
      `${what} ${JSON.stringify(value.slice(0, 80))} cannot be part of a path: ` +
        'use 1 to 255 characters without "/"',
    );
  }
  return value;
}

/** `<root>/pods/<uid>`. */
export function podDirectory(rootDirectory: string, podUid: string): string {
  return `${rootDirectory}/pods/${pathSegment(podUid, 'metadata.uid')}`;
}

/** `<root>/pods/<uid>/volumes/<plugin>/<name>`, `plugin` as `kubernetes.io~empty-dir`. */
export function volumeDirectory(
  rootDirectory: string,
  podUid: string,
  plugin: string,
  name: string,
): string {
  const volume = pathSegment(name, 'the volume name');
  return `${podDirectory(rootDirectory, podUid)}/volumes/${plugin}/${volume}`;
}

/** `<root>/pods/<uid>/etc-hosts`. */
export function etcHostsPath(rootDirectory: string, podUid: string): string {
  return `${podDirectory(rootDirectory, podUid)}/etc-hosts`;
}

/**
 * The file that a container writes its last words to: `<root>/pods/<uid>/containers/<name>/<8 hex>`.
 * The kubelet takes 8 random digits. Here they are the attempt, so that the file is found again by
 * an agent that remembers nothing.
 */
export function terminationLogPath(
  rootDirectory: string,
  podUid: string,
  container: string,
  attempt: number,
): string {
  const directory = podDirectory(rootDirectory, podUid);
  const file = attempt.toString(16).padStart(8, '0');
  return `${directory}/containers/${pathSegment(container, 'the container name')}/${file}`;
}

/** `<namespace>_<name>_<uid>`, the folder of a pod's logs in `/var/log/pods`. */
export function podLogFolder({ metadata }: Meta): string {
  return pathSegment(`${metadata.namespace}_${metadata.name}_${metadata.uid}`, 'the log folder');
}

/** `/var/log/pods/<namespace>_<name>_<uid>`: the sandbox's log directory. */
export function podLogDirectory(logRoot: string, pod: Meta): string {
  return `${logRoot}/${podLogFolder(pod)}`;
}

/** `<container>/<attempt>.log`, relative to the pod's log directory. */
export function containerLogPath(name: string, attempt: number): string {
  return `${pathSegment(name, 'the container name')}/${attempt}${LOG_SUFFIX}`;
}

/** File name of the link in `/var/log/containers`, cut so that a file system takes it. */
export function containerLogLinkName(pod: Meta, container: string, containerId: string): string {
  const { name, namespace } = pod.metadata;
  const full = pathSegment(
    `${name}_${namespace}_${container}-${containerId}`.slice(
      0,
      MAX_FILE_NAME_LENGTH - LOG_SUFFIX.length,
    ),
    'the log link',
  );
  return `${full}${LOG_SUFFIX}`;
}

/** The host name inside the pod: `spec.hostname` or the pod's name, cut to 63 characters. */
export function podHostname(pod: Pod): string {
  const wanted =
    pod.spec.hostname === undefined || pod.spec.hostname === ''
      ? pod.metadata.name
      : pod.spec.hostname;
  if (wanted.length <= MAX_HOSTNAME_LENGTH) return wanted;
  return wanted.slice(0, MAX_HOSTNAME_LENGTH).replace(/[-.]+$/, '');
}

/** `<subdomain>.<namespace>.svc.<cluster domain>`, or empty without `spec.subdomain`. */
export function podDomain(pod: Pod, clusterDomain: string): string {
  const { subdomain } = pod.spec;
  if (subdomain === undefined || subdomain === '') return '';
  return `${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}`;
}
