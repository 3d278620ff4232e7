import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import {
  fileSystemBytes,
  leadsOverMobile,
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
});

test('a mobile network is known by the interface that leads out', (t) => {
  const root = mkdtempSync(join(os.tmpdir(), 'limpet-mobile-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  assert.equal(leadsOverMobile(root), false);
  mkdirSync(join(root, 'proc/net'), { recursive: true });
  const leadsBy = (name: string) => {
    const line = `${name}\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\n`;
    writeFileSync(join(root, 'proc/net/route'), `Iface\n${line}`);
    return leadsOverMobile(root);
  };
  for (const name of ['eth0', 'wlan0', '../wwan0']) assert.equal(leadsBy(name), false, name);
  for (const name of ['wwan0', 'ppp0']) assert.equal(leadsBy(name), true, name);
  mkdirSync(join(root, 'sys/class/net/modem'), { recursive: true });
  writeFileSync(join(root, 'sys/class/net/modem/uevent'), 'DEVTYPE=wwan\nINTERFACE=modem\n');
  assert.equal(leadsBy('modem'), true);
});

test('a wanted address must be on an interface', () => {
  assert.throws(() => nodeAddresses(['192.0.2.77']), /no interface has the address 192\.0\.2\.77/);
  assert.throws(() => nodeAddresses(['127.0.0.1']), /no interface/);
  const all = Object.values(os.networkInterfaces()).flatMap((of) => of ?? []);
  const own = all.find(({ internal }) => !internal)?.address;
  if (own !== undefined) assert.deepEqual(nodeAddresses([own]), [own]);
});
