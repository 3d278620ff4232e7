/** The flags of a kubelet, and limpet's own, as the help shows them. */
import type { Shape } from '../kube/config-fields.ts';
import { FLAGS } from '../kube/kubelet-flags.ts';
import type { OptionSpec, OptionSpecs } from './command.ts';

/** Options for the help of a command that takes all flags. Only the help needs them. */
export const flagOptions = (): OptionSpecs => ({
  ...Object.fromEntries([...FLAGS].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(optionOf)),
  'limpet-config': {
    type: 'string',
    value: 'FILE',
    help: "limpet's own file (default /etc/limpet/config.yaml)",
  },
});

/** Says in the help what the mark means. */
export const MARK_NOTE = '(*) is not carried out: a warning or an error says what that means.';

function optionOf([name, { table, path, field }]: [
  string,
  typeof FLAGS extends ReadonlyMap<string, infer F> ? F : never,
]): [string, OptionSpec] {
  const { shape, help, effect } = field;
  const mark = effect.kind === 'refused' || effect.kind === 'warned' ? ' (*)' : '';
  const own = help === '' || table === 'limpet' ? `sets ${path}` : help;
  return [
    name,
    {
      type: shape.type === 'boolean' ? 'boolean' : 'string',
      ...(name === 'v' && { short: 'v' }),
      value: placeholder(shape),
      help: `${own}${mark}`,
    },
  ];
}

function placeholder(shape: Shape): string {
  switch (shape.type) {
    case 'integer':
    case 'number':
      return 'N';
    case 'duration':
      return 'DURATION';
    case 'quantity':
      return 'SIZE';
    case 'text':
      return shape.form === 'path' ? 'PATH' : shape.form === 'ip' ? 'IP' : 'TEXT';
    case 'list':
      return 'A,B';
    case 'map':
      return 'A=B,C=D';
    case 'boolean':
    case 'object':
      return 'VALUE';
  }
}
