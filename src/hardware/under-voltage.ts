/**
 * Whether the power supply holds: below 4.63 V a Raspberry Pi slows down, and cards lose data. Told by
 * the kernel's sensor `rpi_volt`, whose alarm holds for the last two seconds, and by the firmware.
 * Source: Linux Documentation/hwmon/raspberrypi-hwmon.rst.
 */
import type { Verdict } from '../node/board.ts';
import { draftReading } from './draft.ts';
import { isRaspberryPi, readThrottled, since, UNDER_VOLTAGE } from './firmware.ts';
import { figureOf, isYoung, SILENT, wasTrue, withoutValue, type HardwareSource } from './source.ts';

const SENSORS = '/sys/class/hwmon';
const TYPE = 'UnderVoltage';
const ALARM = 'under_voltage';
/** Dips come in groups; it is over when none has come for so long. */
const CALM_MS = 10 * 60_000;
const EVERY_MS = 10_000;
const KEEP = CALM_MS / EVERY_MS;

export const underVoltage: HardwareSource = {
  name: 'under-voltage',
  everyMs: EVERY_MS,
  keep: KEEP,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    for (const sensor of await draft.names(SENSORS)) {
      const name = await draft.text(`${SENSORS}/${sensor}/name`);
      if (name !== 'rpi_volt') continue;
      const alarm = await draft.number(`${SENSORS}/${sensor}/in0_lcrit_alarm`, { min: 0, max: 1 });
      if (alarm === undefined) continue;
      draft.add(ALARM, alarm);
      return draft.done();
    }
    const bits = await readThrottled(draft);
    if (bits !== undefined) {
      draft.add(ALARM, (bits & (UNDER_VOLTAGE | since(UNDER_VOLTAGE))) === 0 ? 0 : 1);
    } else if (await isRaspberryPi(files)) {
      draft.fact('under-voltage', SILENT);
    }
    return draft.done();
  },
  judge(history) {
    const { samples } = history;
    const last = samples.at(-1);
    const alarm = figureOf(last, ALARM);
    if (alarm === undefined) {
      if (last?.troubles.length === 0 && last.facts['under-voltage'] === SILENT) return [silent()];
      return withoutValue(history, TYPE);
    }
    const dips = samples.filter((sample) => figureOf(sample, ALARM) === 1).length;
    const isCalm = dips === 0 && !isYoung(history, KEEP);
    if (alarm === 1 || (!isCalm && wasTrue(history, TYPE))) {
      const message =
        'the supply voltage fell below 4.63 V: use the power supply made for this board and a short, ' +
        'thick cable, and take what draws much power off its USB ports';
      return [{ type: TYPE, status: 'True', reason: 'SupplyTooWeak', message }];
    }
    const message = 'no under-voltage was seen in the last minutes';
    return [{ type: TYPE, status: 'False', reason: 'SupplyIsGood', message }];
  },
};

function silent(): Verdict {
  const message =
    'this kernel does not tell of the supply voltage: that takes the kernel of Raspberry Pi, or one ' +
    'with SENSORS_RASPBERRYPI_HWMON';
  return { type: TYPE, status: 'Unknown', reason: SILENT, message };
}
