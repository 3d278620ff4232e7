/**
 * Gives memory back. V8 keeps the pages of a past peak; a last-resort collection returns them, and
 * on a board with 512 MB they are needed elsewhere. It is made only after there was work.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Clock, Timer } from '../base/clock.ts';

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

const AFTER_WORK_MS = 20_000;

/** V8's own function. A context is made for it, which is too dear for the start. */
function exposed(): Collect {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as Collect;
  // The flags are part of what compiled code that is kept must fit.
  setFlagsFromString('--no-expose-gc');
  return collect;
}

/**
 * Call `worked` after each turn; memory is given back once it has been quiet for a while.
 *
 * @param onQuiet Called before that.
 */
export function createMemoryRelease(
  clock: Clock,
  trimHeap: () => void,
  onQuiet: () => void,
): { worked(): void; [Symbol.dispose](): void } {
  let collect: Collect | undefined;
  let timer: Timer | undefined;
  let workedAtMs = 0;
  const release = () => {
    const quietMs = clock.now().monoMs - workedAtMs;
    if (quietMs < AFTER_WORK_MS) {
      timer = clock.at(workedAtMs + AFTER_WORK_MS, release);
      return;
    }
    timer = undefined;
    onQuiet();
    collect ??= exposed();
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    trimHeap();
  };
  return {
    worked: () => {
      workedAtMs = clock.now().monoMs;
      timer ??= clock.at(workedAtMs + AFTER_WORK_MS, release);
    },
    [Symbol.dispose]: () => timer?.cancel(),
  };
}
