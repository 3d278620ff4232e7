/** The one place where the runtime's errors become a `Failure`. */
import { Failure, errnoOf, type FailureCode } from '../base/failure.ts';

/** gRPC's status codes. Source: grpc.io, "Status codes and their use in gRPC". */
const CODES: Readonly<Record<number, FailureCode>> = {
  1: 'Cancelled',
  2: 'Unknown',
  3: 'InvalidArgument',
  4: 'DeadlineExceeded',
  5: 'NotFound',
  6: 'AlreadyExists',
  7: 'PermissionDenied',
  8: 'ResourceExhausted',
  9: 'Unknown',
  10: 'Unknown',
  11: 'InvalidArgument',
  12: 'Unimplemented',
  13: 'Unknown',
  14: 'Unavailable',
  15: 'Unknown',
  16: 'PermissionDenied',
};

/**
 * What a message says more exactly than its code: containerd and CRI-O answer these with `Unknown`
 * or with whatever code the layer below had.
 */
const SAID: readonly (readonly [pattern: RegExp, code: FailureCode])[] = [
  [/no space left on device|disk quota exceeded/i, 'NoSpace'],
  // "failed to reserve sandbox name …: name "web_default_…" is reserved for "<id>"".
  [/\bname\b.{0,400}\bis reserved\b/is, 'NameReserved'],
  // containerd answers before its CRI plugin has loaded its state.
  [/server is not initialized yet/i, 'Unavailable'],
];

/** Reasons of a failed pull that the CRI spells at the start of a message. */
const REASONS = ['RegistryUnavailable', 'SignatureValidationFailed'] as const;

const MAX_MESSAGE_CHARS = 4096;

/** A runtime's answer that is not OK. `code` is gRPC's number, `said` its message. */
export function statusFailure(method: string, code: number, said: string): Failure {
  const text = said.length > MAX_MESSAGE_CHARS ? `${said.slice(0, MAX_MESSAGE_CHARS)}…` : said;
  if (/unknown service runtime\.v1\./i.test(text)) {
    return new Failure(
      'Unavailable',
      `${method}: the runtime has no CRI v1 (${text}): take "cri" out of disabled_plugins in ` +
        '/etc/containerd/config.toml and restart containerd',
    );
  }
  const exact = SAID.find(([pattern]) => pattern.test(text));
  const mapped = exact?.[1] ?? CODES[code] ?? 'Unknown';
  const reason = REASONS.find((word) => text.includes(`${word}:`) || text === word);
  const message = `${method}: ${text === '' ? `status ${code}` : text}`;
  return new Failure(mapped, message, reason === undefined ? {} : { reason });
}

/** An answer that is no gRPC at all. */
export function protocolFailure(method: string, what: string): Failure {
  return new Failure('Unknown', `${method}: the runtime broke the gRPC protocol: ${what}`);
}

/** The socket could not be opened. */
export function connectFailure(path: string, cause: unknown): Failure {
  const errno = errnoOf(cause);
  const advice: Readonly<Record<string, string>> = {
    ENOENT: 'there is no such socket: is the runtime installed and running?',
    ECONNREFUSED: 'nobody listens there: the runtime has stopped',
    EACCES: 'permission denied: limpet has to run as root',
    ENOTSOCK: 'that is not a socket',
  };
  const why = (errno && advice[errno]) ?? (cause instanceof Error ? cause.message : String(cause));
  const code = errno === 'EACCES' ? 'PermissionDenied' : 'Unavailable';
  return new Failure(code, `can't reach the container runtime at ${path}: ${why}`, { cause });
}

/** The connection broke while a call was under way: it may have happened all the same. */
export function brokenFailure(method: string, path: string, cause: unknown): Failure {
  const why = cause instanceof Error ? `: ${cause.message}` : '';
  return new Failure('Unavailable', `${method}: lost the runtime at ${path} in mid-call${why}`, {
    cause,
  });
}

export function deadlineFailure(method: string, deadlineMs: number): Failure {
  return new Failure(
    'DeadlineExceeded',
    `${method}: no answer from the runtime within ${deadlineMs / 1000} s`,
  );
}

export function cancelledFailure(method: string, cause: unknown): Failure {
  return new Failure('Cancelled', `${method} was cancelled`, { cause });
}
