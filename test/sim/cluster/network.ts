/**
 * What is between the node and its API server: the part of `ApiClient` that the watch and the
 * writers use, over a network that loses, delays and breaks.
 */
import type {
  ApiClient,
  CallOptions,
  Request,
  StreamOptions,
} from '../../../src/apiserver/client.ts';
import {
  cancelledFailure,
  connectionFailure,
  cutFailure,
  deadlineFailure,
  foreignFailure,
  statusFailure,
  type Asked,
} from '../../../src/apiserver/errors.ts';
import type { Random } from '../../../src/base/random.ts';
import { between, chance, pick } from '../choose.ts';
import { callOff, type Entry } from '../queue.ts';
import {
  failure,
  type Answer,
  type ApiServer,
  type PodObject,
  type Watcher,
} from './api-server.ts';
import type { Life, Time } from './time.ts';

export type Fate =
  'well' | 'slow' | 'reset' | 'hangs' | 'answer lost' | 'portal' | '500' | '503' | '403' | '429';

export type NetworkPorts = {
  readonly time: Time;
  readonly random: Random;
  readonly fate: () => Fate;
  readonly trace: (line: string) => void;
  /** A request reached a server, before it is answered. */
  readonly onRequest: (server: ApiServer, request: Request) => void;
  /** The node sends. */
  readonly onSent: (request: Request, life: Life) => void;
  readonly onRetryAfter: (request: Request, life: Life, untilMs: number) => void;
  readonly onWatching: (server: ApiServer, is: boolean) => void;
};

/** One request until it is over, which it is once. */
type Call = {
  readonly asked: Asked;
  readonly over: (run: () => void) => void;
  readonly fail: (error: unknown) => void;
  readonly deadline: (ms: number) => void;
  readonly whenOver: (run: () => void) => void;
  readonly isOver: () => boolean;
};

const BOOKMARK_MS = 60_000;

export class Network {
  /** `refused`: an answer at once that nothing is there; `silent`: none at all. */
  link: 'up' | 'refused' | 'silent' = 'up';
  /** Who answers. */
  server: ApiServer;
  /** Changes with the way that packets take: what is under way is lost. */
  #route = 0;
  readonly #streams = new Set<() => void>();
  readonly #ports: NetworkPorts;

  constructor(server: ApiServer, ports: NetworkPorts) {
    this.server = server;
    this.#ports = ports;
  }

  set(link: Network['link'], server = this.server): void {
    this.link = link;
    this.server = server;
    this.break();
  }

  /** All connections are lost; the ends may learn of it late. */
  break(): void {
    this.#route += 1;
    for (const broken of [...this.#streams]) broken();
  }

  client(life: Life): ApiClient {
    const client: Pick<ApiClient, 'asked' | 'json' | 'stream'> = {
      asked: ({ method, path }) => ({
        what: `${method} ${path.split('?', 1)[0]}`,
        server: 'https://10.0.0.1:6443',
        wallMs: this.#ports.time.now().wallMs,
        doubt: undefined,
      }),
      json: (request, options) => this.#json(client, life, request, options),
      stream: (request, options) => this.#stream(client, life, request, options),
    };
    // A class with private fields: no other object is one, whatever it can do.
    return client as unknown as ApiClient;
  }

  /** One request until its answer begins. `over` ends it, once; the deadline can be moved. */
  #begin(
    client: Pick<ApiClient, 'asked'>,
    life: Life,
    request: Request,
    signal: AbortSignal,
    reject: (error: unknown) => void,
  ): Call {
    const { time } = this.#ports;
    const asked = client.asked(request);
    let isOver = false;
    let timer: Entry | undefined;
    let ended: (() => void) | undefined;
    const over = (run: () => void) => {
      if (isOver || life.isDead) return;
      isOver = true;
      ended?.();
      callOff(timer);
      signal.removeEventListener('abort', onAbort);
      run();
    };
    const fail = (error: unknown) => over(() => reject(error));
    const onAbort = () => fail(cancelledFailure(asked.what, signal.reason));
    const deadline = (ms: number) => {
      callOff(timer);
      timer = time.schedule(ms, () => fail(deadlineFailure(asked, `no answer in ${ms} ms`)));
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    const whenOver = (run: () => void) => void (ended = run);
    return { asked, over, fail, deadline, whenOver, isOver: () => isOver || life.isDead };
  }

  /** Brings the request to the server, or not. `lost` is told when the way there is no more. */
  #send(
    { asked, fail, isOver }: Call,
    life: Life,
    request: Request,
    arrived: (server: ApiServer, back: (run: () => void, inMs?: number) => void) => void,
  ): void {
    const { time, random, fate, onSent, onRequest, onRetryAfter, trace } = this.#ports;
    if (isOver()) return;
    onSent(request, life);
    const lot = fate();
    const { link } = this;
    const bad = lot === 'well' && link === 'up' ? '' : ` (${link}, ${lot})`;
    const body = request.method === 'GET' ? '' : ` ${JSON.stringify(request.body).slice(0, 120)}`;
    trace(`request ${request.method} ${request.path}${bad}${body}`);
    const reset = (inMs: number) =>
      time.schedule(inMs, () => fail(cutFailure(asked, 'the connection was reset')));
    if (link === 'silent' || lot === 'hangs') return;
    if (link === 'refused') {
      const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
      time.schedule(between(random, 1, 20), () => fail(connectionFailure(asked, cause)));
      return;
    }
    if (lot === 'reset') return void reset(between(random, 1, 50));
    const route = this.#route;
    const lost = () => {
      if (chance(random, 0.5)) reset(between(random, 1, 3000));
    };
    const wait = (high: number) => between(random, 1, lot === 'slow' ? high * 1000 : high);
    time.schedule(wait(10), () => {
      if (route !== this.#route) return lost();
      // That it was cancelled comes right behind it, on the same connection: the server gives it up.
      if (isOver()) return;
      const answer = (code: number, more: object = {}, headers = {}) => {
        const { body } = failure(code, '', { ...more });
        time.schedule(wait(10), () => fail(statusFailure(asked, code, body, headers)));
      };
      if (lot === 'portal') return fail(foreignFailure(asked, 'it answers with a page'));
      if (lot === '429') {
        const seconds = between(random, 1, 20);
        time.schedule(wait(10), () => {
          if (isOver()) return;
          onRetryAfter(request, life, time.nowMs + seconds * 1000);
          const headers = { 'retry-after': String(seconds) };
          fail(statusFailure(asked, 429, failure(429, 'TooManyRequests').body, headers));
        });
        return;
      }
      if (lot === '500' || lot === '503' || lot === '403') return answer(Number(lot));
      const server = this.server;
      onRequest(server, request);
      arrived(server, (run, inMs = wait(10)) => {
        if (lot === 'answer lost') return lost();
        time.schedule(inMs, () => (route === this.#route ? run() : lost()));
      });
    });
  }

  #json(
    client: Pick<ApiClient, 'asked'>,
    life: Life,
    request: Request,
    { signal, deadlineMs }: CallOptions,
  ): ReturnType<ApiClient['json']> {
    return new Promise((resolve, reject) => {
      const call = this.#begin(client, life, request, signal, reject);
      call.deadline(deadlineMs);
      this.#send(call, life, request, (server, back) => {
        const { code, body } = respond(server, request);
        // As it is on the wire: nothing is shared.
        const text = JSON.stringify(body);
        back(() => {
          if (code >= 400) call.fail(statusFailure(call.asked, code, JSON.parse(text), {}));
          else call.over(() => resolve(JSON.parse(text) as Awaited<ReturnType<ApiClient['json']>>));
        });
      });
    });
  }

  #stream(
    client: Pick<ApiClient, 'asked'>,
    life: Life,
    request: Request,
    { signal, openMs, silenceMs, onOpen, onData }: StreamOptions,
  ): Promise<void> {
    const { time, random, onWatching } = this.#ports;
    return new Promise<void>((resolve, reject) => {
      const call = this.#begin(client, life, request, signal, reject);
      call.deadline(openMs);
      this.#send(call, life, request, (server, back) => {
        const query = new URLSearchParams(request.path.split('?')[1]);
        let isOpen = true;
        let atMs = 0;
        const say = (event: object) => {
          const text = `${JSON.stringify(event)}\n`;
          atMs = Math.max(atMs, time.nowMs + between(random, 1, 40));
          time.schedule(atMs - time.nowMs, () => {
            if (!isOpen || call.isOver()) return;
            call.deadline(silenceMs);
            const cut = between(random, 0, text.length);
            try {
              for (const part of [text.slice(0, cut), text.slice(cut)]) onData(Buffer.from(part));
            } catch (error) {
              call.fail(error);
            }
          });
        };
        const watcher: Watcher = { changed: (type, object) => say({ type, object }) };
        const close = () => {
          isOpen = false;
          server.watchers.delete(watcher);
          this.#streams.delete(broken);
          onWatching(server, false);
        };
        const broken = () => {
          close();
          if (!chance(random, 0.5)) return;
          time.schedule(between(random, 1, 3000), () =>
            call.fail(cutFailure(call.asked, 'the connection was lost')),
          );
        };
        const isAsEvent = chance(random, 0.5);
        back(() => {
          const refused = server.watch(query.get('resourceVersion')!, watcher);
          if (refused !== undefined && (refused.code !== 410 || !isAsEvent)) {
            return call.fail(statusFailure(call.asked, refused.code, refused.body, {}));
          }
          if (call.isOver()) return void server.watchers.delete(watcher);
          call.whenOver(close);
          this.#streams.add(broken);
          onWatching(server, true);
          call.deadline(silenceMs);
          onOpen();
          if (refused !== undefined) say({ type: 'ERROR', object: refused.body });
          const bookmark = () => {
            if (!isOpen) return;
            const metadata = { resourceVersion: String(server.version) };
            say({ type: 'BOOKMARK', object: { kind: 'Pod', metadata } });
            time.schedule(BOOKMARK_MS, bookmark);
          };
          time.schedule(BOOKMARK_MS, bookmark);
          const lastsMs = Number(query.get('timeoutSeconds')) * 1000;
          time.schedule(lastsMs, () => {
            if (isOpen) close();
            else return;
            time.schedule(5, () => call.over(resolve));
          });
        });
      });
    });
  }
}

const POD = /^\/api\/v1\/namespaces\/([^/]+)\/pods(?:\/([^/]+?))?(\/status)?$/;

function respond(server: ApiServer, { method, path, body }: Request): Answer {
  const [where, query] = path.split('?');
  if (where === '/api/v1/pods') return server.list(new URLSearchParams(query));
  if (where!.startsWith('/api/v1/nodes/')) return identity('Node', server.nodeUid);
  if (where === '/api/v1/namespaces/default/services/kubernetes') {
    return identity('Service', server.serviceUid);
  }
  const [, namespace, name, status] = POD.exec(where!) ?? [];
  const key = `${namespace}/${name}`;
  const json = typeof body === 'string' ? (JSON.parse(body) as object) : (body as object);
  if (method === 'PATCH' && status !== undefined) {
    return server.patchStatus(key, json as Parameters<ApiServer['patchStatus']>[1]);
  }
  if (method === 'DELETE') return server.delete(key, json);
  if (method === 'POST' && namespace !== undefined && name === undefined) {
    return server.post(namespace, json as PodObject);
  }
  throw new Error(`the simulated API server has no ${method} ${path}`);
}

function identity(kind: string, uid: string): Answer {
  const metadata = { name: 'x', uid, resourceVersion: '1' };
  return { code: 200, body: { apiVersion: 'v1', kind, metadata } };
}

export const FATES: readonly Fate[] = [
  ...(['slow', 'reset', 'hangs', 'answer lost', 'portal', '500', '503', '403', '429'] as const),
];

export function badFate(random: Random): Fate {
  return pick(random, FATES);
}
