/**
 * Failures of the outside world. A driver turns every foreign error into a `Failure` in one place;
 * the core sees only `{ code, message }` and decides by the code.
 */

export const FAILURES = {
  /** The other side is not there or the connection broke; it is told when to come back. */
  Unavailable: 'backoff',
  /** No answer in time: it may have happened all the same. */
  DeadlineExceeded: 'backoff',
  NotFound: 'backoff',
  AlreadyExists: 'backoff',
  /** The runtime holds the name of a half-written sandbox or container. */
  NameReserved: 'backoff',
  /** The request itself is wrong; the same request can't ever work. */
  InvalidArgument: 'never',
  PermissionDenied: 'backoff',
  /** One side could not prove to the other who it is: certificate, certificate authority, token. */
  Unauthenticated: 'backoff',
  /** The object is not as the request supposes: it has to be read again first. */
  Conflict: 'backoff',
  /** A version or a page that the API server no longer has: it has to be listed again. */
  Gone: 'backoff',
  /** The runtime has no such call. */
  Unimplemented: 'never',
  ResourceExhausted: 'backoff',
  /** No space left on a device, or a quota is reached. */
  NoSpace: 'backoff',
  Cancelled: 'now',
  /** Anything else that the other side said. */
  Unknown: 'backoff',
} as const satisfies Record<string, 'now' | 'backoff' | 'never'>;

export type FailureCode = keyof typeof FAILURES;

/** A failure as data. `reason` is the kubelet's word for it, where it has one. */
export type Fault = {
  readonly code: FailureCode;
  readonly message: string;
  readonly reason?: string;
};

export class Failure extends Error {
  readonly code: FailureCode;
  readonly reason: string | undefined;

  constructor(
    code: FailureCode,
    message: string,
    options: { cause?: unknown; reason?: string } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'Failure';
    this.code = code;
    this.reason = options.reason;
  }
}

/** What the core is told of an error that was caught: anything unforeseen is `Unknown`. */
export function faultOf(error: unknown): Fault {
  if (error instanceof Failure) {
    const { code, message, reason } = error;
    return reason === undefined ? { code, message } : { code, message, reason };
  }
  const errno = errnoOf(error);
  const message = error instanceof Error ? error.message : String(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') return { code: 'NoSpace', message };
  return { code: 'Unknown', message };
}

/** The `code` of a system error (`ENOENT`), or undefined. */
export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** Ends the process on a broken invariant: a restart and a relist heal what a guess would hide. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantBroken(message);
}

export class InvariantBroken extends Error {
  constructor(message: string) {
    super(`broken invariant: ${message}`);
    this.name = 'InvariantBroken';
  }
}
