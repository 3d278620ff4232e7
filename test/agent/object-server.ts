/** The part of an API server that gives a node's pods their objects and tokens. */
import { createPeer, json, refuse, type Call, type Peer } from '../apiserver/peer.ts';

type Json = Readonly<Record<string, unknown>>;
type Stored = Json & { metadata: { name: string; namespace: string; uid: string } };
type Watch = { readonly call: Call; readonly of: (key: string) => boolean };

const KINDS: Readonly<Record<string, string>> = {
  configmaps: 'ConfigMap',
  secrets: 'Secret',
  services: 'Service',
};

export type ObjectServer = AsyncDisposable & {
  readonly peer: Peer;
  /** Creates or changes an object: `secrets/x/name`. */
  put(key: string, content: Json, metadata?: Json): void;
  remove(key: string): void;
  /** Names that the authorizer does not let the node see. */
  readonly forbidden: Set<string>;
  /** `list secrets/x/a`, `watch services/x/`, `token x/default` */
  readonly asked: string[];
  /** Watches that are open now. */
  readonly watches: Set<Watch>;
  /** Of the next tokens, in seconds. */
  tokenSeconds: number;
  /** What the bodies of token requests were. */
  readonly tokenRequests: Json[];
};

export async function createObjectServer(): Promise<ObjectServer> {
  const peer = await createPeer();
  const objects = new Map<string, Stored>();
  const watches = new Set<Watch>();
  let version = 1;
  let tokens = 0;
  const tell = (type: string, key: string, object: Stored) => {
    for (const { call, of } of watches) {
      if (of(key)) call.response.write(`${JSON.stringify({ type, object })}\n`);
    }
  };
  const server: ObjectServer = {
    ...{ peer, watches, forbidden: new Set(), asked: [], tokenSeconds: 3600, tokenRequests: [] },
    put(key, content, metadata = {}) {
      const [plural = '', namespace = '', name = ''] = key.split('/');
      const old = objects.get(key);
      version += 1;
      const uid = old?.metadata.uid ?? `uid-${version}`;
      const object = {
        ...{ apiVersion: 'v1', kind: KINDS[plural], ...content },
        metadata: { name, namespace, uid, ...metadata, resourceVersion: String(version) },
      };
      objects.set(key, object);
      tell(old === undefined ? 'ADDED' : 'MODIFIED', key, object);
    },
    remove(key) {
      const old = objects.get(key);
      if (old === undefined) return;
      version += 1;
      objects.delete(key);
      tell('DELETED', key, {
        ...old,
        metadata: { ...old.metadata, resourceVersion: String(version) },
      } as Stored);
    },
    [Symbol.asyncDispose]: () => peer[Symbol.asyncDispose](),
  };
  peer.answer = (call) => {
    const { url, response, request, body } = call;
    const path = /^\/api\/v1\/namespaces\/([^/]+)\/([a-z]+)(?:\/([^/]+)\/token)?$/.exec(
      url.pathname,
    );
    const [, namespace = '', plural = '', account] = path ?? [];
    if (request.method === 'POST') {
      server.asked.push(`token ${namespace}/${account}`);
      if (server.forbidden.has(account ?? '')) return refuse(response, 403, 'Forbidden', 'no');
      const asked = JSON.parse(body) as Json & { spec: Json };
      server.tokenRequests.push(asked);
      const now = new Date();
      const until = new Date(now.getTime() + server.tokenSeconds * 1000);
      return json(response, {
        ...asked,
        metadata: { name: account, namespace, creationTimestamp: now.toISOString() },
        status: { token: `token-${++tokens}`, expirationTimestamp: until.toISOString() },
      });
    }
    const isWatch = url.searchParams.get('watch') === 'true';
    const name = /^metadata\.name=(.+)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1];
    const prefix = `${plural}/${namespace}/${name ?? ''}`;
    server.asked.push(`${isWatch ? 'watch' : 'list'} ${prefix}`);
    if (name !== undefined && server.forbidden.has(name)) {
      return refuse(response, 403, 'Forbidden', `no relationship found to ${name}`);
    }
    const of = (key: string) => (name === undefined ? key.startsWith(prefix) : key === prefix);
    if (!isWatch) {
      const items = [...objects].filter(([key]) => of(key)).map(([, object]) => object);
      const metadata = { resourceVersion: String(version) };
      return json(response, { kind: `${KINDS[plural]}List`, apiVersion: 'v1', metadata, items });
    }
    const watch: Watch = { call, of };
    watches.add(watch);
    response.on('close', () => watches.delete(watch));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
  };
  return server;
}
