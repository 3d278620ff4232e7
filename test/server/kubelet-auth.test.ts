import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { connect } from 'node:tls';
import { Failure } from '../../src/base/failure.ts';
import { createAuthority } from './authority.ts';
import { admin, aWorld, cluster, createRig } from './kubelet-rig.ts';

const foreign = await createAuthority('kubernetes');
after(() => foreign[Symbol.asyncDispose]());
after(() => cluster[Symbol.asyncDispose]());

const someone = {
  authenticated: true,
  user: { name: 'prometheus', uid: 'u', groups: ['system:authenticated'], extra: {} },
};
const bearer = (token: string) => ({
  as: undefined,
  headers: { authorization: `Bearer ${token}` },
});

test('a client certificate is a user with groups, as the API server is told', async () => {
  await using rig = await createRig();
  assert.equal((await rig.ask('/configz')).status, 200);
  const question = rig.world.questions[0]!;
  assert.deepEqual(
    [question.verb, question.version, question.resource, question.subresource, question.name],
    ['get', 'v1', 'nodes', 'configz', 'pi-1'],
  );
  const { name, groups, extra } = question.user;
  assert.equal(name, 'apiserver-client');
  assert.deepEqual(groups, ['system:masters', 'ops', 'system:authenticated']);
  const id = extra['authentication.kubernetes.io/credential-id']?.[0] ?? '';
  assert.match(id, /^X509SHA256=[0-9a-f]{64}$/);
});

test('without a certificate or a token nobody gets anything but 401', async () => {
  await using rig = await createRig();
  const paths = ['/', '/healthz', '/pods', '/configz', '/metrics', '/stats/summary', '/logs/'];
  for (const path of [...paths, '/containerLogs/a/b/c', '/exec/a/b/c', '/run/a/b/c', '/..']) {
    const answer = await rig.ask(path, { as: undefined });
    assert.deepEqual([answer.status, answer.body], [401, 'Unauthorized'], path);
  }
  assert.deepEqual(rig.world.asked, []);
});

test('a certificate that is not valid is refused, also beside a token that is', async () => {
  await using rig = await createRig(aWorld({ tokens: { good: someone } }));
  const cases = {
    foreign: await foreign.issue({ subject: '/O=system:masters/CN=admin' }),
    expired: await cluster.issue({
      subject: '/CN=old',
      from: '20200101000000Z',
      to: '20210101000000Z',
    }),
    early: await cluster.issue({
      subject: '/CN=new',
      from: '20900101000000Z',
      to: '20910101000000Z',
    }),
    server: await cluster.issue({ subject: '/CN=server', usage: 'serverAuth' }),
    nameless: await cluster.issue({ subject: '/O=system:masters' }),
  };
  for (const [what, as] of Object.entries(cases)) {
    const answer = await rig.ask('/pods', { as, headers: { authorization: 'Bearer good' } });
    assert.equal(answer.status, 401, what);
    assert.match(answer.body, /^Unauthorized: the client certificate: /, what);
  }
  assert.deepEqual(rig.world.asked, []);
});

test('a token is asked about once, by whoever holds it, and remembered; a bad one too', async () => {
  await using rig = await createRig(aWorld({ tokens: { good: someone } }));
  const answers = await Promise.all([1, 2, 3].map(() => rig.ask('/configz', bearer('good'))));
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200],
  );
  assert.equal(rig.world.asked.filter((asked) => asked === 'token good').length, 1);
  for (let i = 0; i < 3; i++) assert.equal((await rig.ask('/pods', bearer('bad'))).status, 401);
  assert.equal(rig.world.asked.filter((asked) => asked === 'token bad').length, 1);
  for (const authorization of ['Basic good', 'Bearer', 'Bearer ', 'good', 'Bearer a b']) {
    const answer = await rig.ask('/pods', { as: undefined, headers: { authorization } });
    assert.equal(answer.status, 401, authorization);
  }
});

test('an API server that can’t be reached denies all but health, and the answer says so', async () => {
  const world = aWorld({ fault: new Failure('Unavailable', 'connect ECONNREFUSED') });
  await using rig = await createRig(world);
  const token = await rig.ask('/pods', bearer('good'));
  assert.equal(token.status, 401);
  assert.match(token.body, /API server can't be asked about the token: connect ECONNREFUSED/);
  for (const path of ['/pods', '/configz', '/containerLogs/default/web/app', '/metrics']) {
    const answer = await rig.ask(path);
    assert.equal(answer.status, 403, path);
    assert.match(answer.body, /the API server can't be asked: connect ECONNREFUSED/);
  }
  assert.equal((await rig.ask('/healthz')).status, 200);
  assert.equal((await rig.ask('/healthz', bearer('good'))).status, 401);
  world.fault = undefined;
  assert.equal((await rig.ask('/pods')).status, 200, 'a failure is not remembered');
});

test('a right to the finer subresource is enough, and so is nodes/proxy', async () => {
  const cases: readonly (readonly [string, string])[] = [
    ['/pods', 'pods'],
    ['/runningpods/', 'pods'],
    ['/healthz', 'healthz'],
    ['/healthz/ping', 'healthz'],
    ['/configz', 'configz'],
  ];
  for (const [path, subresource] of cases) {
    const fine = aWorld({ rights: [`get nodes/${subresource}`] });
    await using rig = await createRig(fine);
    assert.equal((await rig.ask(path)).status, 200, path);
    const [first] = rig.world.questions;
    assert.equal(first?.subresource, subresource);
    await using other = await createRig(aWorld({ rights: ['get nodes/proxy'] }));
    assert.equal((await other.ask(path)).status, 200, path);
    await using none = await createRig(aWorld({ rights: ['create nodes/proxy', 'get nodes/log'] }));
    const refused = await none.ask(path);
    assert.equal(refused.status, 403, path);
    assert.equal(
      refused.body,
      'Forbidden (user=apiserver-client, verb=get, resource=nodes, ' +
        `subresource(s)=[${subresource} proxy])\n`,
    );
  }
});

test('stats, metrics, log and spec are rights of their own, before the 404', async () => {
  const cases = {
    stats: '/stats/summary',
    metrics: '/metrics/cadvisor',
    log: '/logs/x',
    spec: '/spec',
  };
  for (const [subresource, path] of Object.entries(cases)) {
    await using rig = await createRig(aWorld({ rights: [`get nodes/${subresource}`] }));
    assert.equal((await rig.ask(path)).status, 404, path);
    assert.equal((await rig.ask('/pods')).status, 403, path);
    await using proxy = await createRig(aWorld({ rights: ['get nodes/proxy'] }));
    assert.equal((await proxy.ask(path)).status, 403, path);
  }
});

test('exec, attach, portForward and run take create, whatever the method', async () => {
  await using rig = await createRig(aWorld({ rights: ['get nodes/proxy', 'update nodes/proxy'] }));
  const paths = ['/exec/a/b/c', '/attach/a/b/c', '/portForward/a/b', '/run/a/b/c', '/%65xec/a/b/c'];
  const upgrade = { connection: 'Upgrade', upgrade: 'websocket' };
  for (const path of paths) {
    for (const method of ['GET', 'POST', 'PUT', 'HEAD', 'OPTIONS']) {
      for (const headers of [{}, upgrade]) {
        const answer = await rig.ask(path, { method, headers });
        assert.equal(answer.status, 403, `${method} ${path}`);
      }
    }
  }
  assert.ok(rig.world.questions.every(({ verb }) => verb === 'create'));
});

test('decisions are remembered: 5 minutes a yes, 30 seconds a no', async () => {
  let monoMs = 1_000_000;
  const real = (await import('../../src/base/clock.ts')).systemClock('boot', () => 0);
  const clock = { ...real, now: () => ({ ...real.now(), monoMs }), at: () => ({ cancel() {} }) };
  await using rig = await createRig(aWorld({ rights: ['get nodes/pods'] }), { clock });
  const asked = async (path: string, afterMs: number): Promise<number> => {
    monoMs += afterMs;
    const before = rig.world.questions.length;
    await rig.ask(path);
    return rig.world.questions.length - before;
  };
  assert.equal(await asked('/pods', 0), 1);
  assert.equal(await asked('/pods', 299_999), 0);
  assert.equal(await asked('/pods', 1), 1);
  assert.equal(await asked('/metrics', 0), 1);
  assert.equal(await asked('/metrics', 29_999), 0);
  assert.equal(await asked('/metrics', 1), 1);
});

test('TLS is 1.2 or 1.3 with forward secrecy, and HTTP/1.1', async () => {
  await using rig = await createRig();
  const { port } = rig.server;
  const tried = async (options: object): Promise<string> => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false, ...options });
    const outcome = await Promise.race([
      once(socket, 'secureConnect').then(
        () => `${socket.getProtocol()} ${socket.getCipher().name}`,
      ),
      once(socket, 'error').then(([error]) => String(error)),
    ]).catch(String);
    socket.destroy();
    return outcome;
  };
  assert.match(await tried({}), /^TLSv1\.3 TLS_/);
  assert.match(await tried({ maxVersion: 'TLSv1.2' }), /^TLSv1\.2 ECDHE-ECDSA-AES128-GCM-SHA256$/);
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
  assert.match(await tried(old), /alert protocol version/);
  const weak = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256' };
  assert.match(await tried(weak), /alert handshake failure/);
  assert.match(await tried({ ALPNProtocols: ['h2'] }), /alert no application protocol/);
});

test('a session is not resumed, so its client is verified again', async () => {
  await using rig = await createRig();
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    const options = { host: '127.0.0.1', port: rig.server.port, rejectUnauthorized: false };
    const first = connect({ ...options, ...admin, maxVersion });
    let session: Buffer | undefined;
    first.on('session', (given: Buffer) => (session = given));
    await once(first, 'secureConnect');
    first.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(first, 'data');
    session ??= first.getSession();
    first.destroy();
    const second = connect({ ...options, maxVersion, ...(session && { session }) });
    await once(second, 'secureConnect');
    assert.equal(second.isSessionReused(), false, maxVersion);
    second.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
    const [answer] = (await once(second, 'data')) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 401 /, maxVersion);
    second.destroy();
  }
});

test('certificates are exchanged without a restart, and old clients show theirs again', async () => {
  await using rig = await createRig();
  const idle = await rig.connect(admin);
  idle.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(idle, 'data');
  const serving = await foreign.issue({ subject: '/CN=pi-1', usage: 'serverAuth' });
  assert.throws(
    () => rig.server.useCertificates({ serving, clientCA: 'rubbish' }),
    (error) => error instanceof Failure && error.code === 'InvalidArgument',
  );
  const mixed = { cert: serving.cert, key: admin.key };
  assert.throws(
    () => rig.server.useCertificates({ serving: mixed, clientCA: foreign.cert }),
    (error) => error instanceof Failure && error.code === 'InvalidArgument',
  );
  assert.equal((await rig.ask('/healthz')).status, 200, 'a bad one changes nothing');
  // Only the serving certificate: who is connected stays.
  rig.server.useCertificates({ serving, clientCA: rig.clientCA });
  idle.write('GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  await once(idle, 'data');
  const fresh = await rig.connect(admin);
  assert.equal(fresh.getPeerX509Certificate()?.subject, 'CN=pi-1');
  assert.ok(fresh.getPeerX509Certificate()?.issuer === 'CN=kubernetes');
  fresh.destroy();
  // Another CA: who is connected has to show a certificate of that.
  const gone = once(idle, 'close');
  rig.server.useCertificates({ serving, clientCA: foreign.cert });
  await gone;
  assert.equal((await rig.ask('/healthz')).status, 401);
  const as = await foreign.issue({ subject: '/CN=new-client' });
  assert.equal((await rig.ask('/healthz', { as })).status, 200);
  // Both CAs in one bundle, as while one replaces the other.
  rig.server.useCertificates({ serving: undefined, clientCA: foreign.cert + rig.clientCA });
  assert.equal((await rig.ask('/healthz')).status, 200);
  assert.equal((await rig.ask('/healthz', { as })).status, 200);
});

test('without a client CA a certificate says nothing, not even one that the web trusts', async () => {
  const world = aWorld({ tokens: { good: someone } });
  await using rig = await createRig(world, { clientCA: undefined });
  assert.equal((await rig.ask('/pods')).status, 401);
  assert.deepEqual(rig.world.asked, []);
  const headers = { authorization: 'Bearer good' };
  assert.equal((await rig.ask('/pods', { as: admin, headers })).status, 200);
  // A CA that comes later is used from the next connection on.
  rig.server.useCertificates({ serving: undefined, clientCA: rig.clientCA });
  assert.equal((await rig.ask('/pods')).status, 200);
});

test('a certificate of our own is made anew when the addresses are others, and only then', async () => {
  let addresses = ['192.0.2.1'];
  await using rig = await createRig(aWorld(), { nodeAddresses: () => addresses });
  const shown = async () => {
    const socket = await rig.connect();
    const certificate = socket.getPeerX509Certificate()!;
    socket.destroy();
    return [certificate.serialNumber, certificate.subjectAltName];
  };
  const given = { serving: undefined, clientCA: rig.clientCA };
  const first = await shown();
  assert.match(first[1]!, /192\.0\.2\.1/);
  rig.server.useCertificates(given);
  assert.deepEqual(await shown(), first);
  addresses = ['192.0.2.7'];
  rig.server.useCertificates(given);
  assert.match((await shown())[1]!, /192\.0\.2\.7/);
});

test('TLS 1.3 alone is spoken where that is asked for', async () => {
  await using rig = await createRig(aWorld(), { minVersion: 'TLSv1.3' });
  const socket = connect({
    ...{ host: '127.0.0.1', port: rig.server.port, maxVersion: 'TLSv1.2' },
    rejectUnauthorized: false,
  });
  const [error] = (await once(socket, 'error')) as [Error];
  assert.match(error.message, /protocol version/);
});
