/**
 * The Node object beside its status: what it is registered with, what of it belongs to the node
 * afterwards, and whose it is.
 * Source: k8s.io/kubernetes pkg/kubelet/kubelet_node_status.go, v1.36.
 */
import type { V1Node } from '@kubernetes/client-node/dist/gen/models/all.js';

import type { Wire } from '../kube/wire.ts';
import type { MachineFacts, NodeStatus } from './status.ts';
import { isReady } from './status.ts';

export type NodeObject = Wire<V1Node>;

export type Taint = {
  readonly key: string;
  readonly value?: string;
  readonly effect: string;
};

export type Registration = {
  readonly nodeName: string;
  /** Of the option `--node-labels`: only a new object gets them. */
  readonly labels: Readonly<Record<string, string>>;
  /** Of `--register-with-taints`: only a new object gets them. */
  readonly taints: readonly Taint[];
};

/** The labels that a node always has. */
export function defaultLabels(
  nodeName: string,
  architecture: string,
): Readonly<Record<string, string>> {
  return {
    'beta.kubernetes.io/arch': architecture,
    'beta.kubernetes.io/os': 'linux',
    'kubernetes.io/arch': architecture,
    'kubernetes.io/hostname': nodeName,
    'kubernetes.io/os': 'linux',
  };
}

/** The object to be created. */
export function newNode(
  registration: Registration,
  architecture: string,
  status: NodeStatus,
): NodeObject {
  const { nodeName, taints } = registration;
  const labels = { ...registration.labels, ...defaultLabels(nodeName, architecture) };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: nodeName, labels },
    ...(taints.length > 0 && { spec: { taints } }),
    status,
  };
}

/** The labels that the stored object lacks; undefined when there are none. */
export function missingLabels(
  wanted: Readonly<Record<string, string>>,
  stored: NodeObject,
): Readonly<Record<string, string>> | undefined {
  const has = stored.metadata?.labels ?? {};
  const missing = Object.entries(wanted).filter(([key, value]) => has[key] !== value);
  return missing.length === 0 ? undefined : Object.fromEntries(missing);
}

export type Owner =
  | { readonly whose: 'ours' }
  /** Of a machine that has gone silent: this one stands in for it. */
  | { readonly whose: 'forsaken'; readonly message: string }
  /** Of a machine that is alive. */
  | { readonly whose: 'others'; readonly message: string };

/**
 * Whose an object is that has our name already. Two machines under one name would each end the
 * pods of the other.
 *
 * @param knownUid Of the object that this machine registered last, if it is known.
 */
export function ownerOf(
  stored: NodeObject,
  machine: Pick<MachineFacts, 'machineId' | 'systemUuid'>,
  knownUid: string | undefined,
): Owner {
  const info = stored.status?.nodeInfo;
  const name = stored.metadata?.name ?? '';
  const isUnused = info === undefined || (info.machineID === '' && info.systemUUID === '');
  const isSame = info?.machineID === machine.machineId || info?.systemUUID === machine.systemUuid;
  if (isUnused || isSame || stored.metadata?.uid === knownUid) return { whose: 'ours' };
  const other =
    `the Node ${name} is of another machine (machine id ${info.machineID}; ` +
    `ours is ${machine.machineId})`;
  if (isReady(stored.status)) {
    const remedy =
      `give this one another name with --hostname-override, or end the other and ` +
      `kubectl delete node ${name}`;
    return { whose: 'others', message: `${other}, which is alive: ${remedy}` };
  }
  return { whose: 'forsaken', message: `${other}, which is not ready: this one takes its place` };
}
