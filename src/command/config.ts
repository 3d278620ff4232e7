import { readConfiguration, type Configuration } from '../agent/configuration.ts';
import { leaves, type Effect, type Fields } from '../kube/config-fields.ts';
import { formatSource, writtenValue, type Settings } from '../kube/config-settings.ts';
import { jsonSchemaOf } from '../kube/json-schema.ts';
import { KUBELET_FIELDS } from '../kube/kubelet-config.ts';
import { KUBELET_FLAG_FIELDS } from '../kube/kubelet-flags.ts';
import { LIMPET_CONFIG, LIMPET_FIELDS } from '../kube/limpet-config.ts';
import { RUN_FLAGS } from '../kube/parse-flags.ts';
import type { Command, Io } from './command.ts';
import { EXIT, usageError } from './exit.ts';
import { flagOptions, MARK_NOTE } from './flag-options.ts';
import { OUTPUT_OPTION, outputFormat, writeObject } from './output.ts';
import { badConfiguration, flagsOf } from './run.ts';
import { table } from './table.ts';

export const command: Command = {
  name: 'config',
  usage: '[schema] [FLAGS] [--output wide|json|yaml]',
  summary: 'Print the configuration that these flags and files give, and where each value is from.',
  details: `
Reads the files and checks them, as "limpet run" with the same flags does; the agent need not run.
Exits with 1 when the agent would not start with them. "limpet config schema" prints the JSON Schema
of limpet's own file, LimpetConfiguration. Values that may be secret are not shown.
${MARK_NOTE}`,
  options: {
    ...flagOptions(),
    kubelet: { type: 'boolean', help: 'with the defaults that hold when it is called kubelet' },
    output: { ...OUTPUT_OPTION, help: 'wide: with what limpet does with it; json or yaml' },
  },
  examples: [
    ['limpet config', 'what holds on a node without any configuration'],
    ['sudo limpet config --kubelet --config /var/lib/kubelet/config.yaml', 'after kubeadm join'],
    ['limpet config --config config.yaml -o wide', 'which fields of a file limpet carries out'],
    ['limpet config schema > limpet.schema.json', 'for an editor that checks config.yaml'],
  ],
  start: async (argv, io) => await config(argv, io),
};

async function config(argv: readonly string[], io: Io): Promise<number> {
  const parsed = flagsOf(argv, { ...RUN_FLAGS, kubelet: 'boolean', output: 'text' });
  const [word, ...more] = parsed.words;
  if (more.length > 0 || (word !== undefined && word !== 'schema')) {
    throw usageError(`limpet config knows "schema", not "${parsed.words.join(' ')}"`);
  }
  if (word === 'schema') {
    await io.out(`${JSON.stringify(jsonSchemaOf(LIMPET_CONFIG), undefined, 2)}\n`);
    return EXIT.ok;
  }
  const format = outputFormat(parsed.own['output'], ['wide', 'json', 'yaml']);
  const asKubelet = parsed.own['kubelet'] ?? 'false';
  const configuration = await readConfiguration(parsed, {
    calledAs: asKubelet === 'false' ? 'limpet' : 'kubelet',
    directory: process.cwd(),
  });
  if (configuration.options === undefined) throw badConfiguration(configuration);
  for (const warning of configuration.warnings) io.err(`warning: ${warning}\n`);
  if (format === 'json' || format === 'yaml') {
    await writeObject(io, format, report(configuration));
  } else {
    await io.out(describe(configuration, format === 'wide'));
  }
  return EXIT.ok;
}

type Part = { readonly title: string; readonly fields: Fields; readonly settings: Settings };

function partsOf({ settings, flagSettings, limpetSettings }: Configuration): readonly Part[] {
  return [
    { title: 'LimpetConfiguration', fields: LIMPET_FIELDS, settings: limpetSettings },
    { title: 'Flags only', fields: KUBELET_FLAG_FIELDS, settings: flagSettings },
    { title: 'KubeletConfiguration', fields: KUBELET_FIELDS, settings },
  ];
}

function describe(configuration: Configuration, wide: boolean): string {
  return partsOf(configuration)
    .map(({ title, fields, settings }) => {
      const rows = [...leaves(fields)].map(([path, field]) => {
        const { value, source } = settings.get(path)!;
        const shown = value === undefined ? '' : textOf(writtenValue(field, value));
        const effect = wide ? [describeEffect(field.effect)] : [];
        return [path, formatSource(source), ...effect, shown];
      });
      // Values come last, for some are long.
      return table([title, 'FROM', ...(wide ? ['EFFECT'] : []), 'VALUE'], rows);
    })
    .join('\n');
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function describeEffect(effect: Effect): string {
  if (effect.kind === 'carried') return 'carried out';
  return effect.kind === 'notNeeded' ? `none: ${effect.why}` : `${effect.kind}: ${effect.why}`;
}

function report(configuration: Configuration) {
  const parts = partsOf(configuration).map(({ fields, settings }) => {
    const values: Record<string, unknown> = {};
    const sources: Record<string, string> = {};
    for (const [path, field] of leaves(fields)) {
      const { value, source } = settings.get(path)!;
      if (value === undefined) continue;
      setAt(values, path.split('.'), writtenValue(field, value));
      sources[path] = formatSource(source);
    }
    return { values, sources };
  });
  const [limpet, flags, kubelet] = parts;
  return { kind: 'Configuration', warnings: configuration.warnings, limpet, flags, kubelet };
}

function setAt(object: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [name = '', ...rest] = path;
  if (rest.length === 0) object[name] = value;
  else setAt((object[name] ??= {}) as Record<string, unknown>, rest, value);
}
