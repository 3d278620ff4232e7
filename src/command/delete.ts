import type { DeleteReport, PodReport } from '../server/api.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand, type Io } from './command.ts';
import { CommandFailed, EXIT, usageError } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';
import { findPod, listPods, NAMESPACE_OPTION } from './pod-lookup.ts';
import { duration, namespaceName, podName, wholeNumber } from './values.ts';

const POLL_MS = 500;
const MAX_GRACE_SECONDS = 2 ** 31 - 1;

export const command = defineCommand({
  name: 'delete',
  usage: 'pod NAME… [--namespace NAMESPACE] [--grace-period SECONDS | --now] [--wait]',
  summary: 'Delete pods that were applied. When it returns the deletion is stored.',
  details: `
The containers get SIGTERM, and SIGKILL when the grace period is over. A pod of a manifest file goes
when its file goes, not by this command.`,
  options: {
    namespace: NAMESPACE_OPTION,
    'grace-period': {
      type: 'string',
      value: 'SECONDS',
      help: 'instead of terminationGracePeriodSeconds of the pod',
    },
    now: { type: 'boolean', help: 'the same as --grace-period 1' },
    wait: { type: 'boolean', help: 'return when the pods are gone' },
    timeout: {
      type: 'string',
      value: 'DURATION',
      default: '5m',
      help: 'how long --wait waits',
    },
    output: OUTPUT_OPTION,
    socket: SOCKET_OPTION,
  },
  examples: [
    ['sudo limpet delete pod web', 'with the grace period of the pod'],
    ['sudo limpet delete pod/web --now --wait', 'quickly, and wait until it is gone'],
  ],
  async run({ options, words }, io) {
    const format = outputFormat(options.output, ['json', 'yaml']);
    const names = podNames(words);
    const namespace =
      options.namespace === undefined ? undefined : namespaceName(options.namespace);
    if (options.now && options['grace-period'] !== undefined) {
      throw usageError('--now and --grace-period exclude each other');
    }
    const grace = options.now
      ? 1
      : options['grace-period'] === undefined
        ? undefined
        : wholeNumber('--grace-period', options['grace-period'], {
            min: 0,
            max: MAX_GRACE_SECONDS,
          });
    const timeoutMs = duration('--timeout', options.timeout);
    const items = await listPods(options.socket, undefined, io);
    // All names are looked up before the first pod is deleted: a typing error deletes nothing.
    const wanted = names.map((name) => findPod(items, name, namespace));
    const deleted: DeleteReport[] = [];
    for (const pod of wanted) {
      const report = await deletePod(options.socket, pod, grace, io);
      deleted.push(report);
      if (format === 'table') await io.out(`pod "${report.name}" deleted\n`);
    }
    if (options.wait) await waitUntilGone(options.socket, deleted, timeoutMs, io);
    if (format !== 'table') {
      await writeObject(io, format, { kind: 'DeleteReportList', items: deleted });
    }
    return EXIT.ok;
  },
});

/** `pod web db`, `pod/web pod/db`; a bare name would make `delete pods` delete a pod `pods`. */
function podNames(words: readonly string[]): readonly string[] {
  const [first, ...rest] = words;
  if (first === undefined) throw usageError('what? limpet delete pod NAME');
  if (first.includes('/')) return words.map(podName);
  if (first !== 'pod' && first !== 'pods' && first !== 'po') {
    throw usageError(`limpet deletes pods only`, `did you mean: limpet delete pod ${first}`);
  }
  if (rest.length === 0) throw usageError('which pod? limpet delete pod NAME');
  return rest.map(podName);
}

async function deletePod(
  socket: string,
  { pod }: PodReport,
  grace: number | undefined,
  io: Io,
): Promise<DeleteReport> {
  const { namespace, name } = pod.metadata;
  const path = `/v1/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
  const query = { gracePeriodSeconds: grace === undefined ? undefined : String(grace) };
  return await ask<DeleteReport>(socket, { method: 'DELETE', path, query }, 'DeleteReport', io);
}

async function waitUntilGone(
  socket: string,
  deleted: readonly DeleteReport[],
  timeoutMs: number,
  io: Io,
): Promise<void> {
  const begin = io.clock.now().monoMs;
  for (;;) {
    const items = await listPods(socket, undefined, io);
    const left = deleted.filter(({ uid }) => items.some(({ pod }) => pod.metadata.uid === uid));
    if (left.length === 0) return;
    if (io.clock.now().monoMs - begin > timeoutMs) {
      const names = left.map(({ name }) => name).join(', ');
      throw new CommandFailed(EXIT.failed, `still there: ${names}`, [
        'the deletion is stored and goes on; see: limpet pods NAME',
      ]);
    }
    await io.clock.sleep(POLL_MS, io.signal);
  }
}
