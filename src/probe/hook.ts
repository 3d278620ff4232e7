/**
 * Runs a lifecycle hook to its end. A hook has no time limit of its own: whoever gives it up aborts
 * the signal. Source: pkg/kubelet/lifecycle/handlers.go.
 */
import { Failure, errnoOf } from '../base/failure.ts';
import type { LifecycleHandler } from '../kube/pod.ts';
import { GetFailed, get, headersOf, urlOf } from './http.ts';
import type { ProbeTarget } from './target.ts';
import { KUBE_VERSION } from './target.ts';

/** What went well and is worth telling. */
export type HookNote = string | undefined;

/**
 * @throws Failure when the hook failed; `Unavailable` when the runtime was lost meanwhile, so that
 *   nobody knows. The message never has what the container said, for that may be secret.
 */
export async function runHook(
  target: ProbeTarget,
  handler: LifecycleHandler,
  signal: AbortSignal,
): Promise<HookNote> {
  switch (handler.kind) {
    case 'exec':
      return runExec(target, handler.command, signal);
    case 'httpGet':
      return runGet(target, handler, signal);
    case 'sleep':
      await target.clock.sleep(handler.seconds * 1000, signal);
      return undefined;
    case 'tcpSocket':
      // The API has it and no kubelet does it: there it fails when it is run, so it does here.
      throw new Failure('InvalidArgument', 'tcpSocket is not supported as a lifecycle hook');
  }
}

async function runExec(
  { runtime, containerId }: ProbeTarget,
  command: readonly string[],
  signal: AbortSignal,
): Promise<undefined> {
  const { exitCode } = await runtime.execSync(containerId, command, 0, signal);
  if (exitCode === 0) return;
  throw new Failure('Unknown', `command '${command.join(' ')}' exited with ${exitCode}`);
}

/** Any answer is a good one: the kubelet does not look at its status. */
async function runGet(
  target: ProbeTarget,
  handler: Extract<LifecycleHandler, { readonly kind: 'httpGet' }>,
  signal: AbortSignal,
): Promise<HookNote> {
  const headers = headersOf(handler.httpHeaders, `kube-lifecycle/${KUBE_VERSION}`);
  let url: URL;
  try {
    url = urlOf(target, handler);
  } catch (error) {
    throw new Failure('InvalidArgument', (error as Error).message, { cause: error });
  }
  try {
    await get(url, headers, signal);
    return undefined;
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (!spokePlainHttp(url, error)) throw failed(url, error);
  }
  const plain = new URL(url.href.replace(/^https:/, 'http:'));
  const { authorization: _, ...rest } = headers;
  await get(plain, rest, signal).catch((error: unknown) => {
    if (signal.aborted) throw signal.reason;
    throw failed(url, error);
  });
  return `request to HTTPS lifecycle hook ${url.host} got HTTP response, retry with HTTP succeeded`;
}

function spokePlainHttp({ protocol }: URL, error: unknown): boolean {
  const code = errnoOf(error instanceof GetFailed ? error.cause : error) ?? '';
  return protocol === 'https:' && NOT_TLS.has(code);
}

/** What OpenSSL makes of an answer that is no TLS. */
const NOT_TLS: ReadonlySet<string> = new Set([
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_HTTP_REQUEST',
  'EPROTO',
]);

function failed({ href }: URL, error: unknown): Failure {
  const { message } = error as Error;
  return new Failure('Unknown', `Get "${href}": ${message}`, { cause: error });
}

/** What people are told of a hook that failed, in the kubelet's words. */
export function hookProblem(
  handler: LifecycleHandler,
  container: string,
  pod: string,
  why: string,
): string {
  const what: Record<LifecycleHandler['kind'], string> = {
    exec: `Exec lifecycle hook ([${handler.kind === 'exec' ? handler.command.join(' ') : ''}])`,
    httpGet: `HTTP lifecycle hook (${handler.kind === 'httpGet' ? handler.path : ''})`,
    sleep: `Sleep lifecycle hook (${handler.kind === 'sleep' ? handler.seconds : ''})`,
    tcpSocket: 'TCPSocket lifecycle hook',
  };
  const of = `for Container ${JSON.stringify(container)} in Pod ${JSON.stringify(pod)}`;
  return `${what[handler.kind]} ${of} failed - error: ${why}`;
}
