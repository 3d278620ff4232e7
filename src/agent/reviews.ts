/** Asks the API server who is at the kubelet's port, and what they may do. */
import { createObject } from '../apiserver/objects.ts';
import { SUBJECT_ACCESS_REVIEWS, TOKEN_REVIEWS } from '../apiserver/resource.ts';
import { Failure } from '../base/failure.ts';
import type { ReviewAccess, ReviewToken } from '../server/review.ts';
import type { Session } from './cluster.ts';

const DEADLINE_MS = 10_000;

/** Reviews by the session of the moment. Without one they fail, and whoever has come is denied. */
export function clusterReviews(session: () => Session | undefined): {
  readonly reviewToken: ReviewToken;
  readonly reviewAccess: ReviewAccess;
} {
  const client = () => {
    const now = session();
    if (now !== undefined) return now.client;
    throw new Failure('Unavailable', 'this node has no way to its cluster yet; see: limpet status');
  };
  return {
    reviewToken: async (token, signal) => {
      const review = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        metadata: {},
        spec: { token },
      };
      const call = { signal, deadlineMs: DEADLINE_MS };
      const { status } = await createObject(client(), TOKEN_REVIEWS, {}, review, call);
      const { authenticated, user } = status ?? {};
      if (authenticated !== true || !user?.username) return { authenticated: false };
      const { username: name, uid = '', groups = [], extra = {} } = user;
      return { authenticated: true, user: { name, uid, groups, extra } };
    },
    reviewAccess: async ({ user, ...resourceAttributes }, signal) => {
      const { name, uid, groups, extra } = user;
      const review = {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        metadata: {},
        spec: { user: name, uid, groups, extra, resourceAttributes },
      };
      const call = { signal, deadlineMs: DEADLINE_MS };
      const { status } = await createObject(client(), SUBJECT_ACCESS_REVIEWS, {}, review, call);
      // A denial outweighs, whatever else is said.
      const allowed = status?.allowed === true && status.denied !== true;
      return { allowed, ...(status?.reason && { reason: status.reason }) };
    },
  };
}
