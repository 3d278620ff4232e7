import type { EventList, PodReport } from '../server/api.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand } from './command.ts';
import { eventTable } from './event-table.ts';
import { EXIT, usageError } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';
import { describePod } from './pod-detail.ts';
import { ALL_NAMESPACES_OPTION, findPod, listPods, NAMESPACE_OPTION } from './pod-lookup.ts';
import { podTable } from './pod-table.ts';
import { namespaceName, podName } from './values.ts';

export const command = defineCommand({
  name: 'pods',
  usage: '[NAME] [--namespace NAMESPACE] [--output wide|json|yaml]',
  summary: 'List the pods of this node, or tell everything about one.',
  details: `
With a name it shows each container with its state, the reason and the message, the state before,
and the events of the pod. A pod of a manifest file bears the node's name behind its own.`,
  options: {
    namespace: NAMESPACE_OPTION,
    'all-namespaces': ALL_NAMESPACES_OPTION,
    output: { ...OUTPUT_OPTION, help: 'wide, json or yaml' },
    socket: SOCKET_OPTION,
  },
  examples: [
    ['sudo limpet pods', 'all pods'],
    ['sudo limpet pods web', 'why does it not run?'],
    ['sudo limpet pods web -o json', 'the whole status, for machines'],
  ],
  async run({ options, words }, io) {
    const format = outputFormat(options.output, ['wide', 'json', 'yaml']);
    const namespace =
      options.namespace === undefined ? undefined : namespaceName(options.namespace);
    if (words.length > 1) throw usageError('give one name, or none for all pods');
    const name = words[0] === undefined ? undefined : podName(words[0]);
    const items = await listPods(options.socket, namespace, io);
    const nowMs = io.clock.now().wallMs;
    if (name === undefined) {
      const machine = format === 'json' || format === 'yaml';
      if (machine) await writeObject(io, format, { kind: 'PodList', items });
      else await io.out(podTable(items, nowMs, format === 'wide'));
      return EXIT.ok;
    }
    const report = findPod(items, name, namespace);
    if (format === 'json' || format === 'yaml') await writeObject(io, format, report);
    else if (format === 'wide') await io.out(podTable([report], nowMs, true));
    else await io.out(describePod(report, nowMs) + (await eventsOf(report, options.socket, io)));
    return EXIT.ok;
  },
});

async function eventsOf(
  { pod }: PodReport,
  socket: string,
  io: Parameters<typeof ask>[3],
): Promise<string> {
  const { namespace, name, uid } = pod.metadata;
  const question = { method: 'GET', path: '/v1/events', query: { namespace, name } } as const;
  const { items } = await ask<EventList>(socket, question, 'EventList', io);
  const own = items.filter(({ object }) => object.uid === undefined || object.uid === uid);
  if (own.length === 0) return '\nEvents: none\n';
  return `\nEvents:\n${eventTable(own, io.clock.now().wallMs, { object: false })}`;
}
