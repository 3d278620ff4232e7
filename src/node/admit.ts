/**
 * Whether a pod can run on this node beside those that are already here. Earlier pods are never
 * displaced by later ones. Words are the kubelet's; what it only rejects for a moment, because
 * another pod is about to go, waits here.
 * Source: k8s.io/kubernetes pkg/kubelet/lifecycle/predicate.go and the scheduler's plugins
 * NodeResourcesFit, NodeName and NodePorts, v1.36.
 */
import type { ContainerPort, Pod } from '../kube/pod.ts';
import { podResources } from '../kube/qos.ts';
import type { Allocatable } from '../pod/resources.ts';

export type Neighbour = {
  readonly pod: Pod;
  /** Order of acceptance on this node. */
  readonly order: number;
  /** It has ended and holds nothing any more. */
  readonly terminal: boolean;
  readonly deleting: boolean;
};

export type NodeCapacity = {
  readonly name: string;
  readonly allocatable: Allocatable;
  readonly maxPods: number;
};

export type Admission =
  | { readonly ok: true }
  /** It can't run here; the pod fails. */
  | { readonly ok: false; readonly reason: string; readonly message: string }
  /** It has to wait for another pod to go. */
  | { readonly wait: string; readonly message: string };

/** Decides on `pod`, which comes after all of `others` that count against it. */
export function admit(pod: Pod, others: readonly Neighbour[], node: NodeCapacity): Admission {
  const here = others.filter((other) => other.pod.metadata.uid !== pod.metadata.uid);
  const twin = here.find((other) => fullName(other.pod) === fullName(pod));
  if (twin !== undefined) {
    const { uid } = twin.pod.metadata;
    return {
      wait: 'NameInUse',
      message: `waits until the earlier pod ${fullName(pod)} (uid ${uid}) is gone`,
    };
  }
  const live = here.filter((other) => !other.terminal);
  const shortage = findShortage(pod, live, node);
  if (shortage !== undefined) {
    const staying = live.filter((other) => !other.deleting);
    if (staying.length === live.length || findShortage(pod, staying, node) !== undefined) {
      return { ok: false, ...shortage };
    }
    return {
      wait: shortage.reason,
      message: `waits for a pod that is ending: ${shortage.message}`,
    };
  }
  if (pod.spec.nodeName !== undefined && pod.spec.nodeName !== node.name) {
    const message =
      "Predicate NodeName failed: node(s) didn't match the requested node name: " +
      `the pod asks for ${pod.spec.nodeName}, this node is ${node.name}`;
    return { ok: false, reason: 'NodeName', message };
  }
  return admitPorts(pod, live);
}

function fullName({ metadata }: Pod): string {
  return `${metadata.namespace}/${metadata.name}`;
}

type Shortage = { readonly reason: string; readonly message: string };

function findShortage(
  pod: Pod,
  others: readonly Neighbour[],
  node: NodeCapacity,
): Shortage | undefined {
  if (others.length + 1 > node.maxPods) return shortage('pods', 1, others.length, node.maxPods);
  const { requests } = podResources(pod);
  if (requests.cpuMilli === 0 && requests.memoryBytes === 0) return undefined;
  const used = { cpuMilli: 0, memoryBytes: 0 };
  for (const other of others) {
    const taken = podResources(other.pod).requests;
    used.cpuMilli += taken.cpuMilli;
    used.memoryBytes += taken.memoryBytes;
  }
  const { cpuMilli, memoryBytes } = node.allocatable;
  if (requests.cpuMilli > 0 && requests.cpuMilli > cpuMilli - used.cpuMilli) {
    return shortage('cpu', requests.cpuMilli, used.cpuMilli, cpuMilli);
  }
  if (requests.memoryBytes > 0 && requests.memoryBytes > memoryBytes - used.memoryBytes) {
    return shortage('memory', requests.memoryBytes, used.memoryBytes, memoryBytes);
  }
  return undefined;
}

function shortage(resource: string, requested: number, used: number, capacity: number): Shortage {
  return {
    reason: `OutOf${resource}`,
    message:
      `Node didn't have enough resource: ${resource}, requested: ${requested}, ` +
      `used: ${used}, capacity: ${capacity}`,
  };
}

function admitPorts(pod: Pod, others: readonly Neighbour[]): Admission {
  let wait: Admission | undefined;
  for (const port of hostPorts(pod)) {
    for (const other of others) {
      if (!hostPorts(other.pod).some((taken) => collide(port, taken))) continue;
      const what = `port ${port.hostPort}/${port.protocol} of the host`;
      const who = `pod ${fullName(other.pod)}`;
      if (other.deleting) {
        wait ??= { wait: 'NodePorts', message: `waits for ${what}, which the ending ${who} has` };
        continue;
      }
      const message =
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports: " +
        `${what} is taken by ${who}`;
      return { ok: false, reason: 'NodePorts', message };
    }
  }
  return wait ?? { ok: true };
}

/** Ports of the host that a pod holds while it runs; its plain init containers hold none. */
function hostPorts({ spec }: Pod): readonly ContainerPort[] {
  const sidecars = spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...spec.containers, ...sidecars].flatMap(({ ports }) =>
    ports.filter(({ hostPort }) => hostPort !== undefined),
  );
}

function collide(a: ContainerPort, b: ContainerPort): boolean {
  if (a.hostPort !== b.hostPort || a.protocol !== b.protocol) return false;
  const [one, other] = [a.hostIP ?? ANY_IP, b.hostIP ?? ANY_IP];
  return one === other || isAny(one) || isAny(other);
}

const ANY_IP = '0.0.0.0';

function isAny(ip: string): boolean {
  return ip === ANY_IP || ip === '::';
}
