import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LIMITS } from '../../src/base/limits.ts';
import { openDatabase } from '../../src/store/database.ts';
import { EVENT_MIGRATIONS } from '../../src/store/recorder.ts';
import { migrate } from '../../src/store/schema.ts';
import type { Store } from '../../src/store/store.ts';
import { event, handClock, open, place, type Place } from './world.ts';

test('the same event again is counted, and keeps the time when it was first seen', (t) => {
  const where = place(t);
  const clock = handClock(1_000);
  {
    using store = open(where, { clock });
    store.recordEvent(event('BackOff'), clock.now());
    clock.setWall(2_000);
    store.recordEvent(event('Started'), clock.now());
    store.recordEvent(event('BackOff', 'uid-other'), clock.now());
    clock.setWall(3_000);
    store.recordEvent(event('BackOff'), clock.now());
    clock.advance(60_000);
    clock.setWall(4_000);
    store.recordEvent(event('BackOff'), clock.now());
    const seen = store.events({ uid: 'uid-web' });
    assert.deepEqual(
      seen.map(({ reason, count, firstWallMs, lastWallMs }) => ({
        reason,
        count,
        firstWallMs,
        lastWallMs,
      })),
      [
        { reason: 'Started', count: 1, firstWallMs: 2_000, lastWallMs: 2_000 },
        { reason: 'BackOff', count: 3, firstWallMs: 1_000, lastWallMs: 4_000 },
      ],
      'one half is written, the other half is pending',
    );
  }
  using store = open(where, { clock });
  assert.equal(store.events({ uid: 'uid-web' }).at(-1)?.count, 3);
  assert.deepEqual(
    store.events({ name: 'other' }).map(({ object }) => object.uid),
    ['uid-other'],
  );
  assert.deepEqual(store.events({ kind: 'Node' }), []);
  assert.equal(store.events().length, 3);
});

test('events stand in the order in which they happened, whatever the clock said', (t) => {
  const where = place(t);
  const clock = handClock(1_000);
  using store = open(where, { clock });
  const happens = (reason: string, wallMs: number) => {
    clock.setWall(wallMs);
    store.recordEvent(event(reason), clock.now());
    clock.advance(60_000);
  };
  happens('First', 1_000);
  happens('Again', 2_000);
  for (let n = 0; n < LIMITS.eventsPerPod; n++) happens(`Future${n}`, 9e12);
  happens('Again', 3_000);
  happens('Last', 4_000);
  const seen = store.events({ uid: 'uid-web' }).map(({ reason }) => reason);
  assert.equal(seen.length, LIMITS.eventsPerPod);
  assert.deepEqual(seen.slice(-3), [`Future${LIMITS.eventsPerPod - 1}`, 'Again', 'Last']);
});

test('events are written in one go, some seconds after the first', (t) => {
  const where = place(t);
  const clock = handClock();
  using store = open(where, { clock });
  const wal = () => statSync(join(where.directory, 'events.db-wal')).size;
  const empty = wal();
  for (let n = 0; n < 20; n++) store.recordEvent(event(`Reason${n}`), clock.now());
  clock.advance(4_000);
  assert.equal(wal(), empty);
  clock.advance(2_000);
  assert.ok(wal() > empty);
  assert.equal(clock.timers, 0);
});

test('old events go when there are too many, of one pod and in all', (t) => {
  const where = place(t);
  const clock = handClock(0);
  using store = open(where, { clock });
  for (let n = 0; n < LIMITS.eventsPerPod + 10; n++) {
    clock.advance(10_000);
    store.recordEvent(event(`Reason${n}`), clock.now());
  }
  clock.advance(10_000);
  const kept = store.events({ uid: 'uid-web' });
  assert.equal(kept.length, LIMITS.eventsPerPod);
  assert.equal(kept[0]?.reason, 'Reason10');
  for (let n = 0; n < LIMITS.events + 100; n++) {
    clock.advance(100);
    store.recordEvent(event('Same', `uid-${n}`), clock.now());
  }
  clock.advance(10_000);
  const all = store.events();
  assert.equal(all.length, LIMITS.events);
  assert.equal(all.at(-1)?.object.uid, `uid-${LIMITS.events + 99}`);
});

test('what is pending is bounded too, and long messages are cut', (t) => {
  const where = place(t);
  const clock = handClock();
  using store = open(where, { clock });
  for (let n = 0; n < LIMITS.events + 50; n++) {
    store.recordEvent(event('Same', `uid-${n}`), clock.now());
  }
  assert.equal(store.events().length, LIMITS.events);
  store.recordEvent(event('Long', 'uid-long', 'x'.repeat(100_000)), clock.now());
  assert.ok(store.events({ uid: 'uid-long' })[0]!.message.length <= 1025);
});

test('a damaged file of events is set aside, and the pods know nothing of it', (t) => {
  const where = place(t);
  record(where);
  truncateSync(join(where.directory, 'events.db'), 5000);
  using store = open(where);
  assert.equal(store.opening.state, 'clean');
  assert.deepEqual(store.events(), []);
  assert.equal(readdirSync(join(where.directory, 'set-aside')).length, 1);
  store.recordEvent(event('New'), handClock().now());
  assert.equal(store.events().length, 1);
});

function record(where: Place): void {
  using store = open(where);
  const clock = handClock();
  for (let n = 0; n < 100; n++) store.recordEvent(event(`Reason${n}`, `uid-${n}`), clock.now());
}

test('what the API server was told is kept with the events, and written with the next batch', (t) => {
  const where = place(t);
  const clock = handClock(1_000);
  const inApi = (reason: string) => {
    const { object, ...rest } = event(reason);
    return { ...rest, object: { ...object, inApi: true } as const };
  };
  const due = (store: Store) =>
    store
      .deliveries('due')
      .map(({ record, delivered }) => [
        ...[record.reason, record.count, delivered.count, delivered.combined],
      ]);
  {
    using store = open(where, { clock });
    store.recordEvent(inApi('BackOff'), clock.now());
    store.recordEvent(event('Local'), clock.now());
    store.recordEvent(inApi('Started'), clock.now());
    assert.deepEqual(due(store), [
      ['BackOff', 1, 0, 0],
      ['Started', 1, 0, 0],
    ]);
    store.setDelivered(store.deliveries('due')[0]!, { count: 1, combined: 0 });
    assert.deepEqual(due(store), [['Started', 1, 0, 0]]);
    clock.advance(6_000);
    assert.equal(clock.timers, 0);
    store.setDelivered(store.deliveries('due')[0]!, { count: 1, combined: 7 });
    const order = store.events().map(({ reason }) => reason);
    assert.deepEqual(order, ['BackOff', 'Local', 'Started'], 'a note is not another event');
    store.recordEvent(inApi('BackOff'), clock.now());
    assert.deepEqual(due(store), [['BackOff', 2, 1, 0]]);
  }
  using store = open(where, { clock });
  assert.deepEqual(due(store), [['BackOff', 2, 1, 0]]);
  const told = store.deliveries('all').map(({ record, delivered }) => [record.reason, delivered]);
  assert.deepEqual(told, [
    ['Started', { count: 1, combined: 7 }],
    ['BackOff', { count: 1, combined: 0 }],
  ]);
  const heard: string[] = [];
  {
    using _ = store.hearEvents(() => heard.push('heard'));
    store.recordEvent(inApi('Killing'), clock.now());
  }
  store.recordEvent(inApi('Killing'), clock.now());
  assert.deepEqual(heard, ['heard']);
});

test('events that an older limpet has written are kept, and told to nobody', (t) => {
  const where = place(t);
  mkdirSync(where.directory, { recursive: true });
  const database = openDatabase(join(where.directory, 'events.db'), 'normal');
  migrate(database, EVENT_MIGRATIONS.slice(0, 1));
  database.exec(
    `INSERT INTO events VALUES (1, 5, 'Node', '', 'pi1', 'pi1', '', 'Normal', 'Starting', 'x',
       1000, 2000, 3)`,
  );
  database.close();
  using store = open(where);
  assert.deepEqual(
    store.events().map(({ reason, count }) => [reason, count]),
    [['Starting', 3]],
  );
  assert.deepEqual(store.deliveries('all'), []);
});
