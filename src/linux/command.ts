/** Runs one of the system's own tools, without a shell. For what happens rarely. */
import { spawn } from 'node:child_process';

import { Failure } from '../base/failure.ts';

const MAX_STDERR_CHARS = 4096;

/**
 * Runs `argv`, and resolves to its standard error when it ended with 0.
 *
 * @throws Failure `NotFound` when there is no such tool, `Cancelled`, and what `explain` makes of
 *   the text that a failed run wrote.
 */
export function runTool(
  argv: readonly [tool: string, ...args: string[]],
  signal: AbortSignal,
  explain: (stderr: string) => Failure,
): Promise<void> {
  const [tool, ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, {
      signal,
      stdio: ['ignore', 'ignore', 'pipe'],
      // Messages are read, so they have to be in English.
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    });
    let stderr = '';
    child.stderr.setEncoding('utf8');
    child.stderr.on('data', (text: string) => {
      if (stderr.length < MAX_STDERR_CHARS) stderr += text;
    });
    child.on('error', (cause: NodeJS.ErrnoException) => {
      if (signal.aborted) reject(new Failure('Cancelled', `${tool} was cancelled`, { cause }));
      else if (cause.code === 'ENOENT') {
        reject(
          new Failure('NotFound', `this system has no ${tool}: install util-linux`, { cause }),
        );
      } else reject(new Failure('Unknown', `can't run ${tool}: ${cause.message}`, { cause }));
    });
    child.on('close', (status, killedBy) => {
      if (status === 0) resolve();
      else if (killedBy !== null)
        reject(new Failure('Unknown', `${tool} was ended by ${killedBy}`));
      else reject(explain(stderr.trim()));
    });
  });
}
