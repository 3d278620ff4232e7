import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import { seededRandom } from '../../src/base/random.ts';
import {
  containerLogLinkName,
  containerLogPath,
  describePod,
  pathSegment,
  podDomain,
  podHostname,
  podLogDirectory,
  terminationLogPath,
  volumeDirectory,
} from '../../src/pod/names.ts';
import { aPod } from './a-pod.ts';

test('paths are the kubelet’s', () => {
  const pod = aPod();
  assert.equal(describePod(pod), 'shop_default(1f0a-22)');
  assert.equal(podLogDirectory('/var/log/pods', pod), '/var/log/pods/default_shop_1f0a-22');
  assert.equal(containerLogPath('web', 3), 'web/3.log');
  assert.equal(
    volumeDirectory('/var/lib/kubelet', '1f0a-22', 'kubernetes.io~empty-dir', 'cache'),
    '/var/lib/kubelet/pods/1f0a-22/volumes/kubernetes.io~empty-dir/cache',
  );
  assert.equal(
    terminationLogPath('/var/lib/kubelet', '1f0a-22', 'web', 300),
    '/var/lib/kubelet/pods/1f0a-22/containers/web/0000012c',
  );
});

test('a link to a log is cut so that it fits a file name', () => {
  const id = 'c'.repeat(64);
  assert.equal(containerLogLinkName(aPod(), 'web', id), `shop_default_web-${id}.log`);
  const long = containerLogLinkName(aPod({}, { name: 'n'.repeat(253) }), 'web', id);
  assert.equal(long, `${'n'.repeat(251)}.log`);
  assert.equal(long.length, 255);
});

for (const [name, hostname, wanted] of [
  ['shop', undefined, 'shop'],
  ['shop', 'till', 'till'],
  ['shop', '', 'shop'],
  ['a'.repeat(63), undefined, 'a'.repeat(63)],
  ['a'.repeat(64), undefined, 'a'.repeat(63)],
  // Cut behind a dash and a dot: neither may be the end of a host name.
  [`${'a'.repeat(61)}-.b`, undefined, 'a'.repeat(61)],
  [`${'a'.repeat(62)}.bcd`, undefined, 'a'.repeat(62)],
] as const) {
  test(`host name of a pod ${name} with hostname ${hostname}`, () => {
    const spec = hostname === undefined ? {} : { hostname };
    assert.equal(podHostname(aPod(spec, { name })), wanted);
  });
}

test('the domain of a pod needs a subdomain', () => {
  assert.equal(podDomain(aPod(), 'cluster.local'), '');
  assert.equal(
    podDomain(aPod({ subdomain: 'db' }, { namespace: 'prod' }), 'cluster.local'),
    'db.prod.svc.cluster.local',
  );
});

for (const bad of ['', '.', '..', 'a/b', '../etc', 'a\0b', 'x'.repeat(256)]) {
  test(`${JSON.stringify(bad.slice(0, 9))} is no segment of a path`, () => {
    assert.throws(
      () => pathSegment(bad, 'metadata.uid'),
      (error) => error instanceof Failure && error.code === 'InvalidArgument',
    );
    assert.throws(() => volumeDirectory('/var/lib/kubelet', 'u', 'kubernetes.io~empty-dir', bad));
    assert.throws(() => volumeDirectory('/var/lib/kubelet', bad, 'kubernetes.io~empty-dir', 'v'));
  });
}

test('whatever a name is made of, its path stays where it belongs', () => {
  const random = seededRandom(7);
  const pieces = [
    '.',
    '..',
    '/',
    '\0',
    '~',
    '%2e',
    'a',
    '-',
    '_',
    '\n',
    ' ',
    'é',
    '\\',
    'x'.repeat(99),
  ];
  const word = () =>
    Array.from(
      { length: Math.floor(random.next() * 5) },
      () => pieces[Math.floor(random.next() * pieces.length)],
    ).join('');
  let made = 0;
  for (let i = 0; i < 10_000; i++) {
    const [uid, name] = [word(), word()];
    const pod = aPod({}, { uid, name, namespace: word() });
    for (const [root, path] of [
      [`/k/pods/${uid}/volumes/p`, () => volumeDirectory('/k', uid, 'p', name)],
      [`/k/pods/${uid}/containers/${name}`, () => terminationLogPath('/k', uid, name, 1)],
      ['/l', () => podLogDirectory('/l', pod)],
      [name, () => containerLogPath(name, 1)],
      ['/c', () => `/c/${containerLogLinkName(pod, name, 'id')}`],
    ] as const) {
      let built: string;
      try {
        built = path();
      } catch (error) {
        assert.ok(error instanceof Failure);
        continue;
      }
      made++;
      assert.equal(posix.normalize(built), built);
      assert.equal(posix.dirname(built), root, JSON.stringify([uid, name]));
      assert.ok(!built.includes('\0'));
    }
  }
  assert.ok(made > 5000, `only ${made} paths were made at all`);
});
