/** Asks the agent over its local socket, and says in plain words why there is no answer. */
import { request as httpRequest } from 'node:http';
import { errnoOf } from '../base/failure.ts';
import type { ErrorReport } from '../server/api.ts';
import { agentSockets } from './agent-sockets.ts';
import type { Io, OptionSpec } from './command.ts';
import { CommandFailed, EXIT } from './exit.ts';

const ANSWER_TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export const SOCKET_OPTION = {
  type: 'string',
  value: 'PATH',
  default: '/run/limpet/limpet.sock',
  help: "the agent's socket; else it is found",
} as const satisfies OptionSpec;

export type Question = {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  readonly body?: Uint8Array;
};

/**
 * Sends one request and returns the object of kind `kind`.
 * Throws CommandFailed: `unreachable` when the agent does not answer, `notFound` and `failed` by
 * what it says.
 */
export async function ask<T extends { readonly kind: string }>(
  socketPath: string,
  question: Question,
  kind: T['kind'],
  io: Io,
): Promise<T> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(question.query ?? {})) {
    if (value !== undefined) query.set(name, value);
  }
  const path = query.size === 0 ? question.path : `${question.path}?${query.toString()}`;
  const { text, from } = await exchangeWith(socketPath, { ...question, path }, io.signal);
  const answer = parse(text, from);
  if (answer.kind === 'Error') throw refusal(answer as ErrorReport);
  if (answer.kind !== kind) {
    throw new CommandFailed(
      EXIT.failed,
      `the agent answered with ${String(answer.kind)} instead of ${kind}`,
      ['the agent is of another version than this command: systemctl restart limpet'],
    );
  }
  return answer as T;
}

function parse(text: string, socketPath: string): { readonly kind: string } {
  try {
    const answer = JSON.parse(text) as { readonly kind: string } | null;
    if (answer !== null && typeof answer.kind === 'string') return answer;
  } catch {
    // Falls through to the same message.
  }
  throw new CommandFailed(EXIT.unreachable, `what answers on ${socketPath} is not limpet`);
}

function refusal(report: ErrorReport): CommandFailed {
  const exitCode = report.reason === 'NotFound' ? EXIT.notFound : EXIT.failed;
  return new CommandFailed(exitCode, report.message, report.problems ?? []);
}

/** Where nobody listens on the usual socket, the one agent that listens elsewhere is asked. */
async function exchangeWith(
  socketPath: string,
  question: Question,
  signal: AbortSignal,
): Promise<{ readonly text: string; readonly from: string }> {
  try {
    return { text: await exchange(socketPath, question, signal), from: socketPath };
  } catch (error) {
    if (socketPath !== SOCKET_OPTION.default || !(error instanceof NotRunning)) throw error;
    const [from, ...more] = agentSockets();
    if (from === undefined) throw error;
    if (more.length > 0) {
      const each = [from, ...more].map((path) => `--socket ${path}`);
      throw new CommandFailed(EXIT.unreachable, 'there are several agents: choose one', each);
    }
    return { text: await exchange(from, question, signal), from };
  }
}

class NotRunning extends CommandFailed {}

async function exchange(
  socketPath: string,
  { method, path, body }: Question,
  signal: AbortSignal,
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const request = httpRequest({
    socketPath,
    method,
    path,
    agent: false,
    signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]),
    headers:
      body === undefined
        ? {}
        : { 'content-type': 'application/yaml', 'content-length': body.length },
  });
  let answered = false;
  request.on('response', (response) => {
    answered = true;
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > MAX_ANSWER_BYTES) response.destroy(new Error('the answer is too large'));
    });
    response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    response.on('error', (error) => reject(noAnswer(socketPath, error)));
  });
  request.on('error', (error) => {
    // The agent refuses what is too large before it has read it, and then closes.
    if (!answered) reject(noAnswer(socketPath, error));
  });
  request.end(body);
  return await promise;
}

function noAnswer(socketPath: string, error: Error): CommandFailed {
  const code = errnoOf(error);
  if (code === 'EACCES' || code === 'EPERM') {
    return new CommandFailed(EXIT.unreachable, `you may not use ${socketPath}`, [
      'only root can talk to the agent: try again with sudo',
    ]);
  }
  const look = [
    'is it running?     systemctl status limpet',
    'what did it say?   journalctl -u limpet -n 50',
    'start it:          sudo systemctl start limpet',
    'is it the machine? sudo limpet doctor',
    'where it stands in for a kubelet, its unit is kubelet',
  ];
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return new NotRunning(EXIT.unreachable, `the agent is not running (${socketPath})`, look);
  }
  if (error.name === 'TimeoutError' || error.name === 'AbortError') {
    const seconds = ANSWER_TIMEOUT_MS / 1000;
    const message = `the agent did not answer within ${seconds} s (${socketPath})`;
    return new CommandFailed(EXIT.unreachable, message, look);
  }
  return new CommandFailed(
    EXIT.unreachable,
    `no answer from ${socketPath}: ${error.message}`,
    look,
  );
}
