/** The pods of a cluster over a simulated API server: what the simulation of test/sim has shown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MIRROR } from '../sim/cluster/api-server.ts';
import { createScript, spec } from '../sim/cluster/script.ts';
import { WELL } from '../sim/pods.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';

test('a pod that waited for room does not take it from one that came in meanwhile', async () => {
  const script = createScript();
  script.start();
  const ending = script.server.create('ending', spec('1', { terminationGracePeriodSeconds: 60 }))!;
  script.behaviours.set(`${ending.metadata.uid}/a`, {
    ...{ kind: 'service', minRunMs: 1, maxRunMs: 1, exitCodes: [0], ignoresTerm: true, termMs: 1 },
    health: WELL,
  });
  await script.run(10_000);
  assert.deepEqual(script.running(), [ending.metadata.uid]);
  script.server.remove(script.server.find(ending.metadata.uid)!, 60);
  await script.run(1000);
  const large = script.server.create('large', spec('4'))!;
  await script.run(1000);
  const small = script.server.create('small', spec('3'))!;
  await script.run(120_000);
  assert.deepEqual(script.running(), [large.metadata.uid], 'it came first');
  assert.equal(script.statusOf(small).phase, 'Failed');
  assert.equal(script.statusOf(small).reason, 'OutOfcpu');
});

test('a mirror pod that somebody deletes goes, and comes again', async () => {
  const script = createScript();
  script.start();
  const pod = aPod({ containers: [aContainer({ name: 'a' })] }, { name: 'edge', uid: 'static' });
  script.node().desired.setManifests([pod]);
  await script.run(10_000);
  const first = script.server.objects.get('default/edge')!;
  assert.equal(first.metadata.annotations?.[MIRROR], 'static');
  script.server.remove(first, 30);
  await script.run(10_000);
  const second = script.server.objects.get('default/edge')!;
  assert.notEqual(second.metadata.uid, first.metadata.uid);
  assert.equal(second.metadata.deletionTimestamp, undefined);
  assert.equal(script.statusOf(second).phase, 'Running');
});

test('a mirror pod that goes while credentials are exchanged comes again', async () => {
  const script = createScript();
  script.start();
  const pod = aPod({ containers: [aContainer({ name: 'a' })] }, { name: 'edge', uid: 'static' });
  script.node().desired.setManifests([pod]);
  await script.run(10_000);
  script.node().newSession();
  script.server.remove(script.server.objects.get('default/edge')!, 0);
  await script.run(10_000);
  assert.ok(script.server.objects.has('default/edge'));
});
