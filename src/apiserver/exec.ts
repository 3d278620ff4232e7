/**
 * Credentials from a plugin: a program that writes an `ExecCredential` as JSON.
 * Source: client.authentication.k8s.io/v1 and v1beta1, k8s.io/client-go plugin/pkg/client/auth/exec
 */
import { spawn } from 'node:child_process';

import type { Clock } from '../base/clock.ts';
import { errnoOf, Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import type { ExecPlugin } from './kubeconfig.ts';

/** What a plugin gave. */
export type ExecCredential = {
  readonly token: string | undefined;
  readonly certificate: string | undefined;
  readonly key: string | undefined;
  /** Wall clock; undefined: until the server refuses it. */
  readonly expiresMs: number | undefined;
};

export type ClusterInfo = {
  readonly server: string;
  readonly 'tls-server-name'?: string;
  readonly 'certificate-authority-data': string;
};

const TIMEOUT_MS = 60_000;
const MAX_STDERR_CHARS = 1024;

/**
 * Runs the plugin, without a shell, and reads what it writes.
 *
 * @param cluster What the plugin is told of the cluster, if the kubeconfig says that it shall.
 * @throws Failure `NotFound` without such a program, `DeadlineExceeded` after a minute, `Cancelled`,
 *   `Unauthenticated` when it failed or wrote something else; its output is never quoted
 */
export async function runExecPlugin(
  plugin: ExecPlugin,
  cluster: ClusterInfo | undefined,
  clock: Clock,
  signal: AbortSignal,
): Promise<ExecCredential> {
  const info = {
    apiVersion: plugin.apiVersion,
    kind: 'ExecCredential',
    spec: { interactive: false, ...(cluster === undefined ? {} : { cluster }) },
  };
  const env = Object.fromEntries(plugin.env.map(({ name, value }) => [name, value]));
  const output = await outputOf(plugin, clock, signal, {
    ...process.env,
    ...env,
    KUBERNETES_EXEC_INFO: JSON.stringify(info),
  });
  return credentialOf(plugin, output);
}

function outputOf(
  plugin: ExecPlugin,
  clock: Clock,
  signal: AbortSignal,
  env: NodeJS.ProcessEnv,
): Promise<string> {
  const { command } = plugin;
  return new Promise((resolve, reject) => {
    const child = spawn(command, plugin.args, {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that what it starts can be ended with it.
      detached: true,
    });
    let ended: Failure | undefined;
    const end = (failure: Failure) => {
      ended ??= failure;
      killGroup(child.pid);
    };
    const cancel = () => end(new Failure('Cancelled', `${command} was cancelled`));
    const timer = clock.at(clock.now().monoMs + TIMEOUT_MS, () =>
      end(refuse(plugin, 'DeadlineExceeded', `took more than ${TIMEOUT_MS / 1000} s`)),
    );
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    const chunks: Buffer[] = [];
    let bytes = 0;
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= LIMITS.execCredentialBytes) return void chunks.push(chunk);
      const why = `wrote more than ${LIMITS.execCredentialBytes} bytes`;
      end(refuse(plugin, 'Unauthenticated', why));
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (stderr.length < MAX_STDERR_CHARS) stderr += text.slice(0, MAX_STDERR_CHARS);
    });
    child.on('error', (cause) => {
      const isMissing = errnoOf(cause) === 'ENOENT';
      ended ??= isMissing
        ? refuse(plugin, 'NotFound', 'is not installed', plugin.installHint)
        : refuse(plugin, 'Unauthenticated', `can't be run (${errnoOf(cause) ?? cause.message})`);
    });
    child.on('close', (code, killedBy) => {
      timer.cancel();
      signal.removeEventListener('abort', cancel);
      if (ended !== undefined) return reject(ended);
      if (code === 0) return resolve(Buffer.concat(chunks).toString('utf8'));
      const how = killedBy === null ? `ended with ${code}` : `was ended by ${killedBy}`;
      reject(refuse(plugin, 'Unauthenticated', `${how}: ${stderr.trim()}`));
    });
  });
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

function credentialOf(plugin: ExecPlugin, output: string): ExecCredential {
  let parsed: unknown;
  try {
    parsed = JSON.parse(output);
  } catch {
    throw refuse(plugin, 'Unauthenticated', 'wrote something that is no JSON');
  }
  const credential = (parsed ?? {}) as { apiVersion?: unknown; kind?: unknown; status?: unknown };
  if (credential.kind !== 'ExecCredential' || credential.apiVersion !== plugin.apiVersion) {
    throw refuse(plugin, 'Unauthenticated', `wrote no ExecCredential of ${plugin.apiVersion}`);
  }
  const status = (credential.status ?? {}) as Readonly<Record<string, unknown>>;
  const text = (name: string) => {
    const value = status[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const token = text('token');
  const certificate = text('clientCertificateData');
  const key = text('clientKeyData');
  if ((certificate === undefined) !== (key === undefined) || (!token && !certificate)) {
    throw refuse(plugin, 'Unauthenticated', 'wrote neither a token nor a certificate with its key');
  }
  const expires = text('expirationTimestamp');
  const expiresMs = expires === undefined ? undefined : Date.parse(expires);
  if (Number.isNaN(expiresMs)) {
    throw refuse(plugin, 'Unauthenticated', 'wrote an expirationTimestamp that is no time');
  }
  return { token, certificate, key, expiresMs };
}

function refuse(
  plugin: ExecPlugin,
  code: 'NotFound' | 'DeadlineExceeded' | 'Unauthenticated',
  why: string,
  hint = 'run it by hand to see why',
): Failure {
  return new Failure(code, `the credential plugin ${plugin.command} ${why}: ${hint}`);
}
