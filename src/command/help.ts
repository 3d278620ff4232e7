/** The text of `--help`. */
import { KUBERNETES_VERSION, VERSION } from '../base/version.ts';
import type { Command, OptionSpecs } from './command.ts';
import type { Entry } from './index.ts';

/** What `limpet --help` prints. */
export function overview(commands: readonly Entry[]): string {
  return `limpet ${VERSION}: a Kubernetes ${KUBERNETES_VERSION} node agent that needs no API server to keep its pods.

Usage: limpet COMMAND [ARGUMENTS]

Commands:
${columns(commands.map(({ name, summary }) => [name, summary]))}

Every command has --help with examples. As with kubectl, "limpet get pods" and
"limpet describe pod NAME" work too.

Exit codes:
${columns([
  ['0', 'done'],
  ['1', 'it could not be done'],
  ['2', 'the command line is wrong'],
  ['3', 'the agent does not answer'],
  ['4', 'there is no such pod, container or log'],
])}
`;
}

/** What `limpet COMMAND --help` prints. */
export function helpOf(command: Command): string {
  const examples = command.examples.flatMap(([line, meaning]) => [
    `  # ${meaning}`,
    `  ${line}`,
    '',
  ]);
  return [
    `Usage: limpet ${command.name} ${command.usage}`.trimEnd(),
    '',
    command.summary,
    ...(command.details === undefined ? [] : ['', command.details.trim()]),
    '',
    'Options:',
    optionLines(command.options),
    '',
    'Examples:',
    ...examples,
  ].join('\n');
}

/** A line for each option, and for `--help`. */
export function optionLines(options: OptionSpecs): string {
  const rows = Object.entries(options).map(([name, spec]): [string, string] => {
    const short = spec.short === undefined ? '    ' : `-${spec.short}, `;
    const value = spec.type === 'boolean' ? '' : ` ${spec.value ?? 'VALUE'}`;
    const fallback = spec.default === undefined ? '' : ` (default ${spec.default})`;
    return [`${short}--${name}${value}`, `${spec.help}${fallback}`];
  });
  return columns([...rows, ['-h, --help', 'print this']]);
}

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`).join('\n');
}
