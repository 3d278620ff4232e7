import assert from 'node:assert/strict';
import { test } from 'node:test';

import { containerConfig, type ContainerFacts } from '../../src/pod/container-config.ts';
import { MASKED_PATHS, READONLY_PATHS } from '../../src/pod/security.ts';
import { aContainer, aPod } from './a-pod.ts';

function facts(changes: Partial<ContainerFacts> = {}): ContainerFacts {
  return {
    pod: aPod(),
    container: aContainer(),
    attempt: 3,
    imageRef: 'sha256:0123',
    imageUser: { username: '' },
    environment: [],
    volumePaths: {},
    etcHostsPath: '/root/pods/1f0a-22/etc-hosts',
    terminationLogPath: '/root/pods/1f0a-22/containers/c/00000003',
    sandboxIPs: ['10.1.0.7'],
    memoryCapacityBytes: 2 ** 32,
    ...changes,
  };
}

test('a container', () => {
  const container = aContainer({
    name: 'c',
    command: ['/bin/sh', '-c'],
    args: ['echo $(GREETING)'],
    workingDir: '/srv',
    ports: [{ protocol: 'TCP', containerPort: 80, hostPort: 8080, name: 'http', hostIP: '' }],
    tty: true,
    stdin: true,
  });
  const pod = aPod({ containers: [container] });
  const environment = [{ key: 'GREETING', value: 'hello' }];
  assert.deepEqual(
    containerConfig(facts({ pod, container, environment, deletionGraceSeconds: 5 })),
    {
      ok: true,
      value: {
        metadata: { name: 'c', attempt: 3 },
        image: { image: 'sha256:0123', userSpecifiedImage: 'nginx' },
        command: ['/bin/sh', '-c'],
        args: ['echo hello'],
        workingDir: '/srv',
        envs: [{ key: 'GREETING', value: 'hello' }],
        mounts: [
          {
            containerPath: '/etc/hosts',
            hostPath: '/root/pods/1f0a-22/etc-hosts',
            readonly: false,
            propagation: 'PRIVATE',
          },
          {
            containerPath: '/dev/termination-log',
            hostPath: '/root/pods/1f0a-22/containers/c/00000003',
            readonly: false,
            propagation: 'PRIVATE',
          },
        ],
        labels: {
          'io.kubernetes.pod.name': 'shop',
          'io.kubernetes.pod.namespace': 'default',
          'io.kubernetes.pod.uid': '1f0a-22',
          'io.kubernetes.container.name': 'c',
        },
        annotations: {
          // The kubelet's hash of a container named c with the image nginx.
          'io.kubernetes.container.hash': '4611fea5',
          'io.kubernetes.container.restartCount': '3',
          'io.kubernetes.container.terminationMessagePath': '/dev/termination-log',
          'io.kubernetes.container.terminationMessagePolicy': 'File',
          'io.kubernetes.container.ports':
            '[{"name":"http","hostPort":8080,"containerPort":80,"protocol":"TCP"}]',
          'io.kubernetes.pod.terminationGracePeriod': '30',
          'io.kubernetes.pod.deletionGracePeriod': '5',
        },
        logPath: 'c/3.log',
        stdin: true,
        stdinOnce: false,
        tty: true,
        linux: {
          resources: {
            cpuPeriod: 100_000,
            cpuQuota: 0,
            cpuShares: 2,
            memoryLimitInBytes: 0,
            oomScoreAdj: 1000,
            unified: { 'memory.oom.group': '1' },
          },
          securityContext: {
            capabilities: { add: [], drop: [] },
            privileged: false,
            namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
            runAsUser: 0,
            readonlyRootfs: false,
            supplementalGroups: [],
            noNewPrivs: false,
            maskedPaths: MASKED_PATHS,
            readonlyPaths: READONLY_PATHS,
            seccomp: { profileType: 'RuntimeDefault' },
          },
        },
      },
    },
  );
});

test('no ports, no deletion: no annotations for them', () => {
  const result = containerConfig(facts());
  assert.ok(result.ok);
  assert.deepEqual(Object.keys(result.value.annotations).sort(), [
    'io.kubernetes.container.hash',
    'io.kubernetes.container.restartCount',
    'io.kubernetes.container.terminationMessagePath',
    'io.kubernetes.container.terminationMessagePolicy',
    'io.kubernetes.pod.terminationGracePeriod',
  ]);
  assert.equal(result.value.workingDir, '');
});

test('what cannot be had is a fault', () => {
  const mounts = aContainer({
    volumeMounts: [{ name: 'gone', mountPath: '/x', readOnly: false }],
  });
  const root = aContainer({ securityContext: { runAsNonRoot: true } });
  for (const container of [mounts, root]) {
    const result = containerConfig(facts({ container }));
    assert.ok(!result.ok);
    assert.equal(result.fault.reason, 'CreateContainerConfigError');
  }
});
