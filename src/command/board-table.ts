/** What `limpet watch` says of boards: a row in a table, a line, or an object for machines. */
import type { View } from '../relay/fold.ts';
import { isBehind } from '../relay/fold.ts';
import { isReady } from '../relay/home-assistant.ts';
import type { NodeName } from '../relay/topic.ts';
import { age, table } from './table.ts';

/** A board as machines read it. Times are RFC 3339. */
export type Board = NodeName & {
  readonly kind: 'Board';
  readonly state: 'online' | 'offline' | 'leaving' | 'unknown';
  /** When it came online; else when it was last heard. */
  readonly since?: string;
  readonly lastHeard?: string;
  readonly why?: string;
  /** Messages are missing: what is said of pods and health is not the newest. */
  readonly behind: boolean;
  readonly pods?: { readonly ready: number; readonly total: number };
  /** Conditions that are not as they should be. */
  readonly problems?: readonly string[];
  readonly version?: string;
  readonly model?: string;
  readonly temperatureC?: number;
  readonly lastEvent?: {
    readonly time: string;
    readonly type: 'Normal' | 'Warning';
    readonly reason: string;
    readonly object: string;
    readonly message: string;
  };
};

const timeOf = (seconds: number): string => new Date(seconds * 1000).toISOString();

export function boardOf(name: NodeName, view: View): Board {
  const { state, base, event, met, heardAt } = view;
  const since = state?.s === 'online' ? state.t : heardAt;
  const pods = [...(base?.pods.values() ?? [])];
  return {
    kind: 'Board',
    ...name,
    state: state?.s ?? 'unknown',
    ...(since > 0 && { since: timeOf(since) }),
    ...(heardAt > 0 && { lastHeard: timeOf(heardAt) }),
    ...(state?.why !== undefined && { why: state.why }),
    behind: isBehind(view),
    ...(base !== undefined && {
      pods: { ready: pods.filter(isReady).length, total: pods.length },
      problems: problemsOf(view),
      version: base.node.version,
      ...(base.node.model !== undefined && { model: base.node.model }),
    }),
    ...(met?.temperatureC !== undefined && { temperatureC: met.temperatureC }),
    ...(event !== undefined && {
      lastEvent: {
        time: timeOf(event.t),
        type: event.type,
        reason: event.reason,
        object: objectOf(event.object),
        message: event.message,
      },
    }),
  };
}

/** Of all conditions only Ready is one that should be true. */
function problemsOf({ base }: View): readonly string[] {
  const conditions = [...(base?.conditions.values() ?? [])];
  return conditions
    .filter(({ type, status }) => status === (type === 'Ready' ? 'False' : 'True'))
    .map(({ type }) => (type === 'Ready' ? 'NotReady' : type));
}

function objectOf(object: {
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
}): string {
  const namespace = object.namespace === undefined ? '' : `${object.namespace}/`;
  return `${object.kind.toLowerCase()}/${namespace}${object.name}`;
}

const HEAD = ['NODE', 'STATE', 'SINCE', 'PODS', 'HEALTH', 'VERSION', 'LAST EVENT'] as const;

/** `?` behind the pods: messages are missing. */
export function boardTable(boards: readonly Board[], nowMs: number): string {
  return table(
    HEAD,
    boards.map((board) => rowOf(board, nowMs)),
  );
}

/** One board in one line, for a file or a pipe. */
export function boardLine(board: Board, nowMs: number): string {
  const [node, state, since, pods, health, version, event] = rowOf(board, nowMs);
  const cells = [`${state} for ${since}`, `pods ${pods}`, health, `limpet ${version}`, event];
  return `${node}: ${cells.filter((cell) => cell !== '').join(', ')}`;
}

function rowOf(board: Board, nowMs: number): readonly string[] {
  const { since, pods, problems, version, lastEvent } = board;
  return [
    `${board.fleet}/${board.node}`,
    board.state,
    since === undefined ? '' : age(nowMs - Date.parse(since)),
    pods === undefined ? '?' : `${pods.ready}/${pods.total}${board.behind ? '?' : ''}`,
    problems === undefined ? '?' : problems.join(',') || 'ok',
    version ?? '?',
    lastEvent === undefined ? '' : eventText(lastEvent, nowMs),
  ];
}

function eventText(event: NonNullable<Board['lastEvent']>, nowMs: number): string {
  return `${age(nowMs - Date.parse(event.time))} ago ${event.reason} ${event.object}`;
}
