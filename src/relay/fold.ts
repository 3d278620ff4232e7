/**
 * What a reader of a fleet makes of the messages of one node. Whatever arrives, in whatever order, how
 * often and with what losses: a snapshot that is newer than all else gives the truth, and until one
 * has come the view says that it is behind.
 *
 * Links of the chain: a delta builds on the newest snapshot, and follows the snapshot or delta whose
 * `q` is before its own, but for the numbers that it skips. Any other delta shows that something is
 * missing: `pending`. The reader then asks for the snapshot again.
 */
import { eventsIn } from './events.ts';
import type {
  Condition,
  Delta,
  Evt,
  Met,
  NodeFacts,
  PodNews,
  PodState,
  Snap,
  State,
} from './message.ts';

export type Base = {
  readonly v: string;
  readonly g: number;
  /** Of the last message in it. */
  readonly q: number;
  /** When the node said the last of it. */
  readonly t: number;
  readonly sid: string;
  readonly node: NodeFacts;
  /** By uid. */
  readonly pods: ReadonlyMap<string, PodState>;
  /** By type. */
  readonly conditions: ReadonlyMap<string, Condition>;
};

export type View = {
  readonly state?: State;
  /** No `state` was heard of this session, only its snapshot. */
  readonly assumed: boolean;
  readonly base?: Base;
  /** The newest delta that does not fit: something before it is missing. */
  readonly pending?: Delta;
  readonly met?: Met;
  /** The event that happened last. */
  readonly event?: Evt;
  /** Ids and counts of the last events, to know one that comes again. */
  readonly events: readonly string[];
  /** The newest time of any message that was no replay; 0 before the first. */
  readonly heardAt: number;
};

export const NOTHING: View = { assumed: false, events: [], heardAt: 0 };

const REMEMBERED_EVENTS = 256;

export type Message =
  | { readonly kind: 'state'; readonly message: State }
  | { readonly kind: 'snap'; readonly message: Snap }
  | { readonly kind: 'delta'; readonly message: Delta }
  | { readonly kind: 'evt'; readonly message: Evt }
  | { readonly kind: 'met'; readonly message: Met };

/** The view after a message; the same object when the message was no news. */
export function fold(view: View, given: Message): View {
  switch (given.kind) {
    case 'state':
      return foldState(view, given.message);
    case 'snap':
      return foldSnap(view, given.message);
    case 'delta':
      return foldDelta(eventsIn(given.message).reduce(foldEvent, view), given.message);
    case 'evt':
      return foldEvent(view, given.message);
    case 'met':
      if (view.met !== undefined && given.message.t < view.met.t) return view;
      return heard({ ...view, met: given.message }, given.message.t);
  }
}

/** Something is missing: only a snapshot helps. */
export function isBehind({ base, pending }: View): boolean {
  return base === undefined || pending !== undefined;
}

function heard(view: View, t: number): View {
  return { ...view, heardAt: Math.max(view.heardAt, t) };
}

/**
 * The end of a session that is not the current one is old news: the will of a connection that was
 * lost may come long after the next one was made. A will bears the time of its connection, so
 * one that is newer than a session known from its snapshot alone is believed.
 */
function foldState(view: View, message: State): View {
  const { state, assumed } = view;
  if (message.s !== 'online' && state !== undefined && state.sid !== message.sid) {
    if (!assumed || message.t <= state.t) return view;
  }
  return heard({ ...view, state: message, assumed: false }, message.t);
}

/**
 * A board that was set up anew begins with generation 1 again. It is believed when its session is the
 * current one and its clock is not behind; anything else with an old generation is late.
 */
function foldSnap(view: View, snap: Snap): View {
  const { base, state } = view;
  const old = base !== undefined && snap.g <= base.g;
  const anew = old && snap.sid !== base.sid && snap.sid === state?.sid && snap.t >= base.t;
  if (old && !anew) return view;
  const { v, g, q, t, sid, node } = snap;
  const pods = new Map(snap.pods.map((pod) => [pod.uid, pod]));
  const conditions = new Map(snap.conditions.map((condition) => [condition.type, condition]));
  const { pending, ...rest } = view;
  const taken: View = { ...rest, base: { v, g, q, t, sid, node, pods, conditions } };
  const newer = state === undefined || (state.sid !== sid && state.t <= t);
  const next: View = newer ? { ...taken, state: { s: 'online', sid, t }, assumed: true } : taken;
  const told = heard(next, t);
  return pending === undefined || anew ? told : foldDelta(told, pending);
}

function foldDelta(view: View, delta: Delta): View {
  // The past, told late: the snapshot that came before it knows better.
  if (delta.h === 1) return view;
  const { base, pending } = view;
  if (base !== undefined && delta.q <= base.q) return view;
  if (base !== undefined && follows(base, delta)) {
    return withPending(heard({ ...view, base: withDelta(base, delta) }, delta.t));
  }
  if (pending !== undefined && delta.q <= pending.q) return view;
  return heard({ ...view, pending: delta }, delta.t);
}

function follows(base: Base, { q, skip = 0, b }: Delta): boolean {
  return q - 1 - skip === base.q && (b === undefined || q - b === base.g);
}

/** Takes the delta that came too early, if it fits now. */
function withPending(view: View): View {
  const { pending, ...rest } = view;
  return pending === undefined ? view : foldDelta(rest, pending);
}

function withDelta(base: Base, delta: Delta): Base {
  const pods = new Map(base.pods);
  for (const uid of delta.gone ?? []) pods.delete(uid);
  for (const pod of delta.pods ?? []) pods.set(pod.uid, withoutEvents(pod));
  const conditions = new Map(base.conditions);
  for (const condition of delta.conditions ?? []) conditions.set(condition.type, condition);
  return { ...base, q: delta.q, t: delta.t, pods, conditions };
}

function withoutEvents({ events: _, ...pod }: PodNews): PodState {
  return pod;
}

function foldEvent(view: View, event: Evt): View {
  const key = `${event.id} ${event.count}`;
  if (view.events.includes(key)) return view;
  const events = [...view.events.slice(1 - REMEMBERED_EVENTS), key];
  const latest = view.event === undefined || event.t >= view.event.t ? event : view.event;
  const next = { ...view, events, event: latest };
  return event.h === 1 ? next : heard(next, event.t);
}
