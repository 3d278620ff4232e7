/** Clock of the processors. Source: Linux Documentation/admin-guide/pm/cpufreq.rst. */
import { draftReading } from './draft.ts';
import {
  beforeOf,
  figureOf,
  figuresOf,
  isYoung,
  wasTrue,
  withoutValue,
  type HardwareSource,
  type Sample,
} from './source.ts';

const POLICIES = '/sys/devices/system/cpu/cpufreq';
const TYPE = 'ProcessorCapped';
/** 10 MHz to 10 GHz; the files count in kHz. */
const RANGE = { min: 1e7, max: 1e10, scale: 1000 };
/** Drivers round. */
const NEARLY = 0.98;
/** So many looks in a row have to find it capped, or free again. */
const KEEP = 3;

export const clockSpeed: HardwareSource = {
  name: 'clock-speed',
  everyMs: 60_000,
  keep: KEEP,
  types: [TYPE],
  async read({ files }) {
    const draft = draftReading(files);
    for (const policy of await draft.names(POLICIES)) {
      if (!/^policy\d+$/.test(policy)) continue;
      const at = async (file: string) => await draft.number(`${POLICIES}/${policy}/${file}`, RANGE);
      draft.add('processor_clock_hertz', await at('scaling_cur_freq'), policy);
      draft.add('processor_clock_allowed_hertz', await at('scaling_max_freq'), policy);
      draft.add('processor_clock_maximum_hertz', await at('cpuinfo_max_freq'), policy);
    }
    return draft.done();
  },
  judge(history) {
    const { samples } = history;
    const policies = figuresOf(history, 'processor_clock_allowed_hertz');
    if (policies.length === 0) return withoutValue(history, TYPE);
    const isCapped = (sample: Sample, of: string) => {
      const allowed = figureOf(sample, 'processor_clock_allowed_hertz', of);
      const most = figureOf(sample, 'processor_clock_maximum_hertz', of);
      return allowed !== undefined && most !== undefined && allowed < most * NEARLY;
    };
    const capped = policies.find(({ of = '' }) =>
      wasTrue(history, TYPE)
        ? samples.some((sample) => isCapped(sample, of))
        : samples.every((sample) => isCapped(sample, of)),
    );
    // After a restart of the agent.
    const old = beforeOf(history, TYPE);
    if (capped === undefined && old?.status === 'True' && isYoung(history, KEEP)) return [old];
    const megahertz = (hertz: number | undefined) => `${Math.round((hertz ?? 0) / 1e6)} MHz`;
    if (capped !== undefined) {
      const most = figureOf(samples.at(-1), 'processor_clock_maximum_hertz', capped.of);
      const message =
        `${capped.of ?? ''} may run at ${megahertz(capped.value)} of ${megahertz(most)}: it is hot, ` +
        'or somebody has set scaling_max_freq';
      return [{ type: TYPE, status: 'True', reason: 'ClockIsCapped', message }];
    }
    const message = `up to ${megahertz(policies[0]?.value)} allowed`;
    return [{ type: TYPE, status: 'False', reason: 'ClockIsFree', message }];
  },
};
