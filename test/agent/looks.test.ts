import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Looks } from '../../src/agent/looks.ts';
import { Failure } from '../../src/base/failure.ts';
import { decode, encode } from '../../src/cri/codec.ts';
import { createRuntimeService } from '../../src/cri/runtime.ts';
import * as schema from '../../src/cri/schema.ts';
import { createPeer, refuse, respond, type Peer } from '../cri/peer.ts';

const never = new AbortController().signal;
const UIDS = ['u-1', 'u-2', 'u-3', 'u-4'];

/** A runtime with a container `c-<n>` of each pod; `status` answers for one of them. */
function looksAt(peer: Peer, status: (call: Parameters<typeof refuse>[0], id: string) => void) {
  peer.answer = (call) => {
    const method = String(call.headers[':path']).replace(/^.*\//, '');
    if (method === 'ListPodSandbox') {
      return respond(call, [encode(schema.ListPodSandboxResponse, { items: [] })]);
    }
    if (method === 'ListContainers') {
      const containers = UIDS.map((uid) => ({
        id: uid.replace('u', 'c'),
        metadata: { name: 'main', attempt: 0 },
        state: 'CONTAINER_RUNNING' as const,
        labels: { 'io.kubernetes.pod.uid': uid },
      }));
      return respond(call, [encode(schema.ListContainersResponse, { containers })]);
    }
    const { containerId } = decode(schema.ContainerStatusRequest, call.request);
    status(call, containerId);
  };
  return new Looks({
    runtime: createRuntimeService(peer.channel()),
    epoch: () => 'e',
    onExited: (_, ended) => Promise.resolve(ended),
    soon: (run) => void setImmediate(run),
  });
}

function known(call: Parameters<typeof refuse>[0], id: string): void {
  const status = {
    id,
    metadata: { name: 'main', attempt: 0 },
    state: 'CONTAINER_RUNNING' as const,
  };
  respond(call, [encode(schema.ContainerStatusResponse, { status })]);
}

test('a container that the runtime cannot tell of spoils the view of its own pod only', async () => {
  await using peer = await createPeer();
  const looks = looksAt(peer, (call, id) =>
    id === 'c-2' ? refuse(call, 4, 'deadline exceeded') : known(call, id),
  );
  const everything = await looks.everything(never);
  assert.deepEqual([...everything.uids], UIDS);
  const failed = everything.viewOf('u-2');
  assert.ok(failed instanceof Failure && failed.code === 'DeadlineExceeded');
  for (const uid of ['u-1', 'u-3', 'u-4']) {
    const view = everything.viewOf(uid);
    assert.ok(!(view instanceof Failure) && view.containers.length === 1, uid);
  }
  // The same where many looks are one.
  const shared = await Promise.allSettled(UIDS.map((uid) => looks.look(uid, never)));
  assert.deepEqual(
    shared.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled', 'fulfilled'],
  );
});

test('a runtime that is gone tells of no pod', async () => {
  await using peer = await createPeer();
  const looks = looksAt(peer, (call) => refuse(call, 14, 'gone'));
  await assert.rejects(looks.everything(never), { code: 'Unavailable' });
});
