import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { createPeer, json, plainCredentials } from './peer.ts';

const never = new AbortController().signal;

test('what goes over the wire is counted, TLS included', async () => {
  await using peer = await createPeer();
  // Between the two stands somebody who counts.
  const counted = { sentBytes: 0, receivedBytes: 0 };
  const between = net.createServer((near) => {
    const far = net.connect(peer.port, '127.0.0.1');
    near.on('data', (chunk) => ((counted.sentBytes += chunk.length), far.write(chunk)));
    far.on('data', (chunk) => ((counted.receivedBytes += chunk.length), near.write(chunk)));
    near.on('close', () => far.destroy()).on('error', () => undefined);
    far.on('close', () => near.destroy()).on('error', () => undefined);
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  const { port } = between.address() as net.AddressInfo;
  const client = peer.client({ credentials: plainCredentials(`https://127.0.0.1:${port}`) });
  peer.answer = ({ response }) => json(response, { kind: 'Node', padding: 'x'.repeat(50_000) });
  for (let i = 0; i < 3; i++)
    await client.json({ method: 'GET', path: '/x' }, { signal: never, deadlineMs: 5000 });
  await pause(20);
  const traffic = client.traffic();
  assert.deepEqual(traffic, { requests: 3, connections: 1, ...counted });
  assert.ok(counted.receivedBytes > 150_000);
  client.close();
  await pause(20);
  assert.equal(client.traffic().receivedBytes, counted.receivedBytes, 'also of closed connections');
  between.close();
});
