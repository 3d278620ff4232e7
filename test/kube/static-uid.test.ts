import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as yaml from 'yaml';

import { containerHash, fnv1a128, fnv1a32 } from '../../src/kube/container-hash.ts';
import { parseManifest } from '../../src/kube/parse.ts';
import type { Pod } from '../../src/kube/pod.ts';
import { specHash, staticPod, staticUid } from '../../src/kube/static-uid.ts';

function podOf(spec: string, metadata = '{"name": "a"}'): Pod {
  const text = `{"apiVersion": "v1", "kind": "Pod", "metadata": ${metadata}, "spec": ${spec}}`;
  const { pods, problems } = parseManifest(text);
  assert.deepEqual(problems, []);
  return pods[0]!;
}

const SPEC = '{"containers": [{"name": "c", "image": "i"}]}';

test('FNV-1a is that of its authors', () => {
  // Vectors of draft-eastlake-fnv and of Go's hash/fnv.
  assert.equal(fnv1a32(''), 0x811c9dc5);
  assert.equal(fnv1a32('a'), 0xe40c292c);
  assert.equal(fnv1a32('foobar'), 0xbf9cf968);
  assert.equal(fnv1a128(''), '6c62272e07bb014262b821756295c58d');
  assert.equal(fnv1a128('a'), 'd228cb696f1a8caf78912b704e4a8964');
  assert.equal(fnv1a128('foobar'), '343e1662793c64bf6f0d3597ba446f18');
});

test('the hash of a container is the one that the kubelet writes', () => {
  assert.equal(containerHash({ name: 'c', image: 'nginx' }), '4611fea5');
});

test('the hash of a spec is about what is asked, not how it is written', () => {
  const pod = podOf(SPEC);
  const turned = podOf('{"containers": [{"image": "i", "name": "c"}], "volumes": []}');
  assert.equal(specHash(pod), specHash(turned));
  const explicit = podOf(
    '{"restartPolicy": "Always", "containers": [{"name": "c", "image": "i"}]}',
  );
  assert.equal(specHash(pod), specHash(explicit), 'a default that is written is the same');
  const aged = { ...pod, metadata: { ...pod.metadata, uid: 'u', creationTimestamp: 't' } };
  assert.equal(specHash(pod), specHash(aged));

  const others = [
    podOf('{"containers": [{"name": "c", "image": "j"}]}'),
    podOf(SPEC, '{"name": "b"}'),
    podOf(SPEC, '{"name": "a", "namespace": "b"}'),
    podOf(SPEC, '{"name": "a", "labels": {"a": "b"}}'),
    podOf(SPEC, '{"name": "a", "annotations": {"a": "b"}}'),
  ];
  const hashes = new Set([pod, ...others].map(specHash));
  assert.equal(hashes.size, others.length + 1);
});

test('the hash of a manifest is the same in every version of limpet', () => {
  // Another value here begins every static pod of every node anew when limpet is updated.
  const text = readFileSync(new URL('../manifests/worker.yaml', import.meta.url), 'utf8');
  const pod = parseManifest(text, yaml).pods[0]!;
  assert.equal(specHash(pod), '4767db485b96ca480b374026eaa9d405');
  const grown = { ...pod, spec: { ...pod.spec, topologyOfTomorrow: [], more: {} } };
  assert.equal(specHash(grown), specHash(pod), 'a new field that is empty changes nothing');
  const said = { ...pod, spec: { ...pod.spec, topologyOfTomorrow: ['x'] } };
  assert.notEqual(specHash(said), specHash(pod));
});

test('a static pod is named after its node, and its uid tells node, path and content', () => {
  const pod = podOf(SPEC);
  const made = staticPod(pod, 'Pi-4', '/etc/m/a.yaml');
  const { uid } = made.metadata;
  assert.match(uid, /^[0-9a-f]{32}$/);
  assert.deepEqual(made.metadata, {
    name: 'a-pi-4',
    namespace: 'default',
    uid,
    annotations: {
      'kubernetes.io/config.source': 'file',
      'kubernetes.io/config.hash': uid,
      'limpet/manifest': '/etc/m/a.yaml',
    },
  });
  assert.equal(made.spec.nodeName, 'Pi-4');
  assert.equal(uid, staticUid(pod, 'Pi-4', '/etc/m/a.yaml'), 'always the same');
  const uids = [
    uid,
    staticUid(pod, 'pi-5', '/etc/m/a.yaml'),
    staticUid(pod, 'Pi-4', '/etc/m/b.yaml'),
    staticUid(podOf('{"containers": [{"name": "c", "image": "j"}]}'), 'Pi-4', '/etc/m/a.yaml'),
  ];
  assert.equal(new Set(uids).size, uids.length);
});
