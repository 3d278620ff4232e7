import assert from 'node:assert/strict';
import { test } from 'node:test';

import { compareClusters, type ClusterIdentity } from '../../src/node/cluster-identity.ts';

const STORED: ClusterIdentity = {
  ...{ caFingerprints: ['AA', 'BB'], nodeUid: 'n1', serviceUid: 's1' },
  resourceVersion: '1000',
};

const verdict = (seen: Partial<ClusterIdentity>, stored: Partial<ClusterIdentity> = {}) => {
  const all = { ...STORED, ...seen };
  const { verdict, reason } = compareClusters({ ...STORED, ...stored }, all);
  return `${verdict}: ${reason}`;
};

test('one UID that is the same is proof, whatever else has changed', () => {
  assert.match(verdict({}), /^same/);
  assert.match(verdict({ resourceVersion: '1001' }), /^same/);
  assert.match(verdict({ caFingerprints: ['CC'] }), /^same/, 'the CA was renewed');
  assert.match(verdict({ nodeUid: 'n2' }), /^same/, 'our Node was deleted and made again');
  assert.match(verdict({ nodeUid: undefined }), /^same/);
  assert.match(verdict({ serviceUid: 's2' }), /^same/, 'the service was deleted by somebody');
  assert.match(verdict({ serviceUid: undefined }), /^same/);
});

test('another cluster behind the same address', () => {
  assert.match(
    verdict({ nodeUid: 'n2', serviceUid: 's2' }),
    /^other: .*another UID, and so has our/,
  );
  assert.match(verdict({ nodeUid: undefined, serviceUid: 's2' }), /^other/);
  const seen = { nodeUid: 'n2', serviceUid: undefined, caFingerprints: ['CC'] };
  assert.match(verdict(seen), /^other: .*the CA is another/);
});

test('a cluster that was restored from a backup', () => {
  assert.match(
    verdict({ resourceVersion: '999' }),
    /^restored: .*at version 999, but was at 1000.*backup/,
  );
  assert.match(verdict({ resourceVersion: '10000' }), /^same/, 'numbers, not text');
  assert.match(verdict({ resourceVersion: 'abc' }), /^same/);
  assert.match(verdict({ resourceVersion: undefined }), /^same/);
  assert.match(verdict({ resourceVersion: '9' }, { resourceVersion: undefined }), /^same/);
});

test('what can not be compared is unknown', () => {
  assert.match(verdict({ nodeUid: undefined, serviceUid: undefined }), /^unknown: neither/);
  assert.match(verdict({}, { nodeUid: undefined, serviceUid: undefined }), /^unknown/);
  assert.match(verdict({ nodeUid: 'n2', serviceUid: undefined }), /^unknown: our Node has another/);
  const nothing = { nodeUid: undefined, serviceUid: undefined, caFingerprints: ['CC'] };
  assert.match(verdict(nothing), /^unknown/);
});
