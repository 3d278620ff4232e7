import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom, type Random } from '../../src/base/random.ts';
import { eventsIn } from '../../src/relay/events.ts';
import { fold, isBehind, NOTHING, type Message, type View } from '../../src/relay/fold.ts';
import type { Condition, Delta, PodState, Snap } from '../../src/relay/message.ts';

const T = 1_795_640_000;

const podState = (uid: string, restarts = 0): PodState => ({
  uid,
  namespace: 'default',
  name: uid,
  phase: 'Running',
  ready: 1,
  containers: 1,
  restarts,
  since: T,
});

const snap = (g: number, q: number, rest: Partial<Snap> = {}): Message => ({
  kind: 'snap',
  message: {
    v: '1.0',
    g,
    q,
    t: T + q,
    sid: 'boot-1',
    node: { version: '0.1.0' },
    pods: [podState('a')],
    conditions: [],
    ...rest,
  },
});

const delta = (q: number, rest: Partial<Delta> = {}): Message => ({
  kind: 'delta',
  message: { q, t: T + q, ...rest },
});

const state = (s: 'online' | 'offline' | 'leaving', sid: string, t = T): Message => ({
  kind: 'state',
  message: { s, sid, t },
});

const all = (...messages: readonly Message[]): View => messages.reduce(fold, NOTHING);
const podsOf = (view: View) => [...(view.base?.pods.values() ?? [])];

test('a late end of an earlier session is ignored', () => {
  const view = all(state('online', 'b', T + 9), state('offline', 'a', T));
  assert.equal(view.state?.s, 'online');
  assert.equal(all(state('online', 'b'), state('offline', 'b')).state?.s, 'offline');
  assert.equal(all(state('offline', 'a'), state('online', 'b')).state?.s, 'online');
});

test('a late will that was retained gives way to the snapshot of the session after it', () => {
  const later = snap(2, 20, { sid: 'b', t: T + 50 });
  const will = state('offline', 'a', T);
  assert.equal(all(will, later).state?.s, 'online');
  assert.equal(all(later, will).state?.s, 'online');
  const newer = state('offline', 'c', T + 60);
  assert.equal(all(newer, later).state?.s, 'offline');
  assert.equal(all(later, newer).state?.s, 'offline');
});

test('a delta that builds on another snapshot does not fit', () => {
  assert.equal(isBehind(all(snap(7, 10), delta(11, { b: 4 }))), false);
  assert.equal(isBehind(all(snap(6, 10), delta(11, { b: 4 }))), true);
});

test('a delta changes what it names, and only that', () => {
  const view = all(
    snap(1, 10, { pods: [podState('a'), podState('b')] }),
    delta(11, { pods: [podState('a', 1), podState('c')], gone: ['b'] }),
    delta(15, { skip: 3, conditions: [{ type: 'UnderVoltage', status: 'True', since: T }] }),
  );
  assert.deepEqual(podsOf(view), [podState('a', 1), podState('c')]);
  assert.equal(view.base?.conditions.get('UnderVoltage')?.status, 'True');
  assert.equal(view.base?.q, 15);
  assert.equal(isBehind(view), false);
});

test('a gap and an unknown base show, until a snapshot has come', () => {
  assert.equal(isBehind(NOTHING), true);
  const gap = all(snap(1, 10), delta(12));
  assert.equal(isBehind(gap), true);
  assert.deepEqual(podsOf(gap), [podState('a')]);
  assert.equal(isBehind(fold(gap, snap(1, 10))), true);
  assert.equal(isBehind(fold(gap, snap(2, 20))), false);
  const unknown = all(snap(1, 10), delta(21));
  assert.equal(isBehind(unknown), true);
  assert.equal(isBehind(fold(unknown, snap(2, 20))), false);
});

test('who comes late sees by the retained delta that its snapshot is not the newest', () => {
  const fits = [snap(1, 10), delta(11, { pods: [podState('b')] })];
  for (const order of [fits, fits.toReversed()]) {
    assert.equal(isBehind(all(...order)), false);
    assert.equal(podsOf(all(...order)).length, 2);
  }
  const missed = [snap(1, 10), delta(12)];
  for (const order of [missed, missed.toReversed()]) assert.equal(isBehind(all(...order)), true);
});

test('a delta of the past changes nothing', () => {
  const view = all(snap(1, 10));
  assert.equal(fold(view, delta(11, { h: 1, pods: [podState('b')] })), view);
});

test('a board that was set up anew begins at 1 again', () => {
  const old = all(state('online', 'boot-1'), snap(7, 900));
  const anew = snap(1, 3, { sid: 'boot-2', t: T + 2000 });
  assert.equal(fold(old, anew).base?.g, 7, 'its session is not known');
  const view = fold(fold(old, state('online', 'boot-2', T + 5)), anew);
  assert.equal(view.base?.g, 1);
  assert.equal(isBehind(view), false);
});

test('an event counts once, also when it is told again', () => {
  const evt = (id: string, t: number, count = 1): Message => ({
    kind: 'evt',
    message: {
      id,
      q: 1,
      t,
      type: 'Warning',
      reason: 'BackOff',
      object: { kind: 'Pod', name: 'web' },
      message: 'back-off',
      count,
    },
  });
  const first = all(evt('1', T));
  assert.equal(fold(first, evt('1', T)), first);
  assert.equal(fold(first, evt('1', T + 5, 2)).event?.count, 2);
  assert.equal(fold(first, evt('0', T - 9)).event?.id, '1');
  let view = NOTHING;
  for (let id = 0; id < 1000; id++) view = fold(view, evt(String(id), T));
  assert.equal(view.events.length, 256);
});

test('events within a delta: what they would be as messages, and no part of the pod', () => {
  const base = snap(1, 10);
  const event = { type: 'Warning', reason: 'BackOff', message: 'back-off' } as const;
  const message: Delta = {
    ...{ q: 14, t: T, skip: 3 },
    pods: [{ ...podState('a', 1), events: [{ ...event, back: 2, ago: 1, count: 3 }] }],
  };
  const object = { kind: 'Pod', name: 'a', namespace: 'default', uid: 'a' };
  const evt = { id: 'c', q: 12, t: T - 1, ...event, object, count: 3 };
  assert.deepEqual(eventsIn(message), [evt]);
  const view = all(base, { kind: 'delta', message });
  assert.deepEqual(podsOf(view), [podState('a', 1)]);
  assert.deepEqual(view.event, evt);
  assert.equal(fold(view, { kind: 'evt', message: { ...evt, h: 1 } }), view, 'told again');
  // Also of a delta that does not fit.
  const alone = fold(NOTHING, { kind: 'delta', message });
  assert.equal(isBehind(alone), true);
  assert.equal(alone.event?.id, 'c');
});

/** What a node says in its life, with the truth at the end. */
function life(random: Random): { said: Message[]; last: Message; truth: Map<string, PodState> } {
  const pods = new Map<string, PodState>();
  const conditions: Condition[] = [];
  const said: Message[] = [];
  let [g, q, p, session] = [0, 0, 0, 0];
  const makeSnap = () => {
    p = ++q;
    return snap(++g, q, { sid: `boot-${session}`, pods: [...pods.values()], conditions });
  };
  for (let step = 0; step < 60; step++) {
    const dice = random.next();
    if (step === 0 || dice < 0.05) {
      said.push(state('offline', `boot-${session}`, T + q));
      said.push(state('online', `boot-${++session}`, T + ++q), makeSnap());
    } else if (dice < 0.15) {
      said.push(makeSnap());
    } else {
      // Reserved blocks leave gaps, which are told.
      q += random.next() < 0.1 ? 1000 : 1;
      const uid = `pod-${Math.floor(random.next() * 8)}`;
      const gone = pods.has(uid) && random.next() < 0.3;
      if (gone) pods.delete(uid);
      else pods.set(uid, podState(uid, q));
      const change = gone ? { gone: [uid] } : { pods: [podState(uid, q)] };
      said.push(delta(q, { ...change, ...(p !== q - 1 && { skip: q - 1 - p }) }));
      p = q;
    }
  }
  return { said, last: makeSnap(), truth: pods };
}

test('in order and whole: never behind after the first snapshot, and the truth at the end', () => {
  for (let seed = 0; seed < 200; seed++) {
    const { said, truth } = life(seededRandom(seed));
    let view = NOTHING;
    for (const message of said) {
      view = fold(view, message);
      assert.equal(isBehind(view), view.base === undefined, `seed ${seed}`);
    }
    assert.deepEqual(view.base?.pods, truth, `seed ${seed}`);
  }
});

test('any order, repetition and loss, and then a snapshot: the truth', () => {
  for (let seed = 0; seed < 500; seed++) {
    const random = seededRandom(seed);
    const { said, last, truth } = life(random);
    const heard = said
      .flatMap((message) => (random.next() < 0.3 ? [] : [message, message]))
      .map((message) => ({ message, at: random.next() }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ message }) => message);
    const view = fold(heard.reduce(fold, NOTHING), last);
    assert.deepEqual(new Map(view.base?.pods), truth, `seed ${seed}`);
    assert.equal(isBehind(view), false, `seed ${seed}`);
    // What comes late after it changes nothing of that.
    assert.deepEqual(heard.reduce(fold, view).base?.pods, truth, `seed ${seed}`);
  }
});

test('a loss never goes unnoticed: a view that is not behind has the truth of its last message', () => {
  for (let seed = 0; seed < 500; seed++) {
    const random = seededRandom(seed);
    const { said } = life(random);
    const after = new Map<number, View>();
    let whole = NOTHING;
    for (const message of said) {
      whole = fold(whole, message);
      if (whole.base !== undefined) after.set(whole.base.q, whole);
    }
    let view = NOTHING;
    for (const message of said) {
      if (random.next() < 0.1) continue;
      view = fold(view, message);
      if (view.base === undefined) continue;
      assert.deepEqual(view.base.pods, after.get(view.base.q)?.base?.pods, `seed ${seed}`);
    }
  }
});
