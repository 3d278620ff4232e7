import assert from 'node:assert/strict';
import { test } from 'node:test';

import { sandboxConfig, type SandboxFacts } from '../../src/pod/sandbox-config.ts';
import { aContainer, aPod } from './a-pod.ts';

const facts: Omit<SandboxFacts, 'pod'> = {
  source: 'file',
  attempt: 2,
  cgroupParent: '/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1f0a_22.slice',
  logRoot: '/var/log/pods',
  dns: {
    host: { servers: ['192.168.1.1'], searches: [], options: [] },
    clusterDNS: [],
    clusterDomain: '',
  },
};

test('a sandbox', () => {
  const pod = aPod(
    {
      dnsPolicy: 'Default',
      containers: [
        aContainer({
          ports: [
            { containerPort: 80, hostPort: 8080, protocol: 'TCP' },
            { containerPort: 53, hostPort: 53, hostIP: '127.0.0.1', protocol: 'UDP' },
            { name: 'metrics', containerPort: 9090, protocol: 'TCP' },
            { containerPort: 81, hostPort: 0, protocol: 'TCP' },
          ],
        }),
      ],
    },
    { labels: { app: 'shop', 'io.kubernetes.pod.uid': 'forged' }, annotations: { note: 'x' } },
  );
  assert.deepEqual(sandboxConfig({ ...facts, pod }), {
    notes: [],
    config: {
      metadata: { name: 'shop', namespace: 'default', uid: '1f0a-22', attempt: 2 },
      hostname: 'shop',
      logDirectory: '/var/log/pods/default_shop_1f0a-22',
      dnsConfig: { servers: ['192.168.1.1'], searches: [], options: [] },
      portMappings: [
        { protocol: 'TCP', containerPort: 80, hostPort: 8080 },
        { protocol: 'UDP', containerPort: 53, hostPort: 53, hostIp: '127.0.0.1' },
      ],
      labels: {
        app: 'shop',
        'io.kubernetes.pod.name': 'shop',
        'io.kubernetes.pod.namespace': 'default',
        'io.kubernetes.pod.uid': '1f0a-22',
      },
      annotations: { note: 'x', 'kubernetes.io/config.source': 'file' },
      linux: {
        cgroupParent: facts.cgroupParent,
        securityContext: {
          namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
          readonlyRootfs: false,
          supplementalGroups: [],
          privileged: false,
          seccomp: { profileType: 'RuntimeDefault' },
        },
        sysctls: {},
      },
    },
  });
});

test('with the node’s network: the node’s host name, and no ports to map', () => {
  const ports = [{ containerPort: 80, hostPort: 80, protocol: 'TCP' }] as const;
  const pod = aPod({
    hostNetwork: true,
    hostname: 'till',
    containers: [aContainer({ ports })],
  });
  const { config } = sandboxConfig({ ...facts, pod });
  assert.equal(config.hostname, '');
  assert.deepEqual(config.portMappings, []);
  assert.equal(config.linux.securityContext.namespaceOptions.network, 'NODE');
});

test('what people should know of its DNS is handed on', () => {
  const { notes } = sandboxConfig({ ...facts, pod: aPod({ dnsPolicy: 'ClusterFirst' }) });
  assert.deepEqual(
    notes.map(({ reason }) => reason),
    ['MissingClusterDNS'],
  );
});

test('a uid that would lead out of the log directory', () => {
  const pod = aPod({}, { uid: '/../../../etc' });
  assert.throws(() => sandboxConfig({ ...facts, pod }), /cannot be part of a path/);
});
