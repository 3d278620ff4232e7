import { readConfiguration, type CalledAs, type Configuration } from '../agent/configuration.ts';
import { createLog } from '../base/log.ts';
import { FlagError, parseFlags, type OwnFlags, type ParsedFlags } from '../kube/parse-flags.ts';
import type { Command, Io } from './command.ts';
import { CommandFailed, EXIT, usageError } from './exit.ts';
import { flagOptions, MARK_NOTE } from './flag-options.ts';

export const command: Command = {
  name: 'run',
  usage: '[FLAGS]',
  summary: 'Run the agent in the foreground. As root; systemd does this with limpet.service.',
  details: `
The flags are those of the kubelet. A flag wins over the files of --config-dir, those win over the
file of --config, and that wins over the defaults; "limpet config" shows what comes of it.
${MARK_NOTE}

SIGTERM ends the agent and leaves all pods running: the next start finds them again.`,
  get options() {
    return flagOptions();
  },
  examples: [
    ['sudo limpet run', 'with the folders that the packages use'],
    ['sudo limpet run --pod-manifest-path /srv/manifests --v 4', 'another folder, and all details'],
    ['sudo limpet run --config /var/lib/kubelet/config.yaml', 'with a KubeletConfiguration'],
    ['journalctl -u limpet -f', 'what it says when systemd runs it'],
  ],
  start: async (argv, io) => await run(flagsOf(argv), 'limpet', io),
};

/** Reads the flags of the agent; throws a CommandFailed in the kubelet's words. */
export function flagsOf(argv: readonly string[], ownFlags?: OwnFlags): ParsedFlags {
  try {
    return parseFlags(argv, process.cwd(), ownFlags);
  } catch (error) {
    if (!(error instanceof FlagError)) throw error;
    const hint = error.remedy === undefined ? [] : [error.remedy];
    throw usageError(`failed to parse kubelet flag: ${error.message}`, ...hint);
  }
}

/** Runs the agent until a signal ends it. */
export async function run(parsed: ParsedFlags, calledAs: CalledAs, io: Io): Promise<number> {
  const [word] = parsed.words;
  if (word !== undefined) throw usageError(`unknown command ${word}`, 'there are only flags here');
  const configuration = await readConfiguration(parsed, { calledAs, directory: process.cwd() });
  const { options } = configuration;
  if (options === undefined) throw badConfiguration(configuration);
  // The name for ps, top and pgrep; Node would be called node-MainThread.
  process.title = 'limpet';
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => controller.abort(new Error(`ended by ${signal}`)));
  }
  const log = createLog(options.logLevel, io.err, {
    journal: process.env['JOURNAL_STREAM'] !== undefined,
  });
  const { loadNativeBinding } = await import('../agent/native-binding.ts');
  const nativeBinding = loadNativeBinding(options.rootDirectory, log);
  const { runAgent } = await import('../agent/agent.ts');
  await runAgent(
    nativeBinding === undefined ? options : { ...options, nativeBinding },
    AbortSignal.any([controller.signal, io.signal]),
  );
  return EXIT.ok;
}

/** The end of a command whose configuration can't be used. */
export function badConfiguration({ problems }: Configuration): CommandFailed {
  const message = `the configuration can't be used, ${problems.length} problem(s):`;
  return new CommandFailed(EXIT.failed, message, problems);
}
