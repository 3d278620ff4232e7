/** What is done with the objects of the API, each one request. All throw as `ApiClient.json`. */
import { type ApiFailure, protocolFailure } from './errors.ts';
import type { ApiClient, CallOptions, JsonObject, Request } from './client.ts';
import {
  pathOf,
  withoutManagedFields,
  type ApiObject,
  type Key,
  type Query,
  type Resource,
  type Stored,
} from './resource.ts';

const PATCH_TYPES = {
  strategic: 'application/strategic-merge-patch+json',
  merge: 'application/merge-patch+json',
  json: 'application/json-patch+json',
} as const;

export type WriteOptions = CallOptions & {
  /**
   * The server sends back only the metadata, which is much less on the wire; the result has nothing
   * else then.
   */
  readonly metadataOnly?: boolean;
};

/** The metadata of one kind in place of the whole. Source: k8s.io/apimachinery, "as=" of Accept */
const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';

export async function getObject<T extends ApiObject>(
  client: ApiClient,
  resource: Resource<T>,
  key: Key,
  options: WriteOptions,
): Promise<Stored<T>> {
  return await ask(client, { method: 'GET', path: pathOf(resource, key) }, options);
}

/** Creates an object, or with a `key` with name and subresource what is asked of that object. */
export async function createObject<T extends ApiObject>(
  client: ApiClient,
  resource: Resource<T>,
  key: Partial<Key>,
  object: T,
  options: WriteOptions,
): Promise<Stored<T>> {
  const request: Request = { method: 'POST', path: pathOf(resource, key), body: object };
  return await ask(client, request, options);
}

/** Replaces an object; fails with `Conflict` when its `resourceVersion` is not the stored one. */
export async function updateObject<T extends ApiObject>(
  client: ApiClient,
  resource: Resource<T>,
  key: Key,
  object: T,
  options: WriteOptions,
): Promise<Stored<T>> {
  const request: Request = { method: 'PUT', path: pathOf(resource, key), body: object };
  return await ask(client, request, options);
}

/**
 * Changes an object. With `metadata.uid` in a strategic or merge patch it fails with `Conflict` when
 * another object has the name by now.
 */
export async function patchObject<T extends ApiObject>(
  client: ApiClient,
  resource: Resource<T>,
  key: Key,
  type: keyof typeof PATCH_TYPES,
  patch: unknown,
  options: WriteOptions,
): Promise<Stored<T>> {
  const path = pathOf(resource, key);
  const contentType = PATCH_TYPES[type];
  return await ask(client, { method: 'PATCH', path, body: patch, contentType }, options);
}

export type DeleteOptions = {
  readonly gracePeriodSeconds?: number;
  /** Fails with `Conflict` when the object is not this one. */
  readonly preconditions?: { readonly uid?: string; readonly resourceVersion?: string };
  readonly propagationPolicy?: 'Orphan' | 'Background' | 'Foreground';
};

/** Resolves when the server has taken the order; the object may be there for its grace period. */
export async function deleteObject(
  client: ApiClient,
  resource: Resource<ApiObject>,
  key: Key,
  how: DeleteOptions,
  options: CallOptions,
): Promise<void> {
  const body = { apiVersion: 'v1', kind: 'DeleteOptions', ...how };
  const request: Request = {
    method: 'DELETE',
    path: pathOf(resource, key),
    body,
    accept: acceptOf(true),
  };
  await client.json(request, options);
}

export type ListOptions = {
  readonly namespace?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly limit?: number | undefined;
  readonly continue?: string | undefined;
};

export type Page<T> = {
  readonly items: readonly Stored<T>[];
  readonly resourceVersion: string;
  /** Of the next page; undefined on the last one. */
  readonly continue: string | undefined;
};

/**
 * One page of a list as of now, or of the version of the page before. Each object is complete, or
 * the whole page fails: what is not in a list counts as deleted.
 */
export async function listPage<T extends ApiObject>(
  client: ApiClient,
  resource: Resource<T>,
  options: ListOptions,
  call: CallOptions,
): Promise<Page<T>> {
  const { namespace, ...rest } = options;
  const query: Query = rest;
  const request: Request = { method: 'GET', path: pathOf(resource, { namespace }, query) };
  const list = await client.json(request, call);
  const fail = (why: string): ApiFailure => protocolFailure(client.asked(request), why);
  if (list['kind'] !== `${resource.kind}List`) {
    throw fail(`it is a ${String(list['kind'])}, not a ${resource.kind}List`);
  }
  const metadata = (list['metadata'] ?? {}) as Readonly<Record<string, unknown>>;
  const { resourceVersion } = metadata;
  if (typeof resourceVersion !== 'string' || resourceVersion === '') {
    throw fail('the list has no resourceVersion');
  }
  const next = metadata['continue'];
  // Go writes an empty list as null.
  const items = list['items'] ?? [];
  if (!Array.isArray(items)) throw fail('the list has no items');
  return {
    items: (items as unknown[]).map((item) => {
      const object = storedObject<T>(item);
      if (object === undefined) throw fail('the list has an item without name, uid or version');
      return object;
    }),
    resourceVersion,
    continue: typeof next === 'string' && next !== '' ? next : undefined,
  };
}

/** An object of an answer, without what is never read; undefined when it is no stored object. */
export function storedObject<T extends ApiObject>(value: unknown): Stored<T> | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const metadata = ((value as ApiObject).metadata ?? {}) as JsonObject;
  const isThere = (field: string) => typeof metadata[field] === 'string' && metadata[field] !== '';
  if (!['name', 'uid', 'resourceVersion'].every(isThere)) return undefined;
  return withoutManagedFields(value as Stored<T>);
}

async function ask<T extends ApiObject>(
  client: ApiClient,
  request: Request,
  options: WriteOptions,
): Promise<Stored<T>> {
  const accept = acceptOf(options.metadataOnly === true);
  const answer = await client.json({ ...request, accept }, options);
  return withoutManagedFields(answer as Stored<T>);
}

function acceptOf(metadataOnly: boolean): string {
  return metadataOnly ? `${METADATA_ONLY},application/json` : 'application/json';
}
