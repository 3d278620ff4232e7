/** Runs a command in the container; exit code 0 is well. Source: pkg/probe/exec. */
import { Failure } from '../base/failure.ts';
import { expand } from '../pod/environment.ts';
import type { ProbeKind } from './target.ts';

export const exec: ProbeKind<'exec'> = {
  async run({ runtime, container, containerId }, { command }, timeoutSeconds, signal) {
    // References to variables that the container's own list has are filled in, as in its command.
    const lookUp = (of: string) => container.env.findLast(({ name }) => name === of)?.value;
    const filled = command.map((word) => expand(word, lookUp));
    try {
      const { exitCode, output } = await runtime.execSync(
        containerId,
        filled,
        timeoutSeconds,
        signal,
      );
      return { result: exitCode === 0 ? 'success' : 'failure', text: output };
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof Failure)) throw error;
      if (error.code !== 'DeadlineExceeded') return { result: 'error', text: error.message };
      const words = JSON.stringify(filled.join(' '));
      const text = `command timed out: ${words} timed out after ${timeoutSeconds}s`;
      return { result: 'failure', text };
    }
  },
};
