/** Pressure stall information. Source: Linux Documentation/accounting/psi.rst. */
import type { Draft } from './draft.ts';

/** Adds `memory_stalled_ratio`: of the last minute, when all that had work to do waited. */
export async function readPressure(draft: Draft, of: 'memory' | 'io'): Promise<void> {
  const path = `/proc/pressure/${of}`;
  const text = await draft.text(path);
  // Kernels without it, or with it turned off, have no such file.
  if (text === undefined) return;
  const percent = Number(/^full .*avg60=(\d{1,3}\.\d\d)\b/m.exec(text)?.[1] ?? 'NaN');
  if (percent >= 0 && percent <= 100) draft.add(`${of}_stalled_ratio`, percent / 100);
  else draft.trouble(`${path} has no avg60 that can be`);
}
