import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { encodeCall, takeReply } from '../../src/cgroup/dbus.ts';
import { createSystemd } from '../../src/cgroup/systemd.ts';

const dir = mkdtempSync(join(tmpdir(), 'limpet-dbus-'));
after(() => rmSync(dir, { recursive: true }));
const never = new AbortController().signal;
const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');

test('a call, byte by byte as the specification lays it out', () => {
  const call = {
    destination: 'd',
    path: '/p',
    interface: 'i',
    member: 'M',
    args: [
      { type: 's', value: 'ab' },
      { type: 'b', value: true },
      { type: 'a(sv)', value: [['N', { type: 't', value: 2n ** 40n + 1n }]] },
      { type: 'a(sa(sv))', value: [] },
    ],
  } as const;
  const body =
    '02000000 6162 00 00' + // s, padded to the boolean
    '01000000' + // b
    '18000000' + // the array's length; the structure needs no padding here
    '01000000 4e 00 01 74 00 00000000000000' + // s, v's signature, padded to the number
    '0100000000010000' + // t
    '00000000 00000000'; // an empty array of structures
  const bytes = encodeCall(call, 7);
  assert.equal(bytes.subarray(0, 12).toString('hex'), '6c010001' + '30000000' + '07000000');
  assert.equal(bytes.readUInt32LE(4), 0x30);
  const at = Math.ceil((16 + bytes.readUInt32LE(12)) / 8) * 8;
  assert.equal(
    bytes.subarray(at).toString('hex'),
    hex(body)
      .toString('hex')
      .slice(0, 0x34 * 2),
  );
});

/** A reply or an error, as systemd sends it; `fields` are spelled out. */
function answer(type: number, serial: number, fields: string, body = ''): Buffer {
  const header = hex(`05 01 75 00 ${uint32(serial)} ${fields}`);
  const bytes = hex(body);
  const head = hex(`6c ${type === 2 ? '02' : '03'} 01 01 ${uint32(bytes.length)} 09000000`);
  const length = Buffer.from(uint32(header.length), 'hex');
  const padding = Buffer.alloc((8 - ((16 + header.length) % 8)) % 8);
  return Buffer.concat([head, length, header, padding, bytes]);
}

function uint32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes.toString('hex');
}

const NO_SUCH_UNIT =
  `04 01 73 00 ${uint32(35)} ${Buffer.from('org.freedesktop.systemd1.NoSuchUnit\0').toString('hex')}` +
  '00 000000 08 01 67 00 01 73 00';

test('replies are found among other messages, whole or in pieces', () => {
  const other = answer(2, 1, '');
  const mine = answer(2, 2, '');
  assert.deepEqual(takeReply(Buffer.concat([other, mine]), 2).reply, {});
  const all = Buffer.concat([other, mine]);
  for (let cut = 0; cut < all.length; cut++) {
    const { rest, reply } = takeReply(all.subarray(0, cut), 2);
    assert.equal(reply, undefined, `${cut}`);
    assert.deepEqual(takeReply(Buffer.concat([rest, all.subarray(cut)]), 2).reply, {});
  }
});

test('bytes that are no D-Bus are refused', () => {
  assert.throws(() => takeReply(Buffer.alloc(16, 0x42), 2), /no little-endian D-Bus/);
  const huge = hex('6c020101 ffffff7f 01000000 00000000');
  assert.throws(() => takeReply(huge, 2), /too large/);
});

/** A peer that lets in whoever asks, and answers each call with what `reply` gives. */
async function systemdAt(
  path: string,
  reply: (count: number) => Buffer | undefined,
): Promise<{ calls: Buffer[]; lines: string[]; [Symbol.asyncDispose](): Promise<void> }> {
  const calls: Buffer[] = [];
  const lines: string[] = [];
  const server = net.createServer((socket) => {
    let greeted = false;
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      if (!greeted) {
        lines.push(chunk.toString('latin1'));
        greeted = true;
        socket.write('OK 0123456789abcdef\r\n');
        return;
      }
      const begin = chunk.indexOf('BEGIN\r\n');
      const message = begin < 0 ? chunk : chunk.subarray(begin + 7);
      if (message.length === 0) return;
      calls.push(message);
      const bytes = reply(calls.length);
      if (bytes === undefined) socket.destroy();
      else socket.write(bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    calls,
    lines,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

test('a slice is started, and stopping one that is not there is no failure', async () => {
  const path = join(dir, 'private');
  await using peer = await systemdAt(path, (count) =>
    answer(
      count === 1 ? 2 : 3,
      2,
      count === 1 ? '' : NO_SUCH_UNIT,
      count === 1 ? '' : `${uint32(2)} 6e6f 00`,
    ),
  );
  const systemd = createSystemd(0, [{ path, bus: false }]);
  await systemd.ensureSlice('kubepods.slice', { cpuWeight: 5 }, never);
  await systemd.stopSlice('kubepods.slice', never);
  assert.equal(peer.lines[0], '\0AUTH EXTERNAL 30\r\n');
  assert.match(
    peer.calls[0]!.toString('latin1'),
    /StartTransientUnit.*kubepods\.slice.*CPUWeight/s,
  );
  assert.match(peer.calls[1]!.toString('latin1'), /StopUnit/);
});

test('a refusal says what was asked and what systemd said', async () => {
  const path = join(dir, 'refusing');
  await using _peer = await systemdAt(path, () =>
    answer(3, 2, NO_SUCH_UNIT, `${uint32(2)} 6e6f 00`),
  );
  const systemd = createSystemd(0, [{ path, bus: false }]);
  await assert.rejects(systemd.ensureSlice('kubepods.slice', {}, never), {
    code: 'Unknown',
    message: "systemd won't start kubepods.slice: no (org.freedesktop.systemd1.NoSuchUnit)",
  });
});

test('a systemd that is not there, hangs up or does not answer', async () => {
  const none = createSystemd(0, [
    { path: join(dir, 'none'), bus: false },
    { path: join(dir, 'neither'), bus: true },
  ]);
  await assert.rejects(none.stopSlice('a.slice', never), {
    code: 'Unavailable',
    message: new RegExp(`^can't reach systemd at ${join(dir, 'none')}: connect ENOENT`),
  });
  const path = join(dir, 'dying');
  await using _dying = await systemdAt(path, () => undefined);
  const systemd = createSystemd(0, [{ path, bus: false }]);
  await assert.rejects(systemd.stopSlice('a.slice', never), { code: 'Unavailable' });
  await using _silent = await systemdAt(`${path}-silent`, () => Buffer.alloc(0));
  const controller = new AbortController();
  const silent = createSystemd(0, [{ path: `${path}-silent`, bus: false }]);
  const stopped = silent.stopSlice('a.slice', controller.signal);
  setTimeout(() => controller.abort(), 50);
  await assert.rejects(stopped, { code: 'Cancelled' });
});
