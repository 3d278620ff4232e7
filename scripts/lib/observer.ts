// Looks at a node and its pods as the API server shows them, and when it showed what.
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiClient } from '../../src/apiserver/client.ts';
import { loadCredentials } from '../../src/apiserver/credentials.ts';
import { createObject, deleteObject, patchObject } from '../../src/apiserver/objects.ts';
import {
  NODES,
  PODS,
  type ApiObject,
  type Key,
  type Resource,
  type Stored,
} from '../../src/apiserver/resource.ts';
import { watchObjects } from '../../src/apiserver/watch.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { systemRandom } from '../../src/base/random.ts';
import type { ControlPlane } from './control-plane.ts';

type Pod = Stored<NonNullable<(typeof PODS)['of']>>;
type Conditions =
  | readonly { readonly type: string; readonly status: string; readonly reason?: string }[]
  | undefined;

export type Observer = AsyncDisposable & {
  /** How many pods there are. */
  count(): number;
  /** Of the pods, those that are Running and Ready. */
  ready(): number;
  nodeIsReady(): boolean;
  /** When a pod was first seen Running and Ready, by name; on the clock of `performance`. */
  readonly readyAtMs: ReadonlyMap<string, number>;
  /** Creates pods on the node at once; resolves when the API server has them. */
  create(names: readonly string[]): Promise<void>;
  removeAll(): Promise<void>;
  /** Says in the name of the node that neither it nor a pod of it is ready. */
  belie(): Promise<void>;
  /** @throws Error when it is not so after `timeoutMs` */
  until(what: string, isSo: () => boolean, timeoutMs: number): Promise<void>;
};

const CALL = { signal: new AbortController().signal, deadlineMs: 60_000 };
const NAMESPACE = 'default';

export async function observe(plane: ControlPlane, nodeName: string): Promise<Observer> {
  const clock = systemClock('host', () => 0);
  const log = createLog('error', (line) => void process.stderr.write(line));
  const controller = new AbortController();
  const { signal } = controller;
  const credentials = await loadCredentials(plane.kubeconfig, { clock, log, signal });
  const client = new ApiClient({ credentials, clock });
  const pods = new Map<string, Pod>();
  const readyAtMs = new Map<string, number>();
  let isNodeReady = false;
  const base = { client, clock, random: systemRandom(), signal };
  const ignored = { synced: () => undefined, bookmark: () => undefined, state: () => undefined };
  const ofNode = `spec.nodeName=${nodeName}`;
  const watching = [
    watchObjects(
      { ...base, resource: PODS, namespace: NAMESPACE, fieldSelector: ofNode },
      {
        ...ignored,
        put: (pod) => {
          const { name } = pod.metadata;
          pods.set(name, pod);
          if (isReady(pod) && !readyAtMs.has(name)) readyAtMs.set(name, performance.now());
        },
        gone: ({ name }) => {
          pods.delete(name);
          readyAtMs.delete(name);
        },
      },
    ),
    watchObjects(
      { ...base, resource: NODES, fieldSelector: `metadata.name=${nodeName}` },
      {
        ...ignored,
        put: ({ status }) => void (isNodeReady = isTrue(status?.conditions, 'Ready')),
        gone: () => void (isNodeReady = false),
      },
    ),
  ];
  return {
    count: () => pods.size,
    ready: () => [...pods.values()].filter(isReady).length,
    nodeIsReady: () => isNodeReady,
    readyAtMs,
    create: async (names) => {
      const key = { namespace: NAMESPACE };
      const all = names.map((name) => podOf(name, nodeName));
      await Promise.all(all.map((pod) => createObject(client, PODS, key, pod, CALL)));
    },
    removeAll: async () => {
      const all = [...pods.keys()].map((name) => ({ namespace: NAMESPACE, name }));
      await Promise.all(all.map((key) => deleteObject(client, PODS, key, {}, CALL)));
    },
    belie: async () => {
      const status = { conditions: [{ type: 'Ready', status: 'False', reason: 'Benchmark' }] };
      const lie = async (resource: Resource<ApiObject>, key: Key) => {
        await patchObject(client, resource, key, 'strategic', { status }, CALL);
      };
      const subresource = 'status';
      const ofPods = [...pods.keys()].map((name) => ({ namespace: NAMESPACE, name, subresource }));
      await Promise.all([
        lie(NODES, { name: nodeName, subresource }),
        ...ofPods.map((key) => lie(PODS, key)),
      ]);
    },
    until: async (what, isSo, timeoutMs) => {
      for (const endMs = performance.now() + timeoutMs; !isSo(); await sleep(20)) {
        if (performance.now() < endMs) continue;
        const ready = [...pods.values()].filter(isReady).length;
        const seen = `${pods.size} pods, ${ready} ready, node ready: ${isNodeReady}`;
        throw new Error(`not within ${timeoutMs / 1000} s: ${what}; there are ${seen}`);
      }
    },
    [Symbol.asyncDispose]: async () => {
      controller.abort();
      await Promise.all(watching);
      client.close();
    },
  };
}

function isReady({ status }: Pod): boolean {
  return status?.phase === 'Running' && isTrue(status.conditions, 'Ready');
}

function isTrue(conditions: Conditions, type: string): boolean {
  return conditions?.some((of) => of.type === type && of.status === 'True') === true;
}

function podOf(name: string, nodeName: string) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: NAMESPACE },
    spec: {
      nodeName,
      terminationGracePeriodSeconds: 5,
      containers: [
        {
          name: 'main',
          image: 'limpet.local/busybox:1',
          command: ['sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'],
        },
      ],
    },
  };
}
