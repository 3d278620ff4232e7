/** Tables and ages as kubectl prints them. */

const GAP = '   ';

/** A table with a head; columns are as wide as their widest cell, the last one is not padded. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) =>
    Math.max(...cells.map((row) => [...(row[column] ?? '')].length)),
  );
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - [...cell].length))
        .join(GAP)
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** Lines of `Name:  value`, values in one column. */
export function fields(rows: readonly (readonly [string, string])[], indent = ''): string {
  const width = Math.max(...rows.map(([name]) => name.length)) + 3;
  return rows
    .map(([name, value]) => `${indent}${`${name}:`.padEnd(width)}${printable(value)}`.trimEnd())
    .map((line) => `${line}\n`)
    .join('');
}

/**
 * Text from pods and files without what would move the cursor or break the table: a message must
 * not be able to repaint the terminal of the person who reads it.
 */
export function printable(text: string): string {
  return text.replace(/\s*[\r\n]+\s*/g, ' ').replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

const SECOND_MS = 1000;
const MINUTE_S = 60;
const HOUR_S = 3600;
const DAY_S = 86_400;
const YEAR_S = 365 * DAY_S;

/**
 * A time span in two units at most: `5m12s`, `3h4m`, `12d`. The steps are those of
 * k8s.io/apimachinery/pkg/util/duration.HumanDuration.
 */
export function age(spanMs: number): string {
  const seconds = Math.floor(spanMs / SECOND_MS);
  if (seconds < 0) return '0s';
  if (seconds < 2 * MINUTE_S) return `${seconds}s`;
  if (seconds < 10 * MINUTE_S) return two(seconds, MINUTE_S, 'm', 1, 's');
  if (seconds < 3 * HOUR_S) return `${Math.floor(seconds / MINUTE_S)}m`;
  if (seconds < 8 * HOUR_S) return two(seconds, HOUR_S, 'h', MINUTE_S, 'm');
  if (seconds < 2 * DAY_S) return `${Math.floor(seconds / HOUR_S)}h`;
  if (seconds < 8 * DAY_S) return two(seconds, DAY_S, 'd', HOUR_S, 'h');
  if (seconds < 2 * YEAR_S) return `${Math.floor(seconds / DAY_S)}d`;
  if (seconds < 8 * YEAR_S) return two(seconds, YEAR_S, 'y', DAY_S, 'd');
  return `${Math.floor(seconds / YEAR_S)}y`;
}

/** Age of an RFC 3339 time; `<unknown>` when there is none. */
export function ageOf(time: string | undefined, nowMs: number): string {
  const then = time === undefined ? Number.NaN : Date.parse(time);
  return Number.isNaN(then) ? '<unknown>' : age(nowMs - then);
}

function two(
  seconds: number,
  big: number,
  bigName: string,
  small: number,
  smallName: string,
): string {
  const rest = Math.floor((seconds % big) / small);
  return `${Math.floor(seconds / big)}${bigName}${rest === 0 ? '' : `${rest}${smallName}`}`;
}
