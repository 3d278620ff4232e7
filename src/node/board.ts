/**
 * How the board feels, in words that all who tell of it share: conditions that turn, and figures.
 * What turns is decided here; what is so is judged in src/hardware.
 */
import { rfc3339OfMs } from '../pod/reduce.ts';

export type ConditionStatus = 'True' | 'False' | 'Unknown';

/** What one look comes to. As with a Node's pressures `True` is bad. */
export type Verdict = {
  /** `UnderVoltage`; of a Node's conditions. */
  readonly type: string;
  readonly status: ConditionStatus;
  /** One word in CamelCase. */
  readonly reason: string;
  /** The figures, and what to do when there is something to do. */
  readonly message: string;
  /** What it holds for (mounts, devices), where the next judgement has to know. */
  readonly subjects?: readonly string[];
};

/** The message is that of the last turn: figures that change all the time are no news. */
export type BoardCondition = Verdict & {
  /** RFC 3339: since when the status is as it is. */
  readonly since: string;
};

/** A number of now. The name ends with its unit: `_celsius`, `_bytes`, `_hertz`, `_ratio`, … */
export type Figure = {
  readonly name: string;
  readonly value: number;
  /** Which one of several: an interface, a disk. */
  readonly of?: string;
};

export type Turn = {
  readonly condition: BoardCondition;
  /** Undefined for the first judgement of its kind. */
  readonly before: BoardCondition | undefined;
};

/** What the rest of limpet is told of the board. */
export type BoardHealth = {
  /** In a stable order. */
  conditions(): readonly BoardCondition[];
  figures(): readonly Figure[];
  /** Files of the kernel that are there and can't be used, each with its path. */
  troubles(): readonly string[];
  /** What does not change while the board runs: model, serial, card. */
  facts(): Readonly<Record<string, string>>;
  /** Calls `listener` on each turn, also the first judgement. Dispose of it to hear no more. */
  onTurn(listener: (turn: Turn) => void): Disposable;
};

/** A turn is another status or another reason; all else leaves the condition as it was. */
export function turned(
  before: readonly BoardCondition[],
  verdicts: readonly Verdict[],
  wallMs: number,
): { readonly conditions: readonly BoardCondition[]; readonly turns: readonly Turn[] } {
  const conditions = new Map(before.map((condition) => [condition.type, condition]));
  const turns: Turn[] = [];
  for (const verdict of verdicts) {
    const old = conditions.get(verdict.type);
    if (old?.status === verdict.status && old.reason === verdict.reason) {
      // Only what the next judgement needs goes on.
      if (verdict.subjects === undefined) continue;
      if (isSame(verdict.subjects, old.subjects)) continue;
    }
    const since = old?.status === verdict.status ? old.since : rfc3339OfMs(wallMs);
    const condition = { ...verdict, since };
    conditions.set(verdict.type, condition);
    turns.push({ condition, before: old });
  }
  return { conditions: [...conditions.values()], turns };
}

function isSame(a: readonly string[], b: readonly string[] = []): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}

/** The event of a turn; undefined where the first look finds nothing wrong. */
export function eventOfTurn({
  condition,
  before,
}: Turn):
  | { readonly type: 'Normal' | 'Warning'; readonly reason: string; readonly message: string }
  | undefined {
  const { status, type, reason, message } = condition;
  if (before === undefined && status !== 'True') return undefined;
  const text = `${type} is ${status}: ${message}`;
  return { type: status === 'True' ? 'Warning' : 'Normal', reason, message: text };
}
