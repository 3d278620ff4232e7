/**
 * Keeps a certificate of the node valid: asks for one when there is none, and for the next when the
 * current one has lived through 70 to 90 % of its time. It never gives up.
 *
 *   none, or near its end ── ask with each of the credentials in turn ──issued──> stored
 *            ^                              │ denied, failed, unreachable            │
 *            └──────────── backoff <────────┘                                        │
 *            └───────────────────── 70 to 90 % of its time <─────────────────────────┘
 *
 * Its end is a moment of the wall clock, which may be wrong and be set at any time; so it is looked
 * at again now and then, and the time floor keeps a clock without battery from showing less than
 * what a certificate has proved.
 */
import type { ApiClient } from '../apiserver/client.ts';
import { requestCertificate, type Purpose, type Subject } from '../apiserver/csr.ts';
import { ApiFailure } from '../apiserver/errors.ts';
import type { Clock } from '../base/clock.ts';
import { Failure, faultOf, type Fault } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { CertificateFiles, Validity } from './certificate-files.ts';
import type { Poke } from './poke.ts';

export type RenewalOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly files: CertificateFiles;
  readonly purpose: Purpose;
  readonly subject: () => Subject;
  readonly expirationSeconds?: number | undefined;
  /**
   * Who may ask, in order; the next one does when one is refused. They are disposed of after use.
   * @throws Failure when there is none
   */
  readonly askers: () => Promise<readonly Asker[]>;
  /** It is stored. */
  readonly onIssued: (validity: Validity) => void | Promise<void>;
  /** How it stands: undefined when all is well. */
  readonly onProblem: (problem: Fault | undefined) => void;
};

export type Asker = { readonly client: ApiClient; readonly own: boolean };

const MIN_BACKOFF_MS = 1_000;
const MAX_BACKOFF_MS = 30_000;
/** After a denial: a person has to do something. */
const DENIED_MS = 5 * 60_000;
const LOOK_AGAIN_MS = 60 * 60_000;

/** Runs until the signal is aborted. `poke` makes it look at once. */
export async function keepCertificate(
  options: RenewalOptions,
  poke: Poke,
  signal: AbortSignal,
): Promise<void> {
  const { clock, random, files, onProblem } = options;
  const share = 0.7 + 0.2 * random.next();
  let failures = 0;
  while (!signal.aborted) {
    const validity = files.validity();
    const dueMs = validity === undefined ? 0 : dueIn(validity, share, clock.now().wallMs);
    if (dueMs > 0) {
      onProblem(undefined);
      await poke.wait(Math.min(dueMs, LOOK_AGAIN_MS), signal);
      continue;
    }
    try {
      await renew(options, signal);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      const fault = faultOf(error);
      options.log.warn('no certificate', { problem: fault.message });
      onProblem(fault);
      failures += 1;
      await poke.wait(delay(error, failures, random), signal);
    }
  }
}

/** Milliseconds until it is to be renewed; not more than 0 when that is now. */
function dueIn({ notBeforeMs, notAfterMs }: Validity, share: number, wallMs: number): number {
  return notBeforeMs + (notAfterMs - notBeforeMs) * share - wallMs;
}

function delay(error: unknown, failures: number, random: Random): number {
  const spread = 0.8 + 0.4 * random.next();
  const isDenied = error instanceof Failure && error.reason === 'Denied';
  if (isDenied) return DENIED_MS * spread;
  const askedMs = error instanceof ApiFailure ? (error.retryAfterMs ?? 0) : 0;
  const backoffMs = Math.min(MIN_BACKOFF_MS * 2 ** failures, MAX_BACKOFF_MS);
  return Math.max(backoffMs * spread, askedMs);
}

async function renew(options: RenewalOptions, signal: AbortSignal): Promise<void> {
  const { clock, random, log, files, purpose, expirationSeconds } = options;
  const askers = await options.askers();
  try {
    let refusal: unknown;
    for (const { client } of askers) {
      const key = files.requestKey();
      const subject = options.subject();
      try {
        const chain = await requestCertificate({
          ...{ client, clock, random, signal, purpose, subject, key, expirationSeconds },
          onWaiting: (name) => log.info('a certificate is asked for', { request: name }),
        });
        files.store(chain, key, clock.now().wallMs);
        const validity = files.validity()!;
        const until = new Date(validity.notAfterMs).toISOString();
        log.info('a certificate was issued', { path: files.currentPath, until });
        await options.onIssued(validity);
        return;
      } catch (error) {
        if (isDead(error)) files.forgetRequestKey();
        if (!(error instanceof Failure && error.code === 'Unauthenticated')) throw error;
        refusal = error;
      }
    }
    throw refusal;
  } finally {
    for (const { client, own } of askers) if (!own) client.close();
  }
}

/** This very request will never be granted. */
function isDead(error: unknown): boolean {
  return error instanceof Failure && (error.reason === 'Denied' || error.reason === 'Failed');
}
