/**
 * Temperature of the processor. A Raspberry Pi slows down from 80 °C on and holds 85 °C at any cost.
 * Source: Linux Documentation/driver-api/thermal/sysfs-api.rst; Raspberry Pi documentation,
 * "Frequency management and thermal control".
 */
import { draftReading } from './draft.ts';
import { figuresOf, median, tenths, wasTrue, withoutValue, type HardwareSource } from './source.ts';

const ZONES = '/sys/class/thermal';
const HOT_CELSIUS = 80;
const COOL_CELSIUS = 75;
/** No processor works outside of these. */
const RANGE = { min: -55, max: 150, scale: 0.001 };
const TYPE = 'Overheated';

export const temperature: HardwareSource = {
  name: 'temperature',
  everyMs: 30_000,
  keep: 3,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    for (const zone of await files.names(ZONES)) {
      if (!/^thermal_zone\d+$/.test(zone)) continue;
      const type = await draft.text(`${ZONES}/${zone}/type`);
      draft.add(
        'temperature_celsius',
        await draft.number(`${ZONES}/${zone}/temp`, RANGE),
        type ?? zone,
      );
    }
    return draft.done();
  },
  judge(history) {
    const now = figuresOf(history, 'temperature_celsius');
    if (now.length === 0) return withoutValue(history, TYPE);
    const hottest = Math.max(...now.map(({ of }) => middle(history, of)));
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

function middle(history: Parameters<HardwareSource['judge']>[0], of: string | undefined): number {
  const values = history.samples.flatMap(({ figures }) =>
    figures.flatMap((one) =>
      one.of === of && one.name === 'temperature_celsius' ? one.value : [],
    ),
  );
  return median(values) ?? -Infinity;
}
