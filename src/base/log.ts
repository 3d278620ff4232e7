/** Log lines on standard error, as `key=value` text that journald and people both read. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export type Log = {
  readonly [L in LogLevel]: (message: string, fields?: LogFields) => void;
} & {
  /** The same log with these fields on every line. */
  with(fields: LogFields): Log;
};

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };
/** Priorities of `sd-daemon(3)`, so that journald files a line under its level. */
const PRIORITY: Record<LogLevel, string> = { debug: '<7>', info: '<6>', warn: '<4>', error: '<3>' };
const MAX_VALUE_LENGTH = 4096;

/** A log that writes lines of at least `level` through `write`. */
export function createLog(
  level: LogLevel,
  write: (line: string) => void,
  options: { journal?: boolean; fields?: LogFields } = {},
): Log {
  const line = (of: LogLevel) => (message: string, fields?: LogFields) => {
    if (RANK[of] < RANK[level]) return;
    const all = { ...options.fields, ...fields };
    const pairs = Object.entries(all)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => ` ${key}=${quote(String(value))}`)
      .join('');
    const head = options.journal === true ? PRIORITY[of] : `${of.toUpperCase().padEnd(5)} `;
    write(`${head}${message}${pairs}\n`);
  };
  return {
    debug: line('debug'),
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    with: (fields) =>
      createLog(level, write, { ...options, fields: { ...options.fields, ...fields } }),
  };
}

function quote(value: string): string {
  const cut = value.length > MAX_VALUE_LENGTH ? `${value.slice(0, MAX_VALUE_LENGTH)}…` : value;
  return /^[\w./:@+-]+$/.test(cut) ? cut : JSON.stringify(cut);
}
