/** What a broker has to say of a fleet, over all its connections. */
import type { Clock } from '../base/clock.ts';
import { Failure } from '../base/failure.ts';
import { connectBroker, type BrokerConnection, type BrokerOptions } from '../mqtt/client.ts';

export type Broker = Pick<BrokerOptions, 'host' | 'port' | 'tls' | 'credentials' | 'clientId'>;

export type Feed = {
  /** Sends, or does not: who asks, asks again. */
  publish(topic: string, payload: Uint8Array): void;
  /** After `signal` was aborted. */
  close(): Promise<void>;
};

export type Heard = {
  message(topic: string, payload: Uint8Array): void;
  /** `why` is absent when the connection is there. */
  connection(why?: string): void;
};

const DEADLINE_MS = 10_000;
const AGAIN_MS = 2_000;

/**
 * Connects and subscribes, and again after each loss until `signal` is aborted.
 * @throws Failure when the first connection does not come about
 */
export async function openFeed(
  broker: Broker,
  filter: string,
  heard: Heard,
  clock: Clock,
  signal: AbortSignal,
): Promise<Feed> {
  const open = async (): Promise<BrokerConnection> => {
    const options: BrokerOptions = {
      ...broker,
      version: 'auto',
      keepAliveSeconds: 60,
      deadlineMs: DEADLINE_MS,
      sessionExpirySeconds: 0,
      clock,
      retained: true,
      onMessage: ({ topic, payload }) => heard.message(topic, payload),
    };
    const connection = await connectBroker(options, signal);
    await connection.subscribe(filter);
    heard.connection();
    return connection;
  };
  let current: BrokerConnection | undefined = await open();
  const keep = async () => {
    while (!signal.aborted) {
      if (current === undefined) {
        await clock.sleep(AGAIN_MS, signal);
        current = await open();
        if (signal.aborted) await current.end();
      }
      const why = await current.closed;
      current = undefined;
      if (!signal.aborted) heard.connection(why.message);
    }
  };
  const kept = keepOn(keep, heard, signal);
  return {
    publish: (topic, payload) => {
      void current?.publish(topic, payload, { qos: 1, retain: false }).catch(() => undefined);
    },
    close: async () => {
      await current?.end();
      await kept;
    },
  };
}

async function keepOn(keep: () => Promise<void>, heard: Heard, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await keep().catch((error: unknown) => {
      if (signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      heard.connection(error.message);
    });
  }
}
