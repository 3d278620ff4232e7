import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';

import { Failure } from '../../src/base/failure.ts';
import { LIMITS } from '../../src/base/limits.ts';
import { createRecovery } from '../../src/base/recovery.ts';
import type { WatchState } from '../../src/apiserver/watch.ts';
import { json, refuse, until } from './peer.ts';
import { bookmark, event, list, openWatch, pod, startWatching } from './watching.ts';

const why = (state: WatchState) => (state.phase === 'waiting' ? state.why : undefined);

test('lists, watches from the version of the list, and tells what changes', async () => {
  const options = { namespace: 'x', fieldSelector: 'metadata.name=a' };
  await using watch = await startWatching({
    list: ({ response }) => json(response, list('7', [pod('a', 'u1', '5')])),
    options,
  });
  await watch.hears('put a/u1@5', 'synced a @7');
  await watch.reaches('watching');
  watch.send(event('MODIFIED', pod('a', 'u1', '8')), bookmark('9'));
  watch.send(event('DELETED', pod('a', 'u1', '10')), event('ADDED', pod('a', 'u2', '11')));
  await watch.hears('put a/u1@8', 'bookmark 9', 'gone a/u1', 'bookmark 10', 'put a/u2@11');
  const [asked] = watch.asked('watch');
  assert.equal(watch.peer.calls[1]!.url.pathname, '/api/v1/namespaces/x/pods');
  const { timeoutSeconds, ...query } = Object.fromEntries(asked!);
  assert.deepEqual(query, {
    ...{ watch: 'true', allowWatchBookmarks: 'true', resourceVersion: '7' },
    fieldSelector: 'metadata.name=a',
  });
  assert.ok(Number(timeoutSeconds) >= 300 && Number(timeoutSeconds) < 600);
  const listed = Object.fromEntries(watch.asked('list')[0]!);
  assert.deepEqual(listed, { fieldSelector: 'metadata.name=a', limit: '500' });
  const state = watch.states.at(-1)!;
  assert.equal(state.phase, 'watching');
});

test('a good watch that ends is taken up at once, where it stopped', async () => {
  await using watch = await startWatching();
  await watch.hears('synced @1');
  for (let round = 0; round < 3; round++) {
    await until(() => watch.asked('watch').length === round + 1, 'the next watch');
    await watch.reaches('watching');
    // Bookmarks keep it alive.
    for (let minute = 0; minute < 6; minute++) {
      watch.send(bookmark(`${round}${minute}`));
      await watch.hears(`bookmark ${round}${minute}`);
      watch.clock.advance(60_000);
    }
    watch.open.end();
  }
  await until(() => watch.asked('watch').length === 4, 'the last watch');
  const versions = watch.asked('watch').map((query) => query.get('resourceVersion'));
  assert.deepEqual(versions, ['1', '05', '15', '25']);
  assert.equal(watch.asked('list').length, 1);
  assert.equal(watch.waits, 0);
  assert.equal(watch.peer.accepted, 1, 'one connection for lists and watches');
});

test('a stored version needs no list; what was known is known', async () => {
  const known = [{ namespace: 'x', name: 'a', uid: 'u1', resourceVersion: '5' }];
  await using watch = await startWatching({
    options: { resume: { resourceVersion: '77', known } },
  });
  await watch.reaches('watching');
  assert.equal(watch.asked('watch')[0]!.get('resourceVersion'), '77');
  watch.send(event('ADDED', pod('a', 'u2', '80')));
  await watch.hears('gone a/u1', 'put a/u2@80');
  assert.equal(watch.asked('list').length, 0);
});

test('after a gap lists are compared by uid: the old one goes before the new one comes', async () => {
  await using watch = await startWatching({
    list: ({ response }, count) =>
      json(
        response,
        count === 1
          ? list('7', [pod('a', 'u1', '5'), pod('b', 'u2', '6'), pod('c', 'u3', '6')])
          : list('99', [pod('a', 'u9', '90'), pod('b', 'u2', '6'), pod('c', 'u3', '95')]),
      ),
  });
  await watch.hears('put a/u1@5', 'put b/u2@6', 'put c/u3@6', 'synced a b c @7');
  await watch.reaches('watching');
  watch.send(event('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old' }));
  await watch.hears('gone a/u1', 'put a/u9@90', 'put c/u3@95', 'synced a b c @99');
  assert.equal(watch.waits, 0);
});

test('410: as an answer, on a stored version, and again and again without a hot loop', async () => {
  const expired = (call: Parameters<typeof openWatch>[0]) =>
    refuse(call.response, 410, 'Expired', 'too old resource version');
  await using watch = await startWatching({
    watch: expired,
    options: { resume: { resourceVersion: '3', known: [] } },
  });
  await watch.hears('synced @1');
  const delays = [await watch.skipWait(), await watch.skipWait(), await watch.skipWait()];
  assert.ok(
    delays.every((ms, i) => ms >= 0.8 * 1600 * 2 ** i && ms <= 1.2 * 1600 * 2 ** i),
    `${delays.join()}`,
  );
  assert.equal(watch.asked('list').length, 3);
});

test('pages; an expired page makes it ask for all at once; nothing is told of half a list', async () => {
  const all = [pod('a', 'u1', '1'), pod('b', 'u2', '2'), pod('c', 'u3', '3')];
  const known = [{ namespace: 'x', name: 'z', uid: 'u0', resourceVersion: '1' }];
  const state = { isExpired: false };
  await using watch = await startWatching({
    list: ({ response, url }) => {
      const next = url.searchParams.get('continue');
      const limit = url.searchParams.get('limit');
      if (limit === null) return json(response, list('9', all));
      if (next === null) return json(response, list('7', all.slice(0, 2), 'page 2'));
      if (state.isExpired) return refuse(response, 410, 'Expired', 'continue token is too old');
      state.isExpired = true;
      return json(response, list('7', all.slice(2)));
    },
    watch: (call, count) =>
      count === 1 ? refuse(call.response, 410, 'Gone', '') : openWatch(call),
    options: { resume: { resourceVersion: '3', known } },
  });
  await watch.hears('gone z/u0', 'put a/u1@1', 'put b/u2@2', 'put c/u3@3', 'synced a b c @7');
  await watch.reaches('watching');
  watch.send(event('ERROR', { kind: 'Status', code: 410 }));
  await watch.skipWait();
  await watch.hears('synced a b c @9');
  const asked = watch.asked('list').map((query) => [query.get('limit'), query.get('continue')]);
  assert.deepEqual(asked, [
    ['500', null],
    ['500', 'page 2'],
    ['500', null],
    ['500', 'page 2'],
    [null, null],
  ]);
});

test('no deletion from a list that failed, was cut, is of another kind or never ends', async () => {
  const known = [{ namespace: 'x', name: 'a', uid: 'u1', resourceVersion: '1' }];
  const page = { 'content-type': 'application/json' };
  const whole = JSON.stringify(list('9', [pod('a', 'u1', '1')]));
  await using watch = await startWatching({
    list: ({ response }, count) => {
      if (count === 1) return refuse(response, 403, 'Forbidden', 'no');
      if (count === 2) return response.writeHead(200, page).end(whole.slice(0, -20));
      if (count === 3) return json(response, { ...list('9', []), kind: 'NodeList' });
      if (count === 4)
        return response.writeHead(200, { 'content-type': 'text/html' }).end('<html>');
      if (count === 5) return json(response, list('9', [{ metadata: { name: 'a' } }]));
      if (count === 6) return json(response, list('9', [], 'more'));
      // Twice, since an idle connection that breaks is tried again at once.
      if (count === 7 || count === 8) return watch.peer.drop();
      if (count === 9) return refuse(response, 500, 'InternalError', 'etcd');
      if (count < 10 + LIMITS.apiListedObjects / 1000) {
        const items = Array.from({ length: 1000 }, (_, i) => pod(`p${i}`, `v${i}`, '1'));
        return json(
          response,
          list('9', count === 10 ? [...items, pod('q', 'q', '1')] : items, 'on'),
        );
      }
      return json(response, list('9', [pod('a', 'u1', '1')]));
    },
    watch: (call, count) =>
      count === 1 ? refuse(call.response, 410, 'Gone', '') : openWatch(call),
    options: { resume: { resourceVersion: '3', known } },
  });
  const words = [
    /Forbidden|no/,
    /no JSON/,
    /NodeList/,
    /web page/,
    /without name/,
    /reset/,
    /etcd/,
    /more than 10000/,
  ];
  for (const text of words) {
    assert.match(why(await watch.reaches('waiting'))!.message, text);
    assert.deepEqual(watch.told, []);
    watch.clock.advance(36_001);
  }
  await watch.hears('synced a @9');
});

test('events in single bytes, of 5 MiB, and with characters cut in two', async () => {
  await using watch = await startWatching();
  await watch.reaches('watching');
  const line = `${JSON.stringify(event('ADDED', pod('ä€😀', 'u1', '2')))}\n`;
  for (const byte of Buffer.from(line)) watch.open.write(Buffer.from([byte]));
  const data = 'ü'.repeat((5 * 1024 * 1024) / 2);
  watch.send(event('ADDED', pod('b', 'u2', '3', { annotations: { data } })), bookmark('4'));
  await watch.hears('synced @1', 'put ä€😀/u1@2', 'put b/u2@3', 'bookmark 4');
});

test('what can not be read is passed over by a list', async () => {
  const bad: (string | object)[] = [
    '{"type":"ADDED","object":\n',
    'null\n',
    event('ADDED', { metadata: { name: 'a', resourceVersion: '1' } }),
    event('BOOKMARK', {}),
    event('BOGUS', pod('a', 'u1', '1')),
    event('ERROR', { kind: 'Status', code: 500, message: 'etcdserver: no leader' }),
    `${'x'.repeat(LIMITS.apiEventBytes + 1)}\n`,
  ];
  await using watch = await startWatching({
    consumer: { put: ({ metadata }) => assert.fail(`put ${metadata.name}`) },
  });
  for (const [round, text] of [
    /no JSON/,
    /no JSON object/,
    /no name/,
    /bookmark/,
    /unknown type/,
    /no leader/,
    /more than/,
  ].entries()) {
    await watch.reaches('watching');
    await watch.hears('synced @1');
    // What comes behind it is not believed either.
    watch.send(bad[round]!, event('ADDED', pod('b', 'u2', '2')));
    const fault = why(await watch.reaches('waiting'))!;
    assert.match(fault.message, text);
    assert.equal(fault.code, 'Unknown');
    watch.clock.advance(36_001);
  }
});

test('half an event, a broken connection: it goes on where it stopped', async () => {
  await using watch = await startWatching();
  await watch.reaches('watching');
  watch.send(bookmark('5'), '{"type":"ADDED"');
  await watch.hears('synced @1', 'bookmark 5');
  watch.open.end();
  assert.match(why(await watch.reaches('waiting'))!.message, /in the middle of an event/);
  watch.clock.advance(2000);
  await watch.reaches('watching');
  watch.peer.drop();
  assert.match(why(await watch.reaches('waiting'))!.message, /broke in the middle of the answer/);
  watch.clock.advance(4000);
  await watch.reaches('watching');
  assert.deepEqual(
    watch.asked('watch').map((query) => query.get('resourceVersion')),
    ['1', '5', '5'],
  );
  assert.equal(watch.asked('list').length, 1);
});

test('a dead connection is found out in 75 s', async () => {
  await using watch = await startWatching();
  await watch.hears('synced @1');
  await watch.reaches('watching');
  watch.clock.advance(60_000);
  watch.send(bookmark('5'));
  await watch.hears('bookmark 5');
  watch.clock.advance(74_999);
  assert.equal(watch.states.at(-1)!.phase, 'watching');
  watch.clock.advance(1);
  const fault = why(await watch.reaches('waiting'))!;
  assert.deepEqual([fault.code, /silent for 75 s/.test(fault.message)], ['DeadlineExceeded', true]);
  watch.clock.advance(2000);
  await watch.reaches('watching');
  // It had spoken, so nothing speaks against its version. The next says nothing at all.
  assert.equal(watch.asked('list').length, 1);
  watch.clock.advance(75_000);
  await watch.skipWait();
  await watch.hears('synced @1');
});

test('a server that hangs: before its answer, and in a list', async () => {
  await using watch = await startWatching({
    list: ({ response }, count) => (count === 1 ? undefined : json(response, list('1', []))),
    watch: (call, count) => (count === 1 ? undefined : openWatch(call)),
  });
  await until(() => watch.asked('list').length === 1, 'a list');
  watch.clock.advance(60_000);
  assert.match(why(await watch.reaches('waiting'))!.message, /no answer within 60 s/);
  watch.clock.advance(1000);
  await until(() => watch.asked('watch').length === 1, 'a watch');
  watch.clock.advance(30_000);
  assert.match(why(await watch.reaches('waiting'))!.message, /silent for 30 s/);
  watch.clock.advance(2000);
  await watch.reaches('watching');
  assert.equal(
    watch.asked('list').length,
    2,
    'a watch that never began says nothing of its version',
  );
});

test('backoff from 0.8 s to 30 s with jitter, forgotten after two good minutes', async () => {
  await using watch = await startWatching({
    watch: (call, count) => {
      // Twice the first time: the list has used the connection, so it may have been an idle one.
      if (count <= 10) watch.peer.drop();
      else openWatch(call);
    },
  });
  const delays: number[] = [];
  for (let i = 0; i < 9; i++) delays.push(await watch.skipWait());
  const full = [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000];
  const ratios = delays.map((ms, i) => ms / full[i]!);
  assert.ok(
    ratios.every((ratio) => ratio >= 0.8 && ratio <= 1.2),
    ratios.join(),
  );
  assert.ok(new Set(ratios.map((ratio) => ratio.toFixed(3))).size > 5, 'there is chance in it');
  await watch.reaches('watching');
  for (let minute = 0; minute < 2; minute++) {
    watch.clock.advance(60_000);
    watch.send(bookmark('5'));
    await until(() => watch.told.filter((line) => line === 'bookmark 5').length > minute, 'it');
  }
  watch.peer.drop();
  assert.ok((await watch.skipWait()) <= 960);
  assert.equal(watch.asked('list').length, 1);
});

test('a server that ends each watch at once is not asked in a hot loop', async () => {
  await using watch = await startWatching({
    watch: (call) => {
      openWatch(call);
      call.response.end(`${JSON.stringify(bookmark('5'))}\n`);
    },
  });
  for (let i = 0; i < 4; i++) assert.ok((await watch.skipWait()) >= 0.8 * 800 * 2 ** i);
  assert.match(why(await watch.reaches('waiting'))!.message, /before its time/);
});

test('Retry-After: in a header and in an event', async () => {
  const later = { kind: 'Status', code: 429, details: { retryAfterSeconds: 40 } };
  await using watch = await startWatching({
    list: ({ response }, count) =>
      count === 1
        ? refuse(response, 503, 'ServiceUnavailable', 'starting', { 'retry-after': '20' })
        : json(response, list('1', [])),
  });
  const first = await watch.skipWait();
  assert.ok(first >= 20_000 && first <= 24_000);
  await watch.reaches('watching');
  watch.send(event('ERROR', later));
  const second = await watch.skipWait();
  assert.ok(second >= 40_000 && second <= 48_000);
  await watch.reaches('watching');
  assert.equal(watch.asked('list').length, 2);
});

test('when the server answers again it is tried at once and anew, but not before Retry-After', async () => {
  const recovery = createRecovery();
  const later = { kind: 'Status', code: 429, details: { retryAfterSeconds: 40 } };
  await using watch = await startWatching({
    options: { recovery },
    list: ({ response }, count) =>
      count <= 8
        ? refuse(response, 503, 'ServiceUnavailable', 'starting')
        : json(response, list('1', [])),
  });
  for (let i = 0; i < 6; i++) await watch.skipWait();
  await watch.reaches('waiting');
  const before = watch.asked('list').length;
  await pause(5);
  assert.equal(watch.asked('list').length, before);
  recovery.tell();
  assert.ok((await watch.skipWait()) <= 960, 'the backoff begins anew');
  await watch.reaches('watching');
  watch.send(event('ERROR', later));
  await watch.reaches('waiting');
  recovery.tell();
  await pause(5);
  watch.clock.advance(39_000);
  await pause(5);
  assert.equal(watch.asked('watch').length, 1);
  watch.clock.advance(9000);
  await watch.reaches('watching');
});

test('another cluster: nothing is told of its list, and its watch is not opened', async () => {
  const known = [{ namespace: 'x', name: 'a', uid: 'u1', resourceVersion: '5' }];
  const verified: (string | undefined)[] = [];
  const state = { isOther: true };
  await using watch = await startWatching({
    options: {
      resume: { resourceVersion: '7', known },
      verify: (version) => {
        verified.push(version);
        if (state.isOther) throw new Failure('Conflict', 'it is another cluster');
        return Promise.resolve();
      },
    },
  });
  assert.equal(why(await watch.reaches('waiting'))!.message, 'it is another cluster');
  watch.clock.advance(36_000);
  await watch.reaches('waiting');
  assert.deepEqual(verified, [undefined, '1']);
  assert.deepEqual([watch.told, watch.asked('watch')], [[], []]);
  state.isOther = false;
  watch.clock.advance(36_000);
  await watch.hears('gone a/u1', 'synced @1');
});

test('what the consumer could not take is told again; any other error comes out', async () => {
  const state = { isFull: true };
  await using watch = await startWatching({
    list: ({ response }) => json(response, list('7', [pod('a', 'u1', '5')])),
    consumer: {
      put: ({ metadata }) => {
        if (state.isFull) throw new Failure('NoSpace', 'the disk is full');
        watch.told.push(`put ${metadata.uid}`);
        if (metadata.name === 'bug') throw new TypeError('a bug');
      },
    },
  });
  assert.equal(why(await watch.reaches('waiting'))!.code, 'NoSpace');
  state.isFull = false;
  watch.clock.advance(1000);
  await watch.hears('put u1', 'synced a @7');
  await watch.reaches('watching');
  watch.send(event('ADDED', pod('bug', 'u2', '8')));
  await assert.rejects(watch.ended, TypeError);
  assert.equal(watch.clock.timers, 0);
});

/** More of them on demand; each costs a TLS handshake of both sides. */
const CYCLES = Number(process.env['LIMPET_WATCH_CYCLES'] ?? 100);

test('nothing is left behind by connections that break', { timeout: 600_000 }, async () => {
  await using watch = await startWatching();
  const cycle = async () => {
    await watch.reaches('watching');
    watch.send(bookmark('5'));
    const count = watch.told.length;
    await until(() => watch.told.length > count, 'a bookmark');
    watch.peer.drop();
    await watch.reaches('waiting');
    watch.clock.advance(36_000);
    for (const record of [watch.told, watch.asked('watch'), watch.peer.calls]) record.length = 0;
  };
  const files = () => readdirSync('/proc/self/fd').length;
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc') as () => void;
  for (let i = 0; i < 50; i++) await cycle();
  collect();
  const before = { heap: process.memoryUsage().heapUsed, files: files() };
  for (let i = 0; i < CYCLES; i++) await cycle();
  collect();
  const grownBytes = process.memoryUsage().heapUsed - before.heap;
  assert.ok(grownBytes < 1024 * 1024, `${grownBytes} bytes more after ${CYCLES} connections`);
  assert.ok(files() <= before.files + 2, `${files()} open files, ${before.files} before`);
  assert.ok(watch.clock.timers <= 2);
});

test('an abort ends it wherever it stands, and leaves nothing', async () => {
  const aborts: ((watch: Awaited<ReturnType<typeof startWatching>>) => Promise<unknown>)[] = [
    (watch) => until(() => watch.asked('list').length === 1, 'a list'),
    (watch) => watch.reaches('watching'),
    async (watch) => {
      await watch.reaches('watching');
      watch.peer.drop();
      await watch.reaches('waiting');
    },
  ];
  for (const [index, reach] of aborts.entries()) {
    await using watch = await startWatching(index === 0 ? { list: () => undefined } : {});
    await reach(watch);
    await watch.stop();
    assert.equal(watch.clock.timers, 0);
    watch.client.close();
    await until(() => watch.peer.sockets.size === 0, 'no connection');
  }
  const controller = new AbortController();
  await using watch = await startWatching({ options: { signal: controller.signal } });
  await watch.reaches('watching');
  controller.abort();
  await watch.ended;
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0);
});
