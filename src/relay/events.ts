/** Events of pods: as they wait in the outbox, and as they go within a delta. */
import type { NewEvent } from '../kube/event.ts';
import type { OutboxRow } from '../store/outbox.ts';
import type { Delta, Evt, PodEvent, PodNews, PodState } from './message.ts';

/** Of an event, as it waits in the outbox. */
export type EventBody = Pick<Evt, 'type' | 'reason' | 'object' | 'message'>;

const MAX_MESSAGE_CHARS = 1024;

export function eventBody({ type, reason, message, object }: NewEvent): EventBody {
  const { kind, name, namespace, uid } = object;
  // The object says that already.
  const inPod = ` in pod ${name}_${namespace}(${uid})`;
  const said = message.endsWith(inPod) ? message.slice(0, -inPod.length) : message;
  return {
    ...{ type, reason },
    message: said.slice(0, MAX_MESSAGE_CHARS),
    object: { kind, name, ...(namespace && { namespace }), ...(uid && { uid }) },
  };
}

export function readEventBody({ body }: OutboxRow): EventBody {
  return JSON.parse(body) as EventBody;
}

/** The pod, with the events that go with it in the delta `q`, said at `t`. */
export function withEvents(
  pod: PodState,
  rows: readonly OutboxRow[] | undefined,
  { q, t }: Pick<Delta, 'q' | 't'>,
): PodNews {
  if (rows === undefined) return pod;
  const events = rows.map((row): PodEvent => {
    const { type, reason, message } = readEventBody(row);
    const [back, ago] = [q - row.q, Math.max(0, t - row.t)];
    return {
      ...{ back, type, reason, message },
      ...(ago > 0 && { ago }),
      ...(row.count > 1 && { count: row.count }),
    };
  });
  return { ...pod, events };
}

/**
 * The events that a delta has, as the messages that they would have been: an event that was not
 * acknowledged so comes again as such a message, with the same `id`.
 */
export function eventsIn({ q, t, pods = [] }: Delta): readonly Evt[] {
  return pods.flatMap(({ events = [], namespace, name, uid }) =>
    events.map(({ back, type, reason, message, ago = 0, count = 1 }) => {
      const own = Math.max(0, q - back);
      const object = { kind: 'Pod', name, namespace, uid };
      const id = own.toString(36);
      return { id, q: own, t: Math.max(0, t - ago), type, reason, object, message, count };
    }),
  );
}
