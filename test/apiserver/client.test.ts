import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import tls from 'node:tls';

import { Failure, type FailureCode } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { KUBERNETES_VERSION, VERSION } from '../../src/base/version.ts';
import type { ApiClient, CallOptions } from '../../src/apiserver/client.ts';
import { type ApiFailure } from '../../src/apiserver/errors.ts';
import {
  createObject,
  deleteObject,
  getObject,
  listPage,
  patchObject,
  updateObject,
} from '../../src/apiserver/objects.ts';
import { NODES, PODS, pathOf } from '../../src/apiserver/resource.ts';
import { createAuthority } from '../../scripts/lib/certificates.ts';
import {
  AUTHORITY,
  createPeer,
  json,
  material,
  type NODE,
  plainCredentials,
  refuse,
  SERVER,
  until,
  type Call,
} from './peer.ts';

const never = new AbortController().signal;
const call: CallOptions = { signal: never, deadlineMs: 5000 };
const get = (client: ApiClient, options = call) =>
  getObject(client, NODES, { name: 'pi1' }, options);
const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'pi1', uid: 'u1', resourceVersion: '7', managedFields: [{ manager: 'x' }] },
};

async function listen(server: net.Server) {
  const sockets = new Set<net.Socket>();
  server.on('connection', (socket: net.Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      sockets.forEach((socket) => socket.destroy());
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const fails = (code: FailureCode, text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.match(error.message, text);
  assert.equal(error.code, code, error.message);
  return true;
};

test('the verbs of the API, as the API server wants them', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  peer.answer = ({ response }) => json(response, node);
  const seen = await get(client);
  assert.deepEqual(seen.metadata, { name: 'pi1', uid: 'u1', resourceVersion: '7' });
  const pod = { metadata: { name: 'a b' } };
  await createObject(client, PODS, { namespace: 'x' }, pod, call);
  await createObject(
    client,
    PODS,
    { namespace: 'x', name: 'a', subresource: 'eviction' },
    {},
    call,
  );
  await updateObject(client, NODES, { name: 'pi1' }, { metadata: seen.metadata }, call);
  const status = { namespace: 'x', name: 'ä', subresource: 'status' };
  const patch = { metadata: { uid: 'u' } };
  await patchObject(client, PODS, status, 'strategic', patch, { ...call, metadataOnly: true });
  await patchObject(client, PODS, status, 'merge', {}, call);
  await patchObject(client, PODS, status, 'json', [{ op: 'test' }], call);
  const preconditions = { uid: 'u', resourceVersion: '9' };
  const how = { gracePeriodSeconds: 0, preconditions };
  await deleteObject(client, PODS, { namespace: 'x', name: 'a' }, how, call);
  const lines = peer.calls.map(({ request, body }) =>
    [request.method, request.url, request.headers['content-type'] ?? '-', body].join(' '),
  );
  const ns = '/api/v1/namespaces/x/pods';
  assert.deepEqual(lines, [
    'GET /api/v1/nodes/pi1 - ',
    `POST ${ns} application/json {"metadata":{"name":"a b"}}`,
    `POST ${ns}/a/eviction application/json {}`,
    `PUT /api/v1/nodes/pi1 application/json {"metadata":${JSON.stringify(seen.metadata)}}`,
    `PATCH ${ns}/%C3%A4/status application/strategic-merge-patch+json {"metadata":{"uid":"u"}}`,
    `PATCH ${ns}/%C3%A4/status application/merge-patch+json {}`,
    `PATCH ${ns}/%C3%A4/status application/json-patch+json [{"op":"test"}]`,
    `DELETE ${ns}/a application/json ${JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'DeleteOptions', gracePeriodSeconds: 0, preconditions },
    })}`,
  ]);
  assert.equal(peer.calls[0]!.user, 'system:node:pi1');
  assert.equal(peer.calls[0]!.request.headers.accept, 'application/json');
  assert.match(
    peer.calls[4]!.request.headers.accept!,
    /as=PartialObjectMetadata.*,application\/json$/,
  );
  const agent = `limpet/${VERSION} (linux/${process.arch === 'x64' ? 'amd64' : 'arm64'})`;
  assert.equal(
    peer.calls[0]!.request.headers['user-agent'],
    `${agent} kubernetes/${KUBERNETES_VERSION}`,
  );
  assert.equal(peer.accepted, 1, 'one connection for all');
});

test('a page of a list, its options, and what is no list', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  const item = { metadata: { name: 'a', uid: 'u', resourceVersion: '1', managedFields: [] } };
  const list = (changes: object) => {
    const metadata = { resourceVersion: '9', continue: 'next' };
    peer.answer = ({ response }) =>
      json(response, { kind: 'PodList', apiVersion: 'v1', metadata, items: [item], ...changes });
    const options = { fieldSelector: 'spec.nodeName=pi1', limit: 500, continue: 'a b' };
    return listPage(client, PODS, options, call);
  };
  const page = await list({});
  assert.equal(page.continue, 'next');
  assert.equal(page.resourceVersion, '9');
  assert.deepEqual(page.items[0]!.metadata, { name: 'a', uid: 'u', resourceVersion: '1' });
  assert.equal(
    peer.calls[0]!.request.url,
    '/api/v1/pods?fieldSelector=spec.nodeName%3Dpi1&limit=500&continue=a+b',
  );
  assert.deepEqual((await list({ items: null })).items, [], 'as Go writes an empty list');
  await assert.rejects(list({ kind: 'NodeList' }), fails('Unknown', /NodeList, not a PodList/));
  await assert.rejects(list({ metadata: {} }), fails('Unknown', /no resourceVersion/));
  await assert.rejects(list({ items: {} }), fails('Unknown', /no items/));
  const half = { metadata: { name: 'b', resourceVersion: '1' } };
  await assert.rejects(list({ items: [item, half] }), fails('Unknown', /item without name, uid/));
});

test('a name that would lead elsewhere is no name', () => {
  for (const name of ['', '.', '..', 'a/b', 'a%2fb']) {
    assert.throws(() => pathOf(PODS, { namespace: 'x', name }), RangeError);
  }
});

test('each status has its code, and the words of the server', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  const cases: [number, string, FailureCode][] = [
    [400, 'BadRequest', 'InvalidArgument'],
    [401, 'Unauthorized', 'Unauthenticated'],
    [403, 'Forbidden', 'PermissionDenied'],
    [404, 'NotFound', 'NotFound'],
    [409, 'AlreadyExists', 'AlreadyExists'],
    [409, 'Conflict', 'Conflict'],
    [410, 'Expired', 'Gone'],
    [413, 'RequestEntityTooLarge', 'InvalidArgument'],
    [422, 'Invalid', 'InvalidArgument'],
    [429, 'TooManyRequests', 'ResourceExhausted'],
    [500, 'InternalError', 'Unknown'],
    [503, 'ServiceUnavailable', 'Unavailable'],
    [504, 'Timeout', 'DeadlineExceeded'],
  ];
  for (const [status, reason, code] of cases) {
    peer.answer = ({ response }) => refuse(response, status, reason, 'so\nit is');
    await assert.rejects(get(client), (error: ApiFailure) => {
      assert.equal(error.status, status);
      assert.equal(error.reason, reason);
      return fails(code, new RegExp(`^GET /api/v1/nodes/pi1: HTTP ${status}: so it is`))(error);
    });
  }
  peer.answer = ({ response }) =>
    json(response, {
      ...{ kind: 'Status', status: 'Failure', code: 504, reason: 'Timeout', message: 'too large' },
      details: { causes: [{ reason: 'ResourceVersionTooLarge' }] },
    });
  await assert.rejects(get(client), fails('Gone', /too large/), 'also under the status of success');
  peer.answer = ({ response }) => {
    response.writeHead(502, { 'content-type': 'text/html' });
    response.end('<html>Bad gateway');
  };
  await assert.rejects(get(client), fails('Unavailable', /HTTP 502: the server did not say why/));
  assert.equal(peer.accepted, 1, 'none of them costs the connection');
});

test('Retry-After: seconds, a date by the clock of the server, a field of the status', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  const asked = async (headers: Record<string, string>, details?: object) => {
    peer.answer = ({ response }) =>
      json(response, { kind: 'Status', code: 429, details }, 429, headers);
    const error = await get(client).then(
      () => assert.fail('it was accepted'),
      (failure: ApiFailure) => failure,
    );
    return error.retryAfterMs;
  };
  assert.equal(await asked({ 'retry-after': '7' }), 7000);
  assert.equal(await asked({ 'retry-after': '0' }), 0);
  const date = 'Wed, 01 Jan 2025 00:00:00 GMT';
  const later = 'Wed, 01 Jan 2025 00:01:30 GMT';
  assert.equal(await asked({ date, 'retry-after': later }), 90_000);
  assert.equal(await asked({ date: later, 'retry-after': date }), 0);
  assert.equal(await asked({}, { retryAfterSeconds: 3 }), 3000);
  assert.equal(await asked({ 'retry-after': '86400' }), 600_000, 'a day is a mistake');
  assert.equal(await asked({ 'retry-after': 'soon' }), undefined);
  assert.equal(await asked({}), undefined);
});

test('what is no answer of an API server', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  const answers: [(call: Call) => unknown, FailureCode, RegExp][] = [
    [
      ({ response }) =>
        response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<html>Log in'),
      'Unavailable',
      /https:\/\/127\.0\.0\.1:\d+ is no Kubernetes API server: it sends a web page: a captive portal/,
    ],
    [
      ({ response }) => response.writeHead(302, { location: '/x' }).end(),
      'Unavailable',
      /redirects/,
    ],
    [({ response }) => response.end('{}'), 'Unavailable', /without a type, not JSON/],
    [({ response }) => json(response, undefined), 'Unavailable', /an empty answer/],
    [({ response }) => json(response, []), 'Unknown', /no kind/],
    [({ response }) => json(response, null), 'Unavailable', /no JSON object/],
    [({ response }) => json(response, { ok: true }), 'Unknown', /no kind/],
    [
      ({ response }) =>
        response.writeHead(200, { 'content-type': 'application/json' }).end('{"kind":"No'),
      'Unavailable',
      /no JSON object/,
    ],
    [() => peer.drop(), 'Unavailable', /was reset \(ECONNRESET\)/],
  ];
  for (const [answer, code, text] of answers) {
    peer.answer = answer;
    await assert.rejects(get(client), fails(code, text));
  }
  for (const protocol of ['h2', 'http/1.1']) {
    const { key, certificate: cert } = SERVER;
    await using server = await listen(
      tls.createServer({ key, cert, ALPNProtocols: [protocol] }, (socket) => {
        socket.on('error', () => undefined);
        socket.end('SSH-2.0-x\r\n\r\n');
      }),
    );
    const other = peer.client({ credentials: plainCredentials(server.url) });
    await assert.rejects(get(other), fails('Unavailable', /not speak HTTP/), protocol);
  }
});

test('half an answer', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  for (const headers of [{ 'content-length': 1000 }, {}]) {
    peer.answer = ({ response }) => {
      response.writeHead(200, { 'content-type': 'application/json', ...headers });
      response.write(JSON.stringify(node));
      setTimeout(() => peer.drop(), 20);
    };
    await assert.rejects(get(client), fails('Unavailable', /broke in the middle of the answer/));
  }
});

test('an answer that is too long is not read to its end', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  const max = LIMITS.apiResponseBytes;
  const tooLong = fails('ResourceExhausted', new RegExp(`more than the ${max} bytes`));
  peer.answer = ({ response }) =>
    response
      .writeHead(200, { 'content-type': 'application/json', 'content-length': max + 1 })
      .write('{');
  await assert.rejects(get(client), tooLong);
  peer.answer = ({ response }) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    for (let i = 0; i <= max / 1e6 + 1; i++) response.write(Buffer.alloc(1e6, ' '));
  };
  await assert.rejects(get(client), tooLong);
});

test('a deadline and a signal end a request wherever it stands', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  const controller = new AbortController();
  const options = { signal: controller.signal, deadlineMs: 30 };
  peer.answer = () => undefined;
  await assert.rejects(get(client, options), fails('DeadlineExceeded', /no answer within 0.03 s/));
  peer.answer = ({ response }) =>
    response.writeHead(200, { 'content-type': 'application/json' }).write('{');
  await assert.rejects(get(client, options), fails('DeadlineExceeded', /no answer within/));
  // A server that takes the connection and says nothing, not even TLS.
  const mute = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => mute.once('listening', resolve));
  const { port } = mute.address() as net.AddressInfo;
  const credentials = plainCredentials(`https://127.0.0.1:${port}`);
  const other = peer.client({ credentials });
  await assert.rejects(get(other, options), fails('DeadlineExceeded', /no answer within/));
  mute.close();
  await until(() => peer.sockets.size === 0, 'connections that were waited for in vain are closed');
  const withdrawn: Call[] = [];
  peer.answer = (one) => {
    one.response.on('close', () => withdrawn.push(one));
    controller.abort(new Error('enough'));
  };
  await assert.rejects(get(client, { ...options, deadlineMs: 5000 }), fails('Cancelled', /GET/));
  await assert.rejects(get(client, options), fails('Cancelled', /cancelled/));
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
  await until(() => withdrawn.length === 1, 'the server knows that nobody waits for it');
});

test('servers that are not the one of the kubeconfig', async () => {
  const day = 86_400_000;
  const issue = (changes: object) =>
    AUTHORITY.issue({ name: 'kube-apiserver', names: ['127.0.0.1'], ...changes });
  const past = issue({ from: new Date(Date.now() - 9 * day), to: new Date(Date.now() - day) });
  const future = issue({ from: new Date(Date.now() + day) });
  const cases: [typeof SERVER, RegExp][] = [
    [
      createAuthority('evil').issue({ name: 'x', names: ['127.0.0.1'] }),
      /not signed by .*authority/,
    ],
    [issue({ names: ['10.9.8.7', 'api.example'] }), /for other names.*10\.9\.8\.7/],
    [past, /its certificate has expired.*\(it shows 20/],
    [future, /not valid yet: .*set this machine's clock \(it shows 20/],
  ];
  for (const [certificate, text] of cases) {
    await using peer = await createPeer(certificate);
    await assert.rejects(get(peer.client()), fails('Unauthenticated', text));
    assert.equal(peer.calls.length, 0, 'it was told nothing');
  }
  await using named = await createPeer(issue({ names: ['kubernetes'] }));
  named.answer = ({ response }) => json(response, node);
  const credentials = named.credentials({ serverName: 'kubernetes' });
  assert.equal((await get(named.client({ credentials }))).metadata.uid, 'u1');
});

test('a server that refuses our certificate, with what is known about why', async () => {
  const strict = { rejectUnauthorized: true };
  await using peer = await createPeer(SERVER, strict);
  const stranger = createAuthority('evil').issue({ name: 'system:node:pi1' });
  const as = (of: typeof NODE | undefined, doubt?: string) =>
    peer.client({
      credentials: peer.credentials({
        current: () => Promise.resolve({ ...material(), ...pick(of) }),
        doubt: () => doubt,
      }),
    });
  const pick = (of: typeof NODE | undefined) => ({ certificate: of?.certificate, key: of?.key });
  // Whether the alert or the hang-up is seen first is chance; both are a failure to be had again.
  const refused = (error: Failure) =>
    fails(error.code === 'Unavailable' ? 'Unavailable' : 'Unauthenticated', /127\.0\.0\.1/)(error);
  await assert.rejects(get(as(stranger)), refused);
  await assert.rejects(get(as(undefined)), refused);
  const doubt = 'the client certificate x expired at 2020';
  await assert.rejects(get(as(stranger, doubt)), fails('Unauthenticated', /x expired at 2020/));
  await using polite = await createPeer();
  polite.answer = ({ response }) => refuse(response, 401, 'Unauthorized', 'Unauthorized');
  let refusals = 0;
  const credentials = polite.credentials({ doubt: () => doubt, refused: () => refusals++ });
  await assert.rejects(
    get(polite.client({ credentials })),
    fails('Unauthenticated', /HTTP 401: Unauthorized \(the client certificate x expired at 2020\)/),
  );
  assert.equal(refusals, 1);
});

test('nobody there, no such name, no TLS', async () => {
  const peer = await createPeer();
  await peer[Symbol.asyncDispose]();
  await assert.rejects(
    get(peer.client()),
    fails('Unavailable', /nobody listens there.*ECONNREFUSED/),
  );
  const unknown = plainCredentials('https://nowhere.invalid:6443');
  await assert.rejects(
    get(peer.client({ credentials: unknown })),
    fails('Unavailable', /nowhere\.invalid.*(no such name|can not be looked up)/),
  );
  await using plain = await listen(
    net.createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')),
  );
  const credentials = plainCredentials(plain.url);
  await assert.rejects(get(peer.client({ credentials })), fails('Unavailable', /not speak TLS/));
});

test('a connection that the server has closed while it was idle is not a failure', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  peer.answer = ({ response }) => json(response, node);
  await get(client);
  // The server closes it as the request is on its way.
  peer.answer = ({ response }) => (peer.accepted === 1 ? peer.drop() : json(response, node));
  assert.equal((await get(client)).metadata.uid, 'u1');
  assert.equal(peer.accepted, 2);
  // What may have happened is not done twice.
  peer.answer = () => peer.drop();
  const created = createObject(client, PODS, { namespace: 'x' }, {}, call);
  await assert.rejects(created, fails('Unavailable', /POST .*was reset/));
  const add = [{ op: 'add', path: '/metadata/finalizers/-', value: 'x' }];
  peer.answer = ({ response }) => json(response, node);
  await get(client);
  peer.answer = () => peer.drop();
  await assert.rejects(patchObject(client, NODES, { name: 'pi1' }, 'json', add, call), /PATCH/);
  const once = peer.calls.filter(({ request }) => /POST|PATCH/.test(request.method ?? ''));
  assert.equal(once.length, 2);
});

test('another certificate gets another connection', async () => {
  await using peer = await createPeer();
  let current = material();
  const credentials = peer.credentials({ current: () => Promise.resolve(current) });
  const client = peer.client({ credentials });
  peer.answer = ({ response }) => json(response, node);
  await get(client);
  current = material(AUTHORITY.issue({ name: 'system:node:pi2' }), 2);
  await get(client);
  await get(client);
  const users = peer.calls.map(({ user }) => user);
  assert.deepEqual(users, ['system:node:pi1', 'system:node:pi2', 'system:node:pi2']);
  await until(() => peer.sockets.size === 1, 'the old connection is closed');
});

test('a request that the server has refused before it began is asked again, whatever it is', async () => {
  await using peer = await createPeer();
  const client = peer.client();
  let refusals = 0;
  peer.answer = ({ response }) => {
    if (refusals++ > 0) return json(response, node);
    const { stream } = response as unknown as http2.Http2ServerResponse;
    stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  };
  await createObject(client, PODS, { namespace: 'x' }, {}, call);
  assert.equal(refusals, 2);
});

test('requests at the same time share a connection; a second client has its own', async () => {
  for (const onlyHttp1 of [false, true]) {
    await using peer = await createPeer(SERVER, { onlyHttp1 });
    const client = peer.client();
    peer.answer = async ({ response }) => {
      await pause(5);
      json(response, node);
    };
    await Promise.all(Array.from({ length: 40 }, () => get(client)));
    const few = onlyHttp1 ? 4 : 1;
    assert.equal(peer.accepted, few);
    await get(peer.client());
    assert.equal(peer.accepted, few + 1);
  }
});

test('a server below a path, as behind a proxy of a cluster platform', async () => {
  await using peer = await createPeer();
  peer.answer = ({ response }) => json(response, node);
  const credentials = peer.credentials({ server: new URL(`${peer.server}/k8s/clusters/c-1/`) });
  await get(peer.client({ credentials }));
  assert.equal(peer.calls[0]!.request.url, '/k8s/clusters/c-1/api/v1/nodes/pi1');
});

test('text is taken as it comes', async () => {
  await using peer = await createPeer();
  peer.answer = ({ response }) => response.end('ok');
  const answer = await peer.client().raw({ method: 'GET', path: '/healthz' }, call);
  assert.equal(answer.toString(), 'ok');
});
