import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { encode as cbor } from 'cborg';
import { LIMITS } from '../../src/base/limits.ts';
import { seededRandom } from '../../src/base/random.ts';
import { decode, encode } from '../../src/relay/codec.ts';
import { MESSAGE_BYTES, type Delta, type PodState, type Snap } from '../../src/relay/message.ts';
import { messageSchema } from '../../src/relay/schema.ts';
import { nameProblem, parseTopic, topicOf } from '../../src/relay/topic.ts';
import { anyMessage, KINDS } from './messages.ts';

const T = 1_795_640_000;
const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

const podState = (index: number): PodState => ({
  uid: seededRandom(index).uuid(),
  namespace: 'default',
  name: `web-7d4b9c5f8-x${index}k2p`,
  phase: 'Running',
  ready: 1,
  containers: 1,
  restarts: index,
  since: T + index,
});

const CONDITION_TYPES = ['Ready', 'UnderVoltage', 'Throttled', 'Overheated', 'StorageWorn'];

const snap: Snap = {
  v: '1.0',
  g: 5,
  q: 5000,
  t: T,
  sid: '3f2a9c1d-12',
  node: {
    version: '0.1.0',
    arch: 'arm64',
    os: 'Debian GNU/Linux 13 (trixie)',
    kernel: '6.12.47+rpt-rpi-v8',
    model: 'Raspberry Pi 4 Model B Rev 1.5',
    serial: '10000000abcdef01',
    cpus: 4,
    memoryMB: 3792,
    bootedAt: T,
    address: '192.168.1.20',
  },
  pods: Array.from({ length: 10 }, (_, index) => podState(index)),
  conditions: CONDITION_TYPES.map((type) => ({ type, status: 'False', since: T })),
};

test('every message comes back as it was, in CBOR and in JSON', () => {
  const random = seededRandom(1);
  for (let round = 0; round < 2000; round++) {
    for (const kind of KINDS) {
      const message = anyMessage(kind, random);
      for (const encoding of ['cbor', 'json'] as const) {
        const bytes = encode(kind, message, encoding);
        assert.deepEqual(decode(kind, bytes), { ok: true, message }, `${kind} ${encoding}`);
      }
    }
  }
});

test('the sizes: a snapshot of ten pods, a delta of one crash', () => {
  const crashed = { ...podState(0), ready: 0, restarts: 12, reason: 'CrashLoopBackOff' };
  const message = 'Back-off restarting failed container main';
  const event = { back: 1, type: 'Warning', reason: 'BackOff', message } as const;
  // Numbers as they are: the first ones of an outbox are milliseconds since 1970.
  const head = { q: 1_795_640_000_123, t: T, skip: 1, b: 1234 };
  const crash: Delta = { ...head, pods: [crashed] };
  const withEvent: Delta = { ...head, pods: [{ ...crashed, events: [event] }] };
  assert.ok(encode('snap', snap, 'cbor').length <= 1100);
  assert.ok(encode('delta', crash, 'cbor').length <= 84);
  assert.ok(encode('delta', withEvent, 'cbor').length <= 134);
});

test('110 pods with the longest names are one message that brokers take, in each encoding', () => {
  const longest: PodState = {
    ...podState(0),
    ...{ namespace: 'n'.repeat(63), name: 'x'.repeat(253), reason: 'r'.repeat(64) },
    ...{ containers: 4, restarts: 1234 },
  };
  const pods = Array.from({ length: LIMITS.pods }, (_, n) => ({
    ...longest,
    uid: podState(n).uid,
  }));
  for (const encoding of ['cbor', 'json'] as const) {
    const bytes = encode('snap', { ...snap, pods }, encoding);
    assert.ok(bytes.length <= 64_000, `${bytes.length} bytes`);
    assert.ok(decode('snap', bytes).ok);
  }
});

test('what is too long or no number is brought into bounds, and can be read', () => {
  const wild = {
    id: 'x'.repeat(100),
    q: Number.NaN,
    t: -5,
    type: 'Warning',
    reason: 'BackOff',
    object: { kind: 'Pod', name: 'web' },
    message: `${'x'.repeat(1023)}😀`,
    count: 1e300,
  } as const;
  const back = decode('evt', encode('evt', wild, 'cbor'));
  assert.ok(back.ok);
  assert.equal(back.message.id.length, 64);
  assert.equal(back.message.q, 0);
  assert.equal(back.message.t, 0);
  assert.equal(back.message.message.length, 1024);
  assert.ok(back.message.message.isWellFormed());
});

test('what a newer minor version adds is ignored, a newer major version is refused', () => {
  const known = decode('snap', text({ ...snap, v: '1.7', later: { a: [1] } }));
  assert.deepEqual(known, { ok: true, message: { ...snap, v: '1.7' } });
  const cmd = decode(
    'cmd',
    cbor(
      new Map<number, unknown>([
        [0, 'a'],
        [1, 0],
        [99, 'later'],
      ]),
    ),
  );
  assert.deepEqual(cmd, { ok: true, message: { id: 'a', do: 'rebirth' } });
  const major = decode('snap', text({ ...snap, v: '2.0' }));
  assert.ok(!major.ok && major.fault.message.includes('upgrade'));
  assert.equal(parseTopic('limpet/v2/home/pi1/state'), undefined);
});

test('bad input is refused with the place, and never throws', () => {
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [new Uint8Array(), /neither/],
    [text({ id: 'a', do: 'reboot' }), /do: is none of rebirth/],
    [text({ do: 'rebirth' }), /id: is missing/],
    [text({ id: 7, do: 'rebirth' }), /id: is no text/],
    [text({ id: 'x'.repeat(65), do: 'rebirth' }), /id: is longer/],
    [text([]), /neither/],
    [cbor([]), /is no record/],
    [cbor('text'), /is no record/],
    [new Uint8Array(100_000).fill(0x81), /neither/],
    [new Uint8Array([0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), /neither/],
    [new Uint8Array([0xbb, 0, 0, 0, 1, 0, 0, 0, 0]), /neither/],
    [new TextEncoder().encode('{"a":'.repeat(20_000)), /neither/],
    [new Uint8Array(MESSAGE_BYTES + 1), /more than/],
    [text(JSON.parse('{"__proto__":{"id":"a","do":"rebirth"}}')), /missing/],
  ];
  for (const [bytes, said] of cases) {
    const answer = decode('cmd', bytes);
    assert.ok(!answer.ok);
    assert.equal(answer.fault.code, 'InvalidArgument');
    assert.match(answer.fault.message, said);
  }
});

test('messages with flipped bytes are read or refused', () => {
  const random = seededRandom(2);
  for (let round = 0; round < 4000; round++) {
    for (const encoding of ['cbor', 'json'] as const) {
      const bytes = encode('snap', snap, encoding);
      for (let flips = 0; flips < 4; flips++) {
        bytes[Math.floor(random.next() * bytes.length)] = Math.floor(random.next() * 256);
      }
      const cut = bytes.subarray(0, Math.ceil(random.next() * bytes.length));
      decode('snap', round % 2 === 0 ? bytes : cut);
    }
  }
});

test('topics: names that would be something else in a topic are no names', () => {
  const name = { fleet: 'home', node: 'pi1' };
  assert.equal(topicOf(name, 'snap'), 'limpet/v1/home/pi1/snap');
  assert.deepEqual(parseTopic('limpet/v1/home/pi1/snap'), { ...name, kind: 'snap' });
  for (const bad of ['', 'a/b', '+', 'a#', '$SYS', 'a\u0000', '\ud800', 'x'.repeat(254)]) {
    assert.notEqual(nameProblem(bad), undefined, bad);
  }
  for (const bad of ['limpet/v1/home/pi1', 'limpet/v1/home/pi1/toString', 'limpet/v1/a/b/snap/c']) {
    assert.equal(parseTopic(bad), undefined);
  }
});

test('the JSON Schema in the repository is that of the table', async () => {
  const file = join(import.meta.dirname, '../../src/relay/message.schema.json');
  const schema = `${JSON.stringify(messageSchema(), undefined, 2)}\n`;
  // LIMPET_RECORD=1 writes it again, after a change of the table.
  if (process.env['LIMPET_RECORD'] === '1') await writeFile(file, schema);
  assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), JSON.parse(schema));
});
