import type { EventList } from '../server/api.ts';
import { ask, SOCKET_OPTION } from './client.ts';
import { defineCommand } from './command.ts';
import { eventTable } from './event-table.ts';
import { EXIT, usageError } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';
import { ALL_NAMESPACES_OPTION, NAMESPACE_OPTION } from './pod-lookup.ts';
import { namespaceName, podName } from './values.ts';

export const command = defineCommand({
  name: 'events',
  usage: '[POD] [--namespace NAMESPACE] [--output json|yaml]',
  summary: 'List what happened to pods, manifests and the node, oldest first.',
  options: {
    namespace: NAMESPACE_OPTION,
    'all-namespaces': ALL_NAMESPACES_OPTION,
    output: OUTPUT_OPTION,
    socket: SOCKET_OPTION,
  },
  examples: [
    ['sudo limpet events', 'all that is kept'],
    ['sudo limpet events web', 'of one pod, also after it is gone'],
  ],
  async run({ options, words }, io) {
    const format = outputFormat(options.output, ['json', 'yaml']);
    if (words.length > 1) throw usageError('give one name of a pod, or none for all events');
    const [given] = words;
    const query = {
      namespace: options.namespace === undefined ? undefined : namespaceName(options.namespace),
      name: given === undefined ? undefined : podName(given),
    };
    const question = { method: 'GET', path: '/v1/events', query } as const;
    const list = await ask<EventList>(options.socket, question, 'EventList', io);
    if (format !== 'table') await writeObject(io, format, list);
    else if (list.items.length === 0) await io.out('No events.\n');
    else await io.out(eventTable(list.items, io.clock.now().wallMs, { object: true }));
    return EXIT.ok;
  },
});
