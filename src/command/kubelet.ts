/** limpet when it is called `kubelet`: flags without a command, as kubeadm and systemd give them. */
import { KUBERNETES_VERSION, VERSION } from '../base/version.ts';
import type { Io } from './command.ts';
import { EXIT } from './exit.ts';
import { flagOptions, MARK_NOTE } from './flag-options.ts';
import { optionLines } from './help.ts';
import { flagsOf, run } from './run.ts';

/** Does what a kubelet does with these arguments; returns the exit code. */
export async function kubelet(argv: readonly string[], io: Io): Promise<number> {
  const parsed = flagsOf(argv);
  const { help, version } = parsed.own;
  if (help !== undefined && help !== 'false') {
    await io.out(helpText());
    return EXIT.ok;
  }
  if (version !== undefined && version !== 'false') {
    // kubeadm reads this line.
    await io.out(`Kubernetes ${KUBERNETES_VERSION}\n`);
    return EXIT.ok;
  }
  return await run(parsed, 'kubelet', io);
}

const helpText = () => `limpet ${VERSION} in the place of a kubelet ${KUBERNETES_VERSION}.

${MARK_NOTE}
Other commands, such as "limpet status" and "limpet config", go by the name limpet.

Usage:
  kubelet [flags]

Flags:
${optionLines({
  ...flagOptions(),
  version: { type: 'boolean', help: 'print the version that it stands for' },
})}
`;
