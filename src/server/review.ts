/**
 * What the server asks the API server about its clients, and a memory for the answers. The
 * questions are functions that are passed in, so the server knows no API client.
 */
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';

/** A client, as TokenReview and SubjectAccessReview describe one. */
export type User = {
  readonly name: string;
  readonly uid: string;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
};

export type TokenReview = { readonly authenticated: boolean; readonly user?: User };

/**
 * Asks who a token belongs to (TokenReview).
 * @throws Failure when there is no answer: `Unavailable`, `DeadlineExceeded`, …
 */
export type ReviewToken = (token: string, signal: AbortSignal) => Promise<TokenReview>;

export type AccessQuestion = {
  readonly user: User;
  readonly verb: string;
  readonly version: 'v1';
  readonly resource: 'nodes';
  readonly subresource: string;
  /** The node's own name. */
  readonly name: string;
};

export type AccessReview = { readonly allowed: boolean; readonly reason?: string };

/** Asks whether a user may do something (SubjectAccessReview). @throws Failure as `ReviewToken` */
export type ReviewAccess = (question: AccessQuestion, signal: AbortSignal) => Promise<AccessReview>;

/** Whoever waits for a review is a client with a connection open; the kubelet waits 30 s. */
const DEADLINE_MS = 30_000;

export type ReviewCache<T> = {
  /** The answer remembered for `key`, or that of `ask`, which is then remembered for `ttlMs`. */
  get(key: string, ask: (signal: AbortSignal) => Promise<T>): Promise<T>;
};

/**
 * Remembers at most `size` answers, those asked for last, each for the `ttlMs` of its value. For
 * one key there is one question under way at a time. Failures are not remembered. `signal` ends all
 * questions; who asked one and has left does not, since others may wait for it.
 */
export function createReviewCache<T>(options: {
  readonly clock: Clock;
  readonly size: number;
  readonly signal: AbortSignal;
  readonly ttlMs: (value: T) => number;
}): ReviewCache<T> {
  const { clock, size, signal, ttlMs } = options;
  const entries = new Map<string, { readonly answer: Promise<T>; untilMonoMs: number }>();
  return {
    get(key, ask) {
      const found = entries.get(key);
      entries.delete(key);
      if (found !== undefined && clock.now().monoMs < found.untilMonoMs) {
        entries.set(key, found);
        return found.answer;
      }
      const answer = withDeadline(clock, signal, ask);
      const entry = { answer, untilMonoMs: Number.POSITIVE_INFINITY };
      entries.set(key, entry);
      answer.then(
        (value) => (entry.untilMonoMs = clock.now().monoMs + ttlMs(value)),
        () => {
          if (entries.get(key) === entry) entries.delete(key);
        },
      );
      for (const oldest of entries.keys()) {
        if (entries.size <= size) break;
        entries.delete(oldest);
      }
      return answer;
    },
  };
}

async function withDeadline<T>(
  clock: Clock,
  signal: AbortSignal,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  const { promise, reject } = Promise.withResolvers<never>();
  const end = (reason: Failure): void => {
    controller.abort(reason);
    reject(reason);
  };
  const onAbort = (): void => end(new Failure('Cancelled', 'the agent is stopping'));
  const timer = clock.at(clock.now().monoMs + DEADLINE_MS, () =>
    end(new Failure('DeadlineExceeded', `no answer within ${DEADLINE_MS / 1000} s`)),
  );
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([ask(controller.signal), promise]);
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', onAbort);
  }
}
