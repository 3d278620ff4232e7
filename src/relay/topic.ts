/** The topics: `limpet/v1/{fleet}/{node}/{kind}`. */
import { MAJOR, SHAPES, type MessageKind } from './message.ts';

/** Characters of a fleet's or node's name; the longest name of a Kubernetes node has 253. */
const NAME_CHARS = 253;

/**
 * Why a text can't be the name of a fleet or a node, or undefined. It is one level of a topic, so
 * that it has no "/", "+" or "#"; nor a control character, nor "$" at its beginning.
 */
export function nameProblem(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name.length > NAME_CHARS) return `has more than ${NAME_CHARS} characters`;
  if (/[/+#]/.test(name)) return 'has one of "/", "+", "#", which mean something in a topic';
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name) || !name.isWellFormed()) {
    return 'has a character that is no text';
  }
  return name.startsWith('$') ? 'begins with "$", which belongs to the broker' : undefined;
}

export type NodeName = { readonly fleet: string; readonly node: string };

/** The topic of a node's messages of one kind. The names are good by `nameProblem`. */
export function topicOf({ fleet, node }: NodeName, kind: MessageKind): string {
  return `limpet/v${MAJOR}/${fleet}/${node}/${kind}`;
}

/** The filter for all kinds of messages of all nodes of a fleet, or of all fleets. */
export function fleetFilter(fleet: string | undefined): string {
  return `limpet/v${MAJOR}/${fleet ?? '+'}/+/+`;
}

export type Topic = NodeName & { readonly kind: MessageKind };

/** What a topic says; undefined of one that is not ours, or of another major version. */
export function parseTopic(topic: string): Topic | undefined {
  const [room, version, fleet, node, kind, ...rest] = topic.split('/');
  if (room !== 'limpet' || version !== `v${MAJOR}` || rest.length > 0) return undefined;
  if (fleet === undefined || nameProblem(fleet) !== undefined) return undefined;
  if (node === undefined || nameProblem(node) !== undefined) return undefined;
  return isKind(kind) ? { fleet, node, kind } : undefined;
}

function isKind(kind: string | undefined): kind is MessageKind {
  return kind !== undefined && Object.hasOwn(SHAPES, kind);
}
