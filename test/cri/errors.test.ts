import assert from 'node:assert/strict';
import { test } from 'node:test';

import { connectFailure, statusFailure } from '../../src/cri/errors.ts';

test('codes', () => {
  const codes = Array.from({ length: 18 }, (_, code) => statusFailure('X', code, 'no').code);
  assert.deepEqual(codes, [
    'Unknown',
    'Cancelled',
    'Unknown',
    'InvalidArgument',
    'DeadlineExceeded',
    'NotFound',
    'AlreadyExists',
    'PermissionDenied',
    'ResourceExhausted',
    'Unknown',
    'Unknown',
    'InvalidArgument',
    'Unimplemented',
    'Unknown',
    'Unavailable',
    'Unknown',
    'PermissionDenied',
    'Unknown',
  ]);
});

test('messages that say more than their code', () => {
  const cases: readonly [string, string][] = [
    [
      'failed to reserve sandbox name "web_default_u_0": name "web_default_u_0" is reserved for "a1"',
      'NameReserved',
    ],
    ['pod sandbox name k8s_web is reserved', 'NameReserved'],
    ['write /var/lib/containerd/x: no space left on device', 'NoSpace'],
    ['disk quota exceeded', 'NoSpace'],
    ['server is not initialized yet', 'Unavailable'],
    ['the port is reserved', 'Unknown'],
  ];
  for (const [said, code] of cases) assert.equal(statusFailure('X', 2, said).code, code, said);
  const disabled = statusFailure('Version', 12, 'unknown service runtime.v1.RuntimeService');
  assert.equal(disabled.code, 'Unavailable', 'a setting, not a property of the runtime');
  assert.match(disabled.message, /disabled_plugins/);
  const method = 'unknown method RuntimeConfig for service runtime.v1.RuntimeService';
  assert.equal(statusFailure('RuntimeConfig', 12, method).code, 'Unimplemented');
});

test('the reason of a pull that failed', () => {
  const said = 'RegistryUnavailable: pull image failed because registry is unavailable';
  assert.equal(statusFailure('PullImage', 2, said).reason, 'RegistryUnavailable');
  assert.equal(statusFailure('PullImage', 2, 'no such host').reason, undefined);
});

test('a long message is cut, an empty one names its status', () => {
  assert.ok(statusFailure('X', 2, 'x'.repeat(100_000)).message.length < 5000);
  assert.equal(statusFailure('X', 13, '').message, 'X: status 13');
});

test('a socket that can not be opened', () => {
  const error = (code: string) => Object.assign(new Error(code), { code });
  assert.equal(connectFailure('/s', error('EACCES')).code, 'PermissionDenied');
  assert.match(connectFailure('/s', error('ECONNREFUSED')).message, /at \/s: nobody listens there/);
  assert.match(connectFailure('/s', error('EIO')).message, /at \/s: EIO/);
});
