/**
 * Reads from a broker as anybody may: subscribes, hands on what comes, comes back after a loss. The
 * first connection has to succeed; what keeps it from it is a Failure in plain words.
 */
import { connect, type IClientOptions, type MqttClient } from 'mqtt';
import { Failure, errnoOf } from '../base/failure.ts';
import type { Random } from '../base/random.ts';

export type BrokerOptions = {
  /** `mqtt://host:1883` or `mqtts://host:8883`. */
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  /** PEM. */
  readonly ca?: Uint8Array;
  readonly cert?: Uint8Array;
  readonly key?: Uint8Array;
};

export type Subscriber = {
  publish(topic: string, payload: Uint8Array): void;
  close(): Promise<void>;
};

export type Heard = {
  message(topic: string, payload: Uint8Array, retained: boolean): void;
  /** `why` is absent when the connection is there. */
  connection(why?: string): void;
};

const CONNECT_MS = 10_000;
const AGAIN_MS = 2_000;

/**
 * Connects and subscribes.
 * @throws Failure when the first connection or the subscription does not come about
 */
export async function subscribe(
  broker: BrokerOptions,
  filter: string,
  maxMessageBytes: number,
  random: Random,
  heard: Heard,
): Promise<Subscriber> {
  const client = connect(broker.url, optionsOf(broker, maxMessageBytes, random));
  client.on('message', (topic, payload, packet) => heard.message(topic, payload, packet.retain));
  try {
    await connected(client);
    await client.subscribeAsync(filter, { qos: 1 });
  } catch (error) {
    await client.endAsync(true);
    throw failureOf(error, broker.url);
  }
  heard.connection();
  // The library subscribes again by itself.
  client.on('connect', () => heard.connection());
  client.on('close', () => heard.connection('the connection is lost'));
  client.on('error', (error) => heard.connection(failureOf(error, broker.url).message));
  return {
    publish: (topic, payload) => {
      // What can't be sent now is not worth keeping: the reader asks again.
      if (client.connected)
        client.publish(topic, Buffer.from(payload), { qos: 1 }, () => undefined);
    },
    close: async () => await client.endAsync(),
  };
}

function optionsOf(broker: BrokerOptions, maxBytes: number, random: Random): IClientOptions {
  const { username, password, ca, cert, key } = broker;
  return {
    protocolVersion: 5,
    clean: true,
    clientId: `limpet-watch-${random.uuid().slice(0, 13)}`,
    connectTimeout: CONNECT_MS,
    reconnectPeriod: AGAIN_MS,
    properties: { maximumPacketSize: maxBytes + 1024 },
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...(ca !== undefined && { ca: Buffer.from(ca) }),
    ...(cert !== undefined && { cert: Buffer.from(cert) }),
    ...(key !== undefined && { key: Buffer.from(key) }),
  };
}

async function connected(client: MqttClient): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  client.once('connect', () => resolve(undefined));
  client.once('error', reject);
  client.once('close', () => reject(new Error('it closed the connection without a word')));
  await promise;
}

/** Codes of CONNACK: of MQTT 5, and of 3.1.1 by which an old broker answers. */
const REFUSALS: Readonly<
  Record<number, readonly ['Unauthenticated' | 'PermissionDenied', string]>
> = {
  1: ['PermissionDenied', 'it does not speak MQTT 5'],
  4: ['Unauthenticated', 'it does not know the user name or the password'],
  5: ['Unauthenticated', 'it asks for a user name and password, or a client certificate'],
  132: ['PermissionDenied', 'it does not speak MQTT 5'],
  134: ['Unauthenticated', 'it does not know the user name or the password'],
  135: ['Unauthenticated', 'it asks for a user name and password, or a client certificate'],
};

const CAUSES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: is the broker running, and is this its port?',
  ENOTFOUND: 'there is no host of this name',
  EAI_AGAIN: 'the name can not be looked up: is there a network?',
  EHOSTUNREACH: 'there is no way to this host',
  ENETUNREACH: 'there is no network to it',
  ETIMEDOUT: 'it does not answer',
  ECONNRESET: 'it broke the connection off: does this port speak TLS (mqtts://)?',
  CERT_HAS_EXPIRED: 'its certificate has expired, or the clock here is wrong',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet: is the clock here right?',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is signed by itself: give it with --ca',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is of an authority not known here: give it with --ca',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'its certificate is of an authority not known here: give it with --ca',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    'its certificate is of an authority not known here: give it with --ca',
  EPROTO: 'it speaks no TLS there, or another version: use mqtt://, or another port',
};

function failureOf(error: unknown, url: string): Failure {
  const said = (why: string) => `the broker at ${url} can't be read: ${why}`;
  const reason = (error as { code?: unknown } | undefined)?.code;
  if (typeof reason === 'number') {
    const [code, why] = REFUSALS[reason] ?? ['PermissionDenied', `it refuses with code ${reason}`];
    return new Failure(code, said(why), { cause: error });
  }
  const errno = errnoOf(error) ?? '';
  const message = error instanceof Error && error.message !== '' ? error.message : String(error);
  const timedOut = /timeout/i.test(message) ? CAUSES['ETIMEDOUT'] : undefined;
  const why = (errno.startsWith('ERR_SSL') ? CAUSES['EPROTO'] : CAUSES[errno]) ?? timedOut;
  return new Failure('Unavailable', said(why ?? message), { cause: error });
}
