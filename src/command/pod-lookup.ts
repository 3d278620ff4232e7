/** Finds the pod that a person means. */
import type { PodList, PodReport } from '../server/api.ts';
import { nearest } from './arguments.ts';
import { ask } from './client.ts';
import type { Io, OptionSpec } from './command.ts';
import { CommandFailed, EXIT, usageError } from './exit.ts';

export const NAMESPACE_OPTION = {
  type: 'string',
  short: 'n',
  value: 'NAMESPACE',
  help: 'only this namespace; all of them unless told',
} as const satisfies OptionSpec;

/** kubectl users type it; it is what limpet does anyhow. */
export const ALL_NAMESPACES_OPTION = {
  type: 'boolean',
  short: 'A',
  help: 'all namespaces, which is the default',
} as const satisfies OptionSpec;

/** All pods of the agent, of one namespace if it is given, in a stable order. */
export async function listPods(
  socket: string,
  namespace: string | undefined,
  io: Io,
): Promise<readonly PodReport[]> {
  const list = await ask<PodList>(socket, { method: 'GET', path: '/v1/pods' }, 'PodList', io);
  return inOrder(list.items, namespace);
}

export function inOrder(items: readonly PodReport[], namespace?: string): readonly PodReport[] {
  return items
    .filter(({ pod }) => namespace === undefined || pod.metadata.namespace === namespace)
    .toSorted((a, b) => compare(label(a), label(b)));
}

/**
 * The pod of this name. Throws CommandFailed: `notFound` with the nearest name, or a usage error
 * when several namespaces have one.
 */
export function findPod(
  items: readonly PodReport[],
  name: string,
  namespace: string | undefined,
): PodReport {
  const found = items.filter(
    ({ pod }) =>
      pod.metadata.name === name &&
      (namespace === undefined || pod.metadata.namespace === namespace),
  );
  // A pod that is being deleted and its successor may share a name: the successor is meant.
  const alive = found.filter((report) => !report.deleting);
  const [pod, another] = alive.length > 0 ? alive : found;
  if (pod === undefined) throw noSuchPod(items, name, namespace);
  if (another !== undefined && another.pod.metadata.namespace !== pod.pod.metadata.namespace) {
    const namespaces = found.map((report) => report.pod.metadata.namespace);
    throw usageError(
      `there is a pod "${name}" in several namespaces: ${namespaces.join(', ')}`,
      'say which with --namespace',
    );
  }
  return pod;
}

function noSuchPod(
  items: readonly PodReport[],
  name: string,
  namespace: string | undefined,
): CommandFailed {
  const where = namespace === undefined ? '' : ` in namespace "${namespace}"`;
  const names = items.map(({ pod }) => pod.metadata.name);
  const near = names.find((candidate) => candidate.startsWith(`${name}-`)) ?? nearest(name, names);
  return new CommandFailed(EXIT.notFound, `there is no pod "${name}"${where}`, [
    near === undefined ? 'see: limpet pods' : `did you mean "${near}"?`,
  ]);
}

function label({ pod }: PodReport): string {
  return `${pod.metadata.namespace}\0${pod.metadata.name}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
