/** When figures are worth the bytes: what has changed less than its band is not told again. */
import type { Met } from './message.ts';

type Figure = Exclude<keyof Met, 't' | 'ttl'>;

type Rule = {
  /** Figures are told in multiples of it. */
  readonly step: number;
  /** A change of so much is news. Absent: this figure alone is never news. */
  readonly band?: number;
};

/** In the units of `Met`. */
export const RULES: Readonly<Record<Figure, Rule>> = {
  cpuPercent: { step: 1, band: 20 },
  memoryPercent: { step: 1, band: 10 },
  temperatureC: { step: 1, band: 5 },
  diskPercent: { step: 1, band: 5 },
  load1: { step: 0.25 },
  voltageV: { step: 0.01 },
  cpuMHz: { step: 100 },
  receivedKBps: { step: 1 },
  sentKBps: { step: 1 },
  writtenGB: { step: 1 },
};

const FIGURES = Object.keys(RULES) as readonly Figure[];

/** The figures in their steps; what is no number is left out. */
export function stepped(met: Met): Met {
  const figures = FIGURES.flatMap((name) => {
    const value = met[name];
    if (value === undefined || !Number.isFinite(value)) return [];
    const { step } = RULES[name];
    // Without the noise of a product like 3 * 0.01.
    return [[name, Number((Math.round(value / step) * step).toFixed(4))] as const];
  });
  return { t: met.t, ttl: met.ttl, ...Object.fromEntries(figures) };
}

/**
 * Whether `now` is news to somebody who was last told `told`: a figure has left its band, has come,
 * or is gone; or half of the time is over for which `told` means something. A value that flaps within
 * the band is told once in that time.
 */
export function isNews(told: Met | undefined, now: Met): boolean {
  if (told === undefined || Math.abs(now.t - told.t) >= told.ttl / 2) return true;
  return FIGURES.some((name) => {
    const [before, after] = [told[name], now[name]];
    if (before === undefined || after === undefined) return before !== after;
    const { band } = RULES[name];
    return band !== undefined && Math.abs(after - before) >= band;
  });
}
