/** What the invariants remember of one pod, beside the agent. */
import type { Want } from '../../src/pod/model.ts';
import type { Process } from './process.ts';

export type History = {
  want: Want;
  readonly starts: Map<string, Process[]>;
  /** Outcomes that were on the disk: `name/attempt` with exit code 0. */
  readonly recordedZero: Set<string>;
  /** The highest attempt that was on the disk, by container. */
  readonly attempts: Map<string, number>;
  /** Crash-loop: the least pause before the next start, and what it was computed from. */
  readonly loops: Map<string, Loop>;
  terminal: string | undefined;
  /** What was stored last. */
  text: string;
  /** Containers that ran and of which the runtime may have no true record any more. */
  readonly evidenceLost: Set<string>;
  isLedgerLost: boolean;
  /** When the pod began to end, and which ending that was. */
  endingMs: number;
  endingKey: string | undefined;
  /** Why the agent last began to stop a container, by its id. */
  readonly stops: Map<string, StopCause>;
  /** Containers whose SIGTERM came of a stop that was begun before the pod began to end. */
  readonly strays: Set<string>;
  /** When it first began to stop one of the ending pod. */
  stoppingMs: number | undefined;
  /** The shortest grace that a deletion asked for. */
  deletionGraceMs: number;
  /** When something last went wrong that may delay the end of the pod. */
  troubleMs: number;
  /** When the last deletion was accepted. */
  deletedMs: number;
  /** When effects began, and when there were turns, within the last minute. */
  begun: number[];
  turns: number[];
  isForgotten: boolean;
};
/** The pod was ending; a probe or hook had failed; or it should not have run at all. */
export type StopCause = 'ending' | 'kill' | 'stray';
export type Loop = { delayMs: number; readonly startedMs: number };

const MINUTE_MS = 60_000;

export function newHistory(want: Want): History {
  return {
    ...{ want, starts: new Map(), recordedZero: new Set(), attempts: new Map() },
    ...{ loops: new Map(), terminal: undefined, text: '', evidenceLost: new Set() },
    ...{
      isLedgerLost: false,
      isForgotten: false,
      begun: [],
      turns: [],
      stops: new Map(),
      strays: new Set(),
    },
    ...{ deletionGraceMs: Infinity, troubleMs: 0, deletedMs: 0 },
    ...{ endingMs: 0, endingKey: undefined, stoppingMs: undefined },
  };
}

/** Adds a moment to those of the last minute, and counts them. */
export function countMinute(moments: number[], nowMs: number): number {
  moments.push(nowMs);
  while (moments[0]! < nowMs - MINUTE_MS) moments.shift();
  return moments.length;
}
