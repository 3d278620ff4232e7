import assert from 'node:assert/strict';
import { test } from 'node:test';

import { serviceEnvironment } from '../../src/pod/service-environment.ts';
import { aService } from '../kube/objects-of.ts';
import { aPod } from './a-pod.ts';

const POD = aPod({}, { namespace: 'app' });
const MASTER = aService('kubernetes', {
  clusterIP: '10.96.0.1',
  ports: [{ name: 'https', port: 443, protocol: 'TCP' }],
});
const MASTER_VARIABLES = {
  KUBERNETES_SERVICE_HOST: '10.96.0.1',
  KUBERNETES_SERVICE_PORT: '443',
  KUBERNETES_SERVICE_PORT_HTTPS: '443',
  KUBERNETES_PORT: 'tcp://10.96.0.1:443',
  KUBERNETES_PORT_443_TCP: 'tcp://10.96.0.1:443',
  KUBERNETES_PORT_443_TCP_PROTO: 'tcp',
  KUBERNETES_PORT_443_TCP_PORT: '443',
  KUBERNETES_PORT_443_TCP_ADDR: '10.96.0.1',
};

test('the services of the namespace, and the API server', () => {
  const dns = aService(
    'my-dns',
    {
      clusterIP: 'fd00::10',
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns-tcp', port: 53 },
        { port: 9153 },
      ],
    },
    'app',
  );
  const ports = [{ port: 1 }];
  const services = [
    MASTER,
    dns,
    aService('elsewhere', { clusterIP: '10.96.0.9', ports }),
    aService('headless', { clusterIP: 'None', ports }, 'app'),
    aService('external', { ports }, 'app'),
    aService('empty', { clusterIP: '', ports }, 'app'),
    aService('portless', { clusterIP: '10.96.0.8' }, 'app'),
  ];
  assert.deepEqual(Object.fromEntries(serviceEnvironment(POD, services)), {
    ...MASTER_VARIABLES,
    MY_DNS_SERVICE_HOST: 'fd00::10',
    MY_DNS_SERVICE_PORT: '53',
    MY_DNS_SERVICE_PORT_DNS: '53',
    MY_DNS_SERVICE_PORT_DNS_TCP: '53',
    MY_DNS_PORT: 'udp://[fd00::10]:53',
    MY_DNS_PORT_53_UDP: 'udp://[fd00::10]:53',
    MY_DNS_PORT_53_UDP_PROTO: 'udp',
    MY_DNS_PORT_53_UDP_PORT: '53',
    MY_DNS_PORT_53_UDP_ADDR: 'fd00::10',
    MY_DNS_PORT_53_TCP: 'tcp://[fd00::10]:53',
    MY_DNS_PORT_53_TCP_PROTO: 'tcp',
    MY_DNS_PORT_53_TCP_PORT: '53',
    MY_DNS_PORT_53_TCP_ADDR: 'fd00::10',
    MY_DNS_PORT_9153_TCP: 'tcp://[fd00::10]:9153',
    MY_DNS_PORT_9153_TCP_PROTO: 'tcp',
    MY_DNS_PORT_9153_TCP_PORT: '9153',
    MY_DNS_PORT_9153_TCP_ADDR: 'fd00::10',
  });
  const withoutLinks = aPod({ enableServiceLinks: false }, { namespace: 'app' });
  assert.deepEqual(
    Object.fromEntries(serviceEnvironment(withoutLinks, services)),
    MASTER_VARIABLES,
  );
});

test("a service of the namespace's own that is called kubernetes stands for the API server", () => {
  const own = aService('kubernetes', { clusterIP: '10.96.7.7', ports: [{ port: 80 }] }, 'app');
  for (const services of [
    [MASTER, own],
    [own, MASTER],
  ]) {
    assert.equal(serviceEnvironment(POD, services).get('KUBERNETES_SERVICE_HOST'), '10.96.7.7');
  }
});
