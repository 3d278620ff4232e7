/** Whether the wall clock can be believed. */
import type { Verdict } from '../node/board.ts';
import { draftReading } from './draft.ts';
import { beforeOf, figureOf, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'ClockUntrusted';
const PAST = 'InThePast';
const SYNCHRONIZED = 'clock_synchronized';

export const clock: HardwareSource = {
  name: 'clock',
  everyMs: 30_000,
  keep: 2,
  types: [TYPE],
  async read({ files, isSynchronized, clockSetter, earliestWallMs }) {
    const draft = draftReading(files);
    const is = isSynchronized();
    if (is !== undefined) draft.add(SYNCHRONIZED, is ? 1 : 0);
    draft.add('clock_earliest_seconds', earliestWallMs / 1000);
    draft.fact('clock-setter', clockSetter());
    const since = await draft.number('/sys/class/rtc/rtc0/since_epoch', { min: 0, max: 2 ** 33 });
    if (since !== undefined) draft.fact('clock-with-battery', 'rtc0');
    return draft.done();
  },
  judge(history, now) {
    const sample = history.samples.at(-1);
    const is = figureOf(sample, SYNCHRONIZED);
    const old = beforeOf(history, TYPE);
    const earliestMs = (figureOf(sample, 'clock_earliest_seconds') ?? 0) * 1000;
    if (now.wallMs < earliestMs) {
      return [untrusted(PAST, 'it shows a time before limpet was made')];
    }
    if (is === undefined) return withoutValue(history, TYPE);
    // A clock that can't make up its mind is as it was: two looks have to agree.
    const agrees = history.samples.every((one) => figureOf(one, SYNCHRONIZED) === is);
    if (!agrees && old !== undefined && old.reason !== PAST) return [old];
    const setter = sample?.facts['clock-setter'];
    if (is === 1) {
      const message = `set by ${setter ?? 'an NTP client'}`;
      return [{ type: TYPE, status: 'False', reason: 'Synchronized', message }];
    }
    const rtc = sample?.facts['clock-with-battery'];
    const from =
      rtc === undefined ? 'nobody has set it' : `it goes on from ${rtc}, and nobody has set it`;
    return [untrusted('NotSynchronized', `${from} since the boot or for long`)];
  },
};

function untrusted(reason: string, what: string): Verdict {
  const message = `${what}: certificates may look invalid; see: timedatectl timesync-status`;
  return { type: TYPE, status: 'True', reason, message };
}
