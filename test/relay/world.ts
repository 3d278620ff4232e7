/** A node that has pods and a relay, without an agent. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock, type Clock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { seededRandom } from '../../src/base/random.ts';
import { connectBroker, type BrokerOptions } from '../../src/mqtt/client.ts';
import type { Encoding } from '../../src/relay/codec.ts';
import type { Met, PodState } from '../../src/relay/message.ts';
import { Relay, type RelayOptions } from '../../src/relay/relay.ts';
import { openOutbox } from '../../src/store/outbox.ts';

export const NAME = { fleet: 'farm', node: 'pi1' };
const log = createLog('error', () => undefined);
export const until = async (what: string, is: () => boolean, ms = 10_000) => {
  for (let waited = 0; !is(); waited += 20) {
    if (waited > ms) throw new Error(`not in time: ${what}`);
    await sleep(20);
  }
};

/** Real time, which goes faster. */
function fastClock(): Clock & { skip(ms: number): void; readonly slept: number[] } {
  const real = systemClock('0b5e55ed-boot', () => 0);
  let skipped = 0;
  const waiting = new Set<{ at: number; fire: () => void }>();
  const clock = {
    slept: [] as number[],
    now: () => {
      const { monoMs, wallMs, boot } = real.now();
      return { monoMs: monoMs + skipped, wallMs: wallMs + skipped, boot };
    },
    sleep: (ms: number, signal: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason as Error);
        clock.slept.push(ms);
        const abort = () => {
          timer.cancel();
          reject(signal.reason as Error);
        };
        const timer = clock.at(clock.now().monoMs + ms, () => {
          signal.removeEventListener('abort', abort);
          resolve();
        });
        signal.addEventListener('abort', abort, { once: true });
      }),
    at: (monoMs: number, run: () => void) => {
      const fire = () => {
        timer.cancel();
        if (waiting.delete(entry)) run();
      };
      const timer = real.at(monoMs - skipped, fire);
      const entry = { at: monoMs, fire };
      waiting.add(entry);
      return {
        cancel: () => {
          waiting.delete(entry);
          timer.cancel();
        },
      };
    },
    soon: real.soon,
    skip: (ms: number) => {
      skipped += ms;
      const { monoMs } = clock.now();
      for (const entry of [...waiting].sort((a, b) => a.at - b.at)) {
        if (entry.at <= monoMs) entry.fire();
      }
    },
  };
  return clock;
}

export const pod = (n: number, restarts = 0): PodState => ({
  uid: `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`,
  ...{ namespace: 'default', name: `web-${n}`, phase: 'Running', ready: 1, containers: 1 },
  ...{ restarts, since: 1_800_000_000 },
});

/** `broker`: where it is, asked for each connection. */
export function createNode(
  broker: () => Partial<BrokerOptions> & Pick<BrokerOptions, 'port'>,
  more: {
    readonly directory?: string;
    readonly encoding?: Encoding;
    readonly linkGained?: RelayOptions['linkGained'];
    /** Its figures, if it tells of any. */
    readonly figures?: Omit<Met, 't' | 'ttl'>;
  } = {},
) {
  const { directory = mkdtempSync(join(tmpdir(), 'limpet-relay-')), encoding = 'cbor' } = more;
  const clock = fastClock();
  const outbox = openOutbox(directory, { clock, log });
  const pods = new Map(Array.from({ length: 10 }, (_, n) => [n, pod(n)]));
  const stop = new AbortController();
  const seconds = () => Math.floor(clock.now().wallMs / 1000);
  const relay = new Relay({
    ...{ name: NAME, encoding, homeAssistant: false, outbox, clock, log },
    random: seededRandom(1),
    linkGained: more.linkGained ?? (() => new Promise(() => undefined)),
    connect: (session, signal) =>
      connectBroker(
        {
          ...{ host: '127.0.0.1', tls: false, version: 'auto', clientId: 'pi1' },
          ...{ credentials: {}, keepAliveSeconds: 60, deadlineMs: 5000 },
          ...{ sessionExpirySeconds: 3600, clock, ...session, ...broker() },
        },
        signal,
      ),
    facts: () => ({
      ...{ node: { version: '1' }, pods: [...pods.values()], conditions: [] },
      ...(more.figures && { met: { t: seconds(), ttl: 3600, ...more.figures } }),
    }),
  });
  const running = relay.run(stop.signal);
  const end = async () => {
    stop.abort();
    await running;
    outbox[Symbol.dispose]();
    rmSync(directory, { recursive: true, force: true });
  };
  return { clock, outbox, pods, relay, end };
}
