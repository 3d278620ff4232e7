/**
 * limpet's own configuration, `limpet.dev/v1alpha1 LimpetConfiguration`: what a kubelet has no
 * field for. All else is in the KubeletConfiguration. Every field here has an effect.
 */
import { carried, choice, text, type ConfigOf } from './config-fields.ts';
import type { ConfigKind } from './read-config.ts';

export const LIMPET_FIELDS = {
  rootDirectory: text('/var/lib/limpet', carried, {
    form: 'path',
    help: 'Where the database, the volumes and the files of pods are. Flag: --root-dir.',
  }),
  runDirectory: text('/run/limpet', carried, {
    form: 'path',
    help: 'Where the local socket is; it need not outlive a boot. Flag: --run-dir.',
  }),
  logLevel: choice(['', 'debug', 'info', 'warn', 'error'], '', carried, {
    help: 'The least that is logged. Without it: debug from --v 4 on, else info. Flag: --log-level.',
  }),
} as const;

export type LimpetConfig = ConfigOf<typeof LIMPET_FIELDS>;

export const LIMPET_CONFIG: ConfigKind = {
  apiVersion: 'limpet.dev/v1alpha1',
  kind: 'LimpetConfiguration',
  fields: LIMPET_FIELDS,
  unknownFields: 'problem',
};
