/** The table of events, as `kubectl get events` shows them, oldest first. */
import type { EventRecord } from '../kube/event.ts';
import { age, table } from './table.ts';

export function eventTable(
  items: readonly EventRecord[],
  nowMs: number,
  columns: { readonly object: boolean },
): string {
  const rows = items.map((event) => {
    const row = [seen(event, nowMs), event.type, event.reason, event.message];
    return columns.object ? [...row.slice(0, 3), objectOf(event), event.message] : row;
  });
  const head = columns.object
    ? ['LAST SEEN', 'TYPE', 'REASON', 'OBJECT', 'MESSAGE']
    : ['LAST SEEN', 'TYPE', 'REASON', 'MESSAGE'];
  return table(head, rows);
}

function seen({ lastWallMs, firstWallMs, count }: EventRecord, nowMs: number): string {
  const last = age(nowMs - lastWallMs);
  return count > 1 ? `${last} (x${count} over ${age(nowMs - firstWallMs)})` : last;
}

function objectOf({ object }: EventRecord): string {
  const kind = object.kind.toLowerCase();
  // The path of a manifest has slashes of its own.
  if (object.kind === 'Manifest') return object.name;
  const namespace = object.namespace === undefined ? '' : `${object.namespace}/`;
  return `${kind}/${namespace}${object.name}`;
}
