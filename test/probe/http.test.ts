import assert from 'node:assert/strict';
import type { IncomingMessage, RequestListener } from 'node:http';
import { test } from 'node:test';

import type { Container, HTTPGetAction } from '../../src/kube/pod.ts';
import { httpGet } from '../../src/probe/http.ts';
import { deadPort, httpServer, httpsServer, never, targetOf } from './servers.ts';

const action = (port: number | string, changes: Partial<HTTPGetAction> = {}): HTTPGetAction => ({
  ...{ kind: 'httpGet', path: '/', port, scheme: 'HTTP', httpHeaders: [], ...changes },
});

const ask = (handler: HTTPGetAction, container: Partial<Container> = {}) =>
  httpGet.run(targetOf(container), handler, 2, never);

/** Asks a server, and gives what it was asked as well. */
async function served(listener: RequestListener, changes: Partial<HTTPGetAction> = {}) {
  const asked: IncomingMessage[] = [];
  await using server = await httpServer((request, response) => {
    asked.push(request);
    void listener(request, response);
  });
  const answer = await ask(action(server.port, changes));
  return { answer, asked, port: server.port };
}

test('what is asked: a GET on a connection of its own, with the name of a kubelet', async () => {
  const { asked } = await served((_, response) => response.end());
  assert.equal(asked.length, 1);
  const [{ method, url, headers }] = asked as [IncomingMessage];
  assert.deepEqual([method, url], ['GET', '/']);
  assert.equal(headers['user-agent'], 'kube-probe/1.36');
  assert.equal(headers.accept, '*/*');
  assert.equal(headers.connection, 'close');
  assert.equal(headers['accept-encoding'], undefined);
});

test('headers of the pod replace those of a kubelet; several of one name are all sent', async () => {
  const httpHeaders = [
    { name: 'User-Agent', value: 'mine' },
    { name: 'Accept', value: '' },
    { name: 'Host', value: 'shop.example' },
    { name: 'X-Many', value: '1' },
    { name: 'x-many', value: '2' },
    { name: 'Content-Length', value: '7' },
  ];
  const { asked, answer } = await served((_, response) => response.end(), { httpHeaders });
  assert.equal(answer.result, 'success');
  const { headers } = asked[0]!;
  assert.equal(headers['user-agent'], 'mine');
  assert.equal(headers.accept, undefined);
  assert.equal(headers.host, 'shop.example');
  assert.equal(headers['x-many'], '1, 2');
  assert.equal(headers['content-length'], undefined);
});

test('a header that no request can have is a failure of the probe, not of the agent', async () => {
  const httpHeaders = [{ name: 'X-A', value: 'a\nb' }];
  const { answer, asked } = await served((_, response) => response.end(), { httpHeaders });
  assert.equal(answer.result, 'failure');
  assert.equal(asked.length, 0);
});

test('paths as they are written', async () => {
  const paths: readonly [string, string][] = [
    ['/health?x=1&y=%20', '/health?x=1&y=%20'],
    ['health', '/health'],
    ['/a b', '/a%20b'],
    ['/100%', '/100%25'],
    ['/x#part', '/x'],
    ['http://elsewhere.example/x', '/x'],
    ['//elsewhere.example/x', '/x'],
    ['?only=query', '/?only=query'],
  ];
  for (const [path, url] of paths) {
    const { asked } = await served((_, response) => response.end(), { path });
    assert.equal(asked[0]?.url, url, path);
  }
});

test('statuses: 200 to 399 are well, a redirect that leads nowhere is one with a warning', async () => {
  const results: [number, string][] = [
    ...[200, 204, 299].map((status): [number, string] => [status, 'success']),
    ...[300, 302, 304].map((status): [number, string] => [status, 'warning']),
    ...[400, 404, 500, 503].map((status): [number, string] => [status, 'failure']),
  ];
  for (const [status, result] of results) {
    const { answer } = await served((_, response) => response.writeHead(status).end('secret'));
    assert.equal(answer.result, result, String(status));
    if (result !== 'failure') continue;
    assert.equal(answer.text, `HTTP probe failed with statuscode: ${status}`);
  }
});

test('redirects are followed on the same host, with the same headers', async () => {
  const { answer, asked } = await served(
    (request, response) => {
      if (request.url === '/end') return response.writeHead(500).end();
      return response.writeHead(301, { location: '/end' }).end();
    },
    { httpHeaders: [{ name: 'X-A', value: 'b' }] },
  );
  assert.equal(answer.text, 'HTTP probe failed with statuscode: 500');
  assert.deepEqual(
    asked.map(({ url }) => url),
    ['/', '/end'],
  );
  assert.equal(asked[1]?.headers['x-a'], 'b');
});

test('a redirect to another host is well, with a warning, and the other host is left alone', async () => {
  let strangers = 0;
  await using stranger = await httpServer((_, response) => {
    strangers += 1;
    response.end();
  });
  const location = `http://127.0.0.2:${stranger.port}/`;
  const { answer } = await served((_, response) =>
    response.writeHead(302, { location }).end('moved'),
  );
  assert.equal(answer.result, 'warning');
  assert.equal(answer.text, 'Probe terminated redirects, Response body: moved');
  assert.equal(strangers, 0);
});

test('redirects without end are a failure', async () => {
  const { answer, asked } = await served((_, response) =>
    response.writeHead(307, { location: '/' }).end(),
  );
  assert.equal(answer.result, 'failure');
  assert.match(answer.text, /: stopped after 10 redirects$/);
  assert.equal(asked.length, 10);
});

test('of a body without end the beginning is read', async () => {
  const { answer } = await served((_, response) => {
    const more = () => {
      while (response.writable && response.write('x'.repeat(65536)));
    };
    response.on('drain', more).on('error', () => undefined);
    more();
  });
  assert.equal(answer.result, 'success');
  assert.equal(answer.text.length, 10 * 1024);
});

test('an answer that breaks off says nothing of the container', async () => {
  const { answer } = await served((_, response) => {
    response.writeHead(200, { 'content-length': 100 }).write('half');
    setTimeout(() => response.destroy(), 20);
  });
  assert.equal(answer.result, 'error');
});

test('nobody listens: the words of the kubelet', async () => {
  const port = await deadPort();
  const { text } = await ask(action(port));
  const at = `127.0.0.1:${port}`;
  assert.equal(text, `Get "http://${at}/": dial tcp ${at}: connect: connection refused`);
});

test('a certificate that nobody has signed is good enough', async () => {
  await using server = await httpsServer((_, response) => response.end());
  const answer = await ask(action(server.port, { scheme: 'HTTPS' }));
  assert.equal(answer.result, 'success', answer.text);
});

test('named ports, and one that is not there', async () => {
  await using server = await httpServer((_, response) => response.end());
  const ports = [{ name: 'web', containerPort: server.port, protocol: 'TCP' as const }];
  assert.equal((await ask(action('web'), { ports })).result, 'success');
  assert.deepEqual(await ask(action('adm'), { ports }), {
    ...{ result: 'error', text: 'port adm not found' },
  });
});

test('no proxy of the environment is asked', async () => {
  const before = process.env['http_proxy'];
  process.env['http_proxy'] = `http://127.0.0.1:${await deadPort()}`;
  try {
    const { answer } = await served((_, response) => response.end());
    assert.equal(answer.result, 'success', answer.text);
  } finally {
    if (before === undefined) delete process.env['http_proxy'];
    else process.env['http_proxy'] = before;
  }
});
