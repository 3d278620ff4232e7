/** A watch of pods that records what it was told, and a server that tells it. */
import { setTimeout as pause } from 'node:timers/promises';

import { seededRandom, type Random } from '../../src/base/random.ts';
import type { ApiClient } from '../../src/apiserver/client.ts';
import { PODS, type ApiObject } from '../../src/apiserver/resource.ts';
import {
  watchObjects,
  type Consumer,
  type WatchOptions,
  type WatchState,
} from '../../src/apiserver/watch.ts';
import { handClock, type HandClock } from '../store/world.ts';
import { createPeer, json, until, type Call, type Peer } from './peer.ts';

export type Watching = AsyncDisposable & {
  readonly peer: Peer;
  readonly clock: HandClock;
  readonly client: ApiClient;
  /** `put a/u1@5`, `gone a/u1`, `synced a b @7`, `bookmark 9`. */
  readonly told: string[];
  readonly states: WatchState[];
  /** How often it has waited. */
  readonly waits: number;
  readonly ended: Promise<void>;
  /** Lists and watches that were asked for, as their queries. */
  asked(kind: 'list' | 'watch'): URLSearchParams[];
  /** The current watch's answer. */
  readonly open: Call['response'];
  /** Sends events; strings go as they are. */
  send(...events: readonly (string | object)[]): void;
  /** Waits until all this was told, and nothing else. */
  hears(...lines: readonly string[]): Promise<void>;
  /** Waits for a phase; with `waiting` time goes on until the end of it. */
  reaches(phase: WatchState['phase']): Promise<WatchState>;
  skipWait(): Promise<number>;
  stop(): Promise<void>;
};

export const pod = (name: string, uid: string, version: string, more: object = {}) => ({
  metadata: { namespace: 'x', name, uid, resourceVersion: version, ...more },
});

export const event = (type: string, object: object) => ({ type, object });
export const bookmark = (version: string) =>
  event('BOOKMARK', { kind: 'Pod', metadata: { resourceVersion: version } });

export const list = (version: string, items: readonly object[], next?: string) => ({
  ...{ kind: 'PodList', apiVersion: 'v1', items },
  metadata: { resourceVersion: version, ...(next === undefined ? {} : { continue: next }) },
});

export type Script = {
  /** Answers a list; an empty one at version 1 unless told. */
  list?: (call: Call, count: number) => unknown;
  /** Answers a watch; opens it and says nothing unless told. */
  watch?: (call: Call, count: number) => unknown;
  options?: Partial<WatchOptions<ApiObject>>;
  consumer?: Partial<Consumer<ApiObject>>;
  random?: Random;
};

export function openWatch({ response }: Call): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
}

export async function startWatching(script: Script = {}): Promise<Watching> {
  const peer = await createPeer();
  const clock = handClock();
  const client = peer.client({ clock });
  const controller = new AbortController();
  const queries: { list: URLSearchParams[]; watch: URLSearchParams[] } = { list: [], watch: [] };
  let open: Call['response'] | undefined;
  peer.answer = (call) => {
    const kind = call.url.searchParams.get('watch') === 'true' ? 'watch' : 'list';
    queries[kind].push(call.url.searchParams);
    const count = queries[kind].length;
    if (kind === 'watch') open = call.response;
    if (kind === 'watch') return (script.watch ?? openWatch)(call, count);
    if (script.list === undefined) return json(call.response, list('1', []));
    return script.list(call, count);
  };
  const told: string[] = [];
  const states: WatchState[] = [];
  let waits = 0;
  const consumer: Consumer<ApiObject> = {
    put: ({ metadata }) =>
      told.push(`put ${metadata.name}/${metadata.uid}@${metadata.resourceVersion}`),
    gone: ({ name, uid }) => told.push(`gone ${name}/${uid}`),
    synced: (objects, version) =>
      told.push(`synced ${objects.map(({ metadata }) => `${metadata.name} `).join('')}@${version}`),
    bookmark: (version) => told.push(`bookmark ${version}`),
    state: (state) => {
      states.push(state);
      if (state.phase === 'waiting') waits += 1;
    },
    ...script.consumer,
  };
  const ended = watchObjects(
    {
      ...{ client, clock, random: script.random ?? seededRandom(1), signal: controller.signal },
      resource: PODS,
      ...script.options,
    },
    consumer,
  );
  // A test that expects it to fail looks at it later.
  ended.catch(() => undefined);
  let seen = 0;
  const watching: Watching = {
    ...{ peer, clock, client, told, states, ended },
    asked: (kind) => queries[kind],
    get waits() {
      return waits;
    },
    get open() {
      if (open === undefined) throw new Error('no watch was asked for');
      return open;
    },
    send(...events) {
      for (const one of events) {
        watching.open.write(typeof one === 'string' ? one : `${JSON.stringify(one)}\n`);
      }
    },
    async hears(...lines) {
      const expected = lines.join('\n');
      const now = () => told.slice(seen, seen + lines.length).join('\n');
      await until(() => told.length >= seen + lines.length, `${expected}\nonly ${now()}`);
      await pause(2);
      const all = told.slice(seen).join('\n');
      if (all !== expected) throw new Error(`told:\n${all}\nexpected:\n${expected}`);
      seen = told.length;
    },
    async reaches(phase) {
      const at = () => states.findIndex((state) => state.phase === phase);
      await until(() => at() !== -1, `${phase}, at ${JSON.stringify(states.at(-1))}`);
      const state = states[at()]!;
      // What was before it is of no more use, and a test may go on for long.
      states.splice(0, at() + 1);
      return state;
    },
    async skipWait() {
      const state = await watching.reaches('waiting');
      const delayMs = state.phase === 'waiting' ? state.retryAtMs - clock.now().monoMs : 0;
      clock.advance(delayMs);
      return delayMs;
    },
    async stop() {
      controller.abort();
      await ended;
    },
    async [Symbol.asyncDispose]() {
      controller.abort();
      await ended.catch(() => undefined);
      await peer[Symbol.asyncDispose]();
    },
  };
  return watching;
}
