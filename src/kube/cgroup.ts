/**
 * The names of cgroups, as the kubelet gives them: other tools look for exactly these.
 * Source: k8s.io/kubernetes 1.36 pkg/kubelet/cm.
 */
import type { CgroupDriver } from './cri.ts';
import type { QOSClass } from './pod.ts';

/** The cgroup of all pods. */
const NODE = 'kubepods';

/** The components of a cgroup's name, outermost first, before a driver spells them. */
export type CgroupName = readonly string[];

/** The cgroup that holds the pods of a class; Guaranteed pods are directly in the node's. */
export function qosCgroupName(qos: QOSClass | undefined): CgroupName {
  return qos === undefined || qos === 'Guaranteed' ? [NODE] : [NODE, qos.toLowerCase()];
}

export function podCgroupName(qos: QOSClass, uid: string): CgroupName {
  return [...qosCgroupName(qos), `pod${uid}`];
}

/**
 * The path of a cgroup below the root of the cgroup file system. systemd puts a slice into the one
 * that its name begins with, up to a dash, so a dash inside a component turns into `_`.
 */
export function cgroupPath(driver: CgroupDriver, name: CgroupName): string {
  if (driver === 'cgroupfs') return `/${name.join('/')}`;
  return name.map((_, index) => `/${sliceName(name.slice(0, index + 1))}`).join('');
}

/** systemd's unit of a cgroup: `kubepods-burstable-pod1234_abcd.slice`. */
export function sliceName(name: CgroupName): string {
  return `${name.map((component) => component.replaceAll('-', '_')).join('-')}.slice`;
}

/** What the CRI's `cgroup_parent` is for a pod; containerd takes the last part as the slice. */
export function podCgroupParent(driver: CgroupDriver, qos: QOSClass, uid: string): string {
  return cgroupPath(driver, podCgroupName(qos, uid));
}

/** What runtimes call the cgroup of a container below that of its pod: containerd's name first. */
export function containerCgroupNames(driver: CgroupDriver, id: string): readonly string[] {
  return driver === 'systemd'
    ? [`cri-containerd-${id}.scope`, `crio-${id}.scope`]
    : [id, `crio-${id}`];
}
