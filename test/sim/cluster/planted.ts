/**
 * Bugs planted on purpose around the code under test: they measure the simulation. Each changes one
 * function or request; nothing of them is in the product.
 */
import type { ApiClient, JsonObject, Request } from '../../../src/apiserver/client.ts';
import { MIRROR_ANNOTATION } from '../../../src/agent/mirror-pods.ts';
import type { Bug } from './node.ts';

export type PlantedBug = Bug & {
  readonly name: string;
  /** Invariants that it must be found by. */
  readonly foundBy: readonly string[];
};

type Json = Record<string, unknown>;

/** Changes requests before they are sent. */
function sending(change: (request: Request) => Request): NonNullable<Bug['client']> {
  return (client) =>
    ({ ...client, json: (request, how) => client.json(change(request), how) }) as ApiClient;
}

/** Changes what is answered. */
function answering(
  change: (answer: JsonObject, request: Request) => JsonObject,
): NonNullable<Bug['client']> {
  const json = (client: ApiClient): ApiClient['json'] => {
    return async (request, how) => change(await client.json(request, how), request);
  };
  return (client) => ({ ...client, json: json(client) }) as ApiClient;
}

function bodyOf({ body }: Request): Json {
  return (typeof body === 'string' ? JSON.parse(body) : (body ?? {})) as Json;
}

const isList = ({ method, path }: Request) => method === 'GET' && path.startsWith('/api/v1/pods?');

export const PLANTED_CLUSTER: readonly PlantedBug[] = [
  {
    name: 'any cluster is taken for ours',
    foundBy: ['I-10'],
    session: (session) => ({ ...session, verify: () => Promise.resolve() }),
  },
  {
    name: 'a restored cluster is taken for one that has deleted pods',
    foundBy: ['I-10'],
    store: (store) => ({
      ...store,
      meta: (key) => (key === 'cluster.restored' ? undefined : store.meta(key)),
    }),
  },
  {
    name: 'the first page passes for the whole list',
    foundBy: ['I-10'],
    client: answering((answer, request) => {
      if (!isList(request)) return answer;
      const { continue: _, ...metadata } = answer['metadata'] as Json;
      return { ...answer, metadata };
    }),
  },
  {
    name: 'a failed list passes for an empty one',
    foundBy: ['I-10'],
    client: (client) =>
      ({
        ...client,
        json: (request, how) =>
          client.json(request, how).catch((error: unknown) => {
            if (!isList(request)) throw error;
            const metadata = { resourceVersion: '999999' };
            return { kind: 'PodList', metadata, items: [] };
          }),
      }) as ApiClient,
  },
  {
    name: 'a status goes to whatever has the name',
    foundBy: ['I-15'],
    client: sending((request) => {
      if (request.method !== 'PATCH') return request;
      const { metadata: _, ...body } = bodyOf(request);
      return { ...request, body: JSON.stringify(body) };
    }),
  },
  {
    name: 'DELETE of whatever has the name',
    foundBy: ['I-15'],
    client: sending((request) => {
      if (request.method !== 'DELETE') return request;
      const { preconditions: _, ...body } = bodyOf(request);
      return { ...request, body };
    }),
  },
  {
    name: 'a pod whose status meets a 404 is created',
    foundBy: ['I-15'],
    client: (client) =>
      ({
        ...client,
        json: (request, how) =>
          client.json(request, how).catch((error: { readonly code?: string }) => {
            if (request.method !== 'PATCH' || error.code !== 'NotFound') throw error;
            const [collection, name] = request.path.replace('/status', '').split(/\/(?=[^/]+$)/);
            const body = { metadata: { name }, spec: { containers: [] } };
            return client.json({ method: 'POST', path: collection!, body }, how);
          }),
      }) as ApiClient,
  },
  {
    name: 'DELETE leaves the grace to the API server',
    foundBy: ['I-08', 'I-12'],
    client: sending((request) => {
      if (request.method !== 'DELETE') return request;
      const { gracePeriodSeconds: _, ...body } = bodyOf(request);
      return { ...request, body };
    }),
  },
  {
    name: 'the object is deleted before its last status is told',
    foundBy: ['I-14'],
    parts: ({ statuses }) => {
      const { over } = statuses;
      statuses.over = (worker) => {
        const { status } = worker;
        worker.status = undefined;
        over.call(statuses, worker);
        worker.status = status;
      };
      const { changed } = statuses;
      statuses.changed = (workers) =>
        changed.call(
          statuses,
          workers.filter(({ want }) => want.deletion === undefined),
        );
    },
  },
  {
    name: 'a pod that is over is forgotten before the API server knows',
    foundBy: ['I-14'],
    parts: ({ statuses }, store) => {
      const { over } = statuses;
      statuses.over = (worker) => {
        over.call(statuses, worker);
        store.forget(worker.uid);
      };
    },
  },
  {
    name: 'a pod that was deleted meanwhile is not noticed',
    foundBy: ['I-08', 'agreement'],
    parts: ({ desired }) => {
      desired.endApiPod = () => undefined;
    },
  },
  {
    name: 'a deletion gets no grace at all',
    foundBy: ['I-08'],
    parts: ({ desired }) => {
      const { setApiPod } = desired;
      desired.setApiPod = (read, grace) =>
        setApiPod.call(desired, read, grace === undefined ? undefined : 0);
    },
  },
  {
    name: 'a new pod does not wait for the old one of its name',
    foundBy: ['I-09'],
    parts: ({ turns }) => {
      const { post } = turns;
      turns.post = (uid, event) =>
        post.call(turns, uid, event.type === 'Waiting' ? { type: 'Admitted' } : event);
    },
  },
  {
    name: 'all pods are let in',
    foundBy: ['I-18'],
    parts: ({ turns }) => {
      const { post } = turns;
      turns.post = (uid, event) =>
        post.call(turns, uid, event.type === 'Rejected' ? { type: 'Admitted' } : event);
    },
  },
  {
    name: 'what was let in is forgotten when the agent restarts, and the newest comes first',
    foundBy: ['I-18'],
    store: (store) => ({
      ...store,
      pods: () =>
        store.pods().map((stored) => {
          if (stored.ledger === undefined) return { ...stored, order: -stored.order };
          const { admitted: _, ...ledger } = stored.ledger;
          return { ...stored, order: -stored.order, ledger };
        }),
    }),
  },
  {
    name: 'the generation that was observed goes back',
    foundBy: ['I-14'],
    client: sending((request) => {
      if (request.method !== 'PATCH') return request;
      const body = bodyOf(request);
      const told = body['status'] as Json;
      const status = told['phase'] === 'Pending' ? told : { ...told, observedGeneration: 0 };
      return { ...request, body: JSON.stringify({ ...body, status }) };
    }),
  },
  {
    name: 'what failed is asked for again at once',
    foundBy: ['I-22'],
    client: (client) =>
      ({
        ...client,
        json: (request, how) => client.json(request, how).catch(() => client.json(request, how)),
      }) as ApiClient,
  },
  {
    name: 'a mirror pod is made without its annotation',
    foundBy: ['I-15'],
    client: sending((request) => {
      if (request.method !== 'POST') return request;
      const body = bodyOf(request);
      const { annotations, ...metadata } = body['metadata'] as { annotations: Json };
      const { [MIRROR_ANNOTATION]: _, ...rest } = annotations;
      return { ...request, body: { ...body, metadata: { ...metadata, annotations: rest } } };
    }),
  },
  {
    name: 'mirror pods are never taken away',
    foundBy: ['agreement', 'I-12'],
    parts: ({ mirrors }) => {
      mirrors.put = ((put) => (object) => {
        if (object.metadata.deletionTimestamp === undefined) put.call(mirrors, object);
      })(mirrors.put);
    },
  },
];
