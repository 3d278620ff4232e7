/**
 * The driver for MQTT, over the package mqtt. One connection: it is made, used and ends; who wants
 * another one asks again. The package neither reconnects nor keeps what could not be sent.
 */
import type { Socket } from 'node:net';
import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
// Not 'mqtt' itself, which brings WebSockets, proxies and a command line.
import mqttClient from 'mqtt/lib/client';
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { LIMITS } from '../base/limits.ts';
import { isOldVersion, mqttFailure, refusal } from './errors.ts';
import { packetGuard } from './guard.ts';

type MqttClient = InstanceType<typeof mqttClient.default>;

/** What is read anew for each connection, so that it can be renewed. */
export type Credentials = {
  readonly username?: string;
  readonly password?: string;
  readonly certificate?: string;
  readonly key?: string;
  /** PEM; the certificate authorities of the system without it. */
  readonly authority?: string;
};

export type Message = { readonly topic: string; readonly payload: Uint8Array };

export type BrokerOptions = {
  readonly host: string;
  readonly port: number;
  readonly tls: boolean;
  /** `auto`: 5, and 3.1.1 if the broker does not know it. */
  readonly version: 'auto' | '5' | '3.1.1';
  readonly clientId: string;
  readonly credentials: Credentials;
  readonly keepAliveSeconds: number;
  /** Until the broker has accepted us, and for each acknowledgement. */
  readonly deadlineMs: number;
  readonly will?: Message & { readonly delaySeconds: number };
  readonly sessionExpirySeconds: number;
  readonly clock: Clock;
  /** Retained messages are wanted too; else they are not handed over. */
  readonly retained?: true;
  /** A message of a topic that was subscribed to. */
  readonly onMessage: (message: Message) => void;
};

export type BrokerConnection = {
  readonly version: '5' | '3.1.1';
  /** Resolves when the broker has it (at QoS 0: when it was written). Throws a `Failure`. */
  publish(
    topic: string,
    payload: Uint8Array,
    how: { readonly qos: 0 | 1; readonly retain: boolean; readonly expirySeconds?: number },
  ): Promise<void>;
  subscribe(topic: string): Promise<void>;
  /** Resolves with the reason when the connection has ended. */
  readonly closed: Promise<Failure>;
  /** Says goodbye, so that the broker does not tell the will. Resolves when it is closed. */
  end(): Promise<void>;
  /** Ends it as a lost link would. */
  destroy(reason: Failure): void;
};

/** Connects. Throws a `Failure`, also when the signal is aborted; it has no say later on. */
export async function connectBroker(
  options: BrokerOptions,
  signal: AbortSignal,
): Promise<BrokerConnection> {
  if (options.version !== 'auto') return await connectAs(options.version, options, signal);
  try {
    return await connectAs('5', options, signal);
  } catch (error) {
    if (!isOldVersion(error)) throw error;
    return await connectAs('3.1.1', options, signal);
  }
}

async function connectAs(
  version: '5' | '3.1.1',
  options: BrokerOptions,
  signal: AbortSignal,
): Promise<BrokerConnection> {
  const where = `${options.host}:${options.port}`;
  const { promise: closed, resolve: onClosed } = Promise.withResolvers<Failure>();
  const { promise: accepted, resolve: onAccepted } = Promise.withResolvers<true>();
  const socket = openSocket(options);
  const { clock } = options;
  let reason: Failure | undefined;
  let isAccepted = false;
  const failed = (error: unknown) => {
    const at = { where, wallMs: clock.now().wallMs, isAccepted };
    reason ??= error instanceof Failure ? error : mqttFailure(error, at);
    socket.destroy();
  };
  socket.on('error', failed);
  socket.on('data', packetGuardOf(where, maxPacketBytes(options), failed));
  const client = createClient(socket, version, options);
  client.on('error', failed);
  client.on('disconnect', (packet) => failed(refusal(packet.reasonCode ?? 0, where, true)));
  let brokerBytes = Infinity;
  client.on('connect', ({ properties }) => {
    isAccepted = true;
    brokerBytes = properties?.maximumPacketSize ?? Infinity;
    onAccepted(true);
  });
  client.on('message', (topic, payload, packet) => {
    if (!packet.retain || options.retained) options.onMessage({ topic, payload });
  });
  socket.on('close', () => {
    failed(new Error('closed'));
    // Also frees its timers.
    client.end(true);
    onClosed(reason!);
  });
  const abort = () => failed(new Failure('Cancelled', `the connection to ${where} was given up`));
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const deadline = clock.at(clock.now().monoMs + options.deadlineMs, () =>
    failed(
      new Failure(
        'DeadlineExceeded',
        `the MQTT broker ${where} did not answer within ${options.deadlineMs / 1000} s; ` +
          'is it a broker, is it overloaded, does a firewall swallow the packets?',
      ),
    ),
  );
  client.connect();
  const outcome = await Promise.race([accepted, closed]);
  deadline.cancel();
  signal.removeEventListener('abort', abort);
  if (outcome !== true) throw outcome;
  return connectionOf({
    ...{ version, client, socket, closed, failed, where, options, brokerBytes },
  });
}

/** Retained messages are long: snapshots. What a node is told is short. */
function maxPacketBytes({ retained }: BrokerOptions): number {
  return retained ? LIMITS.mqttReaderPacketBytes : LIMITS.mqttPacketBytes;
}

function packetGuardOf(where: string, maxBytes: number, failed: (error: Failure) => void) {
  const guard = packetGuard(maxBytes);
  return (chunk: Buffer) => {
    const problem = guard(chunk);
    if (problem !== undefined) {
      failed(new Failure('InvalidArgument', `the MQTT broker ${where} sent ${problem}; closed`));
    }
  };
}

function openSocket({ host, port, tls, credentials }: BrokerOptions): Socket {
  if (!tls) return connectTcp({ host, port, noDelay: true });
  const { certificate, key, authority } = credentials;
  return connectTls({
    host,
    port,
    ...(isIP(host) === 0 && { servername: host }),
    ...(authority !== undefined && { ca: authority }),
    ...(certificate !== undefined && { cert: certificate, key }),
    minVersion: 'TLSv1.2',
  });
}

function createClient(socket: Socket, version: '5' | '3.1.1', options: BrokerOptions): MqttClient {
  const { credentials, will } = options;
  const five = version === '5';
  return new mqttClient.default(() => socket, {
    manualConnect: true,
    reconnectPeriod: 0,
    connectTimeout: options.deadlineMs,
    queueQoSZero: false,
    resubscribe: false,
    autoAssignTopicAlias: true,
    timerVariant: 'native',
    // A buffer ready for each of 65,536 numbers takes 8 MB.
    writeCache: false,
    protocolVersion: five ? 5 : 4,
    clientId: options.clientId,
    // A session that goes on is what keeps the broker from telling the will after a short gap.
    clean: !five,
    keepalive: options.keepAliveSeconds,
    ...(credentials.username !== undefined && { username: credentials.username }),
    ...(credentials.password !== undefined && { password: credentials.password }),
    ...(five && {
      properties: {
        sessionExpiryInterval: options.sessionExpirySeconds,
        receiveMaximum: RECEIVE_MAXIMUM,
        maximumPacketSize: maxPacketBytes(options),
      },
    }),
    ...(will !== undefined && {
      will: {
        topic: will.topic,
        payload: Buffer.from(will.payload),
        qos: 1,
        retain: true,
        ...(five && { properties: { willDelayInterval: will.delaySeconds } }),
      },
    }),
  });
}

/** Messages that the broker may send before one is acknowledged. */
const RECEIVE_MAXIMUM = 5;

function connectionOf(parts: {
  readonly version: '5' | '3.1.1';
  readonly client: MqttClient;
  readonly socket: Socket;
  readonly closed: Promise<Failure>;
  readonly failed: (error: unknown) => void;
  readonly where: string;
  readonly options: BrokerOptions;
  /** The longest packet that the broker takes. */
  readonly brokerBytes: number;
}): BrokerConnection {
  const { version, client, socket, closed, failed, where, options, brokerBytes } = parts;
  const { clock, deadlineMs } = options;
  let ended: Failure | undefined;
  void closed.then((reason) => void (ended = reason));
  /** What the package calls back with, the end of the connection, or the end of our patience. */
  const answered = async (what: string, ask: (done: (error?: unknown) => void) => void) => {
    if (ended !== undefined) throw ended;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const timer = clock.at(clock.now().monoMs + deadlineMs, () =>
      failed(
        new Failure(
          'DeadlineExceeded',
          `the MQTT broker ${where} did not acknowledge ${what} within ${deadlineMs / 1000} s`,
        ),
      ),
    );
    ask((error) => resolve(error ?? undefined));
    const outcome = await Promise.race([promise, closed]);
    timer.cancel();
    if (outcome === undefined) return;
    if (outcome instanceof Failure) throw outcome;
    throw mqttFailure(outcome, { where, wallMs: clock.now().wallMs, isAccepted: true });
  };
  return {
    version,
    closed,
    publish: async (topic, payload, { qos, retain, expirySeconds }) => {
      const bytes = HEADER_BYTES + Buffer.byteLength(topic) + payload.length;
      if (bytes > brokerBytes) throw tooLong(where, topic, bytes, brokerBytes);
      const sent = answered(`a message to ${topic}`, (done) =>
        client.publish(
          topic,
          Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength),
          {
            ...{ qos, retain },
            ...(version === '5' &&
              expirySeconds !== undefined && {
                properties: { messageExpiryInterval: expirySeconds },
              }),
          },
          done,
        ),
      );
      await sent.catch((error: Failure) => {
        throw bytes < LONG_BYTES ? error : atLong(error, topic, bytes);
      });
    },
    subscribe: (topic) =>
      answered(`the subscription to ${topic}`, (done) =>
        client.subscribe(
          topic,
          { qos: 1, ...(version === '5' && options.retained !== true && { rh: 2 }) },
          done,
        ),
      ),
    end: async () => {
      const patience = clock.at(clock.now().monoMs + END_MS, () => socket.destroy());
      // Session expiry 0: the broker forgets the session, and with it the will.
      client.end(false, version === '5' ? { reasonCode: 0 } : {});
      await closed;
      patience.cancel();
    },
    destroy: failed,
  };
}

const END_MS = 2000;
/** All of a message but its topic and payload. Source: MQTT 5.0, section 3.3 */
const HEADER_BYTES = 20;

/** Of a message for which some brokers close the connection, those of MQTT 3.1.1 without a word. */
const LONG_BYTES = 8192;

function atLong(error: Failure, topic: string, bytes: number): Failure {
  if (error.code !== 'Unavailable') return error;
  const at = `at a message of ${bytes} bytes to ${topic}: does it take packets of that length?`;
  return new Failure(error.code, `${error.message} ${at}`, { cause: error });
}

function tooLong(where: string, topic: string, bytes: number, most: number): Failure {
  return new Failure(
    'ResourceExhausted',
    `the MQTT broker ${where} takes no packet above ${most} bytes, and the message to ${topic} ` +
      `has ${bytes}; raise its limit (max_packet_size of mosquitto)`,
  );
}
