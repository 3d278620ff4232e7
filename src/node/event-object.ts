/**
 * Events as the API server has them: core/v1 Event, reported as the kubelet's. Pure.
 *
 * The name follows from the event itself, so one that is sent again, because nobody knows whether it
 * arrived, meets itself and is counted, not doubled.
 * Source: k8s.io/client-go tools/record, v1.36.
 */
import type { CoreV1Event } from '@kubernetes/client-node/dist/gen/models/all.js';

import { crc32 } from '../base/crc32.ts';
import type { EventObject, EventRecord } from '../kube/event.ts';
import type { Wire } from '../kube/wire.ts';

/** So many different messages of a kind have Events of their own within `SIMILAR_MS`. */
export const MAX_SIMILAR = 10;
export const SIMILAR_MS = 10 * 60_000;

const COMPONENT = 'kubelet';
const COMBINED = '(combined from similar events): ';
/** Of a DNS subdomain, less the longest suffix. */
const MAX_OBJECT_NAME = 253 - 20;

/** What is sent of an event. */
export type Sending = {
  readonly record: EventRecord;
  readonly count: number;
  /** It goes into the one Event that all similar ones share. */
  readonly isCombined: boolean;
};

/** The object that an event is about, as a key. */
export function objectKey({ kind, namespace, name, uid }: EventObject): string {
  return [kind, namespace, name, uid].join('\0');
}

/** The same for events that differ in their message only. */
export function similarKey({ object, type, reason }: EventRecord): string {
  return [objectKey(object), object.fieldPath, type, reason].join('\0');
}

/** Events of what has no namespace are in `default`: the API server asks for it. */
export function eventKey({ record, isCombined }: Sending): {
  readonly namespace: string;
  readonly name: string;
} {
  const similar = similarKey(record);
  const hash = crc32(isCombined ? similar : [similar, record.message].join('\0'));
  const hex = hash.toString(16).padStart(8, '0');
  const suffix = isCombined ? hex : `${record.firstWallMs.toString(16)}${hex}`;
  const { name, namespace = 'default' } = record.object;
  const stem = name.slice(0, MAX_OBJECT_NAME).replace(/[^a-z0-9]+$/, '');
  return { namespace, name: `${stem}.${suffix}` };
}

/**
 * A pod of the node's own bears its own UID, not its mirror pod's: that is where kubectl looks, by the
 * annotation of the mirror pod.
 */
export function eventObject(sending: Sending, nodeName: string): Wire<CoreV1Event> {
  const { record, count } = sending;
  const { kind, namespace, name, uid, fieldPath } = record.object;
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: eventKey(sending),
    involvedObject: {
      kind,
      name,
      ...(kind === 'Pod' && { apiVersion: 'v1' }),
      ...(namespace !== undefined && { namespace }),
      ...(uid !== undefined && { uid }),
      ...(fieldPath !== undefined && { fieldPath }),
    },
    type: record.type,
    reason: record.reason,
    message: messageOf(sending),
    source: { component: COMPONENT, host: nodeName },
    reportingComponent: COMPONENT,
    reportingInstance: nodeName,
    firstTimestamp: timestamp(record.firstWallMs),
    lastTimestamp: timestamp(record.lastWallMs),
    count,
  };
}

/** What of it changes when it happens again. */
export function eventPatch(sending: Sending) {
  const { record, count, isCombined } = sending;
  const lastTimestamp = timestamp(record.lastWallMs);
  return { count, lastTimestamp, ...(isCombined && { message: messageOf(sending) }) };
}

function messageOf({ record, isCombined }: Sending): string {
  return isCombined ? `${COMBINED}${record.message}` : record.message;
}

function timestamp(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
}
