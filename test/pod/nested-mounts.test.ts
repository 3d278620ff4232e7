import assert from 'node:assert/strict';
import { test } from 'node:test';

import { nestedMountPoints } from '../../src/pod/nested-mounts.ts';
import { aContainer, aPod } from './a-pod.ts';

function points(...mountsOf: readonly (readonly [string, string][])[]): readonly string[] {
  const containers = mountsOf.map((mounts) =>
    aContainer({
      volumeMounts: mounts.map(([name, mountPath]) => ({ name, mountPath, readOnly: true })),
    }),
  );
  return nestedMountPoints(aPod({ containers }), 'v').map((names) => names.join('/'));
}

test('where others are mounted into a volume', () => {
  assert.deepEqual(points([['v', '/etc/app']]), []);
  assert.deepEqual(
    points([
      ['deep', '/etc/app/a/b'],
      ['v', '/etc//app/'],
      ['other', '/etc/app-2/x'],
      ['above', '/etc'],
    ]),
    ['a/b'],
  );
});

test('what lies in another one of them is in that one, whatever the order of the names', () => {
  assert.deepEqual(
    points([
      ['v', '/dir'],
      ['x', '/dir/nested/double'],
      ['x', '/dir/nested'],
      ['x', '/dir/nested-vol'],
      ['x', '/dir/nested.vol'],
      ['x', '/dir/nested2'],
    ]),
    ['nested', 'nested-vol', 'nested.vol', 'nested2'],
  );
});

test('of all containers, each once', () => {
  const both: [string, string][] = [
    ['v', '/a'],
    ['v', '/b'],
    ['x', '/a/in'],
    ['x', '/b/in'],
  ];
  assert.deepEqual(points(both, [['v', '/c']], [...both.slice(0, 1), ['y', '/a/other']]), [
    'in',
    'other',
  ]);
});
