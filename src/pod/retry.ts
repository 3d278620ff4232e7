/** When what has failed is tried again. Part of `reduce`. */
import type { Fault } from '../base/failure.ts';
import { FAILURES } from '../base/failure.ts';
import type { Action, ActionResult, ImageSeen, Now, Retry, Seen } from './model.ts';

const MAX_RETRY_MS = 60_000;
/** A pod that can't be looked at may have ended: that must not stay unnoticed for long. */
const MAX_LOOK_RETRY_MS = 10_000;

/** The first retry after a second, then twice as long each time. */
export function retryAfter(
  before: Retry | undefined,
  fault: Fault,
  { type }: Action,
  now: Now,
): Retry {
  const mostMs = type === 'Look' ? MAX_LOOK_RETRY_MS : MAX_RETRY_MS;
  const failures = fault.code === 'Cancelled' ? 0 : (before?.failures ?? 0) + 1;
  const delayMs = failures === 0 ? 0 : Math.min(1000 * 2 ** Math.min(failures - 1, 6), mostMs);
  const slow = FAILURES[fault.code] === 'never' ? 5 : 1;
  return { fault, failures, untilMonoMs: now.monoMs + delayMs * slow };
}

/**
 * Without those that failed because the runtime was away, and those of sandboxes, which may have
 * failed for want of the network that it now has.
 */
export function withoutTransient(retries: Seen['retries']): Seen['retries'] {
  return Object.fromEntries(
    Object.entries(retries).filter(
      ([key, { fault }]) =>
        !/^sandbox\b/.test(key) &&
        fault.code !== 'Unavailable' &&
        fault.code !== 'DeadlineExceeded',
    ),
  );
}

const FIRST_PULL_BACKOFF_MS = 10_000;
const MAX_PULL_BACKOFF_MS = 300_000;

/** What is known of an image after a pull. */
export function imageAfter(
  before: ImageSeen | undefined,
  result: ActionResult,
  now: Now,
): ImageSeen {
  if (result.ok) return result.value === undefined ? {} : { ref: result.value };
  const { fault } = result;
  if (fault.code === 'Cancelled') return { fault };
  const delayMs =
    before?.backoff === undefined
      ? FIRST_PULL_BACKOFF_MS
      : Math.min(2 * before.backoff.delayMs, MAX_PULL_BACKOFF_MS);
  return { fault, backoff: { delayMs, untilMonoMs: now.monoMs + delayMs } };
}
