import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { PodSecurityContext, SecurityContext } from '../../src/kube/pod.ts';
import {
  MASKED_PATHS,
  READONLY_PATHS,
  containerSecurity,
  namespaceOptions,
  sandboxSecurity,
  type ImageUser,
} from '../../src/pod/security.ts';
import { aContainer, aPod } from './a-pod.ts';

const ROOT_IMAGE: ImageUser = { username: '' };

function security(
  own: SecurityContext,
  ofPod: PodSecurityContext = {},
  image: ImageUser = ROOT_IMAGE,
) {
  const container = aContainer({ securityContext: own });
  return containerSecurity(
    aPod({ containers: [container], securityContext: ofPod }),
    container,
    image,
  );
}

function allowed(...args: Parameters<typeof security>) {
  const result = security(...args);
  assert.ok(result.ok, result.ok ? '' : result.fault.message);
  return result.value;
}

function refused(...args: Parameters<typeof security>): string {
  const result = security(...args);
  assert.ok(!result.ok, 'it was allowed');
  assert.equal(result.fault.reason, 'CreateContainerConfigError');
  const where = ' (pod: "shop_default(1f0a-22)", container: web)';
  assert.ok(result.fault.message.endsWith(where), result.fault.message);
  return result.fault.message.slice(0, -where.length);
}

test('a container for which nothing is said', () => {
  assert.deepEqual(allowed({}), {
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
  });
});

test('everything said', () => {
  const own: SecurityContext = {
    runAsUser: 1000,
    runAsGroup: 2000,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] },
    seccompProfile: { type: 'Unconfined' },
  };
  const ofPod: PodSecurityContext = {
    runAsUser: 1,
    runAsGroup: 2,
    fsGroup: 3000,
    supplementalGroups: [4000, 5000],
    seccompProfile: { type: 'RuntimeDefault' },
  };
  assert.deepEqual(allowed(own, ofPod), {
    capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] },
    privileged: false,
    namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
    runAsUser: 1000,
    runAsGroup: 2000,
    readonlyRootfs: true,
    supplementalGroups: [3000, 4000, 5000],
    noNewPrivs: true,
    maskedPaths: MASKED_PATHS,
    readonlyPaths: READONLY_PATHS,
    seccomp: { profileType: 'Unconfined' },
  });
});

test('privileged: nothing is hidden, nothing confined', () => {
  const value = allowed({ privileged: true });
  assert.equal(value.privileged, true);
  assert.deepEqual([value.maskedPaths, value.readonlyPaths], [[], []]);
  assert.deepEqual(value.seccomp, { profileType: 'Unconfined' });
  const asked = allowed({ privileged: true, seccompProfile: { type: 'RuntimeDefault' } });
  assert.deepEqual(asked.seccomp, { profileType: 'RuntimeDefault' });
});

test('paths to mask that depend on the machine', () => {
  const container = aContainer();
  const path = '/sys/devices/system/cpu/cpu0/thermal_throttle';
  const result = containerSecurity(aPod(), container, ROOT_IMAGE, [path]);
  assert.ok(result.ok);
  assert.deepEqual(result.value.maskedPaths, [...MASKED_PATHS, path]);
});

for (const [name, own, ofPod, image, wanted] of [
  ['the container', { runAsUser: 5 }, { runAsUser: 6 }, { uid: 7, username: '' }, { uid: 5 }],
  ['the container, root', { runAsUser: 0 }, { runAsUser: 6 }, { username: '' }, { uid: 0 }],
  ['the pod', {}, { runAsUser: 6 }, { uid: 7, username: '' }, { uid: 6 }],
  ['the image', {}, {}, { uid: 7, username: '' }, { uid: 7 }],
  ['the image, by name', {}, {}, { username: 'www-data' }, { username: 'www-data' }],
  ['nobody: root', {}, {}, { username: '' }, { uid: 0 }],
] as const) {
  test(`the user is chosen by ${name}`, () => {
    const { runAsUser, runAsUsername } = allowed(own, ofPod, image);
    const expected: { uid?: number; username?: string } = wanted;
    assert.deepEqual([runAsUser, runAsUsername], [expected.uid, expected.username]);
  });
}

// Against CVE-2019-11245: the answer is the same at the first start and at any later one.
const nonRoot = { runAsNonRoot: true };
for (const [name, own, ofPod, image, message] of [
  [
    'runAsUser 0',
    { runAsUser: 0 },
    nonRoot,
    { uid: 5, username: '' },
    "container's runAsUser breaks non-root policy",
  ],
  [
    'image root',
    {},
    nonRoot,
    { uid: 0, username: '' },
    'container has runAsNonRoot and image will run as root',
  ],
  [
    'image without user',
    nonRoot,
    {},
    { username: '' },
    'container has runAsNonRoot and image will run as root',
  ],
  [
    'image with a name',
    nonRoot,
    {},
    { username: 'nginx' },
    'container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root',
  ],
  [
    'image with an id that does not fit',
    nonRoot,
    {},
    { uid: 2 ** 32, username: '' },
    'container has runAsNonRoot and image has an invalid user id (4294967296). ' +
      '(Must be 1-(2147483647)): must be between 0 and 2147483647, inclusive',
  ],
] as const) {
  test(`runAsNonRoot refuses: ${name}`, () => {
    assert.equal(refused(own, ofPod, image), message);
  });
}

test('runAsNonRoot allows who is not root', () => {
  assert.equal(allowed(nonRoot, {}, { uid: 33, username: '' }).runAsUser, 33);
  assert.equal(allowed(nonRoot, { runAsUser: 33 }, { username: 'root' }).runAsUser, 33);
  // The container's word counts.
  assert.equal(allowed({ runAsNonRoot: false }, nonRoot, { username: '' }).runAsUser, 0);
});

// Against CVE-2024-40635 and CVE-2026-46680: such ids came out as root.
for (const [name, own, ofPod, image] of [
  ['of the image', {}, {}, { uid: 2 ** 31, username: '' }],
  ['of the image, negative', {}, {}, { uid: -1, username: '' }],
  ['of the image, as a name', {}, {}, { username: '99999999999999999999' }],
  ['of the image, as a name with a group', {}, {}, { username: '4294967296:0' }],
  ['of the container', { runAsUser: 2 ** 31 }, {}, ROOT_IMAGE],
  ['of the container’s group', { runAsGroup: 2 ** 32 }, {}, ROOT_IMAGE],
  ['of the pod', {}, { runAsUser: 2 ** 32 }, ROOT_IMAGE],
  ['of fsGroup', {}, { fsGroup: -1 }, ROOT_IMAGE],
  ['of a supplemental group', {}, { supplementalGroups: [1, 2 ** 31] }, ROOT_IMAGE],
  ['with a fraction', { runAsUser: 0.5 }, {}, ROOT_IMAGE],
] as const) {
  test(`an id that does not fit, ${name}, is refused`, () => {
    assert.match(refused(own, ofPod, image), /must be between 0 and 2147483647, inclusive$/);
  });
}

test('namespaces', () => {
  assert.deepEqual(namespaceOptions(aPod({ hostNetwork: true, hostIPC: true, hostPID: true })), {
    network: 'NODE',
    pid: 'NODE',
    ipc: 'NODE',
  });
  assert.equal(namespaceOptions(aPod({ shareProcessNamespace: true })).pid, 'POD');
});

test('a sandbox: confined always, privileged if one of its containers is', () => {
  assert.deepEqual(sandboxSecurity(aPod()), {
    namespaceOptions: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
    readonlyRootfs: false,
    supplementalGroups: [],
    privileged: false,
    seccomp: { profileType: 'RuntimeDefault' },
  });
  const privileged = aContainer({ securityContext: { privileged: true } });
  const value = sandboxSecurity(
    aPod({
      initContainers: [privileged],
      securityContext: {
        runAsUser: 10,
        runAsGroup: 20,
        fsGroup: 30,
        seccompProfile: { type: 'Unconfined' },
      },
    }),
  );
  assert.equal(value.privileged, true);
  assert.deepEqual([value.runAsUser, value.runAsGroup, value.supplementalGroups], [10, 20, [30]]);
  assert.deepEqual(value.seccomp, { profileType: 'RuntimeDefault' });
});
