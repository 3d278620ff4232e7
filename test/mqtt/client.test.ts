/** The driver against a real mosquitto, and against peers that only pretend to be one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import { connectBroker, type BrokerOptions, type Message } from '../../src/mqtt/client.ts';
import { packetGuard } from '../../src/mqtt/guard.ts';
import { createAuthority } from '../../scripts/lib/certificates.ts';
import { startBroker } from '../../scripts/lib/broker.ts';
import { freePorts } from '../../scripts/lib/ports.ts';

const clock = systemClock('boot', () => 0);
const bytes = (text: string) => new TextEncoder().encode(text);
const forEver = new AbortController().signal;
const HELLO = { qos: 1, retain: false } as const;

function options(port: number, more: Partial<BrokerOptions> = {}): BrokerOptions {
  return {
    ...{ host: '127.0.0.1', port, tls: false, version: 'auto', clientId: 'limpet-test' },
    ...{
      credentials: {},
      keepAliveSeconds: 60,
      deadlineMs: 2000,
      sessionExpirySeconds: 3600,
      clock,
    },
    will: { topic: 'will', payload: bytes('gone'), delaySeconds: 0 },
    onMessage: () => undefined,
    ...more,
  };
}

async function refused(given: BrokerOptions, code: Failure['code'], message: RegExp) {
  await assert.rejects(connectBroker(given, forEver), (error) => {
    assert.ok(error instanceof Failure, String(error));
    assert.match(error.message, message);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

test('publishes, hears, and says goodbye, in both versions', async () => {
  await using broker = await startBroker();
  for (const version of ['5', '3.1.1'] as const) {
    const heard: Message[] = [];
    const onMessage = (message: Message) => void heard.push(message);
    const given = options(broker.port, { version, onMessage });
    const connection = await connectBroker(given, forEver);
    assert.equal(connection.version, version);
    await connection.subscribe('a/#');
    await connection.publish('a/b', bytes('x'), HELLO);
    while (heard.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.equal(heard[0]?.topic, 'a/b');
    await connection.end();
    assert.ok((await connection.closed) instanceof Failure);
    await assert.rejects(connection.publish('a/b', bytes('x'), HELLO), Failure);
  }
});

test('the will is told of a lost link and not of a goodbye; a retained command is not heard', async () => {
  await using broker = await startBroker();
  const heard: string[] = [];
  const watcher = await connectBroker(
    options(broker.port, { clientId: 'watcher', onMessage: ({ topic }) => void heard.push(topic) }),
    forEver,
  );
  await watcher.publish('cmd', bytes('old'), { qos: 1, retain: true });
  await watcher.subscribe('cmd');
  await watcher.subscribe('will');
  const ended = await connectBroker(options(broker.port), forEver);
  await ended.end();
  const lost = await connectBroker(options(broker.port), forEver);
  lost.destroy(new Failure('Unavailable', 'pulled'));
  for (let n = 0; n < 200 && heard.length === 0; n++) await new Promise((r) => setTimeout(r, 10));
  assert.deepEqual(heard, ['will']);
  await watcher.end();
});

test('a broker that hangs ends the publish; one that is killed ends the connection', async () => {
  await using broker = await startBroker();
  const connection = await connectBroker(options(broker.port, { deadlineMs: 500 }), forEver);
  broker.signal('SIGSTOP');
  await assert.rejects(connection.publish('a', bytes('x'), HELLO), /did not acknowledge/);
  await refused(options(broker.port, { deadlineMs: 300 }), 'DeadlineExceeded', /did not answer/);
  broker.signal('SIGCONT');
  const second = await connectBroker(options(broker.port), forEver);
  await broker.stop();
  assert.match((await second.closed).message, /closed the connection/);
  await refused(options(broker.port), 'Unavailable', /nothing listens/);
  await broker.start();
  await (await connectBroker(options(broker.port), forEver)).end();
});

test('a wrong password is refused with a word for it, and the password is not in it', async () => {
  await using broker = await startBroker(['password_file $dir/passwords'], {
    passwords: 'pi:secret-word\n',
  });
  const login = (password: string) =>
    options(broker.port, { credentials: { username: 'pi', password } });
  await (await connectBroker(login('secret-word'), forEver)).end();
  for (const version of ['5', '3.1.1'] as const) {
    await refused({ ...login('other-word'), version }, 'PermissionDenied', /^(?!.*other-word)/);
  }
});

test('certificates: right, of another name, expired, of a stranger, none', async () => {
  const authority = createAuthority('fleet');
  const stranger = createAuthority('stranger');
  const server = authority.issue({ name: 'broker', names: ['127.0.0.1', 'localhost'] });
  const files = {
    'ca.pem': authority.certificate,
    'cert.pem': server.certificate,
    'key.pem': server.key,
  };
  const tls = ['cafile $dir/ca.pem', 'certfile $dir/cert.pem', 'keyfile $dir/key.pem'];
  const trust = { authority: authority.certificate };
  const over = (port: number, more: Partial<BrokerOptions>) =>
    options(port, { tls: true, ...more });
  {
    await using broker = await startBroker([...tls, 'require_certificate true'], files);
    const own = authority.issue({ name: 'pi' });
    const mine = { ...trust, certificate: own.certificate, key: own.key };
    await (await connectBroker(over(broker.port, { credentials: mine }), forEver)).end();
    await refused(
      over(broker.port, { credentials: trust }),
      'Unauthenticated',
      /refused our certificate/,
    );
    const other = { authority: stranger.certificate };
    await refused(over(broker.port, { credentials: other }), 'Unauthenticated', /not trusted/);
    await refused(options(broker.port), 'Unavailable', /closed the connection/);
  }
  const day = 86_400_000;
  const expired = authority.issue({
    ...{ name: 'broker', names: ['127.0.0.1'] },
    ...{ from: new Date(Date.now() - 9 * day), to: new Date(Date.now() - day) },
  });
  const elsewhere = authority.issue({ name: 'broker', names: ['elsewhere'] });
  for (const [{ certificate, key }, message] of [
    [expired, /expired/],
    [elsewhere, /another name/],
  ] as const) {
    await using broker = await startBroker(tls, {
      ...files,
      'cert.pem': certificate,
      'key.pem': key,
    });
    await refused(over(broker.port, { credentials: trust }), 'Unauthenticated', message);
  }
});

async function peer(answer: (socket: Socket) => void) {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => answer(socket));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { port, [Symbol.dispose]: () => void server.close() };
}

const CONNACK = Buffer.from([0x20, 3, 0, 0, 0]);

test('peers that are no broker', async () => {
  {
    using mute = await peer(() => undefined);
    await refused(options(mute.port, { deadlineMs: 200 }), 'DeadlineExceeded', /did not answer/);
  }
  {
    using half = await peer((socket) => socket.end(CONNACK.subarray(0, 2)));
    await refused(options(half.port), 'Unavailable', /closed the connection/);
  }
  {
    using web = await peer((socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await refused(options(web.port, { deadlineMs: 500 }), 'InvalidArgument', /no MQTT|more than/);
  }
  {
    using old = await peer((socket) => socket.write(Buffer.from([0x20, 2, 0, 1])));
    await refused(options(old.port), 'Unimplemented', /version/);
  }
  const [free = 0] = await freePorts(1);
  await refused(options(free), 'Unavailable', /nothing listens/);
});

test('a command of 200 MB costs no memory', async () => {
  using huge = await peer((socket) => {
    socket.write(
      Buffer.concat([CONNACK, Buffer.from([0x31, 0x80, 0x84, 0xaf, 0x5f, 0, 3]), bytes('cmd')]),
    );
    const flood = Buffer.alloc(65_536);
    const pour = () => {
      while (!socket.destroyed && socket.write(flood));
      socket.once('drain', pour);
    };
    pour();
  });
  const before = process.memoryUsage().rss;
  const outcome = await connectBroker(options(huge.port), forEver).then(
    (connection) => connection.closed,
    (error: Failure) => error,
  );
  assert.match(outcome.message, /a packet of 200000000 bytes|more than/);
  assert.ok(process.memoryUsage().rss - before < 32 * 1024 * 1024);
});

test('the guard counts alike, however the bytes are cut', () => {
  const good = Buffer.concat([
    CONNACK,
    Buffer.from([0xd0, 0]),
    Buffer.from([0x30, 0x80, 0x01]),
    Buffer.alloc(128),
    Buffer.from([0xd0, 0]),
  ]);
  for (let size = 1; size <= good.length; size++) {
    const guard = packetGuard(128);
    for (let at = 0; at < good.length; at += size) {
      assert.equal(guard(good.subarray(at, at + size)), undefined);
    }
    assert.match(guard(Buffer.from([0x30, 0x81, 0x01])) ?? '', /129 bytes/);
  }
  assert.match(packetGuard(10)(Buffer.from([0x30, 255, 255, 255, 255])) ?? '', /no MQTT/);
});
