import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { test } from 'node:test';

import { hostIPs } from '../../src/linux/addresses.ts';

test('addresses that others can reach, IPv4 first, at most one of each family', () => {
  const found = hostIPs();
  assert.ok(found.every((address) => isIP(address) !== 0));
  assert.deepEqual(found, [
    ...found.filter(isIPv4).slice(0, 1),
    ...found.filter(isIPv6).slice(0, 1),
  ]);
  assert.ok(found.every((address) => !/^(127\.|169\.254\.|::1$|fe80:)/.test(address)));
});

test('a machine without a network has none', () => {
  const module = new URL('../../src/linux/addresses.ts', import.meta.url).href;
  const script = `import { hostIPs } from ${JSON.stringify(module)};
    console.log(JSON.stringify(hostIPs()));`;
  const argv = ['--net', '--', process.execPath, '--input-type=module', '-e', script];
  assert.equal(execFileSync('unshare', argv, { encoding: 'utf8' }).trim(), '[]');
});
