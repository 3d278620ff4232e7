/** How commands end. The numbers are part of the interface: scripts rely on them. */
export const EXIT = {
  ok: 0,
  /** It was understood and could not be done. */
  failed: 1,
  /** The command line itself is wrong. */
  usage: 2,
  /** The agent does not answer. */
  unreachable: 3,
  /** There is no such pod, container or log. */
  notFound: 4,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends a command with a message for people and an exit code for scripts. */
export class CommandFailed extends Error {
  readonly exitCode: ExitCode;
  /** Further lines: each problem, or what to do. */
  readonly lines: readonly string[];

  constructor(exitCode: ExitCode, message: string, lines: readonly string[] = []) {
    super(message);
    this.name = 'CommandFailed';
    this.exitCode = exitCode;
    this.lines = lines;
  }
}

/** A mistake on the command line. */
export function usageError(message: string, ...lines: readonly string[]): CommandFailed {
  return new CommandFailed(EXIT.usage, message, lines);
}
