// Other programs, run without a shell: their output, their exit code, their end.
import { spawn } from 'node:child_process';

export type Finished = { readonly code: number; readonly stdout: string; readonly stderr: string };

export type RunOptions = {
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The program is killed after this time and `run` throws. */
  readonly timeoutMs?: number;
  /** Throw when the exit code is not 0; true unless told. */
  readonly check?: boolean;
  /** Called with each line the program prints, of either stream. */
  readonly onLine?: (line: string) => void;
};

/**
 * Runs a program to its end and returns what it printed.
 * Throws when it cannot be started, takes too long, or (unless `check` is false) fails.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const { promise, resolve, reject } = Promise.withResolvers<Finished>();
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
  });
  const stdout = gather(child.stdout, options.onLine);
  const stderr = gather(child.stderr, options.onLine);
  let late = false;
  const timer =
    options.timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          late = true;
          child.kill('SIGKILL');
          // A grandchild can hold the pipes open: without this, `close` would never come.
          child.stdout.destroy();
          child.stderr.destroy();
        }, options.timeoutMs);
  child.on('error', (error) => {
    clearTimeout(timer);
    reject(new Error(`cannot start "${program}": ${error.message}`, { cause: error }));
  });
  child.on('close', (status, signal) => {
    clearTimeout(timer);
    const code = status ?? 128 + (signal === 'SIGKILL' ? 9 : 15);
    const done = { code, stdout: stdout(), stderr: stderr() };
    if (late) reject(new Error(`${shown(program, args)} took over ${options.timeoutMs} ms`));
    else if (code !== 0 && (options.check ?? true)) reject(failure(program, args, done));
    else resolve(done);
  });
  // A program that ends without reading its input is judged by its exit code, not by EPIPE.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  return await promise;
}

function gather(
  stream: NodeJS.ReadableStream,
  onLine: ((line: string) => void) | undefined,
): () => string {
  const chunks: string[] = [];
  let rest = '';
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    chunks.push(chunk);
    if (onLine === undefined) return;
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(onLine);
  });
  return () => chunks.join('');
}

function shown(program: string, args: readonly string[]): string {
  const line = [program, ...args].join(' ');
  return `"${line.length > 200 ? `${line.slice(0, 200)}…` : line}"`;
}

function failure(program: string, args: readonly string[], done: Finished): Error {
  const said = (done.stderr.trim() || done.stdout.trim()).slice(-1500);
  return new Error(`${shown(program, args)} ended with code ${done.code}: ${said}`);
}
