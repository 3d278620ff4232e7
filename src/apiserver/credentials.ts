/**
 * How limpet proves to the API server who it is, and by what it knows the API server.
 *
 * - Files are looked at before each use and read again when they have changed: certificates and
 *   tokens are renewed by putting others in their place.
 * - What is new and can't be used does not take the place of what worked.
 * - An expired certificate is only doubted here: clocks of small boards are wrong more often than
 *   certificates. The server decides, and the doubt explains its answer.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { statSync } from 'node:fs';

import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';
import { runExecPlugin, type ClusterInfo, type ExecCredential } from './exec.ts';
import {
  readCredential,
  readKubeconfig,
  type ExecPlugin,
  type Kubeconfig,
  type Source,
} from './kubeconfig.ts';

/** What a connection is made with. Secret: never to be logged. */
export type Material = {
  /** PEM. */
  readonly ca: string;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  /** For the header `Authorization: Bearer`. */
  readonly token: string | undefined;
  /** Grows when `ca`, `certificate` or `key` is another: older connections are of no more use. */
  readonly generation: number;
};

export type Credentials = {
  readonly server: URL;
  readonly serverName: string | undefined;
  /**
   * What to connect with now.
   *
   * @throws Failure with the file and what is wrong with it
   */
  current(): Promise<Material>;
  /** The server answered 401: what a plugin gave is not used again. */
  refused(): void;
  /** What is wrong with the certificate by this machine's clock, with what to do about it. */
  doubt(): string | undefined;
};

export type CredentialOptions = {
  readonly clock: Clock;
  readonly log: Log;
  /** Ends plugins that run. */
  readonly signal: AbortSignal;
  /** Instead of the kubeconfig's `current-context`. */
  readonly context?: string;
};

/**
 * Reads a kubeconfig and checks that all it names can be used, save plugins, which are run when
 * they are needed.
 *
 * @throws Failure what is wrong, where, and what to do: see `readKubeconfig`; `NotFound` for a file
 *   that it names; `InvalidArgument` for a certificate, key or CA that can't be read or don't match
 */
export async function loadCredentials(
  path: string,
  options: CredentialOptions,
): Promise<Credentials> {
  const config = await readKubeconfig(path, options.context);
  const credentials = createCredentials(config, options);
  if (config.exec === undefined) await credentials.current();
  return credentials;
}

/**
 * Makes an error of a doubt about the certificate's dates.
 * @throws Failure `Unauthenticated` with the dates
 */
export function checkDates(credentials: Credentials): void {
  const doubt = credentials.doubt();
  if (doubt !== undefined) throw new Failure('Unauthenticated', doubt);
}

function createCredentials(config: Kubeconfig, options: CredentialOptions): Credentials {
  const { clock, log } = options;
  const parts = partsOf(config);
  const plugin = createPlugin(config, parts.ca, options);
  let material: Material | undefined;
  let identity: Identity | undefined;
  let sources: string | undefined;
  let trouble: string | undefined;

  const gather = (given: ExecCredential | undefined): Material => {
    const ca = parts.ca.read();
    const certificate = given?.certificate ?? parts.certificate?.read();
    const key = given?.key ?? parts.key?.read();
    const token = given?.token ?? parts.token?.read().trim();
    if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
      const where = parts.token?.origin ?? 'the token of the credential plugin';
      throw new Failure('InvalidArgument', `${where} is empty or no token: write it again`);
    }
    const now = JSON.stringify([ca, certificate, key]);
    if (material !== undefined && now === sources) return { ...material, token };
    const authorities = checkAuthority(ca, parts.ca.origin);
    const from = given?.certificate === undefined ? parts : PLUGIN_PARTS;
    const fresh =
      certificate === undefined || key === undefined
        ? undefined
        : checkIdentity(certificate, key, from);
    identity = fresh;
    sources = now;
    const generation = (material?.generation ?? 0) + 1;
    return { ca: authorities, certificate: fresh?.chain, key: fresh?.key, token, generation };
  };

  return {
    server: config.server,
    serverName: config.serverName,
    async current() {
      const given = await plugin.credential();
      try {
        material = gather(given);
        trouble = undefined;
      } catch (error) {
        if (material === undefined || !(error instanceof Failure)) throw error;
        if (error.message !== trouble) {
          log.warn('the credentials that were there before are used', { error: error.message });
        }
        trouble = error.message;
      }
      return material;
    },
    refused: () => plugin.forget(),
    doubt: () => (identity === undefined ? undefined : dateDoubt(identity, clock.now().wallMs)),
  };
}

type Plugin = { credential(): Promise<ExecCredential | undefined>; forget(): void };

/** Runs the plugin once for all that wait, and again when what it gave has expired. */
function createPlugin(config: Kubeconfig, ca: Part, options: CredentialOptions): Plugin {
  const { clock, signal } = options;
  const { exec } = config;
  let last: ExecCredential | undefined;
  let running: Promise<ExecCredential> | undefined;
  const run = async (of: ExecPlugin): Promise<ExecCredential> => {
    const cluster = of.provideClusterInfo ? clusterInfo(config, ca.read()) : undefined;
    last = await runExecPlugin(of, cluster, clock, signal);
    return last;
  };
  return {
    async credential() {
      if (exec === undefined) return undefined;
      if (last !== undefined && (last.expiresMs ?? Infinity) > clock.now().wallMs) return last;
      running ??= run(exec).finally(() => (running = undefined));
      return await running;
    },
    forget: () => (last = undefined),
  };
}

function clusterInfo(config: Kubeconfig, ca: string): ClusterInfo {
  return {
    server: config.server.href.replace(/\/$/, ''),
    ...(config.serverName === undefined ? {} : { 'tls-server-name': config.serverName }),
    'certificate-authority-data': Buffer.from(ca).toString('base64'),
  };
}

/** One thing of the kubeconfig, wherever it is. */
type Part = {
  /** For people: `the client certificate /var/lib/kubelet/pki/kubelet-client-current.pem`. */
  readonly origin: string;
  read(): string;
};

type Parts = {
  readonly ca: Part;
  readonly certificate: Part | undefined;
  readonly key: Part | undefined;
  readonly token: Part | undefined;
};

const PLUGIN_PARTS = {
  certificate: { origin: 'the certificate of the credential plugin' },
  key: { origin: 'the key of the credential plugin' },
};

function partsOf({ path, ca, certificate, key, token }: Kubeconfig): Parts {
  const part = (source: Source, what: string): Part =>
    'file' in source
      ? fileOf(source.file, what)
      : { origin: `${what} in ${path}`, read: () => source.text };
  return {
    ca: part(ca, 'the certificate authority'),
    certificate: certificate && part(certificate, 'the client certificate'),
    key: key && part(key, 'the client key'),
    token: token && part(token, 'the token'),
  };
}

/** The text of a file, read again when another or a changed one is at the path. */
function fileOf(path: string, what: string): Part {
  let text = '';
  let seen: string | undefined;
  return {
    origin: `${what} ${path}`,
    read() {
      const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
      const now = stat && [stat.dev, stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join();
      if (now === undefined || now !== seen) text = readCredential(path, what).toString('utf8');
      seen = now;
      return text;
    },
  };
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;
const PRIVATE_KEY = /-----BEGIN ([A-Z ]*)PRIVATE KEY-----[\s\S]+?-----END \1PRIVATE KEY-----/;

/** The certificates of a PEM text; what is between them means nothing. */
export function certificatesOf(pem: string): readonly X509Certificate[] {
  return (pem.match(CERTIFICATE) ?? []).map((block) => new X509Certificate(block));
}

function parsed(pem: string, origin: string): readonly X509Certificate[] {
  try {
    const certificates = certificatesOf(pem);
    if (certificates.length > 0) return certificates;
  } catch (cause) {
    const why = 'has a certificate that can not be parsed: write it again';
    throw new Failure('InvalidArgument', `${origin} ${why}`, { cause });
  }
  throw new Failure('InvalidArgument', `${origin} has no certificate in it: write it again`);
}

function checkAuthority(pem: string, origin: string): string {
  return parsed(pem, origin)
    .map((certificate) => certificate.toString())
    .join('');
}

type Identity = {
  readonly origin: string;
  readonly chain: string;
  readonly key: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
};

function checkIdentity(
  certificate: string,
  key: string,
  from: { readonly certificate: Named; readonly key: Named },
): Identity {
  const origin = from.certificate?.origin ?? '';
  const keyOrigin = from.key?.origin ?? '';
  const chain = parsed(certificate, origin);
  const [own] = chain as [X509Certificate];
  const block = PRIVATE_KEY.exec(key)?.[0];
  if (block === undefined) {
    throw new Failure('InvalidArgument', `${keyOrigin} has no private key in it: write it again`);
  }
  let matches: boolean;
  try {
    matches = own.checkPrivateKey(createPrivateKey(block));
  } catch (cause) {
    const why = 'can not be parsed: it is damaged or encrypted; write it again';
    throw new Failure('InvalidArgument', `${keyOrigin} ${why}`, { cause });
  }
  if (!matches) {
    const why = `does not belong to ${origin}: write both again, from one request`;
    throw new Failure('InvalidArgument', `${keyOrigin} ${why}`);
  }
  return {
    origin,
    chain: chain.map((one) => one.toString()).join(''),
    key: block,
    notBeforeMs: own.validFromDate.getTime(),
    notAfterMs: own.validToDate.getTime(),
  };
}

type Named = { readonly origin: string } | undefined;

function dateDoubt(identity: Identity, wallMs: number): string | undefined {
  const { origin, notBeforeMs, notAfterMs } = identity;
  const iso = (ms: number) => new Date(ms).toISOString();
  const shows = `this machine's clock shows ${iso(wallMs)}`;
  if (wallMs > notAfterMs) {
    const remedy = 'renew it, or set the clock if it is wrong';
    return `${origin} expired at ${iso(notAfterMs)}, and ${shows}: ${remedy}`;
  }
  if (wallMs < notBeforeMs) {
    const remedy = 'the clock is probably wrong: set it, or wait for time synchronization';
    return `${origin} is not valid before ${iso(notBeforeMs)}, but ${shows}: ${remedy}`;
  }
  return undefined;
}
