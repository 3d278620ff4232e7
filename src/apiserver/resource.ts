/** Objects of the API, as they are on the wire, and where they are found. */
import type {
  CoreV1Event,
  AuthenticationV1TokenRequest,
  V1CertificateSigningRequest,
  V1ConfigMap,
  V1Lease,
  V1Node,
  V1ObjectMeta,
  V1Pod,
  V1Secret,
  V1Service,
  V1SubjectAccessReview,
  V1TokenReview,
} from '@kubernetes/client-node/dist/gen/models/all.js';

import type { Wire } from '../kube/wire.ts';

/** What all objects have; of a stored one, `uid` and `resourceVersion` are never missing. */
export type ApiObject = {
  readonly apiVersion?: string | undefined;
  readonly kind?: string | undefined;
  readonly metadata?: Wire<V1ObjectMeta> | undefined;
};

/** An object that was read. */
export type Stored<T> = T & {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
  };
};

/** A kind of objects. `T` is their type; nothing of it exists at run time. */
export type Resource<T extends ApiObject> = {
  /** `/api/v1`, `/apis/coordination.k8s.io/v1` */
  readonly api: string;
  readonly plural: string;
  readonly kind: string;
  readonly of?: T;
};

export const PODS: Resource<Wire<V1Pod>> = { api: '/api/v1', plural: 'pods', kind: 'Pod' };
export const NODES: Resource<Wire<V1Node>> = { api: '/api/v1', plural: 'nodes', kind: 'Node' };
export const SERVICES: Resource<Wire<V1Service>> = {
  api: '/api/v1',
  plural: 'services',
  kind: 'Service',
};
export const EVENTS: Resource<Wire<CoreV1Event>> = {
  api: '/api/v1',
  plural: 'events',
  kind: 'Event',
};
export const CONFIG_MAPS: Resource<Wire<V1ConfigMap>> = {
  api: '/api/v1',
  plural: 'configmaps',
  kind: 'ConfigMap',
};
export const SECRETS: Resource<Wire<V1Secret>> = {
  api: '/api/v1',
  plural: 'secrets',
  kind: 'Secret',
};
/** With the subresource `token`: what is sent and answered there. */
export const SERVICE_ACCOUNT_TOKENS: Resource<Wire<AuthenticationV1TokenRequest>> = {
  api: '/api/v1',
  plural: 'serviceaccounts',
  kind: 'TokenRequest',
};

export const LEASES: Resource<Wire<V1Lease>> = {
  api: '/apis/coordination.k8s.io/v1',
  plural: 'leases',
  kind: 'Lease',
};
export const CERTIFICATE_SIGNING_REQUESTS: Resource<Wire<V1CertificateSigningRequest>> = {
  api: '/apis/certificates.k8s.io/v1',
  plural: 'certificatesigningrequests',
  kind: 'CertificateSigningRequest',
};
export const TOKEN_REVIEWS: Resource<Wire<V1TokenReview>> = {
  api: '/apis/authentication.k8s.io/v1',
  plural: 'tokenreviews',
  kind: 'TokenReview',
};
export const SUBJECT_ACCESS_REVIEWS: Resource<Wire<V1SubjectAccessReview>> = {
  api: '/apis/authorization.k8s.io/v1',
  plural: 'subjectaccessreviews',
  kind: 'SubjectAccessReview',
};

/** One object, or with a subresource a part of it: `status`, `token`, `eviction`. */
export type Key = {
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly subresource?: string;
};

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * The path of a collection, or with a name of an object.
 * @throws RangeError for a name that is no part of a path, which would lead elsewhere
 */
export function pathOf(
  resource: Resource<ApiObject>,
  key: Partial<Key>,
  query: Query = {},
): string {
  const { namespace, name, subresource } = key;
  const parts = [resource.api];
  if (namespace !== undefined) parts.push('namespaces', part(namespace));
  parts.push(resource.plural);
  if (name !== undefined) parts.push(part(name));
  if (subresource !== undefined) parts.push(subresource);
  const search = new URLSearchParams();
  for (const [option, value] of Object.entries(query)) {
    if (value !== undefined) search.set(option, String(value));
  }
  return search.size === 0 ? parts.join('/') : `${parts.join('/')}?${search.toString()}`;
}

function part(name: string): string {
  if (name === '' || name === '.' || name === '..' || /[/%]/.test(name)) {
    throw new RangeError(`${JSON.stringify(name)} is no name of an object`);
  }
  return encodeURIComponent(name);
}

/** The object without the record of who set which field, a third of it, which limpet never reads. */
export function withoutManagedFields<T extends ApiObject>(object: T): T {
  if (object.metadata?.managedFields === undefined) return object;
  const { managedFields: _, ...metadata } = object.metadata;
  return { ...object, metadata };
}
