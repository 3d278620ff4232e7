/** A child of our own executable, for what may take long, or would leave much memory behind. */
import { spawn } from 'node:child_process';
import { isSea } from 'node:sea';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { readCapped } from '../linux/files.ts';

export type Argv = readonly [program: string, ...args: string[]];

export type OwnChild = {
  /**
   * All that it printed.
   *
   * @throws Failure when it ends badly, says too much, or takes too long; it is killed then
   */
  readonly output: Promise<string>;
  /** Resolves when it is gone: later than its output where the kernel holds it. */
  readonly ended: Promise<void>;
};

const DEADLINE_MS = 60_000;

/** The command line of a command of ours, as this process was started. */
export function ownCommand(...words: readonly string[]): Argv {
  if (isSea()) return [process.execPath, ...words];
  return [process.execPath, ...process.execArgv, process.argv[1] ?? '', ...words];
}

export function startChild(argv: Argv, clock: Clock, signal: AbortSignal): OwnChild {
  const [program, ...args] = argv;
  const output = Promise.withResolvers<string>();
  const ended = Promise.withResolvers<void>();
  // A group of its own, so that its children end with it.
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  const end = (why: Failure | undefined) => {
    timer.cancel();
    signal.removeEventListener('abort', onAbort);
    if (why === undefined) return output.resolve(Buffer.concat(chunks).toString('utf8'));
    child.stdout.destroy();
    // The agent may end before it.
    child.unref();
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended already.
    }
    output.reject(why);
  };
  const onAbort = () => end(new Failure('Cancelled', `${program} was cancelled`));
  const timer = clock.at(clock.now().monoMs + DEADLINE_MS, () =>
    end(new Failure('DeadlineExceeded', `it took longer than ${DEADLINE_MS / 1000} s`)),
  );
  signal.addEventListener('abort', onAbort, { once: true });
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    // Room for what is kept beside it.
    if (bytes <= LIMITS.childAnswerBytes - 1024) chunks.push(chunk);
    else
      end(new Failure('ResourceExhausted', `it is larger than ${LIMITS.childAnswerBytes} bytes`));
  });
  child.on('error', (cause) => {
    end(new Failure('Unknown', cause.message, { cause }));
    ended.resolve();
  });
  child.on('exit', () => ended.resolve());
  child.on('close', (status, killedBy) => {
    if (status === 0) end(undefined);
    else end(new Failure('Unknown', `it ended with ${killedBy ?? String(status)}`));
  });
  return { output: output.promise, ended: ended.promise };
}

/** The object that was kept at `path` in this boot; undefined where there is none. */
export async function keptInBoot(
  path: string,
  boot: string,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const bytes = await readCapped(path, LIMITS.childAnswerBytes).catch(() => undefined);
  const kept = bytes === undefined ? undefined : parsedObject(bytes.toString('utf8'));
  return kept?.['boot'] === boot ? kept : undefined;
}

/** The object in a JSON text; undefined where there is none. */
export function parsedObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Readonly<Record<string, unknown>>)
      : undefined;
  } catch {
    return undefined;
  }
}
