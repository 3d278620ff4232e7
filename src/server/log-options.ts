/**
 * The options of `/containerLogs`, and how a log looks with them.
 * Source: k8s.io/api core/v1 PodLogOptions, pkg/apis/core/v1/validation, cri-client pkg/logs.
 */
import type { LogEntry } from './cri-log.ts';
import { HttpError } from './http-error.ts';

export type LogOptions = {
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  readonly tailLines?: number;
  readonly limitBytes?: number;
  /** Only what was written at or after this wall time. */
  readonly sinceMs?: number;
  readonly stream: 'All' | 'Stdout' | 'Stderr';
};

const MAX_INT64 = 2n ** 63n - 1n;
const RFC3339 = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;

/** Reads the query. @throws HttpError 400 for what can't be read, 422 for what makes no sense. */
export function readLogOptions(query: URLSearchParams, nowMs: number): LogOptions {
  const { tail, sinceSeconds, sinceTime, limitBytes } = {
    tail: tailOf(query),
    sinceSeconds: integer(query.get('sinceSeconds')),
    sinceTime: time(query.get('sinceTime')),
    limitBytes: integer(query.get('limitBytes')),
  };
  const stream = query.get('stream') ?? 'All';
  if (tail !== undefined && tail < 0) throw invalid('tailLines must not be negative');
  if (limitBytes !== undefined && limitBytes < 1) {
    throw invalid('limitBytes must be greater than 0');
  }
  if (sinceSeconds !== undefined && sinceTime !== undefined) {
    throw invalid('at most one of sinceTime or sinceSeconds may be specified');
  }
  if (sinceSeconds !== undefined && sinceSeconds < 1) {
    throw invalid('sinceSeconds must be greater than 0');
  }
  if (stream !== 'All' && stream !== 'Stdout' && stream !== 'Stderr') {
    throw invalid('stream must be All, Stdout or Stderr');
  }
  if (stream !== 'All' && tail !== undefined) {
    throw invalid('tailLines and a specific stream are mutually exclusive');
  }
  const sinceMs = sinceSeconds === undefined ? sinceTime : nowMs - sinceSeconds * 1000;
  return {
    follow: boolean(query.get('follow')),
    previous: boolean(query.get('previous')),
    timestamps: boolean(query.get('timestamps')),
    ...(tail !== undefined && { tailLines: tail }),
    ...(limitBytes !== undefined && { limitBytes }),
    ...(sinceMs !== undefined && { sinceMs }),
    stream,
  };
}

/** `tail` is an older name of `tailLines`, in which `all` is no limit. */
function tailOf(query: URLSearchParams): number | undefined {
  const tail = query.get('tail') ?? '';
  if (tail === 'all') return undefined;
  return integer(tail === '' ? query.get('tailLines') : tail);
}

/** As Kubernetes reads a flag in a query: there, and neither 0 nor false. */
function boolean(text: string | null): boolean {
  return text !== null && text !== '0' && text.toLowerCase() !== 'false';
}

function integer(text: string | null): number | undefined {
  if (text === null) return undefined;
  if (!/^[+-]?\d{1,19}$/.test(text)) throw unreadable();
  const value = BigInt(text.replace('+', ''));
  if (value > MAX_INT64 || value < -MAX_INT64 - 1n) throw unreadable();
  return Number(value);
}

function time(text: string | null): number | undefined {
  if (text === null || text === '' || text === 'null') return undefined;
  const ms = RFC3339.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms)) throw unreadable();
  return ms;
}

/** The words of the kubelet; clients look for "message". */
function unreadable(): HttpError {
  return new HttpError(400, JSON.stringify({ message: 'Unable to decode query.' }));
}

function invalid(why: string): HttpError {
  return new HttpError(422, JSON.stringify({ message: `Invalid request: ${why}.` }));
}

/** The bytes of a log as it is shown with `options`. */
export async function* renderLog(
  entries: AsyncIterable<LogEntry>,
  { timestamps, stream, limitBytes }: LogOptions,
): AsyncGenerator<Buffer, void> {
  let left = limitBytes ?? Number.POSITIVE_INFINITY;
  let lineStarts = true;
  for await (const entry of entries) {
    const prefix = timestamps && lineStarts ? `${fixedTime(entry.time)} ` : '';
    lineStarts = entry.endsLine;
    if (stream !== 'All' && stream.toLowerCase() !== entry.stream) continue;
    const end = entry.endsLine ? '\n' : '';
    const line = Buffer.concat([Buffer.from(prefix), entry.content, Buffer.from(end)]);
    yield line.length > left ? line.subarray(0, left) : line;
    left -= line.length;
    if (left <= 0) return;
  }
}

/** With nine digits behind the point, as the kubelet writes times; the runtime cuts zeros off. */
function fixedTime(text: string): string {
  const [, seconds = text, digits = '', zone = ''] =
    /^(.{19})(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text) ?? [];
  return zone === '' ? text : `${seconds}.${digits.padEnd(9, '0')}${zone}`;
}
