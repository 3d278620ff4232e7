import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { EventRecord } from '../../src/kube/event.ts';
import { eventKey } from '../../src/node/event-object.ts';

function record(name: string, change: Partial<EventRecord> = {}): EventRecord {
  return {
    ...{ type: 'Normal', reason: 'BackOff', message: 'a', firstWallMs: 1, lastWallMs: 2, count: 1 },
    object: { kind: 'Pod', namespace: 'x', name, uid: 'u' },
    ...change,
  };
}

const nameOf = (of: EventRecord, isCombined = false) =>
  eventKey({ record: of, count: 1, isCombined }).name;

test('the name of an event is that of the object and says which event it is', () => {
  const first = nameOf(record('web'));
  assert.match(first, /^web\.[0-9a-f]+$/);
  assert.equal(nameOf(record('web', { lastWallMs: 9, count: 9 })), first);
  for (const other of [{ message: 'b' }, { reason: 'Created' }, { firstWallMs: 2 }]) {
    assert.notEqual(nameOf(record('web', other)), first);
  }
});

test('similar events share a name', () => {
  const shared = nameOf(record('web'), true);
  assert.equal(nameOf(record('web', { message: 'b', firstWallMs: 5 }), true), shared);
  assert.notEqual(nameOf(record('web', { reason: 'Created' }), true), shared);
});

test('a long name is cut to what the API server takes', () => {
  const name = `${'a'.repeat(232)}.${'b'.repeat(20)}`;
  const made = nameOf(record(name, { firstWallMs: 1_800_000_000_000 }));
  assert.ok(made.length <= 253);
  assert.match(made, /^[a-z0-9]+\.[0-9a-f]+$/);
});
