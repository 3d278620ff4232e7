import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Failure, type FailureCode } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { checkDates, loadCredentials } from '../../src/apiserver/credentials.ts';
import { captureLog, handClock } from '../store/world.ts';
import { createAuthority } from '../../scripts/lib/certificates.ts';

const CA = createAuthority();
const DAY_MS = 86_400_000;
const CANARY = 'c4n4ry-s3cret';
const never = new AbortController().signal;

type Fields = Record<string, unknown>;

/** A directory with a kubeconfig; `user` and `cluster` are what it says of them. */
function place(t: { after(end: () => void): void }) {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-kubeconfig-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'kubelet.conf');
  const clock = handClock(Date.now());
  const { log, lines } = captureLog();
  const file = (name: string, text: string | Buffer) => {
    writeFileSync(join(directory, `${name}.new`), text, { mode: 0o600 });
    renameSync(join(directory, `${name}.new`), join(directory, name));
    return join(directory, name);
  };
  return {
    directory,
    path,
    clock,
    lines,
    file,
    /** JSON is YAML, and what kubeadm writes is YAML. */
    write: (user: Fields, cluster: Fields = {}, changes: Fields = {}) =>
      file(
        'kubelet.conf',
        `# by hand\n${JSON.stringify(kubeconfig(user, cluster, changes), null, 2)}`,
      ),
    load: (context?: string) =>
      loadCredentials(path, { clock, log, signal: never, ...(context ? { context } : {}) }),
  };
}

function kubeconfig(user: Fields, cluster: Fields = {}, changes: Fields = {}) {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'default-context',
    clusters: [
      {
        name: 'default-cluster',
        cluster: {
          server: 'https://10.0.0.1:6443',
          'certificate-authority-data': base64(CA.certificate),
          ...cluster,
        },
      },
    ],
    users: [{ name: 'default-auth', user }],
    contexts: [
      { name: 'default-context', context: { cluster: 'default-cluster', user: 'default-auth' } },
    ],
    ...changes,
  };
}

const base64 = (text: string) => Buffer.from(text).toString('base64');
const node = (changes: object = {}) => CA.issue({ name: 'system:node:pi1', ...changes });
const data = ({ certificate, key }: { certificate: string; key: string }) => ({
  'client-certificate-data': base64(certificate),
  'client-key-data': base64(key),
});

const fails = (code: FailureCode, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.match(error.message, text);
  assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /c4n4ry/, 'no secret is shown');
  assert.equal(error.code, code, error.message);
  return true;
};

test('a kubeconfig with its certificates in it', async (t) => {
  const { write, load } = place(t);
  const own = node();
  write(data(own), { 'tls-server-name': 'kubernetes' });
  const credentials = await load();
  assert.equal(credentials.server.href, 'https://10.0.0.1:6443/');
  assert.equal(credentials.serverName, 'kubernetes');
  const material = await credentials.current();
  assert.equal(material.ca, CA.certificate);
  assert.equal(material.certificate, own.certificate);
  assert.equal(material.key, own.key.trim());
  assert.equal(material.token, undefined);
  assert.equal(material.generation, 1);
  assert.equal(credentials.doubt(), undefined);
});

test('as kubeadm writes it: YAML, paths beside the file, one link for certificate and key', async (t) => {
  const { directory, file, load, lines } = place(t);
  const first = node();
  file('kubelet-client-1.pem', first.certificate + first.key);
  symlinkSync('kubelet-client-1.pem', join(directory, 'kubelet-client-current.pem'));
  file('ca.crt', `some words\n${CA.certificate}`);
  file(
    'kubelet.conf',
    `apiVersion: v1
clusters:
- cluster:
    certificate-authority: ca.crt
    server: https://10.0.0.1:6443
  name: default-cluster
contexts:
- context:
    cluster: default-cluster
    namespace: default
    user: default-auth
  name: default-context
current-context: default-context
kind: Config
preferences: {}
users:
- name: default-auth
  user:
    client-certificate: ${directory}/kubelet-client-current.pem
    client-key: kubelet-client-current.pem
`,
  );
  const credentials = await load();
  assert.equal((await credentials.current()).certificate, first.certificate);
  assert.equal((await credentials.current()).generation, 1, 'nothing has changed');

  const second = node();
  file('kubelet-client-2.pem', second.certificate + second.key);
  symlinkSync('kubelet-client-2.pem', join(directory, 'next'));
  renameSync(join(directory, 'next'), join(directory, 'kubelet-client-current.pem'));
  const renewed = await credentials.current();
  assert.equal(renewed.certificate, second.certificate);
  assert.equal(renewed.key, second.key.trim());
  assert.equal(renewed.generation, 2);

  // Half of a third one does not take the place of the second.
  file('kubelet-client-2.pem', first.certificate.slice(0, 200));
  assert.deepEqual(await credentials.current(), renewed);
  rmSync(join(directory, 'kubelet-client-current.pem'));
  assert.deepEqual(await credentials.current(), renewed);
  assert.deepEqual(await credentials.current(), renewed);
  assert.equal(lines.length, 2, 'each trouble is told once');
  assert.match(lines[0]!, /has no certificate in it/);
  assert.match(lines[1]!, /there is no such file/);
});

test('a token, and a token in a file that is renewed', async (t) => {
  const { file, write, load } = place(t);
  write({ token: CANARY });
  assert.equal((await (await load()).current()).token, CANARY);
  file('token', `${CANARY}-1\n`);
  // The file wins: what is beside it was good when the kubeconfig was written.
  write({ token: 'old', tokenFile: 'token' });
  const credentials = await load();
  assert.equal((await credentials.current()).token, `${CANARY}-1`);
  file('token', `${CANARY}-2\n`);
  const renewed = await credentials.current();
  assert.equal(renewed.token, `${CANARY}-2`);
  assert.equal(renewed.generation, 1, 'connections may stay');
  file('token', `${CANARY}\r\nX-Evil: 1`);
  assert.deepEqual(await credentials.current(), renewed);
  await assert.rejects(
    load(),
    fails('InvalidArgument', /the token .*\/token is empty or no token/),
  );
});

test('files that are missing, cut short, or something else', async (t) => {
  const { directory, path, file, write, load } = place(t);
  await assert.rejects(
    load(),
    fails('NotFound', /can't read the kubeconfig .*kubelet\.conf: there is no such file: join/),
  );
  const bad = async (text: string | Buffer, words: RegExp) => {
    file('kubelet.conf', text);
    await assert.rejects(load(), fails('InvalidArgument', words));
  };
  await bad('', /kubelet\.conf is empty: it may have been cut short/);
  await bad('just words', /has no fields/);
  await bad(`a: "${CANARY}\nb: [`, /no valid YAML.* in line \d+/);
  await bad(`users: [{name: a, user: {token: ${CANARY}`, /no valid YAML.* in line 1/);
  await bad(`token: ${CANARY}: ${CANARY}\n`, /no valid YAML.* in line 1: put text/);
  await bad(`{"token": "${CANARY}", "token": "${CANARY}"}`, /token.* in line 1/);
  await bad(Buffer.from([0xff, 0xfe, 0x41, 0]), /UTF-16/);
  await bad(' '.repeat(LIMITS.credentialBytes + 1), /bytes, allowed are/);
  // Each length that a power cut may leave.
  const whole = write(data(node())) && JSON.stringify(kubeconfig(data(node())));
  for (let length = 1; length < whole.length; length += 97) {
    await bad(whole.slice(0, length), /kubelet\.conf/);
  }
  rmSync(path);
  symlinkSync(directory, path);
  await assert.rejects(load(), fails('InvalidArgument', /not a plain file/));
});

test('names that lead nowhere', async (t) => {
  const { write, load } = place(t);
  const user = data(node());
  write(user, {}, { 'current-context': 'other' });
  await assert.rejects(
    load(),
    fails('InvalidArgument', /has no context "other": it has: default-context/),
  );
  await load('default-context');
  write(user, {}, { 'current-context': undefined });
  await assert.rejects(load(), fails('InvalidArgument', /has no current-context/));
  write(user, {}, { clusters: [] });
  await assert.rejects(load(), fails('InvalidArgument', /has no cluster "default-cluster"/));
  write(user, {}, { users: [] });
  await assert.rejects(load(), fails('InvalidArgument', /has no user "default-auth"/));
  write(user, {}, { users: [{ user: {} }] });
  await assert.rejects(load(), fails('InvalidArgument', /users\[0\]\.name is missing/));
});

test('what is not carried out is refused by name', async (t) => {
  const { write, load } = place(t);
  const cases: [Fields, Fields, RegExp][] = [
    [{}, {}, /has no credentials for its user "default-auth"/],
    [{ 'auth-provider': { name: 'oidc' } }, {}, /has auth-provider .*use an exec plugin/],
    [{ username: 'a', password: CANARY }, {}, /has username .*use a certificate/],
    [{ ...data(node()), as: 'admin' }, {}, /has as in its user/],
    [{ 'client-certificate-data': base64('x') }, {}, /has no client-key for/],
    [{ token: 'a' }, { 'insecure-skip-tls-verify': true }, /insecure-skip-tls-verify/],
    [{ token: 'a' }, { 'proxy-url': 'http://p' }, /proxy-url/],
    [{ token: 'a' }, { server: 'http://10.0.0.1:8080' }, /only https is taken/],
    [{ token: 'a' }, { server: 'nonsense' }, /has no URL as server/],
    [{ token: 'a' }, { 'certificate-authority-data': '' }, /has no certificate-authority/],
    [{ token: 'a' }, { 'certificate-authority-data': '%%' }, /no base64/],
  ];
  for (const [user, cluster, text] of cases) {
    write(user, cluster);
    await assert.rejects(load(), fails('InvalidArgument', text));
  }
});

test('certificates, keys and authorities that can not be used', async (t) => {
  const { write, load, file } = place(t);
  const own = node();
  const wrong = async (
    user: Fields,
    cluster: Fields,
    text: RegExp,
    code: FailureCode = 'InvalidArgument',
  ) => {
    write(user, cluster);
    await assert.rejects(load(), fails(code, text));
  };
  const other = { ...own, key: node().key };
  await wrong(
    data(other),
    {},
    /the client key in .*kubelet\.conf does not belong to the client cert/,
  );
  const damaged = own.certificate.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA');
  await wrong(data({ ...own, certificate: damaged }), {}, /the client certificate in .* parsed/);
  await wrong(data({ ...own, certificate: own.key }), {}, /has no certificate in it/);
  await wrong(data({ ...own, key: own.certificate }), {}, /has no private key in it/);
  const noKey = '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n';
  await wrong(data({ ...own, key: noKey }), {}, /the client key in .* damaged or encrypted/);
  const authority = (text: string) => ({ 'certificate-authority-data': base64(text) });
  await wrong(data(own), authority(damaged), /the certificate authority in .* parsed/);
  await wrong(data(own), authority('nothing'), /the certificate authority in .*no certificate/);
  const missing = { 'certificate-authority-data': undefined, 'certificate-authority': 'ca.crt' };
  await wrong(data(own), missing, /the certificate authority .*ca\.crt: there is no/, 'NotFound');
  file('ca.crt', CA.certificate + createAuthority('next').certificate);
  write(data(own), missing);
  const { ca } = await (await load()).current();
  assert.equal(ca.match(/BEGIN CERTIFICATE/g)?.length, 2);
});

test('dates are doubts, with both dates and the clock', async (t) => {
  const { write, load, clock } = place(t);
  const at = clock.now().wallMs;
  write(data(node({ from: new Date(at - 9 * DAY_MS), to: new Date(at + DAY_MS) })));
  const credentials = await load();
  checkDates(credentials);
  clock.setWall(at + 2 * DAY_MS);
  const iso = (ms: number) => new Date(ms).toISOString().slice(0, 10);
  const expired = new RegExp(
    `client certificate in .* expired at ${iso(at + DAY_MS)}.*clock shows ${iso(at + 2 * DAY_MS)}.*renew it`,
  );
  assert.throws(() => checkDates(credentials), fails('Unauthenticated', expired));
  clock.setWall(0);
  assert.match(credentials.doubt()!, /is not valid before .*clock shows 1970-01-01.*clock is prob/);
  assert.equal((await credentials.current()).generation, 1, 'it is tried all the same');
});

const plugin = (t: { after(end: () => void): void }, script: string, changes: Fields = {}) => {
  const made = place(t);
  const path = made.file('plugin', `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o700);
  const apiVersion = 'client.authentication.k8s.io/v1';
  made.write({ exec: { apiVersion, command: './plugin', interactiveMode: 'Never', ...changes } });
  return made;
};
const credential = (status: object) =>
  `cat <<'END'\n${JSON.stringify({
    ...{ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status },
  })}\nEND`;

test('a plugin is run once until what it gave expires or is refused', async (t) => {
  const at = Date.now();
  const status = { token: CANARY, expirationTimestamp: new Date(at + 60_000).toISOString() };
  const script = `
echo run >> "$(dirname "$0")/runs"
[ "$1" = "a b; touch /tmp/x" ] && [ "$EXTRA" = 'va lue' ] || exit 3
printf %s "$KUBERNETES_EXEC_INFO" > "$(dirname "$0")/info"
${credential(status)}`;
  const { load, directory, clock } = plugin(t, script, {
    ...{ args: ['a b; touch /tmp/x'], env: [{ name: 'EXTRA', value: 'va lue' }] },
    provideClusterInfo: true,
  });
  const { readFileSync } = await import('node:fs');
  const runs = () => readFileSync(join(directory, 'runs'), 'utf8').length / 4;
  const credentials = await load();
  const both = await Promise.all([credentials.current(), credentials.current()]);
  assert.deepEqual(
    both.map(({ token }) => token),
    [CANARY, CANARY],
  );
  await credentials.current();
  assert.equal(runs(), 1);
  clock.advance(59_000);
  await credentials.current();
  assert.equal(runs(), 1);
  clock.advance(2000);
  await credentials.current();
  assert.equal(runs(), 2);
  clock.setWall(at);
  credentials.refused();
  await credentials.current();
  assert.equal(runs(), 3);
  const info = JSON.parse(readFileSync(join(directory, 'info'), 'utf8')) as Fields;
  assert.deepEqual(info, {
    apiVersion: 'client.authentication.k8s.io/v1',
    kind: 'ExecCredential',
    spec: {
      interactive: false,
      cluster: {
        server: 'https://10.0.0.1:6443',
        'certificate-authority-data': base64(CA.certificate),
      },
    },
  });
  assert.equal(clock.timers, 0);
});

test('a plugin that gives a certificate, and another one later', async (t) => {
  const made = place(t);
  const [first, second] = [node(), node()];
  const give = ({ certificate, key }: typeof first) => {
    const status = { clientCertificateData: certificate, clientKeyData: key };
    chmodSync(made.file('plugin', `#!/bin/sh\n${credential(status)}\n`), 0o700);
  };
  give(first);
  const apiVersion = 'client.authentication.k8s.io/v1';
  made.write({ exec: { apiVersion, command: join(made.directory, 'plugin') } });
  const credentials = await made.load();
  const one = await credentials.current();
  assert.equal(one.certificate, first.certificate);
  give(second);
  assert.deepEqual(await credentials.current(), one, 'it did not say that it expires');
  credentials.refused();
  const two = await credentials.current();
  assert.equal(two.certificate, second.certificate);
  assert.equal(two.generation, 2);
});

test('plugins that fail', async (t) => {
  const now = async (script: string, code: FailureCode, text: RegExp, changes: Fields = {}) => {
    const { load } = plugin(t, script, changes);
    const credentials = await load();
    await assert.rejects(credentials.current(), fails(code, text));
  };
  await now('echo "not logged in" >&2; exit 4', 'Unauthenticated', /ended with 4: not logged in/);
  await now(`echo ${CANARY}`, 'Unauthenticated', /plugin .*wrote something that is no JSON/);
  await now('echo "{}"', 'Unauthenticated', /wrote no ExecCredential of client\.auth/);
  await now(credential({}), 'Unauthenticated', /neither a token nor a certificate/);
  await now(credential({ clientKeyData: CANARY }), 'Unauthenticated', /neither a token/);
  const never = { token: CANARY, expirationTimestamp: 'tomorrow' };
  await now(credential(never), 'Unauthenticated', /expirationTimestamp that is no time/);
  await now(`yes ${CANARY}`, 'Unauthenticated', /wrote more than \d+ bytes/);
  const missing = { command: 'limpet-no-such-plugin', installHint: 'install it from X' };
  await now('', 'NotFound', /limpet-no-such-plugin is not installed: install it from X/, missing);
  const refused = async (changes: Fields, text: RegExp) =>
    await assert.rejects(plugin(t, '', changes).load(), fails('InvalidArgument', text));
  await refused({ interactiveMode: 'Always' }, /must have a terminal/);
  await refused({ apiVersion: 'client.authentication.k8s.io/v1alpha1' }, /v1alpha1/);
  await refused({ command: '' }, /without a command/);
});

test('a plugin that hangs is ended after a minute, or with the agent', async (t) => {
  const { path, load, clock, lines: _ } = plugin(t, 'sleep 100 & sleep 100');
  const credentials = await load();
  const waiting = assert.rejects(
    credentials.current(),
    fails('DeadlineExceeded', /more than 60 s/),
  );
  clock.advance(60_000);
  await waiting;
  const controller = new AbortController();
  const { log } = captureLog();
  const others = await loadCredentials(path, { clock, log, signal: controller.signal });
  const cancelled = assert.rejects(others.current(), fails('Cancelled', /cancelled/));
  controller.abort();
  await cancelled;
  assert.equal(clock.timers, 0);
});
