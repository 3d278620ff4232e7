/**
 * The tokens by which pods show the API server who they are. Each is stored, encrypted, so that a
 * pod starts again offline; one that has expired meanwhile is still given, for it is all there is,
 * and stays until the one after it is stored.
 *
 * How old a token is is counted on our own clock from when it came, and how long it lives is taken
 * from the API server's: so neither has to know what time the other believes it is.
 * Source: k8s.io/kubernetes pkg/kubelet/token, v1.36: renewed at 80 % of its life or after a day.
 */
import { createObject } from '../apiserver/objects.ts';
import { SERVICE_ACCOUNT_TOKENS } from '../apiserver/resource.ts';
import { abortable } from '../base/abortable.ts';
import { sinceMs, type Clock, type Stamp } from '../base/clock.ts';
import { Failure, faultOf } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import type { Random } from '../base/random.ts';
import type { Token, TokenRequest } from '../kube/objects.ts';
import type { StoredObject } from '../store/sealed.ts';
import type { Store } from '../store/store.ts';
import type { Session } from './cluster.ts';
import { createPoke, type Poke } from './poke.ts';

export type TokensOptions = {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: Pick<Store, 'putObject' | 'removeObjects'>;
  readonly stored: readonly StoredObject[];
  /** Rows that can't be read. */
  readonly damaged: readonly Pick<StoredObject, 'kind' | 'namespace' | 'name'>[];
  /** A pod has another token than before. */
  readonly onChange: (podUid: string) => void;
};

export const TOKEN_KIND = 'Token';

const DEADLINE_MS = 15_000;
const RENEW_AT = 0.8;
const DAY_MS = 24 * 3_600_000;
/** Many boards that were switched on together do not ask together. */
const SPREAD = 0.05;
/** The wall clock may be set meanwhile, after which a token is older than it was thought to be. */
const LOOK_MS = 300_000;
const MIN_RETRY_MS = 5_000;
const MAX_RETRY_MS = 300_000;

/** What a row holds. */
type Issued = Token & { readonly at: Stamp; readonly lifetimeMs: number };

type Held = {
  readonly issued: Issued;
  /** Of its life, after which it is renewed. */
  readonly renewAt: number;
  isSaved: boolean;
};

type Asking = { readonly promise: Promise<Token>; readonly signal: AbortSignal };

export class Tokens {
  readonly #options: TokensOptions;
  readonly #poke: Poke;
  readonly #held = new Map<string, Held>();
  readonly #asking = new Map<string, Asking>();
  readonly #retries = new Map<string, { readonly failures: number; readonly untilMs: number }>();
  #wanted: ReadonlyMap<string, TokenRequest> = new Map();
  #damaged: TokensOptions['damaged'];
  #session: { readonly session: Session; readonly signal: AbortSignal } | undefined;

  constructor(options: TokensOptions) {
    this.#options = options;
    this.#poke = createPoke(options.clock);
    this.#damaged = options.damaged;
    for (const { namespace, name } of options.damaged) {
      const token = `${namespace}/${name}`;
      options.log.error('a stored token can not be read; it is asked for anew', { token });
    }
    for (const { namespace, name, text } of options.stored) {
      this.#hold(`${namespace}/${name}`, JSON.parse(text) as Issued, true);
    }
  }

  /** Tokens for these from now on, and no others. */
  follow(wanted: ReadonlyMap<string, TokenRequest>): void {
    this.#wanted = wanted;
    const unused = [...this.#held.keys()].filter((key) => !wanted.has(key));
    for (const key of unused) {
      this.#held.delete(key);
      this.#retries.delete(key);
    }
    try {
      this.#options.store.removeObjects([...this.#damaged, ...unused.map(rowIdOf)]);
      this.#damaged = [];
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      this.#options.log.warn('tokens that no pod uses can not be removed', {
        problem: error.message,
      });
    }
  }

  /**
   * The token that is held, though it has expired; else one that is asked for now.
   * @throws Failure when there is none
   */
  async token(request: TokenRequest, signal: AbortSignal): Promise<Token> {
    const key = tokenKey(request);
    const held = this.#held.get(key);
    if (held !== undefined) return held.issued;
    if (this.#session === undefined) {
      const { namespace, serviceAccountName } = request;
      throw new Failure(
        'Unavailable',
        `no token of the service account ${namespace}/${serviceAccountName} is stored for this ` +
          'pod, and there is no connection to the API server',
      );
    }
    return await abortable(this.#ask(key, request), signal);
  }

  /** UIDs of pods of which a token has expired. */
  expired(): ReadonlySet<string> {
    const late = [...this.#held].filter(([, held]) => this.#age(held) >= 1);
    return new Set(late.flatMap(([key]) => this.#wanted.get(key)?.boundPod.uid ?? []));
  }

  /** Renews tokens until the signal is aborted, first those that are the longest over their time. */
  async run(session: Session, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    this.#session = { session, signal };
    // Who waits for its first one tries again now.
    for (const [key, { boundPod }] of this.#wanted) {
      if (!this.#held.has(key)) this.#options.onChange(boundPod.uid);
    }
    while (!signal.aborted) {
      const { monoMs } = clock.now();
      const due = [...this.#held]
        .filter(([key, held]) => this.#dueInMs(key, held, monoMs) <= 0)
        .sort(([, a], [, b]) => this.#age(b) - this.#age(a));
      for (const [key] of due) await this.#renew(key);
      const now = clock.now().monoMs;
      const next = [...this.#held].map(([key, held]) => this.#dueInMs(key, held, now));
      await this.#poke.wait(Math.max(1000, Math.min(LOOK_MS, ...next)), signal);
    }
    this.#session = undefined;
  }

  /** The API server is in reach again: nothing is put off any more. */
  reached(): void {
    if (this.#retries.size === 0) return;
    this.#retries.clear();
    this.#poke.poke();
  }

  /** Tries again to store what could not be stored. */
  saveAgain(): void {
    for (const [key, held] of this.#held) {
      if (!held.isSaved) held.isSaved = this.#save(key, held.issued);
    }
  }

  /** The part of its life that is over. */
  #age({ issued }: Held): number {
    return sinceMs(issued.at, this.#options.clock.now()) / issued.lifetimeMs;
  }

  #dueInMs(key: string, held: Held, monoMs: number): number {
    const { lifetimeMs } = held.issued;
    const renewMs = Math.min(held.renewAt * lifetimeMs, DAY_MS);
    const leftMs = renewMs - this.#age(held) * lifetimeMs;
    return Math.max(leftMs, (this.#retries.get(key)?.untilMs ?? 0) - monoMs);
  }

  async #renew(key: string): Promise<void> {
    const request = this.#wanted.get(key);
    if (request === undefined || this.#session?.signal.aborted !== false) return;
    const { clock, log, random } = this.#options;
    try {
      await this.#ask(key, request);
      this.#retries.delete(key);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const failures = (this.#retries.get(key)?.failures ?? 0) + 1;
      const delayMs = Math.min(MIN_RETRY_MS * 2 ** (failures - 1), MAX_RETRY_MS);
      const untilMs = clock.now().monoMs + delayMs * (0.8 + 0.4 * random.next());
      this.#retries.set(key, { failures, untilMs });
      // Once for each time that it can't: the journal is on the card.
      const tell = failures === 1 ? log.info : log.debug;
      tell('a token can not be renewed; the old one is kept', {
        token: key,
        problem: error.message,
      });
    }
  }

  /** One request for each token at a time. */
  #ask(key: string, request: TokenRequest): Promise<Token> {
    const { session, signal } = this.#session!;
    const under = this.#asking.get(key);
    if (under !== undefined && !under.signal.aborted) return under.promise;
    const promise = this.#fetch(key, request, session, signal).finally(() => {
      if (this.#asking.get(key)?.promise === promise) this.#asking.delete(key);
    });
    // Who waited for it may have gone.
    promise.catch(() => undefined);
    this.#asking.set(key, { promise, signal });
    return promise;
  }

  async #fetch(
    key: string,
    request: TokenRequest,
    { client }: Session,
    signal: AbortSignal,
  ): Promise<Token> {
    const { namespace, serviceAccountName: name, boundPod } = request;
    const { audiences, expirationSeconds } = request;
    const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', ...boundPod };
    const asked = {
      ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
      spec: { audiences, expirationSeconds, boundObjectRef },
    };
    const where = { namespace, name, subresource: 'token' };
    const call = { signal, deadlineMs: DEADLINE_MS };
    let answer;
    try {
      answer = await createObject(client, SERVICE_ACCOUNT_TOKENS, where, asked, call);
    } catch (error) {
      const { code, message } = faultOf(error);
      throw new Failure(code, `failed to fetch token: ${message}`, { cause: error });
    }
    const { token = '', expirationTimestamp = '' } = answer.status ?? {};
    const expiresAtMs = Date.parse(expirationTimestamp);
    if (token === '' || Number.isNaN(expiresAtMs)) {
      throw new Failure('Unknown', 'failed to fetch token: the API server gave none');
    }
    const { creationTimestamp = '' } = answer.metadata as { readonly creationTimestamp?: string };
    const lifetimeMs = expiresAtMs - Date.parse(creationTimestamp);
    const at = this.#options.clock.now();
    const issued: Issued = {
      ...{ token, expiresAtMs, at },
      lifetimeMs: lifetimeMs > 0 ? lifetimeMs : expirationSeconds * 1000,
    };
    // Its pod may have gone meanwhile.
    if (!this.#wanted.has(key)) return issued;
    this.#hold(key, issued, this.#save(key, issued));
    this.#poke.poke();
    this.#options.onChange(boundPod.uid);
    return issued;
  }

  #hold(key: string, issued: Issued, isSaved: boolean): void {
    const renewAt = RENEW_AT * (1 - SPREAD * this.#options.random.next());
    this.#held.set(key, { issued, renewAt, isSaved });
  }

  #save(key: string, issued: Issued): boolean {
    const uid = this.#wanted.get(key)?.boundPod.uid ?? '';
    try {
      const text = JSON.stringify(issued);
      this.#options.store.putObject({ ...rowIdOf(key), uid, version: '', text }, true);
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      const problem = error.message;
      this.#options.log.warn('a token can not be stored; it is in memory only until it can', {
        token: key,
        problem,
      });
      return false;
    }
  }
}

/** `namespace/` and what else tells one token from another. */
export function tokenKey(request: TokenRequest): string {
  const { namespace, serviceAccountName, audiences, expirationSeconds, boundPod } = request;
  const parts = [boundPod.uid, serviceAccountName, expirationSeconds, ...audiences];
  return `${namespace}/${parts.join('/')}`;
}

function rowIdOf(key: string) {
  const end = key.indexOf('/');
  return { kind: TOKEN_KIND, namespace: key.slice(0, end), name: key.slice(end + 1) };
}
