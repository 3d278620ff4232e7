/** The one place where what a broker says, or what becomes of its connection, is a `Failure`. */
import { errnoOf, Failure, type FailureCode } from '../base/failure.ts';

/** The broker does not know this version of MQTT. */
class OldVersion extends Failure {}

export function isOldVersion(error: unknown): boolean {
  return error instanceof OldVersion;
}

export type At = {
  /** `broker.example:8883` */
  readonly where: string;
  readonly wallMs: number;
  /** The broker had accepted the connection. */
  readonly isAccepted: boolean;
};

/** Before that no certificate of today is valid: the clock is wrong. */
const YEAR_2024_MS = Date.UTC(2024, 0, 1);

/** The `Failure` for an error of the socket, of TLS or of the package mqtt. */
export function mqttFailure(error: unknown, { where, wallMs, isAccepted }: At): Failure {
  const { code: own, packet } = (error ?? {}) as { code?: unknown; packet?: unknown };
  // The package gives the answer to a subscription as it came, with a reason for each topic.
  const { granted = [] } = (packet ?? {}) as { granted?: readonly number[] };
  const reasonCode = granted.find((reason) => reason >= 128) ?? own;
  if (typeof reasonCode === 'number') return refusal(reasonCode, where, isAccepted);
  const errno = errnoOf(error) ?? '';
  const said = error instanceof Error ? error.message : String(error);
  const known = KNOWN.find(([pattern]) => pattern.test(errno) || pattern.test(said));
  const [, code, text] = known ?? [undefined, isAccepted ? 'Unavailable' : 'Unknown', said];
  const isTime = /EXPIRED|NOT_YET_VALID/.test(errno);
  const clock =
    isTime && wallMs < YEAR_2024_MS
      ? '; the clock of this board is wrong: it is waiting for the time'
      : '';
  return new Failure(code, `the MQTT broker ${where} ${text}${clock}`, {
    cause: error,
  });
}

const KNOWN: readonly (readonly [RegExp, FailureCode, string])[] = [
  [/^ECONNREFUSED$/, 'Unavailable', 'is not there: nothing listens on that port. Is it running?'],
  [/^(ENOTFOUND|EAI_)/, 'Unavailable', 'has a name that can not be resolved. Is DNS working?'],
  [/^(EHOSTUNREACH|ENETUNREACH|ENETDOWN)/, 'Unavailable', 'can not be reached: there is no route'],
  [/^ETIMEDOUT|connack timeout/, 'DeadlineExceeded', 'does not answer'],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    'Unauthenticated',
    'has a certificate for another name; give the name that is in its certificate',
  ],
  [/^CERT_HAS_EXPIRED$/, 'Unauthenticated', 'has a certificate that has expired; renew it'],
  [/^CERT_NOT_YET_VALID$/, 'Unauthenticated', 'has a certificate that is not valid yet'],
  [
    /SELF_SIGNED_CERT|UNABLE_TO_(GET_ISSUER|VERIFY)|CERT_UNTRUSTED|CERT_SIGNATURE/,
    'Unauthenticated',
    'has a certificate of an authority that is not trusted here; give it as the CA file',
  ],
  [
    /ALERT_(CERTIFICATE|UNKNOWN_CA|BAD_CERTIFICATE|NO_CERT)|SSLV3_ALERT|ALERT_HANDSHAKE/,
    'Unauthenticated',
    'refused our certificate; is it of its authority and still valid?',
  ],
  [
    /WRONG_VERSION_NUMBER|ERR_SSL_|EPROTO/,
    'Unavailable',
    'does not speak TLS on that port; use mqtt:// instead of mqtts://, or the right port',
  ],
  [/Keepalive timeout/, 'DeadlineExceeded', 'did not answer a ping: it hangs or the link is lost'],
  [
    /^(ECONNRESET|EPIPE|ECONNABORTED)$|^closed$|^Connection closed$/,
    'Unavailable',
    'closed the connection',
  ],
  [
    /header|packet|protocol|parse|cannot|invalid|range|buffer|QoS|length/i,
    'InvalidArgument',
    'sent what is no MQTT; is it a broker?',
  ],
];

/** What a reason code means. Source: MQTT 5.0, section 2.4; 1 to 5 are those of 3.1.1. */
export function refusal(reasonCode: number, where: string, isAccepted: boolean): Failure {
  const [code, text] = REASONS[reasonCode] ?? ['Unknown', 'gave a reason that is not known'];
  const message = `the MQTT broker ${where} ${text} (reason ${reasonCode})`;
  if (!isAccepted && (reasonCode === 1 || reasonCode === 132)) return new OldVersion(code, message);
  return new Failure(code, message);
}

const BAD_LOGIN = 'refused the user name or password; look at the credentials files';
const NO_RIGHT =
  'refused for lack of a right; look at user name, password and certificate, and at the ' +
  "broker's access list";

const REASONS: Readonly<Record<number, readonly [FailureCode, string]>> = {
  0: ['Unavailable', 'closed the connection'],
  1: ['Unimplemented', 'does not know this version of MQTT'],
  2: ['InvalidArgument', 'refused the client id'],
  3: ['Unavailable', 'is not available'],
  4: ['Unauthenticated', BAD_LOGIN],
  5: ['PermissionDenied', NO_RIGHT],
  128: ['Unknown', 'refused without a reason'],
  129: ['InvalidArgument', 'got what it took for no MQTT'],
  130: ['InvalidArgument', 'found an error of the protocol'],
  132: ['Unimplemented', 'does not know this version of MQTT'],
  133: ['InvalidArgument', 'refused the client id'],
  134: ['Unauthenticated', BAD_LOGIN],
  135: ['PermissionDenied', NO_RIGHT],
  136: ['Unavailable', 'is not available'],
  137: ['Unavailable', 'is busy'],
  138: ['PermissionDenied', 'has banned this client'],
  139: ['Unavailable', 'is shutting down'],
  141: ['DeadlineExceeded', 'has not heard from us for too long'],
  142: ['Conflict', 'has another client with our id: are two nodes of one name in the fleet?'],
  149: ['ResourceExhausted', 'refused a packet that is too long for it'],
  151: ['ResourceExhausted', 'says that the quota is used up'],
  152: ['Unavailable', 'ended the connection for its own reasons'],
};
