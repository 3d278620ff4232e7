/** The command line: finds the command, hands it the world, turns its end into an exit code. */
import { basename } from 'node:path';
import { systemClock } from './base/clock.ts';
import { Failure } from './base/failure.ts';
import { VERSION } from './base/version.ts';
import { nearest } from './command/arguments.ts';
import type { Io } from './command/command.ts';
import { CommandFailed, EXIT, usageError } from './command/exit.ts';
import { helpOf, overview } from './command/help.ts';
import { COMMANDS, HIDDEN } from './command/index.ts';

async function main(argv: readonly string[], io: Io): Promise<number> {
  const [name = '', ...rest] = kubectlWords(argv);
  if (name === '') {
    io.err(overview(COMMANDS));
    return EXIT.usage;
  }
  if (name === '--version' || name === '-V') return await main(['version', ...rest], io);
  if (name === 'help' || name === '--help' || name === '-h') {
    const [topic] = rest;
    if (topic !== undefined && !topic.startsWith('-')) return await main([topic, '--help'], io);
    await io.out(overview(COMMANDS));
    return EXIT.ok;
  }
  const entry = [...COMMANDS, ...HIDDEN].find((candidate) => candidate.name === name);
  if (entry === undefined) {
    const names = COMMANDS.map((candidate) => candidate.name);
    const near = nearest(name, names);
    const hint = near === undefined ? [] : [`did you mean "limpet ${near}"?`];
    throw usageError(`there is no command "${name}"`, ...hint, 'see: limpet --help');
  }
  const command = await entry.load();
  const upToDashes = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (upToDashes.includes('--help') || upToDashes.includes('-h')) {
    await io.out(helpOf(command));
    return EXIT.ok;
  }
  return await command.start(rest, io);
}

const KINDS: Readonly<Record<string, string>> = {
  pods: 'pods',
  pod: 'pods',
  po: 'pods',
  events: 'events',
  event: 'events',
  ev: 'events',
  nodes: 'status',
  node: 'status',
  no: 'status',
};

/** `get pods` and `describe pod NAME`, as fingers that know kubectl type them. */
function kubectlWords(argv: readonly string[]): readonly string[] {
  const [verb, kind = '', ...rest] = argv;
  if (verb !== 'get' && verb !== 'describe') return argv;
  const own = KINDS[kind];
  if (own === undefined) {
    throw usageError(`"limpet ${verb}" knows pods, events and node, not "${kind}"`);
  }
  return [own, ...rest];
}

/**
 * Standard input and output. Signals are left alone: they end a command at once, which is right for
 * all that only look. `run` takes them for itself.
 */
function processIo(): Io {
  // `limpet logs … | head` closes the pipe: nobody reads any more, so there is nothing to do.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failed);
  });
  return {
    out: async (text) => {
      const { promise, resolve } = Promise.withResolvers<undefined>();
      process.stdout.write(text, () => resolve(undefined));
      await promise;
    },
    err: (text) => {
      process.stderr.write(text);
    },
    input: async (maxBytes) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > maxBytes) {
          throw new CommandFailed(EXIT.failed, `standard input is larger than ${maxBytes} bytes`);
        }
        chunks.push(chunk);
      }
      return Buffer.concat(chunks);
    },
    clock: systemClock('', () => 0),
    signal: new AbortController().signal,
  };
}

/** A link by the name of kubelet to this program makes it one. */
const NAME = basename(process.argv0) === 'kubelet' ? 'kubelet' : 'limpet';

async function start(): Promise<number> {
  const io = processIo();
  try {
    const argv = process.argv.slice(2);
    if (NAME === 'limpet') return await main(argv, io);
    const { kubelet } = await import('./command/kubelet.ts');
    return await kubelet(argv, io);
  } catch (error) {
    if (error instanceof CommandFailed) {
      io.err(
        [`${NAME}: ${error.message}`, ...error.lines.map((line) => `  ${line}`), ''].join('\n'),
      );
      return error.exitCode;
    }
    if (error instanceof Failure) {
      io.err(`limpet: ${error.message}\n`);
      return EXIT.failed;
    }
    // A bug, not a mistake of the user: the trace is what helps.
    const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
    io.err(`limpet ${VERSION}: unexpected: ${trace}\n`);
    return EXIT.failed;
  }
}

void start().then((code) => {
  // The agent and `logs --follow` hold handles that would keep the process alive.
  process.exit(code);
});
