/** What strikes the node and its cluster; each seed draws which of them it has, and how often. */
export const FAULTS = [
  'agent killed',
  'power cut',
  'runtime restart',
  'cable out',
  'connections reset',
  'server down',
  'compaction',
  'backup restored',
  'other cluster',
  'clock jump',
  'new credentials',
] as const;
export type FaultKind = (typeof FAULTS)[number];
