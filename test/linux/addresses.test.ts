import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { tmpdir, type NetworkInterfaceInfo } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { defaultInterface, hostIPs, reachable } from '../../src/linux/addresses.ts';

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

const HEAD = 'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n';

function route(name: string, metric: number): string {
  return `${name}\t00000000\t0102000A\t0003\t0\t0\t${metric}\t00000000\t0\n`;
}

test('the interface of the default route with the least metric', () => {
  const local = 'eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n';
  assert.equal(defaultInterface(HEAD + local + route('wlan0', 600) + route('eth0', 100)), 'eth0');
  assert.equal(defaultInterface(HEAD + local), undefined);
});

function address(text: string): NetworkInterfaceInfo {
  const rest = { netmask: '', mac: '', internal: text === '127.0.0.1', cidr: null };
  return isIPv4(text)
    ? { ...rest, family: 'IPv4', address: text }
    : { ...rest, family: 'IPv6', address: text, scopeid: 0 };
}

test('what only pods are behind is no address of the machine', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'limpet-addresses-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const have = (...paths: readonly string[]) =>
    paths.forEach((path) => mkdirSync(join(root, 'sys/class/net', path), { recursive: true }));
  have('eth0/device', 'eth1/device', 'eth1.7/lower_eth1', 'veth1', 'flannel.1');
  have('cni0/bridge', 'cni0/brif/veth1', 'docker0/bridge', 'br0/bridge', 'br0/brif/eth1.7');
  writeFileSync(
    join(root, 'sys/class/net/flannel.1/uevent'),
    'DEVTYPE=vxlan\nINTERFACE=flannel.1\n',
  );
  const pods = {
    lo: [address('127.0.0.1')],
    cni0: [address('10.88.0.1'), address('fd00::1')],
    docker0: [address('172.17.0.1')],
    'flannel.1': [address('10.244.1.0')],
    eth0: [address('169.254.3.4'), address('fe80::1')],
  };
  const shown = (interfaces: typeof pods & Record<string, NetworkInterfaceInfo[]>) =>
    reachable(interfaces, root).map((one) => one.address);
  assert.deepEqual(shown(pods), []);
  const board = { ...pods, br0: [address('192.168.7.2')], wlan0: [address('192.168.1.5')] };
  assert.deepEqual(shown(board), ['192.168.7.2', '192.168.1.5']);
  mkdirSync(join(root, 'proc/net'), { recursive: true });
  writeFileSync(join(root, 'proc/net/route'), HEAD + route('wlan0', 600));
  assert.deepEqual(shown(board), ['192.168.1.5', '192.168.7.2']);
  assert.deepEqual(hostIPs(board, root), ['192.168.1.5']);
});
