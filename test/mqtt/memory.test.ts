/** A process of its own: what the first connection takes, it takes once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { startBroker } from '../../scripts/lib/broker.ts';
import { systemClock } from '../../src/base/clock.ts';
import { connectBroker } from '../../src/mqtt/client.ts';

const MAX_BYTES = 2e6;

test('the first connection takes little memory for good', async (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const used = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  await using broker = await startBroker();
  const before = used();
  const connection = await connectBroker(
    {
      ...{ host: '127.0.0.1', port: broker.port, tls: false, version: '5', clientId: 'limpet' },
      ...{ credentials: {}, keepAliveSeconds: 60, deadlineMs: 5000, sessionExpirySeconds: 0 },
      ...{ clock: systemClock('boot', () => 0), onMessage: () => undefined },
    },
    new AbortController().signal,
  );
  await connection.publish('a', new Uint8Array(100), { qos: 1, retain: false });
  const grown = used() - before;
  await connection.end();
  t.diagnostic(`${(grown / 1e6).toFixed(2)} MB`);
  assert.ok(grown < MAX_BYTES, `${(grown / 1e6).toFixed(1)} MB`);
});
