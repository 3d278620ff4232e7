import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect, createServer } from 'node:tls';
import { seededRandom, systemRandom } from '../../src/base/random.ts';
import { selfSigned } from '../../src/server/self-signed.ts';
import { openssl } from './authority.ts';

const addresses = [
  '192.168.1.7',
  'fd00::1:2',
  '::ffff:10.0.0.1',
  'pi-1.local',
  'fe80::1%eth0',
  '*',
];
const now = { wallMs: Date.now(), random: systemRandom() };

test('OpenSSL reads all fields of it and trusts it by itself', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'limpet-self-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const file = join(directory, 'node.crt');
  await writeFile(file, selfSigned('pi-1', addresses, now).cert);
  const { stdout } = await openssl('x509', '-in', file, '-noout', '-text');
  for (const expected of [
    /Version: 3 \(0x2\)/,
    /Signature Algorithm: ecdsa-with-SHA256/,
    /Issuer: CN = pi-1/,
    /Subject: CN = pi-1/,
    /ASN1 OID: prime256v1/,
    /Basic Constraints: critical\s+CA:FALSE/,
    /Key Usage: critical\s+Digital Signature\n/,
    /Extended Key Usage: \s+TLS Web Server Authentication/,
  ]) {
    assert.match(stdout, expected);
  }
  const names =
    'DNS:pi-1, IP Address:192.168.1.7, IP Address:FD00:0:0:0:0:0:1:2, ' +
    'IP Address:0:0:0:0:0:FFFF:A00:1, DNS:pi-1.local';
  assert.ok(stdout.includes(`${names}\n`), stdout);
  const verify = ['verify', '-purpose', 'sslserver', '-verify_hostname', 'pi-1'];
  const { stdout: verdict } = await openssl(...verify, '-CAfile', file, file);
  assert.match(verdict, /OK/);
});

test('it is valid from an hour ago, for a year, with a serial number of its own', () => {
  const { wallMs } = now;
  const [one, other] = [1, 2].map(
    (seed) => new X509Certificate(selfSigned('a', [], { wallMs, random: seededRandom(seed) }).cert),
  );
  const hour = 3_600_000;
  const seconds = (ms: number) => Math.floor(ms / 1000);
  assert.equal(seconds(one!.validFromDate.getTime()), seconds(wallMs - hour));
  assert.equal(seconds(one!.validToDate.getTime()), seconds(wallMs - hour + 365 * 24 * hour));
  assert.notEqual(one!.serialNumber, other!.serialNumber);
  assert.ok(one!.verify(one!.publicKey));
  assert.ok(!one!.verify(other!.publicKey));
  for (const year of [1970, 2049, 2050, 2100]) {
    const then = { wallMs: Date.UTC(year, 5, 15, 12), random: systemRandom() };
    const { validFrom } = new X509Certificate(selfSigned('a', [], then).cert);
    assert.equal(validFrom, `Jun 15 11:00:00 ${year} GMT`);
  }
});

test('a name too long for a common name is whole among the alternative names', () => {
  const name = `${'n'.repeat(60)}.${'m'.repeat(60)}`;
  const certificate = new X509Certificate(selfSigned(name, [], now).cert);
  assert.equal(certificate.subject, `CN=${name.slice(0, 64)}`);
  assert.equal(certificate.subjectAltName, `DNS:${name}`);
});

test('a TLS client that trusts it connects by name and by address', async () => {
  const pair = selfSigned('localhost', ['127.0.0.1', '::1'], now);
  const server = createServer(pair, (socket) => socket.end('hello')).listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  for (const servername of ['localhost', '']) {
    const socket = connect({ host: '127.0.0.1', port, servername, ca: pair.cert });
    await once(socket, 'secureConnect');
    assert.ok(socket.authorized);
    socket.destroy();
  }
  server.close();
});
