import assert from 'node:assert/strict';
import { test } from 'node:test';

import { LIMITS } from '../../src/base/limits.ts';
import type { Objects, Token } from '../../src/kube/objects.ts';
import type { Pod, ServiceAccountTokenProjection } from '../../src/kube/pod.ts';
import { tokenRequestsOf, volumeFiles, type FilledVolume } from '../../src/pod/volume-files.ts';
import { aConfigMap, aSecret, objectsOfTest } from '../kube/objects-of.ts';
import { aContainer, aPod } from './a-pod.ts';

const BINARY = { metadata: { name: 'logo', namespace: 'default', uid: 'x' } };
const OBJECTS = objectsOfTest({
  configMaps: [
    aConfigMap('app', { 'app.conf': 'color=red', other: 'ü' }),
    { ...BINARY, data: { both: 'text' }, binaryData: { png: 'iVBORw==', both: 'AAAA' } },
  ],
  secrets: [aSecret('login', { user: 'me', password: Buffer.from([0, 255]) })],
});

function resultOf(
  volume: FilledVolume,
  {
    pod = aPod(),
    objects = OBJECTS,
    tokens = new Map(),
  }: {
    pod?: Pod;
    objects?: Objects;
    tokens?: ReadonlyMap<ServiceAccountTokenProjection, Token>;
  } = {},
) {
  const allocatable = { cpuMilli: 4000, memoryBytes: 2 ** 32 };
  return volumeFiles(pod, volume, { objects, allocatable, tokens });
}

/** `path mode content`, with the owner where there is one. */
function listing(...args: Parameters<typeof resultOf>): readonly string[] {
  const result = resultOf(...args);
  assert.ok(result.ok, JSON.stringify(result));
  return [...result.value].map(([path, { data, mode, uid }]) => {
    const owner = uid === undefined ? '' : ` of ${uid}`;
    return `${path} ${mode.toString(8)} ${Buffer.from(data).toString('latin1')}${owner}`;
  });
}

function refusal(...args: Parameters<typeof resultOf>): string {
  const result = resultOf(...args);
  assert.ok(!result.ok);
  return `${result.fault.code}: ${result.fault.message}`;
}

const files = (objectName: string, changes: object) => ({
  name: 'v',
  objectName,
  items: [],
  optional: false,
  defaultMode: 0o644,
  ...changes,
});
const configMap = (objectName: string, changes: object = {}): FilledVolume => ({
  ...files(objectName, changes),
  kind: 'configMap',
});
const secret = (objectName: string, changes: object = {}): FilledVolume => ({
  ...files(objectName, changes),
  kind: 'secret',
});

test('a whole object, or some of its keys', () => {
  assert.deepEqual(listing(configMap('app')), ['app.conf 644 color=red', 'other 644 Ã¼']);
  const binary = listing(configMap('logo'));
  assert.deepEqual(binary, ['png 644 \x89PNG', 'both 644 text'], 'a text counts before bytes');
  assert.deepEqual(listing(secret('login', { defaultMode: 0o400 })), [
    'user 400 me',
    'password 400 \0ÿ',
  ]);
  const items = [
    { key: 'user', path: 'a/b/name' },
    { key: 'password', path: 'pw', mode: 0o440 },
  ];
  assert.deepEqual(listing(secret('login', { items })), ['a/b/name 644 me', 'pw 440 \0ÿ']);
});

test('what is missing is said in the words of the kubelet, unless it is optional', () => {
  const items = [
    { key: 'app.conf', path: 'x' },
    { key: 'none', path: 'y' },
  ];
  assert.equal(refusal(configMap('x')), 'NotFound: configmap "x" not found');
  assert.equal(refusal(secret('x')), 'NotFound: secret "x" not found');
  assert.equal(
    refusal(configMap('app', { items })),
    'NotFound: configmap references non-existent config key: none',
  );
  assert.equal(
    refusal(secret('login', { items: items.slice(1) })),
    'NotFound: references non-existent secret key: none',
  );
  const optional = { optional: true, items };
  assert.deepEqual(listing(configMap('app', optional)), ['x 644 color=red']);
  assert.deepEqual(listing(configMap('x', optional)), []);
  assert.deepEqual(listing(secret('x', { optional: true })), []);
});

test('what nobody has told of yet is not taken for absent', () => {
  const objects = objectsOfTest({ otherwise: 'unknown' });
  for (const optional of [true, false]) {
    const message = refusal(secret('x', { optional }), { objects });
    assert.match(message, /^Unavailable: secret "x" is neither stored/);
  }
});

test('the downward API', () => {
  const pod = aPod(
    { containers: [aContainer({ resources: { requests: {}, limits: { memory: '64Mi' } } })] },
    {
      labels: { b: 'two', a: 'one' },
      annotations: { odd: 'q" b\\ \n \u0007 \u007f \u00ad ü 😀 \u{e0001}' },
    },
  );
  const resource = (containerName: string, name: 'limits.cpu' | 'limits.memory') =>
    ({ kind: 'resourceFieldRef', containerName, resource: name, divisor: '1' }) as const;
  const items = [
    { path: 'labels', from: { kind: 'fieldRef', fieldPath: 'metadata.labels' } },
    { path: 'uid', mode: 0o400, from: { kind: 'fieldRef', fieldPath: 'metadata.uid' } },
    { path: 'memory', from: resource('web', 'limits.memory') },
    { path: 'cpu', from: resource('web', 'limits.cpu') },
  ] as const;
  const volume: FilledVolume = { name: 'v', kind: 'downwardAPI', items, defaultMode: 0o644 };
  assert.deepEqual(listing(volume, { pod }), [
    'labels 644 a="one"\nb="two"',
    'uid 400 1f0a-22',
    'memory 644 67108864',
    'cpu 644 4',
  ]);
  const odd = resultOf(
    {
      ...volume,
      items: [{ path: 'x', from: { kind: 'fieldRef', fieldPath: 'metadata.annotations' } }],
    },
    { pod },
  );
  assert.ok(odd.ok);
  assert.equal(
    Buffer.from(odd.value.get('x')!.data).toString(),
    'odd="q\\" b\\\\ \\n \\a \\x7f \\u00ad ü 😀 \\U000e0001"',
  );
  const lost = { ...volume, items: [{ path: 'x', from: resource('nobody', 'limits.cpu') }] };
  assert.equal(refusal(lost, { pod }), 'Unknown: container nobody not found');
});

const ALL = { items: [], optional: false } as const;
const TOKEN = { audience: 'vault', expirationSeconds: 7200, path: 'token' } as const;
const tokenSource = { kind: 'serviceAccountToken', ...TOKEN } as const;
const withToken: FilledVolume = {
  name: 'v',
  kind: 'projected',
  sources: [
    { kind: 'configMap', objectName: 'app', ...ALL },
    { kind: 'secret', objectName: 'login', ...ALL, items: [{ key: 'user', path: 'other' }] },
    tokenSource,
  ],
  defaultMode: 0o644,
};
const tokens = new Map([[tokenSource, { token: 'ey.J.x', expiresAtMs: 1 }]]);

test('a projection of several sources: the later one counts', () => {
  assert.deepEqual(listing(withToken, { tokens }), [
    'app.conf 644 color=red',
    'other 644 me',
    'token 644 ey.J.x',
  ]);
  const objects = objectsOfTest({});
  assert.equal(
    refusal(withToken, { tokens, objects }),
    'NotFound: [configmap "app" not found, secret "login" not found]',
  );
});

test('a token is for the one user or the group of the pod, if there is one', () => {
  const last = (pod: Pod) => listing(withToken, { pod, tokens }).at(-1);
  const user = (runAsUser: number) => aContainer({ securityContext: { runAsUser } });
  assert.equal(last(aPod({ securityContext: { fsGroup: 7 } })), 'token 600 ey.J.x');
  assert.equal(last(aPod({ securityContext: { runAsUser: 9 } })), 'token 600 ey.J.x of 9');
  assert.equal(last(aPod({ containers: [user(5), user(5)] })), 'token 600 ey.J.x of 5');
  assert.equal(last(aPod({ containers: [user(5), user(6)] })), 'token 644 ey.J.x');
  assert.equal(last(aPod({ containers: [user(5), aContainer()] })), 'token 644 ey.J.x');
  assert.equal(
    last(aPod({ containers: [user(5)], initContainers: [user(0)] })),
    'token 644 ey.J.x',
  );
});

test('the tokens that a volume asks for', () => {
  const pod = aPod({ serviceAccountName: 'robot' });
  assert.deepEqual(
    [...tokenRequestsOf(pod, withToken).values()],
    [
      {
        namespace: 'default',
        serviceAccountName: 'robot',
        audiences: ['vault'],
        expirationSeconds: 7200,
        boundPod: { name: 'shop', uid: '1f0a-22' },
      },
    ],
  );
  const plain = { ...tokenSource, audience: '' };
  const [request] = tokenRequestsOf(aPod(), { ...withToken, sources: [plain] }).values();
  assert.deepEqual(request?.audiences, []);
  assert.equal(request?.serviceAccountName, 'default');
  assert.equal(tokenRequestsOf(pod, configMap('app')).size, 0);
});

test('an object that is too large, and a volume of too many files', () => {
  const half = 'x'.repeat(LIMITS.objectBytes / 2);
  const of = (data: Record<string, string>) =>
    objectsOfTest({ configMaps: [aConfigMap('app', data)] });
  assert.equal(listing(configMap('app'), { objects: of({ a: half, b: half }) }).length, 2);
  assert.equal(
    refusal(configMap('app'), { objects: of({ a: half, b: half, c: 'x' }) }),
    'Unknown: configmap "app" has 1048577 bytes, more than the 1048576 that it may have',
  );
  const many = (count: number) =>
    of(Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, ''])));
  const objects = many(LIMITS.volumeFiles);
  assert.equal(listing(configMap('app'), { objects }).length, LIMITS.volumeFiles);
  const more = many(LIMITS.volumeFiles + 1);
  assert.match(refusal(configMap('app'), { objects: more }), /has 10001 files, more than/);
});

test('an object with rubbish in it', () => {
  const of = (objects: Objects) => refusal(secret('s'), { objects });
  const metadata = { name: 's', namespace: 'default', uid: 'x' };
  const bad = objectsOfTest({ secrets: [{ metadata, data: { k: '*?' } }] });
  assert.equal(of(bad), 'Unknown: secret "s" has no base64 under the key "k"');
  for (const key of ['..data', '..', 'a/b', '../x', '', 'a\0b', 'x'.repeat(254)]) {
    const objects = objectsOfTest({ secrets: [aSecret('s', { [key]: 'x' })] });
    assert.match(of(objects), /^Unknown: secret "s" has the key ".*": /);
  }
});
