import assert from 'node:assert/strict';
import { test } from 'node:test';
import { agentSockets, listeningOn } from '../../src/command/agent-sockets.ts';
import { serveCanned } from '../server/canned.ts';

const TABLE = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 22741 /run/other.sock
0000000000000000: 00000002 00000000 00010000 0001 01 22742 /srv/limpet/limpet.sock
0000000000000000: 00000003 00000000 00000000 0001 03 22743 /srv/client/limpet.sock
0000000000000000: 00000002 00000000 00010000 0001 01 22744 @/abstract/limpet.sock
0000000000000000: 00000003 00000000 00000000 0001 03 22745
`;

test('of all sockets those count on which an agent listens', () => {
  assert.deepEqual(listeningOn(TABLE), ['/srv/limpet/limpet.sock']);
  assert.deepEqual(listeningOn(''), []);
});

test('the kernel tells of an agent wherever its run directory is', async () => {
  let socket: string;
  {
    await using served = await serveCanned({});
    ({ socket } = served);
    assert.ok(agentSockets().includes(socket));
  }
  assert.ok(!agentSockets().includes(socket));
});
