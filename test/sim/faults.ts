/** What strikes the machine; each seed draws which of them it has, and how often. */
export const FAULTS = [
  'agent crash',
  'power cut',
  'runtime restart',
  'clock jump',
  'disk full',
  'sandbox dies',
  'sandbox stays',
  'process dies',
  'image missing',
  'ledger lost',
  'runtime wiped',
  'shorter grace',
] as const;
export type FaultKind = (typeof FAULTS)[number];
