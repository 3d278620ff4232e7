import assert from 'node:assert/strict';
import { test } from 'node:test';

import { hostNetworkHosts, podHosts } from '../../src/pod/hosts.ts';

const HEAD = `# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
`;

test('all addresses of the pod, with its host name', () => {
  const text = podHosts({
    ips: ['10.1.0.7', 'fd00::7'],
    hostname: 'shop',
    domain: '',
    aliases: [],
  });
  assert.equal(text, `${HEAD}10.1.0.7\tshop\nfd00::7\tshop\n`);
});

test('with a domain, the long name comes first', () => {
  const domain = 'db.default.svc.cluster.local';
  const text = podHosts({ ips: ['10.1.0.7'], hostname: 'shop', domain, aliases: [] });
  assert.equal(text, `${HEAD}10.1.0.7\tshop.db.default.svc.cluster.local\tshop\n`);
});

test('aliases stand at the end, all names of an address on one line', () => {
  const aliases = [
    { ip: '10.0.0.1', hostnames: ['a', 'b'] },
    { ip: '10.0.0.2', hostnames: ['c'] },
  ];
  const lines = '\n# Entries added by HostAliases.\n10.0.0.1\ta\tb\n10.0.0.2\tc\n';
  assert.equal(podHosts({ ips: [], hostname: 'shop', domain: '', aliases }), HEAD + lines);
  assert.equal(
    hostNetworkHosts('127.0.0.1 localhost\n', aliases),
    `# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n${lines}`,
  );
});
