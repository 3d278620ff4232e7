// Which credentials are tried for an image. The cases of the locations are the kubelet's.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Lookup, Objects, Secret } from '../../src/kube/objects.ts';
import { pullCredentials } from '../../src/pod/pull-secrets.ts';
import { aPod } from './a-pod.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');

function secret(auths: unknown, type = 'kubernetes.io/dockerconfigjson'): Lookup<Secret> {
  const key = type.endsWith('json') ? '.dockerconfigjson' : '.dockercfg';
  const data = { [key]: base64(JSON.stringify(key === '.dockercfg' ? auths : { auths })) };
  const metadata = { name: 's', namespace: 'default', uid: 'u' };
  return { state: 'present', object: { metadata, type, data } };
}

function ask(image: string, secrets: Record<string, Lookup<Secret>>) {
  const objects = {
    get: (_kind: string, _namespace: string, name: string) => secrets[name]!,
    services: () => ({ state: 'absent' }),
  } as unknown as Objects;
  return pullCredentials(aPod({ imagePullSecrets: Object.keys(secrets) }), image, objects);
}

const user = (username: string) => ({ username, password: 'p' });

function usersFor(image: string, ...locations: readonly string[]): readonly string[] {
  const auths = Object.fromEntries(locations.map((location) => [location, user(location)]));
  const found = ask(image, { s: secret(auths) });
  assert.ok(found.ok);
  return found.value.auths.map(({ username }) => username);
}

test('a location covers the images of its registry', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['a.io/x:1', 'a.io', true],
    ['a.io/x@sha256:00', 'https://a.io', true],
    ['a.io/x', 'http://a.io/v1/', true],
    ['a.io/x', 'https://a.io/v2/', true],
    ['a.io:5000/x:1', 'a.io:5000', true],
    ['a.io:5000/x', 'a.io', false],
    ['a.io/x', 'a.io:5000', false],
    ['b.a.io/x', 'a.io', false],
    ['b.a.io/x', '*.a.io', true],
    ['c.b.a.io/x', '*.a.io', false],
    ['prefix-b.a.io/x', 'prefix-*.a.io', true],
    ['b.a.io/x', 'prefix*.a.io', false],
    ['b1.a.io/x', 'b?.a.io', true],
    ['a.io/team/x', 'a.io/team', true],
    ['a.io/other/x', 'a.io/team', false],
    ['localhost/x', 'localhost', true],
    ['nginx', 'https://index.docker.io/v1/', true],
    ['nginx:1', 'docker.io', true],
    ['docker.io/library/nginx', 'index.docker.io', true],
    ['team/app:1', 'https://index.docker.io/v1/', true],
    ['a.io/nginx', 'https://index.docker.io/v1/', false],
  ];
  for (const [image, location, covered] of cases) {
    assert.deepEqual(usersFor(image, location), covered ? [location] : [], `${image} ${location}`);
  }
});

test('the most specific location is tried first', () => {
  assert.deepEqual(usersFor('a.io/team/x', '*.io', 'a.io', 'a.io/team', 'b.io'), [
    'a.io/team',
    'a.io',
    '*.io',
  ]);
});

test('both forms of a secret, and both forms of an entry', () => {
  const auth = { auth: base64('user:pass:word') };
  for (const type of ['kubernetes.io/dockerconfigjson', 'kubernetes.io/dockercfg']) {
    const found = ask('a.io/x', { s: secret({ 'a.io': auth }, type) });
    assert.deepEqual(found, {
      ok: true,
      value: { auths: [{ username: 'user', password: 'pass:word' }], missing: [] },
    });
  }
  const opaque = ask('a.io/x', { s: { ...secret({}), ...secret({ 'a.io': auth }, 'Opaque') } });
  assert.deepEqual(opaque, { ok: true, value: { auths: [], missing: [] } });
});

test('all secrets count, in their order; those that are missing are named', () => {
  const found = ask('a.io/x', {
    one: secret({ 'a.io': user('1') }),
    none: { state: 'absent' },
    two: secret({ 'a.io': user('2') }),
  });
  assert.ok(found.ok);
  assert.deepEqual(
    found.value.auths.map(({ username }) => username),
    ['1', '2'],
  );
  assert.deepEqual(found.value.missing, ['none']);
});

test('a secret that nobody has told of is waited for, one that is broken is said', () => {
  const unknown = ask('a.io/x', { s: { state: 'unknown', why: 'offline' } });
  assert.deepEqual(unknown.ok ? '' : unknown.fault.code, 'Unavailable');
  const metadata = { name: 's', namespace: 'default', uid: 'u' };
  for (const text of ['no base64!', base64('secret words'), base64('[]'), base64('{"auths":3}')]) {
    const data = { '.dockerconfigjson': text };
    const object = { metadata, type: 'kubernetes.io/dockerconfigjson', data };
    const broken = ask('a.io/x', { s: { state: 'present', object } });
    assert.ok(!broken.ok);
    assert.equal(broken.fault.message, 'secret "s" holds no docker configuration that can be read');
  }
  const odd = { 'a.io': 3, 'b.a.io': {}, 'c.io': { auth: '%' }, 'd.io': { auth: base64('x') } };
  assert.deepEqual(ask('a.io/x', { s: secret(odd) }), {
    ok: true,
    value: { auths: [], missing: [] },
  });
});
