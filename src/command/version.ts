import { COMMIT, KUBERNETES_VERSION, SQLITE_VERSION, VERSION } from '../base/version.ts';
import { defineCommand } from './command.ts';
import { EXIT } from './exit.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';

export const command = defineCommand({
  name: 'version',
  usage: '[--output json|yaml]',
  summary: 'Print the version of limpet and of what is inside it.',
  options: { output: OUTPUT_OPTION },
  examples: [
    ['limpet version', 'one line for people'],
    ['limpet version --output json', 'the same for machines'],
  ],
  async run({ options }, io) {
    const format = outputFormat(options.output, ['json', 'yaml']);
    const { node } = process.versions;
    if (format !== 'table') {
      await writeObject(io, format, {
        kind: 'Version',
        limpet: VERSION,
        kubernetes: KUBERNETES_VERSION,
        commit: COMMIT,
        node,
        sqlite: SQLITE_VERSION ?? null,
        platform: `${process.platform}/${process.arch}`,
      });
      return EXIT.ok;
    }
    const parts = [`Kubernetes ${KUBERNETES_VERSION}`, `commit ${COMMIT}`, `node ${node}`];
    if (SQLITE_VERSION !== undefined) parts.push(`sqlite ${SQLITE_VERSION}`);
    await io.out(`limpet ${VERSION} (${parts.join(', ')})\n`);
    return EXIT.ok;
  },
});
