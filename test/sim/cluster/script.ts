/** A node and its cluster without chance and without faults, for tests that are scripts. */
import { seededRandom } from '../../../src/base/random.ts';
import { createLog } from '../../../src/base/log.ts';
import type { Request } from '../../../src/apiserver/client.ts';
import type { PodStatus } from '../../../src/kube/pod.ts';
import { WELL, type Behaviour } from '../pods.ts';
import { World } from '../world.ts';
import { ApiServer, type Json, type PodObject } from './api-server.ts';
import { Network, type Fate } from './network.ts';
import { NODE_NAME, startNode, type Node } from './node.ts';
import { Card, openCard } from './store.ts';
import { Time } from './time.ts';

const SERVICE: Behaviour = {
  ...{ kind: 'service', minRunMs: 1, maxRunMs: 1, exitCodes: [0], ignoresTerm: false, termMs: 10 },
  health: WELL,
};

export type Script = ReturnType<typeof createScript>;

export function createScript() {
  const random = seededRandom(1);
  const time = new Time();
  const card = new Card();
  const requests: string[] = [];
  const behaviours = new Map<string, Behaviour>();
  const gone: PodObject[] = [];
  /** Each Retry-After that was asked for, in ms. */
  const waits: number[] = [];
  /** What becomes of the requests that are sent from now on. */
  const fate = { of: 'well' as Fate };
  let uids = 0;
  let node: Node | undefined;
  const newServer = (version: number) =>
    new ApiServer(
      {
        name: 'ours',
        rfc3339: () => new Date(Date.UTC(2026, 0, 1)).toISOString(),
        newUid: () => `u${(uids += 1)}`,
        pageObjects: () => 500,
        onChange: (type, object) => {
          if (type === 'DELETED') gone.push(object);
        },
      },
      version,
    );
  const server = newServer(100);
  const network = new Network(server, {
    ...{ time, random, fate: () => fate.of, trace: () => undefined },
    onSent: ({ method, path }: Request) => void requests.push(`${method} ${path.split('?')[0]}`),
    onRequest: () => undefined,
    onRetryAfter: (_request, _life, untilMs) => void waits.push(untilMs - time.nowMs),
    onWatching: () => undefined,
  });
  const changed = new Set<string>();
  const world: World = new World({
    ...{ random, nowMs: () => time.nowMs, schedule: (inMs, run) => time.schedule(inMs, run) },
    behaviour: (uid, name) => behaviours.get(`${uid}/${name}`) ?? SERVICE,
    ...{ isCalm: () => true, trace: () => undefined, onStarted: () => undefined },
    ...{ onBlow: () => undefined, onEnded: () => undefined, onEvidenceLost: () => undefined },
    onChange: (uid) => time.schedule(5, () => node?.hint(uid)),
  });
  const run = async (ms: number): Promise<void> => {
    let isOver = false;
    time.schedule(ms, () => void (isOver = true));
    while (!isOver) await time.step();
  };
  return {
    ...{ server, network, world, card, requests, behaviours, gone, waits, fate, newServer, run },
    node: () => node!,
    start: () => {
      if (time.boots === 0 || !world.isUp) {
        time.boot();
        world.runtimeStarts();
      }
      node = startNode({
        ...{ time, random, world, changed, log: createLog('error', () => undefined), bug: {} },
        store: openCard(card, { onWrite: () => undefined, onForgotten: () => undefined }),
        client: (life) => network.client(life),
        capacity: {
          ...{ name: NODE_NAME, maxPods: 110 },
          allocatable: { cpuMilli: 4000, memoryBytes: 2 ** 32 },
        },
        badLuck: () => 0,
        nameOf: (uid) => ({ name: uid, namespace: 'default' }),
        onError: (error) => {
          throw error;
        },
      });
    },
    /** The agent ends, as with `kill -9`. */
    kill: () => {
      node!.life.isDead = true;
      node = undefined;
      network.break();
      world.agentDied();
    },
    powerCut(): void {
      this.kill();
      world.powerCut();
    },
    /** UIDs of the pods of which a process runs. */
    running: () => [...new Set([...world.alive].map(({ uid }) => uid))],
    statusOf: (object: PodObject): Partial<PodStatus> => server.find(object.metadata.uid)!.status,
  };
}

/** What the API server has of a pod with one container. */
export function spec(cpu = '100m', more: Json = {}): Json {
  const container = { name: 'a', image: 'busybox', imagePullPolicy: 'IfNotPresent' };
  return {
    containers: [{ ...container, resources: { requests: { cpu } } }],
    ...{ restartPolicy: 'Always', nodeName: NODE_NAME, terminationGracePeriodSeconds: 5 },
    ...more,
  };
}
