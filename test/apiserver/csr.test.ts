import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';

import { certificateRequest } from '../../src/apiserver/csr.ts';

test('OpenSSL reads the request, and its signature is good', (t) => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const request = certificateRequest(privateKey, {
    commonName: 'system:node:pi1',
    organization: 'system:nodes',
    names: ['pi1', '192.0.2.1', '2001:db8::1', 'no name'],
  });
  const options = ['req', '-verify', '-noout', '-text', '-nameopt', 'RFC2253'];
  const { stdout, stderr, error } = spawnSync('openssl', options, { input: request });
  if (error !== undefined) return t.skip('there is no openssl');
  const text = `${stdout.toString()}${stderr.toString()}`;
  assert.match(text, /verify OK/i);
  assert.match(text, /Subject: CN=system:node:pi1,O=system:nodes/);
  assert.match(text, /DNS:pi1, IP Address:192\.0\.2\.1, IP Address:2001:DB8:0:0:0:0:0:1\n/);
});
