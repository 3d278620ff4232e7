/**
 * Temperature of the processor. A Raspberry Pi slows down from 80 °C on and holds 85 °C at any cost.
 * Source: Linux Documentation/driver-api/thermal/sysfs-api.rst; Raspberry Pi documentation,
 * "Frequency management and thermal control".
 */
import { draftReading } from './draft.ts';
import {
  figuresOf,
  middleOf,
  tenths,
  wasTrue,
  withoutValue,
  type HardwareSource,
} from './source.ts';

const ZONES = '/sys/class/thermal';
const HOT_CELSIUS = 80;
const COOL_CELSIUS = 75;
/** No processor works outside of these. */
const RANGE = { min: -55, max: 150, scale: 0.001 };
const TYPE = 'Overheated';
const CELSIUS = 'temperature_celsius';
const KEEP = 3;

export const temperature: HardwareSource = {
  name: 'temperature',
  everyMs: 30_000,
  keep: KEEP,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    // Several zones may have one type.
    const seen = new Set<string>();
    for (const zone of await draft.names(ZONES)) {
      if (!/^thermal_zone\d+$/.test(zone)) continue;
      const type = (await draft.label(`${ZONES}/${zone}/type`)) ?? zone;
      const of = seen.has(type) ? `${type} (${zone})` : type;
      seen.add(of);
      draft.add(CELSIUS, await draft.number(`${ZONES}/${zone}/temp`, RANGE), of);
    }
    return draft.done();
  },
  judge(history) {
    if (figuresOf(history, CELSIUS).length === 0) return withoutValue(history, TYPE);
    // A zone that does not answer just now counts as it was.
    const zones = history.samples.flatMap(({ figures }) =>
      figures.flatMap(({ name, of }) => (name === CELSIUS ? [of] : [])),
    );
    const all = zones.map((of) => middleOf(history, CELSIUS, of, KEEP) ?? -Infinity);
    const hottest = Math.max(...all);
    const limit = wasTrue(history, TYPE) ? COOL_CELSIUS : HOT_CELSIUS;
    const shown = `${tenths(hottest)} °C`;
    if (hottest < limit) {
      const message = `${shown}; it is too hot from ${HOT_CELSIUS} °C on`;
      return [{ type: TYPE, status: 'False', reason: 'TemperatureIsGood', message }];
    }
    const message =
      `${shown}, which slows the processor down: give it a heat sink, a fan or air, and keep it ` +
      `below ${COOL_CELSIUS} °C`;
    return [{ type: TYPE, status: 'True', reason: 'TooHot', message }];
  },
};
