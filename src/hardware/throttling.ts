/** Whether the firmware of a Raspberry Pi holds the processor back. */
import type { Verdict } from '../node/board.ts';
import { draftReading } from './draft.ts';
import {
  FREQUENCY_CAPPED,
  isRaspberryPi,
  readThrottled,
  since,
  SOFT_LIMIT,
  THROTTLED,
} from './firmware.ts';
import { figureOf, isYoung, SILENT, wasTrue, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'Throttled';
const BITS = 'throttled_bits';
const EVERY_MS = 30_000;
const CALM_MS = 5 * 60_000;
const KEEP = CALM_MS / EVERY_MS;
const HELD_BACK: readonly (readonly [bit: number, text: string])[] = [
  [THROTTLED, 'throttled'],
  [FREQUENCY_CAPPED, 'its clock is capped'],
  [SOFT_LIMIT, 'at its soft temperature limit'],
];
const ANY = THROTTLED | FREQUENCY_CAPPED | SOFT_LIMIT;
/** What held between two looks counts as well, but not what held before the first one. */
const MEANWHILE = ANY | since(ANY);

export const throttling: HardwareSource = {
  name: 'throttling',
  everyMs: EVERY_MS,
  keep: KEEP,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    const bits = await readThrottled(draft);
    draft.add(BITS, bits);
    if (bits === undefined && (await isRaspberryPi(files))) draft.fact('throttling', SILENT);
    return draft.done();
  },
  judge(history) {
    const { samples } = history;
    const last = samples.at(-1);
    const bits = figureOf(last, BITS);
    if (bits === undefined) {
      const isSilent = last?.troubles.length === 0 && last.facts['throttling'] === SILENT;
      return isSilent ? [silent()] : withoutValue(history, TYPE);
    }
    const held = samples.filter((sample, index) => {
      const then = figureOf(sample, BITS) ?? 0;
      return (then & (index === 0 ? ANY : MEANWHILE)) !== 0;
    });
    const isNow = (bits & (samples.length === 1 ? ANY : MEANWHILE)) !== 0;
    const isCalm = held.length === 0 && !isYoung(history, KEEP);
    if (isNow || (!isCalm && wasTrue(history, TYPE))) {
      const all = bits | Math.floor(bits / 0x1_0000);
      const what = HELD_BACK.flatMap(([bit, text]) => ((all & bit) === 0 ? [] : text)).join(', ');
      const message =
        `the firmware holds the processor back (${what === '' ? 'on and off' : what}; 0x` +
        `${bits.toString(16)}): cool it, and see to its power supply`;
      return [{ type: TYPE, status: 'True', reason: 'HeldBack', message }];
    }
    const message = `the processor runs at full speed when it is needed (0x${bits.toString(16)})`;
    return [{ type: TYPE, status: 'False', reason: 'NotHeldBack', message }];
  },
};

function silent(): Verdict {
  const message =
    'this kernel does not tell what the firmware does: that takes that of Raspberry Pi';
  return { type: TYPE, status: 'Unknown', reason: SILENT, message };
}
