// An MQTT broker on the host for virtual nodes: over TLS, and only for who has a certificate.
import { join } from 'node:path';
import { startBroker, type Broker } from './broker.ts';
import { createAuthority, type Issued } from './certificates.ts';
import { hostOfNodes } from './control-plane-config.ts';
import { programsToRelay, require } from './prerequisites.ts';
import type { VirtualNode } from './virtual-node.ts';

export type NodeBroker = AsyncDisposable & {
  readonly broker: Broker;
  /** PEM: who vouches for the broker, and what a reader on the host shows to it. */
  readonly reader: Issued & { readonly authority: string };
  /** The same as arguments of mosquitto_sub. */
  readonly readerArguments: readonly string[];
  /**
   * Writes limpet's configuration into a machine, so that limpet tells this broker when it is started.
   * `relay`: more fields of `relay`.
   */
  configure(node: VirtualNode, relay?: Readonly<Record<string, unknown>>): Promise<void>;
};

const FOLDER = '/etc/limpet';

/** `lines`: further ones of mosquitto's configuration. */
export async function startNodeBroker(
  say: (line: string) => void,
  lines: readonly string[] = [],
): Promise<NodeBroker> {
  await require(programsToRelay, say);
  const authority = createAuthority('fleet');
  const server = authority.issue({ name: 'broker', names: ['127.0.0.1', hostOfNodes] });
  const reader = authority.issue({ name: 'reader' });
  const tls = ['cafile $dir/ca.pem', 'certfile $dir/cert.pem', 'keyfile $dir/key.pem'];
  const broker = await startBroker([...tls, 'require_certificate true', ...lines], {
    'ca.pem': authority.certificate,
    'cert.pem': server.certificate,
    'key.pem': server.key,
    'reader.pem': reader.certificate,
    'reader-key.pem': reader.key,
  });
  const file = (name: string) => join(broker.directory, name);
  return {
    broker,
    reader: { ...reader, authority: authority.certificate },
    readerArguments: [
      ...['-h', '127.0.0.1', '-p', String(broker.port), '--cafile', file('ca.pem')],
      ...['--cert', file('reader.pem'), '--key', file('reader-key.pem')],
    ],
    configure: async (node, relay = {}) => {
      const own = authority.issue({ name: node.name });
      const paths = {
        caFile: `${FOLDER}/relay-ca.pem`,
        certificateFile: `${FOLDER}/relay.pem`,
        keyFile: `${FOLDER}/relay-key.pem`,
      };
      const address = `mqtts://${hostOfNodes}:${broker.port}`;
      const config = {
        ...{ apiVersion: 'limpet.dev/v1alpha1', kind: 'LimpetConfiguration' },
        relay: { broker: address, ...paths, ...relay },
      };
      const files = [
        [`${FOLDER}/config.yaml`, JSON.stringify(config)],
        [paths.caFile, authority.certificate],
        [paths.certificateFile, own.certificate],
        [paths.keyFile, own.key],
      ] as const;
      for (const [path, input] of files) {
        await node.ssh(`umask 077 && mkdir -p ${FOLDER} && cat > ${path}`, { input });
      }
    },
    [Symbol.asyncDispose]: async () => await broker[Symbol.asyncDispose](),
  };
}
