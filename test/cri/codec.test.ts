import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Failure } from '../../src/base/failure.ts';
import { seededRandom, type Random } from '../../src/base/random.ts';
import {
  decode,
  encode,
  message,
  type Encodable,
  type Field,
  type Message,
} from '../../src/cri/codec.ts';
import * as schema from '../../src/cri/schema.ts';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');
const isMessage = (value: unknown): value is Message =>
  typeof value === 'object' && value !== null && 'byNumber' in value;
const messages = Object.values(schema).filter(isMessage);

test('known bytes, as the encoding guide spells them', () => {
  const sandbox = {
    metadata: { name: 'web', uid: 'u', namespace: 'default', attempt: 300 },
    state: 'SANDBOX_NOTREADY',
    createdAt: 1_700_000_000_000_000_001n,
    labels: { a: 'b' },
  } as const;
  const bytes = encode(schema.PodSandbox, sandbox);
  assert.equal(
    bytes.toString('hex'),
    '1214' +
      '0a03776562' +
      '120175' +
      '1a0764656661756c74' +
      '20ac02' + // metadata
      '1801' + // state
      '208180a8b1e39fe7cb17' + // created_at
      '2a060a016112' +
      '0162', // labels
  );
  assert.deepEqual(decode(schema.PodSandbox, bytes), { id: '', annotations: {}, ...sandbox });
});

test('what is left out decodes to its default', () => {
  assert.deepEqual(decode(schema.ContainerStatus, Buffer.alloc(0)), {
    id: '',
    metadata: undefined,
    state: 'CONTAINER_CREATED',
    createdAt: 0n,
    startedAt: 0n,
    finishedAt: 0n,
    exitCode: 0,
    imageRef: '',
    reason: '',
    message: '',
    labels: {},
    annotations: {},
    logPath: '',
  });
  assert.equal(encode(schema.ContainerStatus, { state: 'CONTAINER_CREATED' }).length, 0);
});

test('a wrapped zero is not nothing', () => {
  const zero = encode(schema.LinuxSandboxSecurityContext, { runAsUser: 0 });
  assert.equal(zero.toString('hex'), '1a00');
  assert.equal(decode(schema.LinuxSandboxSecurityContext, zero).runAsUser, 0);
  const none = decode(schema.LinuxSandboxSecurityContext, Buffer.alloc(0));
  assert.equal(none.runAsUser, undefined);
});

test('negative numbers, and numbers at the edge', () => {
  const type = schema.LinuxContainerResources;
  const negative = encode(type, { oomScoreAdj: -997, cpuQuota: -1 });
  assert.equal(decode(type, negative).oomScoreAdj, -997);
  assert.equal(decode(type, negative).cpuQuota, -1);
  const status = encode(schema.ContainerStatus, { exitCode: -1, createdAt: -(2n ** 63n) });
  assert.equal(decode(schema.ContainerStatus, status).exitCode, -1);
  assert.equal(decode(schema.ContainerStatus, status).createdAt, -(2n ** 63n));
  const large = encode(type, { memoryLimitInBytes: Number.MAX_SAFE_INTEGER });
  assert.equal(decode(type, large).memoryLimitInBytes, Number.MAX_SAFE_INTEGER);
  // uint64 2^53: a number would not hold it.
  assert.throws(() => decode(schema.Image, hex('20 8080808080808010')), /size is beyond 2\^53/);
});

test('packed and unpacked repeated numbers are both read', () => {
  const type = schema.LinuxSandboxSecurityContext;
  assert.deepEqual(decode(type, hex('2a 04 01 02 ac 02')).supplementalGroups, [1, 2, 300]);
  assert.deepEqual(decode(type, hex('28 01 28 02')).supplementalGroups, [1, 2]);
  assert.equal(encode(type, { supplementalGroups: [1, 0, 300] }).toString('hex'), '2a040100ac02');
});

test('unknown fields of every wire type are skipped, unknown enum values are undefined', () => {
  const unknown = 'f83f 8101  f93f 0102030405060708  fa3f 02 6162  fd3f 01020304';
  const bytes = hex(`0a01 78 ${unknown} 3007`);
  const container = decode(schema.Container, bytes);
  assert.equal(container.id, 'x');
  assert.equal(container.state, undefined);
});

test('the bytes may be overwritten after decoding', () => {
  const bytes = encode(schema.KeyValue, { key: 'PATH', value: Buffer.from('/bin') });
  const decoded = decode(schema.KeyValue, bytes);
  bytes.fill(0xff);
  assert.equal(decoded.key, 'PATH');
  assert.equal(Buffer.from(decoded.value).toString(), '/bin');
});

test('malformed bytes fail with the name of the message', () => {
  const cases: readonly [what: string, bytes: string, text: RegExp][] = [
    ['cut in a tag', '80', /cut off in a number/],
    ['cut in a string', '0a05 6162', /longer than what holds it/],
    ['a length of 4 GiB', '0a ffffffff0f', /longer than what holds it/],
    ['a length of 2^63', '0a ffffffffffffffff7f', /longer than what holds it/],
    ['a number without end', '38 ffffffffffffffffffff01', /more than ten bytes/],
    ['a group', '0b', /wire type 3/],
    ['field 0', '00', /field number 0/],
    ['a string as a number', '08 01', /id has wire type 0/],
    ['a number as a string', '3a 01 61', /createdAt has wire type 2/],
    ['a nested message that is longer', '1a 02 0a05', /longer than what holds it/],
    ['cut in a fixed-size field', 'f93f 01', /cut off in a fixed-size field/],
  ];
  for (const [what, bytes, text] of cases) {
    assert.throws(
      () => decode(schema.Container, hex(bytes)),
      (error) => {
        assert.ok(error instanceof Failure, `${what}: ${String(error)}`);
        assert.match(error.message, /^the runtime sent a malformed Container/, what);
        assert.match(error.message, text, what);
        return true;
      },
      what,
    );
  }
});

test('nesting has an end', () => {
  const fields: Record<string, Field> = {};
  const recursive = message('Recursive', fields);
  const field: Field = { number: 1, kind: 'message', repeated: false, message: recursive };
  const deep = { ...recursive, byNumber: new Map([[1, ['inner', field] as const]]) };
  Object.assign(field, { message: deep });
  const nested = (depth: number): Buffer => {
    const inner = depth === 0 ? Buffer.alloc(0) : nested(depth - 1);
    return Buffer.concat([Buffer.from([0x0a, inner.length]), inner]);
  };
  assert.doesNotThrow(() => decode(deep, nested(10)));
  assert.throws(() => decode(deep, nested(40)), /nested more than 16 deep/);
});

test('an enum value that the table has not is a broken invariant, not sent', () => {
  const value = { protocol: 'ICMP' } as unknown as Encodable<typeof schema.PortMapping>;
  assert.throws(() => encode(schema.PortMapping, value), /Protocol has no value ICMP/);
});

/** A random value for every field of a table. */
function sample(type: Message, random: Random): Record<string, unknown> {
  const count = () => Math.floor(random.next() * 3);
  const letters = ['a', 'ß', '€', '😀', '"', '\n', '\0'];
  const text = () =>
    Array.from({ length: count() * 5 }, () => letters[Math.floor(random.next() * 7)]).join('');
  const one = (field: Field): unknown => {
    const sign = random.next() < 0.5 ? -1 : 1;
    switch (field.kind) {
      case 'string':
        return text();
      case 'bytes':
        return Buffer.from(text());
      case 'bool':
        return random.next() < 0.5;
      case 'int32':
        return Math.trunc(sign * random.next() * 2 ** 31) + 0;
      case 'uint32':
        return Math.floor(random.next() * 2 ** 32);
      case 'uint64':
        return Math.floor(random.next() * 2 ** 53);
      case 'int64':
      case 'int64Value':
        return Math.trunc(sign * random.next() * 2 ** (random.next() * 53)) + 0;
      case 'bigint':
        return BigInt(sign) * BigInt(Math.floor(random.next() * 2 ** 53)) * 512n;
      case 'enum': {
        const names = Object.keys(field.enumeration!.values);
        return names[Math.floor(random.next() * names.length)];
      }
      case 'map':
        return Object.fromEntries(Array.from({ length: count() }, (_, i) => [`k${i}`, text()]));
      case 'message':
        return sample(field.message!, random);
    }
  };
  return Object.fromEntries(
    Object.entries(type.fields).map(([key, field]) => [
      key,
      field.repeated ? Array.from({ length: count() }, () => one(field)) : one(field),
    ]),
  );
}

test('every message of the schema comes back as it was, whatever it holds', () => {
  assert.ok(messages.length > 50, `${messages.length} tables`);
  const random = seededRandom(2026);
  for (let round = 0; round < 20; round++) {
    for (const type of messages) {
      const value = sample(type, random);
      const bytes = encode(type, value as Encodable<Message>);
      assert.deepEqual(decode(type, bytes), value, type.name);
      // Cut anywhere, it either fails properly or is a shorter message.
      const cut = bytes.subarray(0, Math.floor(random.next() * bytes.length));
      decodeOrFail(type, cut);
    }
  }
});

test('no bytes make the decoder throw anything but a Failure', () => {
  const random = seededRandom(42);
  for (let round = 0; round < 20_000; round++) {
    const type = messages[Math.floor(random.next() * messages.length)]!;
    const bytes = encode(type, sample(type, random) as Encodable<Message>);
    for (let flips = 1 + Math.floor(random.next() * 4); flips > 0 && bytes.length > 0; flips--) {
      bytes[Math.floor(random.next() * bytes.length)] = Math.floor(random.next() * 256);
    }
    decodeOrFail(type, bytes);
  }
});

function decodeOrFail(type: Message, bytes: Buffer): void {
  try {
    decode(type, bytes);
  } catch (error) {
    assert.ok(error instanceof Failure, `${type.name} ${bytes.toString('hex')}: ${String(error)}`);
    assert.equal(error.code, 'Unknown');
  }
}
