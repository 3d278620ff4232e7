/**
 * Memory that is left, and how long programs wait for some. A condition of its own: that of a Node
 * which is called MemoryPressure keeps pods away and promises evictions.
 * Source: proc(5), meminfo; Linux Documentation/accounting/psi.rst.
 */
import { readPressure } from './pressure.ts';
import { draftReading } from './draft.ts';
import { beforeOf, figureOf, wasTrue, withoutValue, type HardwareSource } from './source.ts';

const TYPE = 'MemoryLow';
const MEMINFO = '/proc/meminfo';
const KIB = 1024;
const MIB = 1024 * KIB;
const LOW_SHARE = 0.05;
const GOOD_SHARE = 0.1;
/** Share of the last minute in which nothing went on for want of memory. */
const STALLED = 0.1;
const FLOWING = 0.02;
const LITTLE = 'LittleLeft';
const STOOD = 'Stalled';

export const memory: HardwareSource = {
  name: 'memory',
  everyMs: 60_000,
  keep: 3,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    const text = await draft.text(MEMINFO);
    if (text === undefined) return draft.done();
    for (const [field, name] of FIELDS) {
      const found = new RegExp(`^${field}:\\s+(\\S+) kB$`, 'm').exec(text)?.[1];
      if (found === undefined) {
        draft.trouble(`${MEMINFO} has no ${field}`);
        continue;
      }
      draft.add(name, draft.numberIn(found, MEMINFO, { min: 0, max: 2 ** 50, scale: KIB }));
    }
    await readPressure(draft, 'memory');
    return draft.done();
  },
  judge(history) {
    const sample = history.samples.at(-1);
    const total = figureOf(sample, 'memory_total_bytes');
    const available = figureOf(sample, 'memory_available_bytes');
    if (total === undefined || available === undefined || total === 0) {
      return withoutValue(history, TYPE);
    }
    const was = wasTrue(history, TYPE) ? beforeOf(history, TYPE)?.reason : undefined;
    const stalled = figureOf(sample, 'memory_stalled_ratio') ?? 0;
    const figures =
      `${Math.floor(available / MIB)} of ${Math.floor(total / MIB)} MiB available` +
      (stalled > 0 ? `, ${Math.round(stalled * 100)} % of the time nothing went on` : '');
    const isLow = available / total < (was === LITTLE ? GOOD_SHARE : LOW_SHARE);
    if (isLow || stalled >= (was === STOOD ? FLOWING : STALLED)) {
      const message = `${figures}: run less here, or give pods limits; see: limpet pods`;
      return [{ type: TYPE, status: 'True', reason: isLow ? LITTLE : STOOD, message }];
    }
    return [{ type: TYPE, status: 'False', reason: 'EnoughLeft', message: figures }];
  },
};

const FIELDS = [
  ['MemTotal', 'memory_total_bytes'],
  ['MemAvailable', 'memory_available_bytes'],
] as const;
