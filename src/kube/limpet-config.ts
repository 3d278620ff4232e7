/**
 * limpet's own configuration, `limpet.dev/v1alpha1 LimpetConfiguration`: what a kubelet has no
 * field for. All else is in the KubeletConfiguration. Every field here has an effect.
 */
import { boolean, carried, choice, duration, group, text, type ConfigOf } from './config-fields.ts';
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
  relay: group({
    broker: text('', carried, {
      help: 'mqtts://HOST[:PORT] or mqtt://HOST[:PORT] of an MQTT broker; without it no relay.',
    }),
    fleet: text('default', carried, {
      help: 'The fleet in the topics: limpet/v1/FLEET/NODE/….',
    }),
    usernameFile: text('', carried, {
      form: 'path',
      help: 'The user name for the broker. This and the files below are read at each connect.',
    }),
    passwordFile: text('', carried, { form: 'path', help: 'The password for the broker.' }),
    certificateFile: text('', carried, {
      form: 'path',
      help: 'A client certificate (PEM), to prove who we are to the broker.',
    }),
    keyFile: text('', carried, {
      form: 'path',
      help: 'The private key of that certificate (PEM).',
    }),
    caFile: text('', carried, {
      form: 'path',
      help: 'The authorities (PEM) that may vouch for the broker; without it those of the system.',
    }),
    version: choice(['auto', '5', '3.1.1'], 'auto', carried, {
      help: 'Of MQTT. auto: 5, and 3.1.1 where the broker does not know it.',
    }),
    format: choice(['cbor', 'json'], 'cbor', carried, { help: 'How messages are written.' }),
    keepAlive: duration(0, carried, {
      help: 'How often the link is tried when nothing is said. 0: 90s, over a mobile network 5m.',
    }),
    metricsInterval: duration(0, carried, {
      help: 'How often the use of the node is looked at, to be told when it is news. 0: never.',
    }),
    homeAssistant: boolean(false, carried, {
      help: 'Lets the board appear in Home Assistant by itself.',
    }),
  }),
} as const;

export type LimpetConfig = ConfigOf<typeof LIMPET_FIELDS>;

export const LIMPET_CONFIG: ConfigKind = {
  apiVersion: 'limpet.dev/v1alpha1',
  kind: 'LimpetConfiguration',
  fields: LIMPET_FIELDS,
  unknownFields: 'problem',
};
