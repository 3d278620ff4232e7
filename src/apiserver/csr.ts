/**
 * Certificates from the cluster: a request (PKCS#10) is made here, posted as a
 * CertificateSigningRequest, and its fate is waited for.
 * Source: RFC 2986; k8s.io/client-go util/certificate/csr; Kubernetes "Certificate Signing Requests".
 */
import {
  createHash,
  createPublicKey,
  sign,
  type KeyObject,
  type X509Certificate,
} from 'node:crypto';

import {
  attribute,
  bitString,
  der,
  generalName,
  OID,
  oid,
  pem,
  sequence,
  TAG,
} from '../base/der.ts';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Random } from '../base/random.ts';
import type { ApiClient } from './client.ts';
import { certificatesOf } from './credentials.ts';
import { createObject } from './objects.ts';
import { CERTIFICATE_SIGNING_REQUESTS, type Stored } from './resource.ts';
import { watchObjects } from './watch.ts';

export type Subject = {
  readonly commonName: string;
  readonly organization: string;
  /** IP addresses and DNS names. */
  readonly names: readonly string[];
};

/** What a node asks a certificate for. */
export type Purpose = {
  readonly signerName: string;
  /** Of an ECDSA key. */
  readonly usages: readonly string[];
};

export const CLIENT: Purpose = {
  signerName: 'kubernetes.io/kube-apiserver-client-kubelet',
  usages: ['digital signature', 'client auth'],
};
export const SERVING: Purpose = {
  signerName: 'kubernetes.io/kubelet-serving',
  usages: ['digital signature', 'server auth'],
};

/** The request for a certificate of a P-256 key, as PEM. */
export function certificateRequest(key: KeyObject, subject: Subject): string {
  const { commonName, organization, names } = subject;
  const others = [...new Set(names)].flatMap((name) => generalName(name) ?? []);
  const extension = sequence(oid(OID.subjectAltName), der(TAG.octetString, sequence(...others)));
  const attributes =
    others.length === 0
      ? []
      : [sequence(oid(OID.extensionRequest), der(TAG.set, sequence(extension)))];
  const body = sequence(
    der(TAG.integer, Buffer.of(0)),
    sequence(attribute(OID.organization, organization), attribute(OID.commonName, commonName)),
    spkiOf(key),
    der(TAG.context0, ...attributes),
  );
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const whole = sequence(body, algorithm, bitString(sign('sha256', body, key)));
  return pem('CERTIFICATE REQUEST', whole);
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

export type CertificateOptions = {
  readonly client: ApiClient;
  readonly clock: Clock;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly purpose: Purpose;
  readonly subject: Subject;
  readonly key: KeyObject;
  /** What the signer is asked for; it may give less. */
  readonly expirationSeconds?: number | undefined;
  /** Called with the name of the request once it waits for its approval. */
  readonly onWaiting?: (name: string) => void;
};

const POST_MS = 30_000;
/** The kubelet waits as long, then asks anew. */
const WAIT_MS = 15 * 60_000;

/**
 * Asks for a certificate and waits until it is issued. The same key and subject make the same
 * request, so what is asked again after a crash is the one that was asked for before.
 *
 * @returns the chain as PEM
 * @throws Failure `PermissionDenied` when it was denied, `Unknown` when the signer failed or gave
 *   something else; `NotFound` when it was deleted, `DeadlineExceeded` when nobody has decided;
 *   as `ApiClient.json` when it could not be asked for
 */
export async function requestCertificate(options: CertificateOptions): Promise<string> {
  const { client, signal, purpose, subject, key, expirationSeconds } = options;
  const name = requestName(options);
  const object = {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name },
    spec: {
      request: Buffer.from(certificateRequest(key, subject)).toString('base64'),
      signerName: purpose.signerName,
      usages: [...purpose.usages],
      ...(expirationSeconds === undefined ? {} : { expirationSeconds }),
    },
  };
  try {
    const call = { signal, deadlineMs: POST_MS, metadataOnly: true };
    await createObject(client, CERTIFICATE_SIGNING_REQUESTS, {}, object, call);
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'AlreadyExists')) throw error;
  }
  const chain = await waitForIt(options, name);
  checkIssued(chain, key, name);
  return chain;
}

/** Names the key and all that is asked for it. */
function requestName({ key, subject, purpose, expirationSeconds }: CertificateOptions): string {
  const asked = JSON.stringify([subject, purpose, expirationSeconds]);
  const digest = createHash('sha256').update(spkiOf(key)).update(asked).digest('hex');
  return `node-csr-${digest}`;
}

type Request = Stored<NonNullable<(typeof CERTIFICATE_SIGNING_REQUESTS)['of']>>;

async function waitForIt(options: CertificateOptions, name: string): Promise<string> {
  const { client, clock, random, signal, onWaiting } = options;
  const ended = new AbortController();
  let chain: string | undefined;
  let failure: Failure | undefined;
  const end = (why?: Failure) => {
    failure ??= why;
    ended.abort();
  };
  const late = clock.at(clock.now().monoMs + WAIT_MS, () =>
    end(
      new Failure(
        'DeadlineExceeded',
        `the CertificateSigningRequest ${name} was not decided on within ${WAIT_MS / 60_000} ` +
          `minutes: approve it with kubectl certificate approve ${name}`,
      ),
    ),
  );
  const gone = new Failure('NotFound', `the CertificateSigningRequest ${name} was deleted`);
  try {
    await watchObjects(
      {
        ...{ client, clock, random, resource: CERTIFICATE_SIGNING_REQUESTS },
        fieldSelector: `metadata.name=${name}`,
        signal: AbortSignal.any([signal, ended.signal]),
      },
      {
        put: (request) => {
          try {
            chain = issued(request);
          } catch (error) {
            return end(error as Failure);
          }
          if (chain === undefined) onWaiting?.(name);
          else end();
        },
        gone: () => end(gone),
        synced: (all) => {
          if (all.length === 0) end(gone);
        },
        bookmark: () => undefined,
        state: (state) => {
          if (state.phase !== 'waiting') return;
          const { code, message } = state.why;
          const isRefused = code === 'Unauthenticated' || code === 'PermissionDenied';
          if (isRefused) end(new Failure(code, message));
        },
      },
    );
  } finally {
    late.cancel();
  }
  if (failure !== undefined) throw failure;
  signal.throwIfAborted();
  return chain!;
}

/** The chain; undefined as long as it is not decided or not signed. @throws Failure as above */
function issued({ metadata: { name }, status }: Request): string | undefined {
  for (const { type, reason, message } of status?.conditions ?? []) {
    const why = [reason, message].filter(Boolean).join(': ');
    if (type === 'Denied') {
      const remedy = 'ask who administers the cluster; limpet asks again with another key';
      throw new Failure(
        'PermissionDenied',
        `the CertificateSigningRequest ${name} was denied (${why}): ${remedy}`,
        { reason: 'Denied' },
      );
    }
    if (type === 'Failed') {
      const text = `the signer could not sign the CertificateSigningRequest ${name} (${why})`;
      throw new Failure('Unknown', text, { reason: 'Failed' });
    }
  }
  const certificate = status?.certificate;
  return certificate ? Buffer.from(certificate, 'base64').toString('utf8') : undefined;
}

function checkIssued(chain: string, key: KeyObject, name: string): void {
  let own: X509Certificate | undefined;
  try {
    [own] = certificatesOf(chain);
  } catch {
    // Said below.
  }
  if (own?.checkPrivateKey(key) === true) return;
  const text = `what the CertificateSigningRequest ${name} was answered with is no certificate of our key`;
  throw new Failure('Unknown', text, { reason: 'Failed' });
}
