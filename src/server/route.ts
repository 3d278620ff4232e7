/**
 * What a request to the kubelet's port asks for, and the rights that it takes. Both come from one
 * reading of the path, so that nothing is done with the rights of something else.
 * Source: pkg/kubelet/server (server.go, auth.go), v1.36; KEP-2862 for the finer subresources.
 */

export type PodTarget = {
  readonly namespace: string;
  readonly pod: string;
  readonly uid?: string;
};
export type ContainerTarget = PodTarget & { readonly container: string };

/** A stream in both directions, after an upgrade. */
export type StreamRoute =
  | ({ readonly kind: 'exec' | 'attach' } & ContainerTarget)
  | ({ readonly kind: 'portForward' } & PodTarget);

export type Route =
  | { readonly kind: 'healthz'; readonly check: string | undefined }
  | { readonly kind: 'pods' | 'runningPods' | 'configz' | 'unknown' }
  | ({ readonly kind: 'containerLogs' } & ContainerTarget)
  | StreamRoute;

export type Target = {
  readonly route: Route;
  /** The first part of the path. */
  readonly root: string;
  readonly query: URLSearchParams;
  /** The path without the query, which may hold secrets: a command to exec is there. */
  readonly path: string;
  /** The subresources of the node of which one must be allowed, the finest first. */
  readonly subresources: readonly string[];
};

/** The first part of a path, and the subresources that stand for it instead of `proxy`. */
const SUBRESOURCES: Readonly<Record<string, readonly string[]>> = {
  healthz: ['healthz', 'proxy'],
  pods: ['pods', 'proxy'],
  runningpods: ['pods', 'proxy'],
  configz: ['configz', 'proxy'],
  flagz: ['configz'],
  statusz: ['statusz'],
  stats: ['stats'],
  metrics: ['metrics'],
  logs: ['log'],
  spec: ['spec'],
  checkpoint: ['checkpoint'],
};

/** Reads the target of a request line; undefined when it is malformed. */
export function readTarget(url: string): Target | undefined {
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  if (!path.startsWith('/')) return undefined;
  const parts = path.slice(1).replace(/\/$/, '').split('/').map(decoded);
  const bad = (part: string | undefined): boolean =>
    part === undefined || part === '.' || part === '..' || /[/\0]/.test(part);
  if (parts.some(bad)) return undefined;
  const [first = '', ...rest] = parts as string[];
  return {
    route: routeOf(first, rest),
    root: first,
    query: new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)),
    path,
    subresources: Object.hasOwn(SUBRESOURCES, first) ? SUBRESOURCES[first]! : ['proxy'],
  };
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

function routeOf(first: string, rest: readonly string[]): Route {
  const unknown = { kind: 'unknown' } as const;
  if (rest.includes('')) return unknown;
  if (first === 'healthz' && rest.length <= 1) return { kind: 'healthz', check: rest[0] };
  if (rest.length === 0) {
    if (first === 'pods' || first === 'configz') return { kind: first };
    return first === 'runningpods' ? { kind: 'runningPods' } : unknown;
  }
  const [namespace, pod, third, fourth] = rest;
  if (namespace === undefined || pod === undefined || rest.length > 4) return unknown;
  if (first === 'portForward' && fourth === undefined) {
    return { kind: first, namespace, pod, ...(third !== undefined && { uid: third }) };
  }
  if (third === undefined) return unknown;
  if (first === 'containerLogs' && fourth === undefined) {
    return { kind: first, namespace, pod, container: third };
  }
  if (first !== 'exec' && first !== 'attach') return unknown;
  return fourth === undefined
    ? { kind: first, namespace, pod, container: third }
    : { kind: first, namespace, pod, uid: third, container: fourth };
}

export function isStream(route: Route): route is StreamRoute {
  return route.kind === 'exec' || route.kind === 'attach' || route.kind === 'portForward';
}

/** The methods that a route takes. */
export function methodsOf(route: Route): readonly string[] {
  if (isStream(route)) return ['GET', 'POST'];
  return route.kind === 'healthz' ? ['GET', 'HEAD'] : ['GET'];
}

/** What runs something in a container or opens a way into it. */
const CREATES: readonly string[] = ['exec', 'attach', 'portForward', 'run'];

const VERBS: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/**
 * The verb that must be allowed. What runs something in a container takes `create`, whatever the
 * method: a WebSocket always comes with GET, and who may only read may not run commands by it.
 * Empty for a method that stands for nothing.
 */
export function verbOf(method: string, { root }: Target): string {
  if (CREATES.includes(root)) return 'create';
  return Object.hasOwn(VERBS, method) ? VERBS[method]! : '';
}
