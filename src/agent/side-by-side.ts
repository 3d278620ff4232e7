import { Failure } from '../base/failure.ts';
import type { Log } from '../base/log.ts';

/**
 * Resolves when all have ended. The failure of one is told and the others go on: containers need
 * them. Any other error is a mistake of ours, of which nobody knows what it leaves behind.
 *
 * @throws that error, at once
 */
export async function sideBySide(
  work: Readonly<Record<string, Promise<unknown> | undefined>>,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const heard = Object.entries(work).map(async ([name, running]) => {
    try {
      await running;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      log.error('a part of the agent has ended', { part: name, message: error.message });
    }
  });
  await Promise.all(heard);
}
