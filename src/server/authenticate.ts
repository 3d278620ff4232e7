/**
 * Who a client is: by its certificate, whose common name is the user and whose organizations are
 * the groups, or else by its bearer token, of which the API server is asked. There is no anonymous.
 * Source: k8s.io/apiserver pkg/authentication (x509, bearertoken, token/cache).
 */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { faultOf } from '../base/failure.ts';
import { HttpError } from './http-error.ts';
import type { ReviewCache, ReviewToken, TokenReview, User } from './review.ts';

const CREDENTIAL_ID = 'authentication.kubernetes.io/credential-id';
const AUTHENTICATED = 'system:authenticated';

/** What a connection's handshake has shown. */
export type Peer =
  | { readonly kind: 'none' }
  | { readonly kind: 'invalid'; readonly reason: string }
  | {
      readonly kind: 'certificate';
      readonly user: User;
      readonly validToMs: number;
    };

/**
 * Reads the client's certificate after the handshake, in which OpenSSL has verified its chain, its
 * times and that it is meant for clients.
 */
export function peerOf(socket: TLSSocket): Peer {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return { kind: 'none' };
  if (!socket.authorized) {
    const error: unknown = socket.authorizationError;
    return { kind: 'invalid', reason: typeof error === 'string' ? error : 'it is not trusted' };
  }
  const { subject } = certificate.toLegacyObject() as { subject: Record<string, unknown> };
  // Of several common names the last counts, as it does for Go.
  const name = texts(subject['CN']).at(-1) ?? '';
  if (name === '') return { kind: 'invalid', reason: 'it has no common name' };
  const groups = texts(subject['O']);
  const fingerprint = certificate.fingerprint256.replaceAll(':', '').toLowerCase();
  return {
    kind: 'certificate',
    user: {
      name,
      uid: '',
      groups: groups.includes(AUTHENTICATED) ? groups : [...groups, AUTHENTICATED],
      extra: { [CREDENTIAL_ID]: [`X509SHA256=${fingerprint}`] },
    },
    validToMs: certificate.validToDate.getTime(),
  };
}

function texts(value: unknown): readonly string[] {
  if (typeof value === 'string') return [value];
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

export type AuthenticateOptions = {
  readonly reviewToken: ReviewToken;
  readonly tokens: ReviewCache<TokenReview>;
  readonly wallMs: number;
};

/** The user behind a request. @throws HttpError 401 */
export async function authenticate(
  request: IncomingMessage,
  peer: Peer,
  { reviewToken, tokens, wallMs }: AuthenticateOptions,
): Promise<User> {
  if (peer.kind === 'invalid') throw unauthorized(`the client certificate: ${peer.reason}`);
  if (peer.kind === 'certificate') {
    // A connection may live longer than the certificate that opened it.
    if (wallMs > peer.validToMs) throw unauthorized('the client certificate has expired');
    return peer.user;
  }
  const token = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined) throw unauthorized();
  // The digest stands for the token, so that no table holds tokens.
  const key = createHash('sha256').update(token).digest('base64');
  const review = await tokens
    .get(key, (signal) => reviewToken(token, signal))
    .catch((error: unknown) => {
      throw unauthorized(
        `the API server can't be asked about the token: ${faultOf(error).message}`,
      );
    });
  if (!review.authenticated || review.user === undefined) throw unauthorized();
  return review.user;
}

function unauthorized(why?: string): HttpError {
  return new HttpError(401, why === undefined ? 'Unauthorized' : `Unauthorized: ${why}`);
}
