/**
 * What a client may do: the API server is asked (SubjectAccessReview), as the kubelet's Webhook
 * mode does. Nobody but the API server grants anything, so without it there is no access, save to
 * health.
 */
import { createHash } from 'node:crypto';
import { faultOf } from '../base/failure.ts';
import { HttpError } from './http-error.ts';
import type { AccessReview, ReviewAccess, ReviewCache, User } from './review.ts';
import { verbOf, type Target } from './route.ts';

export type AuthorizeOptions = {
  readonly nodeName: string;
  readonly reviewAccess: ReviewAccess;
  readonly access: ReviewCache<AccessReview>;
};

/** Resolves when `user` may do what `method` and `target` ask for. @throws HttpError 403 */
export async function authorize(
  user: User,
  method: string,
  target: Target,
  { nodeName, reviewAccess, access }: AuthorizeOptions,
): Promise<void> {
  const { subresources, route } = target;
  const verb = verbOf(method, target);
  const asked = `user=${user.name}, verb=${verb}, resource=nodes`;
  try {
    for (const subresource of subresources) {
      const name = nodeName;
      const question = { user, verb, version: 'v1', resource: 'nodes', subresource, name } as const;
      const { allowed } = await access.get(keyOf(user, verb, subresource), (signal) =>
        reviewAccess(question, signal),
      );
      if (allowed) return;
    }
  } catch (error) {
    if (route.kind === 'healthz') return;
    const why = `the API server can't be asked: ${faultOf(error).message}`;
    throw new HttpError(403, `Forbidden (${asked}): ${why}`);
  }
  throw new HttpError(403, `Forbidden (${asked}, subresource(s)=[${subresources.join(' ')}])\n`);
}

function keyOf({ name, uid, groups, extra }: User, verb: string, subresource: string): string {
  const parts = JSON.stringify([name, uid, groups, Object.entries(extra), verb, subresource]);
  return createHash('sha256').update(parts).digest('base64');
}
