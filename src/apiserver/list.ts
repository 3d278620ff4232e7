/** Complete lists, in pages. */
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { ApiClient } from './client.ts';
import { ApiFailure } from './errors.ts';
import { listPage, type ListOptions } from './objects.ts';
import type { ApiObject, Resource, Stored } from './resource.ts';

export type Complete<T> = {
  readonly objects: readonly Stored<T>[];
  readonly resourceVersion: string;
};

const PAGE_OBJECTS = 500;
/** Of each page. */
const DEADLINE_MS = 60_000;

/**
 * All objects of one moment, as the API server's quorum has them: what is not in it does not exist.
 * When the server forgets that moment between two pages, it is asked again for all at once.
 *
 * @throws ApiFailure as `listPage`; `ResourceExhausted` for more objects than limpet takes
 */
export async function listAll<T extends ApiObject>(
  client: ApiClient,
  resource: Resource<T>,
  options: Pick<ListOptions, 'namespace' | 'fieldSelector' | 'labelSelector'>,
  signal: AbortSignal,
): Promise<Complete<T>> {
  const call = { signal, deadlineMs: DEADLINE_MS };
  const objects: Stored<T>[] = [];
  let next: string | undefined;
  let version: string | undefined;
  do {
    const query = { ...options, limit: PAGE_OBJECTS, continue: next };
    let page;
    try {
      page = await listPage(client, resource, query, call);
    } catch (error) {
      const isExpired = error instanceof Failure && error.code === 'Gone' && next !== undefined;
      if (!isExpired) throw error;
    }
    if (page === undefined || page.resourceVersion !== (version ?? page.resourceVersion)) {
      page = await listPage(client, resource, options, call);
      objects.length = 0;
    }
    objects.push(...page.items);
    if (objects.length > LIMITS.apiListedObjects) {
      throw new ApiFailure(
        'ResourceExhausted',
        `the API server has more than ${LIMITS.apiListedObjects} ${resource.plural} in one list`,
      );
    }
    version = page.resourceVersion;
    next = page.continue;
  } while (next !== undefined);
  return { objects, resourceVersion: version };
}
