import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseManifest } from '../../src/kube/parse.ts';
import type { Pod } from '../../src/kube/pod.ts';
import { staticPod } from '../../src/kube/static-uid.ts';
import { decideApply, type StoredPod } from '../../src/source/apply.ts';

function podOf(name: string, image = 'i', spec: object = {}): Pod {
  const containers = [{ name: 'c', image }];
  const manifest = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: { containers, ...spec },
  };
  const { pods, problems } = parseManifest(JSON.stringify(manifest));
  assert.deepEqual(problems, []);
  return pods[0]!;
}

function contextOf() {
  let count = 0;
  const uuid = () => `uid-${(count += 1)}`;
  return { nodeName: 'pi', uuid, createdAt: '2026-11-21T00:00:00Z' };
}

function applied(pods: readonly Pod[], stored: readonly StoredPod[] = []) {
  const decision = decideApply(pods, stored, contextOf());
  assert.ok(decision.ok, JSON.stringify(decision));
  return decision.items;
}

const local = (pod: Pod, deleting = false): StoredPod => ({ pod, source: 'local', deleting });

test('a new pod gets a uid, an age and its node', () => {
  const [item] = applied([podOf('a')]);
  assert.equal(item!.action, 'created');
  assert.equal(item!.pod.metadata.uid, 'uid-1');
  assert.equal(item!.pod.metadata.creationTimestamp, '2026-11-21T00:00:00Z');
  assert.equal(item!.pod.spec.nodeName, 'pi');
  assert.equal(item!.replaces, undefined);
});

test('what did not change is left alone, what did is replaced', () => {
  const before = applied([podOf('a'), podOf('b')]).map(({ pod }) => local(pod));
  const items = applied([podOf('a'), podOf('b', 'j'), podOf('c')], before);
  assert.deepEqual(
    items.map(({ action, replaces }) => [action, replaces]),
    [
      ['unchanged', undefined],
      ['replaced', 'uid-2'],
      ['created', undefined],
    ],
  );
  assert.equal(items[0]!.pod, before[0]!.pod);
  assert.notEqual(items[1]!.pod, before[1]!.pod);
  assert.equal(items[1]!.pod.spec.containers[0]!.image, 'j');
});

test('a pod that is being deleted is not brought back, its name is taken by a new one', () => {
  const before = applied([podOf('a')]).map(({ pod }) => local(pod, true));
  const [item] = applied([podOf('a')], before);
  assert.equal(item!.action, 'created');
  assert.equal(item!.replaces, undefined);
});

test('a name that belongs to a manifest file, or to another node, is refused; nothing is applied', () => {
  const file = staticPod(podOf('web'), 'pi', '/etc/limpet/manifests/web.yaml');
  const stored: StoredPod[] = [{ pod: file, source: 'file', deleting: false }];
  const pods = [podOf('fine'), podOf('web-pi'), podOf('far', 'i', { nodeName: 'other' })];
  assert.deepEqual(decideApply(pods, stored, contextOf()), {
    ok: false,
    problems: [
      'the pod default/web-pi belongs to /etc/limpet/manifests/web.yaml; change that file, or use another name',
      'the pod default/far: spec.nodeName: "other": this node is "pi"; remove the field',
    ],
  });
  const api: StoredPod[] = [{ pod: podOf('a'), source: 'api', deleting: false }];
  assert.deepEqual(decideApply([podOf('a')], api, contextOf()), {
    ok: false,
    problems: ['the pod default/a belongs to the API server; change it there'],
  });
});

test('a pod that is there twice is refused', () => {
  assert.deepEqual(decideApply([podOf('a'), podOf('a', 'j')], [], contextOf()), {
    ok: false,
    problems: ['the pod default/a is in the manifest twice; keep one of them'],
  });
});
