/**
 * Pods and ledgers as rows. SQLite has no checksums: a flipped bit in a text is read back as if it
 * had been written so. Each row therefore has its own, and a row that fails it counts as lost.
 */
import { crc32 } from '../base/crc32.ts';
import type { Pod } from '../kube/pod.ts';
import type { Deletion, Ledger, Source } from '../pod/model.ts';

/** A pod as it is stored. */
export type StoredPod = {
  readonly pod: Pod;
  readonly source: Source;
  /** Order of acceptance; it grows, and no number is given twice. */
  readonly order: number;
  /** Hash of what the pod was made from; tells whether an apply changes anything. */
  readonly specHash: string;
  readonly deletion?: Deletion;
  readonly ledger?: Ledger;
};

export type PodRow = {
  readonly ord: number;
  readonly uid: string;
  readonly source: string;
  readonly spec_hash: string;
  readonly pod: string;
  readonly check_sum: number;
  readonly deletion: string | null;
  readonly wall_ms: number;
};

export type LedgerRow = {
  readonly uid: string;
  readonly ledger: string;
  readonly check_sum: number;
  readonly wall_ms: number;
};

/** Of the API server's objects; what `sealed` holds takes the node's key. */
export type ObjectRow = {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly version: string;
  readonly sealed: Uint8Array;
  readonly wall_ms: number;
};

/** What a row holds, or why it can't be trusted. */
export type Decoded<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

export function podCheckSum(row: Omit<PodRow, 'check_sum' | 'deletion' | 'wall_ms'>): number {
  return crc32([row.ord, row.uid, row.source, row.spec_hash, row.pod].join('\n'));
}

export function ledgerCheckSum(row: Pick<LedgerRow, 'uid' | 'ledger'>): number {
  return crc32(`${row.uid}\n${row.ledger}`);
}

/** The pod of a row, without its ledger. A deletion that can't be read is still a deletion. */
export function decodePod(row: PodRow): Decoded<StoredPod> {
  if (podCheckSum(row) !== row.check_sum) return { ok: false, problem: 'wrong check sum' };
  const pod = parseObject(row.pod);
  if (!isPod(pod) || pod.metadata.uid !== row.uid) return { ok: false, problem: 'not a pod' };
  if (!isSource(row.source)) return { ok: false, problem: `unknown source ${row.source}` };
  const base = { pod, source: row.source, order: row.ord, specHash: row.spec_hash };
  if (row.deletion === null) return { ok: true, value: base };
  const deletion = parseDeletion(row.deletion) ?? {
    graceSeconds: pod.spec.terminationGracePeriodSeconds,
    at: { monoMs: 0, wallMs: row.wall_ms, boot: '' },
  };
  return { ok: true, value: { ...base, deletion } };
}

export function decodeLedger(row: LedgerRow): Decoded<Ledger> {
  if (ledgerCheckSum(row) !== row.check_sum) return { ok: false, problem: 'wrong check sum' };
  const ledger = parseObject(row.ledger);
  if (!isLedger(ledger)) return { ok: false, problem: 'not a ledger' };
  return { ok: true, value: ledger };
}

export function parseDeletion(text: string): Deletion | undefined {
  const value = parseObject(text);
  return isDeletion(value) ? value : undefined;
}

export function isDeletion(value: unknown): value is Deletion {
  if (!isObject(value)) return false;
  const { graceSeconds, at } = value;
  return (
    typeof graceSeconds === 'number' &&
    isObject(at) &&
    typeof at['monoMs'] === 'number' &&
    typeof at['wallMs'] === 'number' &&
    typeof at['boot'] === 'string'
  );
}

const SOURCES: readonly string[] = ['file', 'local', 'api'] satisfies readonly Source[];

export function isSource(value: unknown): value is Source {
  return typeof value === 'string' && SOURCES.includes(value);
}

/** The shape that the rest of the program takes for granted; what is inside was checked before. */
export function isPod(value: unknown): value is Pod {
  if (!isObject(value)) return false;
  const { metadata, spec } = value;
  return (
    isObject(metadata) &&
    ['name', 'namespace', 'uid'].every((key) => typeof metadata[key] === 'string') &&
    isObject(spec) &&
    typeof spec['terminationGracePeriodSeconds'] === 'number' &&
    ['containers', 'initContainers', 'volumes'].every((key) => Array.isArray(spec[key]))
  );
}

function isLedger(value: unknown): value is Ledger {
  return (
    isObject(value) &&
    typeof value['sandboxAttempt'] === 'number' &&
    isObject(value['containers']) &&
    Object.values(value['containers']).every((container) => isObject(container))
  );
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The parsed text, or undefined when it is no JSON. */
export function parseObject(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
