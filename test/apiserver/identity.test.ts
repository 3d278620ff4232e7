import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';

import { readClusterIdentity } from '../../src/apiserver/identity.ts';
import { AUTHORITY, createPeer, json, refuse } from './peer.ts';

test('the cluster is known by what a node may read, in two small requests', async () => {
  await using peer = await createPeer();
  const call = { signal: new AbortController().signal, deadlineMs: 5000 };
  const read = () => readClusterIdentity(peer.client(), peer.credentials(), 'pi1', '7', call);
  const paths = ['/api/v1/nodes/pi1', '/api/v1/namespaces/default/services/kubernetes'];
  peer.answer = ({ response, url }) => {
    const metadata = { name: 'x', uid: `u${paths.indexOf(url.pathname)}`, resourceVersion: '1' };
    json(response, { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata });
  };
  assert.deepEqual(await read(), {
    caFingerprints: [new X509Certificate(AUTHORITY.certificate).fingerprint256],
    ...{ nodeUid: 'u0', serviceUid: 'u1', resourceVersion: '7' },
  });
  for (const { request } of peer.calls) {
    assert.match(request.headers.accept!, /as=PartialObjectMetadata;g=meta\.k8s\.io;v=v1/);
  }
  peer.answer = ({ response, url }) =>
    url.pathname === paths[0]
      ? refuse(response, 404, 'NotFound', 'no')
      : refuse(response, 403, 'Forbidden', 'no');
  const { nodeUid, serviceUid } = await read();
  assert.deepEqual([nodeUid, serviceUid], [undefined, undefined]);
  peer.answer = ({ response }) => refuse(response, 500, 'InternalError', 'etcd');
  await assert.rejects(read(), /etcd/);
});
