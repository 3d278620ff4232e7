import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseResolvConf, podDns } from '../../src/pod/dns.ts';
import type { PodSpec } from '../../src/kube/pod.ts';
import { aPod } from './a-pod.ts';

const host = { servers: ['192.168.1.1'], searches: ['lan'], options: ['edns0'] };
const cluster = { host, clusterDNS: ['10.96.0.10'], clusterDomain: 'cluster.local' };
const alone = { host, clusterDNS: [], clusterDomain: '' };
const CLUSTER = {
  servers: ['10.96.0.10'],
  searches: ['prod.svc.cluster.local', 'svc.cluster.local', 'cluster.local', 'lan'],
  options: ['ndots:5'],
};
const NONE = { servers: [], searches: [], options: [] };

const CASES: readonly (readonly [string, Partial<PodSpec>, typeof cluster, object])[] = [
  ['ClusterFirst', { dnsPolicy: 'ClusterFirst' }, cluster, CLUSTER],
  ['ClusterFirst, host network', { dnsPolicy: 'ClusterFirst', hostNetwork: true }, cluster, host],
  [
    'ClusterFirstWithHostNet',
    { dnsPolicy: 'ClusterFirstWithHostNet', hostNetwork: true },
    cluster,
    CLUSTER,
  ],
  ['Default', { dnsPolicy: 'Default' }, cluster, host],
  ['None', { dnsPolicy: 'None' }, cluster, NONE],
  ['ClusterFirst, no cluster', { dnsPolicy: 'ClusterFirst' }, alone, host],
  [
    'ClusterFirst, no cluster domain',
    { dnsPolicy: 'ClusterFirst' },
    { ...cluster, clusterDomain: '' },
    { servers: ['10.96.0.10'], searches: ['lan'], options: ['ndots:5'] },
  ],
  [
    'dnsConfig is added, without repetition, and its options count',
    {
      dnsPolicy: 'ClusterFirst',
      dnsConfig: {
        nameservers: ['1.1.1.1', '10.96.0.10'],
        searches: ['lan', 'example.com'],
        options: [{ name: 'ndots', value: '2' }, { name: 'use-vc' }],
      },
    },
    cluster,
    {
      servers: ['10.96.0.10', '1.1.1.1'],
      searches: [...CLUSTER.searches, 'example.com'],
      options: ['ndots:2', 'use-vc'],
    },
  ],
  [
    'None with dnsConfig',
    { dnsPolicy: 'None', dnsConfig: { nameservers: ['9.9.9.9'], searches: ['a.b'] } },
    cluster,
    { servers: ['9.9.9.9'], searches: ['a.b'], options: [] },
  ],
];

for (const [name, spec, facts, wanted] of CASES) {
  test(name, () => {
    assert.deepEqual(podDns(aPod(spec, { namespace: 'prod' }), facts).config, wanted);
  });
}

test('a node without cluster DNS says so for pods that want it, and only for those', () => {
  const { notes } = podDns(aPod(), alone);
  assert.deepEqual(notes, [
    {
      reason: 'MissingClusterDNS',
      message:
        'pod: "shop_default(1f0a-22)". kubelet does not have ClusterDNS IP configured and cannot ' +
        'create Pod using "ClusterFirst" policy. Falling back to "Default" policy.',
    },
  ]);
  assert.deepEqual(podDns(aPod({ hostNetwork: true }), alone).notes, []);
  assert.deepEqual(podDns(aPod({ dnsPolicy: 'Default' }), alone).notes, []);
  assert.deepEqual(podDns(aPod(), cluster).notes, []);
});

test('three nameservers, and a note', () => {
  const servers = ['1.0.0.1', '1.0.0.2', '1.0.0.3', '1.0.0.4'];
  const pod = aPod({ dnsPolicy: 'None', dnsConfig: { nameservers: servers } });
  const { config, notes } = podDns(pod, alone);
  assert.deepEqual(config.servers, servers.slice(0, 3));
  assert.equal(notes[0]?.reason, 'DNSConfigForming');
  assert.match(
    notes[0].message,
    /^Nameserver limits .* line is: 1\.0\.0\.1 1\.0\.0\.2 1\.0\.0\.3$/,
  );
});

test('32 search domains', () => {
  const searches = Array.from({ length: 33 }, (_, i) => `d${i}.x`);
  const { config, notes } = podDns(aPod({ dnsPolicy: 'None', dnsConfig: { searches } }), alone);
  assert.deepEqual(config.searches, searches.slice(0, 32));
  assert.match(notes[0]?.message ?? '', /^Search Line limits were exceeded/);
});

test('2048 characters of search domains, none with more than 253', () => {
  // Ten of 200 with the blanks between them are 2009, an eleventh would be 2210.
  const searches = Array.from({ length: 12 }, (_, i) => `${i}`.padStart(200, 'a'));
  const fits = podDns(aPod({ dnsPolicy: 'None', dnsConfig: { searches } }), alone);
  assert.deepEqual(fits.config.searches, searches.slice(0, 10));
  const long = ['a'.repeat(254), 'b'.repeat(253)];
  const cut = podDns(aPod({ dnsPolicy: 'None', dnsConfig: { searches: long } }), alone);
  assert.deepEqual(cut.config.searches, ['b'.repeat(253)]);
  assert.equal(cut.notes.length, 1);
});

test('a resolv.conf', () => {
  const text = `
# nameserver 6.6.6.6
nameserver 192.168.1.1
 nameserver\t fd00::1
search old.example
search lan. . home.arpa.
options ndots:1 edns0
options ndots:3
nameserver
lookup file bind
`;
  assert.deepEqual(parseResolvConf(text), {
    servers: ['192.168.1.1', 'fd00::1'],
    searches: ['lan', 'home.arpa'],
    options: ['ndots:3', 'edns0'],
  });
  assert.deepEqual(parseResolvConf(''), NONE);
});
