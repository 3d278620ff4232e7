import assert from 'node:assert/strict';
import { test } from 'node:test';

import { containerMounts, type MountFacts } from '../../src/pod/mounts.ts';
import type { VolumeMount } from '../../src/kube/pod.ts';
import { aContainer, aPod } from './a-pod.ts';

const facts: MountFacts = {
  volumePaths: { data: '/root/pods/u/volumes/kubernetes.io~empty-dir/data' },
  etcHostsPath: '/root/pods/u/etc-hosts',
  terminationLogPath: '/root/pods/u/containers/web/00000000',
  sandboxIPs: ['10.1.0.7'],
};
const HOSTS = {
  containerPath: '/etc/hosts',
  hostPath: facts.etcHostsPath,
  readonly: false,
  propagation: 'PRIVATE',
};
const LAST_WORDS = {
  containerPath: '/dev/termination-log',
  hostPath: '/root/pods/u/containers/web/00000000',
  readonly: false,
  propagation: 'PRIVATE',
};

function mount(changes: Partial<VolumeMount>): VolumeMount {
  return { name: 'data', mountPath: '/data', readOnly: false, ...changes };
}

test('volumes, then /etc/hosts, then the termination message', () => {
  const container = aContainer({
    volumeMounts: [
      mount({}),
      mount({ mountPath: 'relative/path', readOnly: true, mountPropagation: 'HostToContainer' }),
      mount({ mountPath: '/odd:path', mountPropagation: 'Bidirectional' }),
      mount({ mountPath: '/none', mountPropagation: 'None' }),
    ],
  });
  const hostPath = facts.volumePaths['data'];
  assert.deepEqual(containerMounts(aPod(), container, facts), {
    ok: true,
    value: [
      { containerPath: '/data', hostPath, readonly: false, propagation: 'PRIVATE' },
      {
        containerPath: '/relative/path',
        hostPath,
        readonly: true,
        propagation: 'HOST_TO_CONTAINER',
      },
      { containerPath: '/odd:path', hostPath, readonly: false, propagation: 'BIDIRECTIONAL' },
      { containerPath: '/none', hostPath, readonly: false, propagation: 'PRIVATE' },
      HOSTS,
      LAST_WORDS,
    ],
  });
});

function paths(
  pod: Parameters<typeof containerMounts>[0],
  container: Parameters<typeof containerMounts>[1],
  given: MountFacts,
): readonly string[] {
  const result = containerMounts(pod, container, given);
  assert.ok(result.ok);
  return result.value.map(({ containerPath }) => containerPath);
}

test('/etc/hosts: not before there is an address, not over a mount of its own', () => {
  const none = { ...facts, sandboxIPs: [] };
  assert.deepEqual(paths(aPod(), aContainer(), facts), ['/etc/hosts', '/dev/termination-log']);
  assert.deepEqual(paths(aPod(), aContainer(), none), ['/dev/termination-log']);
  assert.deepEqual(paths(aPod({ hostNetwork: true }), aContainer(), none), [
    '/etc/hosts',
    '/dev/termination-log',
  ]);
  const own = aContainer({ volumeMounts: [mount({ mountPath: '/etc/hosts' })] });
  const result = containerMounts(aPod(), own, facts);
  assert.ok(result.ok);
  assert.deepEqual(
    result.value.map(({ containerPath, hostPath }) => [containerPath, hostPath]),
    [
      ['/etc/hosts', facts.volumePaths['data']],
      ['/dev/termination-log', facts.terminationLogPath],
    ],
  );
});

test('no termination message file where none is wanted or none was made', () => {
  const unwanted = aContainer({ terminationMessagePath: '' });
  assert.deepEqual(paths(aPod(), unwanted, facts), ['/etc/hosts']);
  const { terminationLogPath: _none, ...without } = facts;
  assert.deepEqual(paths(aPod(), aContainer(), without), ['/etc/hosts']);
  const relative = aContainer({ terminationMessagePath: 'tmp/last' });
  assert.deepEqual(paths(aPod(), relative, facts), ['/etc/hosts', '/tmp/last']);
});

test('volumes that the agent fills are only read', () => {
  const files = { items: [], optional: false, defaultMode: 0o644, objectName: 'x' };
  const volumes = [
    { name: 'data', kind: 'emptyDir', medium: '' },
    { name: 'conf', kind: 'configMap', ...files },
    { name: 'login', kind: 'secret', ...files },
    { name: 'self', kind: 'downwardAPI', items: [], defaultMode: 0o644 },
    { name: 'all', kind: 'projected', sources: [], defaultMode: 0o644 },
  ] as const;
  const names = volumes.map(({ name }) => name);
  const container = aContainer({
    volumeMounts: names.map((name) => mount({ name, mountPath: `/${name}` })),
  });
  const volumePaths = Object.fromEntries(names.map((name) => [name, `/x/${name}`]));
  const result = containerMounts(aPod({ volumes }), container, { ...facts, volumePaths });
  assert.ok(result.ok);
  assert.deepEqual(
    result.value.slice(0, 5).map(({ readonly }) => readonly),
    [false, true, true, true, true],
  );
});

for (const name of ['nobody', 'constructor', '__proto__']) {
  test(`a volume ${name} that nobody defined`, () => {
    const container = aContainer({ volumeMounts: [mount({ name })] });
    assert.deepEqual(containerMounts(aPod(), container, facts), {
      ok: false,
      fault: {
        code: 'Unknown',
        reason: 'CreateContainerConfigError',
        message: `cannot find volume "${name}" to mount into container "web"`,
      },
    });
  });
}
