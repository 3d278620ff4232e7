/**
 * The one place where what the API server says, and what only pretends to be the API server,
 * becomes a `Failure`. Nothing that was sent and no body of an answer is quoted, save the message
 * of a Kubernetes `Status`.
 */
import { errnoOf, Failure, type FailureCode } from '../base/failure.ts';

/** A failure of a request. */
export class ApiFailure extends Failure {
  /** The HTTP status; undefined when there was no answer. */
  readonly status: number | undefined;
  /** For how long the server wants to be left alone; undefined when it did not say. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: FailureCode,
    message: string,
    options: { cause?: unknown; reason?: string; status?: number; retryAfterMs?: number } = {},
  ) {
    super(code, message, options);
    this.name = 'ApiFailure';
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** `metav1.Status`, as far as it is read. Source: k8s.io/apimachinery pkg/apis/meta/v1/types.go */
type Status = {
  readonly message?: unknown;
  readonly reason?: unknown;
  readonly code?: unknown;
  readonly details?: {
    readonly retryAfterSeconds?: unknown;
    readonly causes?: unknown;
  };
};

/** What was asked, for the messages. */
export type Asked = {
  /** `GET /api/v1/nodes/pi1` */
  readonly what: string;
  /** `https://10.0.0.1:6443` */
  readonly server: string;
  /** What this machine's clock shows. */
  readonly wallMs: number;
  /** What is wrong with our own certificate, if anything is. */
  readonly doubt: string | undefined;
};

export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

const CODES: Readonly<Record<number, FailureCode>> = {
  401: 'Unauthenticated',
  403: 'PermissionDenied',
  404: 'NotFound',
  408: 'DeadlineExceeded',
  409: 'Conflict',
  410: 'Gone',
  429: 'ResourceExhausted',
  502: 'Unavailable',
  503: 'Unavailable',
  504: 'DeadlineExceeded',
};

const MAX_MESSAGE_CHARS = 4096;
/** A longer Retry-After is a mistake; nobody wants a node that is mute for a day. */
const MAX_RETRY_AFTER_MS = 10 * 60_000;

export function isStatus(body: unknown): body is Status & { readonly status?: unknown } {
  return (
    typeof body === 'object' && body !== null && (body as { kind?: unknown }).kind === 'Status'
  );
}

/** An answer of the API server that is not success, or, without headers, an `ERROR` of a watch. */
export function statusFailure(
  asked: Asked,
  httpStatus: number,
  body: unknown,
  headers: Headers,
): ApiFailure {
  const status: Status = isStatus(body) ? body : {};
  const reason = typeof status.reason === 'string' ? status.reason : undefined;
  const said = typeof status.message === 'string' ? clean(status.message) : '';
  const retryAfterMs = retryAfter(headers, status, asked.wallMs);
  const hint = httpStatus === 401 ? (asked.doubt ?? HINTS[401]) : HINTS[httpStatus];
  const text = said === '' ? (reason ?? 'the server did not say why') : said;
  return new ApiFailure(
    codeOf(httpStatus, reason, status),
    `${asked.what}: HTTP ${httpStatus}: ${text}${hint === undefined ? '' : ` (${hint})`}`,
    {
      status: httpStatus,
      ...(reason === undefined ? {} : { reason }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    },
  );
}

const HINTS: Readonly<Record<number, string>> = {
  401: 'the certificate or token was refused: is it of this cluster, is it still valid?',
  403: "the node's user lacks this right: is it system:node:NAME in the group system:nodes?",
};

function codeOf(httpStatus: number, reason: string | undefined, status: Status): FailureCode {
  if (reason === 'AlreadyExists') return 'AlreadyExists';
  // A watch or a list from a version that a restored etcd has not reached yet.
  const causes = Array.isArray(status.details?.causes) ? (status.details.causes as unknown[]) : [];
  const isTooNew = (cause: unknown) =>
    (cause as { reason?: unknown } | null)?.reason === 'ResourceVersionTooLarge';
  if (causes.some(isTooNew)) return 'Gone';
  const known = CODES[httpStatus];
  if (known !== undefined) return known;
  return httpStatus >= 400 && httpStatus < 500 ? 'InvalidArgument' : 'Unknown';
}

/** Source: RFC 9110, section 10.2.3; `details.retryAfterSeconds` of a Status says the same. */
function retryAfter(headers: Headers, status: Status, wallMs: number): number | undefined {
  const header = headers['retry-after'];
  const cap = (ms: number) => Math.min(Math.max(0, ms), MAX_RETRY_AFTER_MS);
  if (typeof header === 'string') {
    if (/^\s*\d+\s*$/.test(header)) return cap(1000 * Number(header));
    const untilMs = Date.parse(header);
    // By the server's own clock where it shows it: ours may be wrong.
    const date = typeof headers['date'] === 'string' ? Date.parse(headers['date']) : NaN;
    if (!Number.isNaN(untilMs)) return cap(untilMs - (Number.isNaN(date) ? wallMs : date));
  }
  const seconds = status.details?.retryAfterSeconds;
  return typeof seconds === 'number' && seconds > 0 ? cap(1000 * seconds) : undefined;
}

/** Control characters out, and cut: the text goes into logs and events. */
function clean(text: string): string {
  const line = text.replace(/[\u0000-\u001f\u007f]+/g, ' ').trim();
  return line.length > MAX_MESSAGE_CHARS ? `${line.slice(0, MAX_MESSAGE_CHARS)}…` : line;
}

/** What came is not what an API server says: a portal, a proxy, rubbish. */
export function foreignFailure(
  asked: Asked,
  why: string,
  options: { status?: number; cause?: unknown } = {},
): ApiFailure {
  const { what, server } = asked;
  const message = `${what}: what answers at ${server} is no Kubernetes API server: ${why}`;
  return new ApiFailure('Unavailable', message, options);
}

/** The answer began and broke off: it may have happened all the same. */
export function cutFailure(asked: Asked, why: string, cause?: unknown): ApiFailure {
  return new ApiFailure('Unavailable', `${asked.what}: ${why}`, { cause });
}

/** An answer that the API server should not have given; the same request may bring it again. */
export function protocolFailure(asked: Asked, why: string): ApiFailure {
  return new ApiFailure('Unknown', `${asked.what}: the API server's answer can't be used: ${why}`);
}

export function tooLongFailure(asked: Asked, maxBytes: number): ApiFailure {
  return new ApiFailure(
    'ResourceExhausted',
    `${asked.what}: the answer has more than the ${maxBytes} bytes that limpet takes`,
  );
}

export function deadlineFailure(asked: Asked, why: string): ApiFailure {
  return new ApiFailure('DeadlineExceeded', `${asked.what}: ${why}`);
}

export function cancelledFailure(what: string, cause: unknown): ApiFailure {
  return new ApiFailure('Cancelled', `${what} was cancelled`, { cause });
}

const UNREACHABLE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there: is the control plane up, is the port right?',
  ECONNRESET: 'the connection was reset',
  EPIPE: 'the connection was closed',
  ETIMEDOUT: 'no answer from that address',
  EHOSTUNREACH: 'no route to that host: is it on, is the network up?',
  ENETUNREACH: 'the network is unreachable: is a cable or Wi-Fi connected?',
  ENETDOWN: 'the network is down',
  EADDRNOTAVAIL: 'this machine has no address to call from',
  ENOTFOUND: 'there is no such name: check the server of the kubeconfig and the DNS',
  EAI_AGAIN: 'the name can not be looked up now: is the network up? see /etc/resolv.conf',
};

const CLOCK = "if that date is wrong, set this machine's clock";
const OTHER_CA =
  "its certificate was not signed by the kubeconfig's certificate-authority: " +
  'another cluster, or something in between';

/** Node's codes for a server's certificate that it does not take. */
const SERVER_CERTIFICATE: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: `its certificate has expired: renew it, or ${CLOCK}`,
  CERT_NOT_YET_VALID: `its certificate is not valid yet: ${CLOCK}`,
  DEPTH_ZERO_SELF_SIGNED_CERT: OTHER_CA,
  SELF_SIGNED_CERT_IN_CHAIN: OTHER_CA,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: OTHER_CA,
  UNABLE_TO_GET_ISSUER_CERT: OTHER_CA,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: OTHER_CA,
  CERT_SIGNATURE_FAILURE: OTHER_CA,
  CERT_UNTRUSTED: OTHER_CA,
  ERR_TLS_CERT_ALTNAME_INVALID:
    'its certificate is for other names: use one of them as server, or set tls-server-name',
};

/** The connection could not be made, or broke before the answer began. */
export function connectionFailure(asked: Asked, cause: unknown): ApiFailure {
  const { doubt } = asked;
  const errno = errnoOf(cause) ?? '';
  const message = clean(cause instanceof Error ? cause.message : String(cause));
  const at = `${asked.what}: can't reach the API server at ${asked.server}`;
  const theirs = SERVER_CERTIFICATE[errno];
  if (theirs !== undefined) {
    const names = errno === 'ERR_TLS_CERT_ALTNAME_INVALID' ? ` (${message})` : '';
    const shows = ` (it shows ${new Date(asked.wallMs).toISOString()})`;
    const clock = theirs.includes(CLOCK) ? shows : '';
    return new ApiFailure('Unauthenticated', `${at}: ${theirs}${names}${clock}`, { cause });
  }
  // An alert is what the server thinks of us; some servers just hang up.
  const hungUp = errno === 'ECONNRESET' || errno === 'EPIPE';
  if (/ALERT/.test(errno) || (hungUp && doubt !== undefined)) {
    const why = doubt ?? 'is it of this cluster, is it still valid?';
    const text = `${at}: it refuses our certificate (${errno}): ${why}`;
    return new ApiFailure('Unauthenticated', text, { cause });
  }
  const unreachable = UNREACHABLE[errno];
  if (unreachable !== undefined) {
    return new ApiFailure('Unavailable', `${at}: ${unreachable} (${errno})`, { cause });
  }
  if (errno.startsWith('HPE_') || errno === 'ERR_HTTP2_ERROR') {
    return foreignFailure(asked, `it does not speak HTTP (${errno})`, { cause });
  }
  if (/^ERR_(SSL|TLS)_|^EPROTO$/.test(errno)) {
    return foreignFailure(asked, `it does not speak TLS (${errno})`, { cause });
  }
  return new ApiFailure('Unavailable', `${at}: ${message}`, { cause });
}
