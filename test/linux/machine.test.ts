import assert from 'node:assert/strict';
import os from 'node:os';
import { test } from 'node:test';

import {
  defaultInterface,
  fileSystemBytes,
  machineFacts,
  nodeAddresses,
  osImageOf,
  swapBytesOf,
} from '../../src/linux/machine.ts';

test('this machine tells of itself', () => {
  const facts = machineFacts();
  assert.ok(facts.cpus >= 1 && facts.memoryBytes > 2 ** 26);
  assert.match(facts.bootId, /^[0-9a-f-]{36}$/);
  assert.ok((fileSystemBytes('/') ?? 0) > 2 ** 20);
  assert.equal(fileSystemBytes('/no/such'), undefined);
});

test('the text of files', () => {
  assert.equal(
    osImageOf('NAME=a\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'),
    'Debian GNU/Linux 12 (bookworm)',
  );
  assert.equal(osImageOf(''), 'Linux');
  assert.equal(swapBytesOf('SwapTotal:         100 kB'), 102_400);
  const head = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n';
  const route = (name: string, metric: number) =>
    `${name}\t00000000\t0102000A\t0003\t0\t0\t${metric}\t00000000\t0\n`;
  const local = 'eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n';
  assert.equal(defaultInterface(head + local + route('wlan0', 600) + route('eth0', 100)), 'eth0');
  assert.equal(defaultInterface(head + local), undefined);
});

test('a wanted address must be on an interface', () => {
  assert.throws(() => nodeAddresses(['192.0.2.77']), /no interface has the address 192\.0\.2\.77/);
  assert.throws(() => nodeAddresses(['127.0.0.1']), /no interface/);
  const all = Object.values(os.networkInterfaces()).flatMap((of) => of ?? []);
  const own = all.find(({ internal }) => !internal)?.address;
  if (own !== undefined) assert.deepEqual(nodeAddresses([own]), [own]);
});
