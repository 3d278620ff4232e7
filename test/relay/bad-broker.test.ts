/** Brokers that refuse, drip, break off and talk rubbish, and disks that are full: what is said. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.ts';
import { connectBroker } from '../../src/mqtt/client.ts';
import { decode } from '../../src/relay/codec.ts';
import { topicOf } from '../../src/relay/topic.ts';
import { createAuthority } from '../../scripts/lib/certificates.ts';
import { startBroker } from '../../scripts/lib/broker.ts';
import { freePorts } from '../../scripts/lib/ports.ts';
import { createNode, NAME, pod, until } from './world.ts';

type Node = ReturnType<typeof createNode>;

const failure = (n: number) => ({
  ...({ type: 'Warning', reason: 'BackOff', message: `failure ${n}` } as const),
  object: { kind: 'Pod', namespace: 'default', name: 'web-1', uid: pod(1).uid } as const,
});

/** Until the report says it, through all attempts to connect. */
async function says(node: Node, message: RegExp): Promise<void> {
  const is = () => message.test(node.relay.report().message ?? '');
  for (let tries = 0; tries < 300 && !is(); tries++) {
    await sleep(20);
    if (tries % 10 === 9) node.clock.skip(1000);
  }
  const { connected, message: said } = node.relay.report();
  assert.match(said ?? '', message);
  assert.equal(connected, false);
}

/** Answers each packet, the first with the first answer, and the last for all that follow. */
async function peer(...answers: ((socket: Socket, packet: Uint8Array) => void)[]) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let turn = 0;
    socket.on('error', () => undefined);
    socket.on('data', (packet: Buffer) =>
      answers[Math.min(turn++, answers.length - 1)]!(socket, packet),
    );
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.dispose]: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const CONNACK = Buffer.from([0x20, 3, 0, 0, 0]);
const accept = (socket: Socket) => void socket.write(CONNACK);

/** The pauses between many attempts grow. */
async function backsOff(node: Node): Promise<void> {
  for (let tries = 0; tries < 2000 && node.clock.slept.length < 25; tries++) {
    await sleep(5);
    node.clock.skip(10_000);
  }
  const { slept } = node.clock;
  assert.ok(slept.length >= 25, `${slept.length} attempts`);
  assert.ok(
    slept.every((ms) => ms >= 1000 && ms <= 300_000),
    slept.join(' '),
  );
  assert.ok(Math.max(...slept.slice(0, 3)) < 10_000, slept.join(' '));
  assert.ok(Math.max(...slept.slice(10)) > 60_000, slept.join(' '));
}

test('an access list that forbids to publish: the reason 135, and ever longer pauses', async () => {
  await using broker = await startBroker(['acl_file $dir/acl'], { acl: 'topic read limpet/#\n' });
  const node = createNode(() => broker);
  await says(node, /refused for lack of a right; .*access list \(reason 135\)/);
  await backsOff(node);
  await node.end();
});

test('a broker that refuses the subscription', async () => {
  const refuse = (socket: Socket, packet: Uint8Array) =>
    void socket.write(Buffer.from([0x90, 4, packet[2]!, packet[3]!, 0, 0x87]));
  using strict = await peer(accept, refuse);
  const node = createNode(() => strict);
  await says(node, /lack of a right.*\(reason 135\)/);
  await node.end();
});

test('a broker that drips one byte in a second is given up; one that drips faster is not', async () => {
  await using broker = await startBroker();
  let everyMs = 1000;
  const proxy = createServer((socket) => {
    const far = connect(broker.port, '127.0.0.1');
    const bytes: number[] = [];
    const timer = setInterval(() => {
      const byte = bytes.shift();
      if (byte !== undefined) socket.write(Buffer.from([byte]));
    }, everyMs);
    socket.on('data', (chunk) => far.write(chunk));
    far.on('data', (chunk: Buffer) => bytes.push(...chunk));
    for (const one of [socket, far]) {
      one.on('error', () => undefined);
      one.on('close', () => {
        clearInterval(timer);
        socket.destroy();
        far.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const { port } = proxy.address() as AddressInfo;
  const node = createNode(() => ({ port, deadlineMs: 2000, clock: systemClock('b', () => 0) }));
  await says(node, /did not answer within 2 s/);
  everyMs = 5;
  node.clock.skip(300_000);
  await until('connected', () => node.relay.report().connected);
  await node.end();
  proxy.close();
});

test('a broker that closes in the middle of a packet; one that talks rubbish', async () => {
  for (const [end, message] of [
    [(socket: Socket) => socket.end(Buffer.from([0x30, 100, 0, 3, 0x63])), /closed the connection/],
    [(socket: Socket) => socket.write(Buffer.from([0xf7, 3, 9, 9, 9])), /no MQTT|disconnect/i],
    [(socket: Socket) => socket.write(Buffer.alloc(64, 0xff)), /no MQTT/],
  ] as const) {
    using broken = await peer(accept, end);
    const node = createNode(() => broken);
    await says(node, message);
    await node.end();
  }
});

test('110 pods in JSON arrive whole; a broker that takes no such packet is named', async () => {
  const fill = (node: Node) => {
    for (let n = 0; n < 110; n++) {
      const name = `web-${n}-${'x'.repeat(240)}`;
      node.pods.set(n, { ...pod(n), name, reason: 'CrashLoopBackOff' });
    }
    node.relay.changed();
  };
  {
    await using broker = await startBroker();
    const node = createNode(() => broker, { encoding: 'json' });
    fill(node);
    await until('connected', () => node.relay.report().connected);
    const heard: number[] = [];
    const reader = await connectBroker(
      {
        ...{ host: '127.0.0.1', port: broker.port, tls: false, version: 'auto', clientId: 'r' },
        ...{ credentials: {}, keepAliveSeconds: 60, deadlineMs: 5000, sessionExpirySeconds: 0 },
        ...{ clock: systemClock('b', () => 0), retained: true },
        onMessage: ({ payload }) => {
          const snap = decode('snap', payload);
          if (snap.ok) heard.push(snap.message.pods.length, payload.length);
        },
      },
      new AbortController().signal,
    );
    await reader.subscribe(topicOf(NAME, 'snap'));
    await until('the snapshot', () => heard.length > 0);
    assert.equal(heard[0], 110);
    assert.ok(heard[1]! > 32_768, `${heard[1]} bytes`);
    await reader.end();
    await node.end();
  }
  // It takes the connection each time; so the pauses must not begin anew with each.
  await using broker = await startBroker(['max_packet_size 20000']);
  for (const [version, message] of [
    ['5', /takes no packet above 20000 bytes, and .*\/snap has \d{5}; raise its limit/],
    ['3.1.1', /closed the connection at a message of \d{5} bytes to .*\/snap: does it take/],
  ] as const) {
    const node = createNode(() => ({ ...broker, version }), { encoding: 'json' });
    fill(node);
    await says(node, message);
    await backsOff(node);
    await node.end();
  }
});

test('certificates: not valid yet in 1970; our own has expired', async () => {
  const authority = createAuthority('fleet');
  const day = 86_400_000;
  const [from, to] = [new Date(Date.now() + day), new Date(Date.now() + 2 * day)];
  const names = ['127.0.0.1'];
  const valid = authority.issue({ name: 'broker', names });
  const later = authority.issue({ name: 'broker', names, from, to });
  const tls = ['cafile $dir/ca.pem', 'certfile $dir/cert.pem', 'keyfile $dir/key.pem'];
  const files = ({ certificate, key }: typeof valid) => ({
    ...{ 'ca.pem': authority.certificate, 'cert.pem': certificate, 'key.pem': key },
  });
  const trust = { tls: true, credentials: { authority: authority.certificate } };
  const real = systemClock('b', () => 0);
  const in1970 = { ...real, now: () => ({ ...real.now(), wallMs: 5000 }) };
  {
    await using broker = await startBroker(tls, files(later));
    const node = createNode(() => ({ port: broker.port, ...trust, clock: in1970 }));
    await says(node, /not valid yet; the clock of this board is wrong: it is waiting for the time/);
    await node.end();
  }
  await using broker = await startBroker([...tls, 'require_certificate true'], files(valid));
  const past = [new Date(Date.now() - 9 * day), new Date(Date.now() - day)] as const;
  const own = authority.issue({ name: NAME.node, from: past[0], to: past[1] });
  const credentials = { ...trust.credentials, certificate: own.certificate, key: own.key };
  const node = createNode(() => ({ port: broker.port, tls: true, credentials }));
  await says(node, /refused our certificate; is it of its authority and still valid/);
  await node.end();
});

const mayMount = process.getuid?.() === 0;

test(
  'a full disk: nothing is thrown, what is lost is counted, and it heals',
  {
    ...(!mayMount && { skip: 'mounting a small tmpfs takes root' }),
  },
  async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'limpet-small-disk-'));
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', root]);
    assert.equal(mounted.status, 0, mounted.stderr.toString());
    t.after(() => {
      spawnSync('umount', ['--lazy', root]);
      rmSync(root, { recursive: true, force: true });
    });
    mkdirSync(join(root, 'store'));
    let [port = 0] = await freePorts(1);
    const node = createNode(() => ({ port }), { directory: join(root, 'store') });
    await says(node, /nothing listens/);
    const ballast = join(root, 'ballast');
    const { bavail, bsize } = statfsSync(root);
    writeFileSync(ballast, Buffer.alloc(bavail * bsize));
    for (let n = 0; n < 1500; n++) node.relay.event(failure(n), node.clock.now());
    node.pods.set(1, pod(1, 7));
    node.relay.changed();
    const { waiting, dropped } = node.relay.report();
    assert.ok(
      waiting > 900 && dropped >= 500 && waiting + dropped >= 1501,
      `${waiting}, ${dropped}`,
    );
    await using broker = await startBroker();
    port = broker.port;
    await says(node, /cannot reserve sequence numbers.*outbox\.db.*free some space/);
    rmSync(ballast);
    node.clock.skip(300_000);
    await until('all told', () => node.relay.report().waiting === 0);
    assert.equal(node.relay.report().connected, true);
    assert.equal(node.relay.report().dropped, dropped);
    await node.end();
  },
);
