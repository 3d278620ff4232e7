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

test('a late answer about a mirror pod that is gone does not silence the next one', async () => {
  const script = createScript();
  script.start();
  const pod = aPod({ containers: [aContainer({ name: 'a' })] }, { name: 'edge', uid: 'static' });
  script.node().desired.setManifests([pod]);
  await script.run(10_000);
  const patches = () => script.requests.filter((one) => one.startsWith('PATCH ')).length;
  const before = patches();
  script.fate.of = 'slow';
  script.world.end([...script.world.alive][0]!, 1, 'exit');
  while (patches() === before) await script.run(1);
  script.fate.of = 'well';
  script.server.remove(script.server.objects.get('default/edge')!, 0);
  await script.run(60_000);
  assert.equal(script.statusOf(script.server.objects.get('default/edge')!).phase, 'Running');
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

test('of several mirror pods that fail, the longest Retry-After is kept to', async () => {
  const script = createScript();
  script.start();
  await script.run(5000);
  const spec = { containers: [aContainer({ name: 'a' })] };
  const pods = ['edge', 'probe'].map((name) => aPod(spec, { name, uid: `static-${name}` }));
  const posts = () => script.requests.filter((one) => one.startsWith('POST ')).length;
  script.fate.of = '500';
  script.node().desired.setManifests(pods);
  while (posts() < 1) await script.run(1);
  script.fate.of = '429';
  while (posts() < 2) await script.run(1);
  script.fate.of = 'well';
  await script.run(100);
  const [waitMs] = script.waits;
  assert.ok(waitMs! > 2000, `it asks for ${waitMs} ms, which its own backoff would not keep to`);
  await script.run(waitMs! - 200);
  assert.equal(posts(), 2);
  await script.run(5000);
  assert.ok(script.server.objects.has('default/probe'));
});

for (const isRestarted of [false, true]) {
  const when = isRestarted ? 'after a restart of the agent' : 'while it is watched';
  test(`a pod that came after the backup goes on when that is restored, ${when}`, async () => {
    const script = createScript();
    script.start();
    await script.run(5000);
    script.server.create('old', spec());
    await script.run(10_000);
    const backup = script.server.snapshot();
    const young = script.server.create('young', spec())!;
    await script.run(10_000);
    if (isRestarted) script.kill();
    script.server.restore(backup);
    script.network.break();
    if (isRestarted) script.start();
    await script.run(200_000);
    assert.equal(script.running().length, 2);
    assert.ok(script.running().includes(young.metadata.uid));
  });
}

test('a pod that is refused is refused also when the agent died before it had noted that', async () => {
  const script = createScript();
  script.start();
  await script.run(5000);
  const odd = script.server.create('odd', spec('100m', { hostPID: 'no boolean' }))!;
  const { uid } = odd.metadata;
  while (!script.card.pods.has(uid)) await script.run(1);
  script.kill();
  script.card.ledgers.delete(uid);
  script.network.set('silent');
  script.start();
  await script.run(10_000);
  script.network.set('up');
  await script.run(120_000);
  assert.equal(script.statusOf(odd).phase, 'Failed');
  assert.match(script.statusOf(odd).message ?? '', /hostPID/);
});

test('another cluster that answers right after our own ends nothing', async () => {
  const script = createScript();
  script.start();
  script.server.create('web', spec());
  // The check is some seconds old when the list comes.
  await script.run(12_000);
  script.network.break();
  await script.run(3000);
  const other = script.newServer(5000);
  other.compact();
  other.version += 1;
  script.network.set('up', other);
  await script.run(60_000);
  assert.equal(script.running().length, 1);
});

test('a pod that has run is not Pending again after a power cut', async () => {
  const script = createScript();
  script.start();
  const init = { name: 'init', image: 'busybox', imagePullPolicy: 'IfNotPresent' };
  const web = script.server.create('web', spec('1', { initContainers: [init] }))!;
  const task = { kind: 'task', minRunMs: 100, maxRunMs: 100, exitCodes: [0] } as const;
  const behaviour = { ...task, ignoresTerm: false, termMs: 1, health: WELL };
  script.behaviours.set(`${web.metadata.uid}/init`, behaviour);
  await script.run(30_000);
  assert.equal(script.statusOf(web).phase, 'Running');
  script.powerCut();
  script.start();
  const phases = new Set<string | undefined>();
  for (let i = 0; i < 300; i += 1) {
    await script.run(100);
    phases.add(script.statusOf(web).phase);
  }
  assert.deepEqual([...phases], ['Running']);
  assert.equal(script.running().length, 1);
});

test('what somebody else wrote into the status is put right', async () => {
  const script = createScript();
  script.start();
  const web = script.server.create('web', spec())!;
  await script.run(10_000);
  const object = script.server.find(web.metadata.uid)!;
  const conditions = script
    .statusOf(web)
    .conditions!.map((one) => (one.type === 'Ready' ? { ...one, status: 'False' } : one));
  script.server.setStatus(object, { ...object.status, conditions });
  await script.run(10_000);
  const ready = script.statusOf(web).conditions!.find(({ type }) => type === 'Ready');
  assert.equal(ready?.status, 'True');
});

test('the last status of a pod is not lost on another cluster', async () => {
  const script = createScript();
  script.start();
  const job = script.server.create('job', spec('1', { restartPolicy: 'Never' }))!;
  await script.run(10_000);
  script.network.set('up', script.newServer(5000));
  const [process] = script.world.alive;
  script.world.end(process!, 0, 'exit');
  await script.run(60_000);
  script.network.set('up', script.server);
  await script.run(120_000);
  assert.equal(script.statusOf(job).phase, 'Succeeded');
});

test('a pod that has ended while another cluster answered is deleted in its own', async () => {
  const script = createScript();
  script.start();
  const web = script.server.create('web', spec())!;
  await script.run(10_000);
  script.server.remove(script.server.find(web.metadata.uid)!, 5);
  await script.run(100);
  script.network.set('up', script.newServer(5000));
  await script.run(60_000);
  assert.ok(script.card.pods.has(web.metadata.uid), 'it is not forgotten');
  script.network.set('up', script.server);
  await script.run(120_000);
  assert.equal(script.server.find(web.metadata.uid), undefined);
  assert.equal(script.card.pods.size, 0);
});

test('a pod that ends while its status is on its way is told of before it is deleted', async () => {
  const script = createScript();
  script.start();
  const web = script.server.create('web', spec())!;
  const { uid } = web.metadata;
  const how = { kind: 'service', minRunMs: 1, maxRunMs: 1, exitCodes: [0] } as const;
  script.behaviours.set(`${uid}/a`, { ...how, ignoresTerm: false, termMs: 300, health: WELL });
  await script.run(10_000);
  script.server.remove(script.server.find(uid)!, 5);
  await script.run(60);
  script.fate.of = 'slow';
  await script.run(200);
  script.fate.of = 'well';
  await script.run(60_000);
  const phases = script.gone.map(({ status }) => String(status['phase']));
  assert.match(phases.join(), /^(Failed|Succeeded)$/);
});

test('a mirror pod is deleted in its own cluster, whatever another one says', async () => {
  const script = createScript();
  script.start();
  const pod = aPod({ containers: [aContainer({ name: 'a' })] }, { name: 'edge', uid: 'static' });
  script.node().desired.setManifests([pod]);
  await script.run(10_000);
  script.network.set('up', script.newServer(5000));
  script.node().desired.setManifests([]);
  await script.run(60_000);
  script.network.set('up', script.server);
  await script.run(400_000);
  assert.equal(script.server.objects.size, 0);
});

test('what was told unheard and lost with a restored cluster is told again', async () => {
  const script = createScript();
  script.start();
  const web = script.server.create('web', spec())!;
  await script.run(20_000);
  const backup = script.server.snapshot();
  // Until the watch is opened again nobody hears what is told.
  script.network.break();
  for (const process of [...script.world.alive]) script.world.end(process, 1, 'exit');
  await script.run(600);
  assert.notEqual(script.statusOf(web).containerStatuses?.[0]?.restartCount, 0);
  script.server.restore(backup);
  script.server.compact();
  script.network.break();
  await script.run(200_000);
  assert.equal(script.statusOf(web).containerStatuses?.[0]?.restartCount, 1);
});

test('a pod that its restored cluster has forgotten is not told of at each change', async () => {
  const script = createScript();
  script.start();
  await script.run(5000);
  const backup = script.server.snapshot();
  script.server.create('young', spec());
  await script.run(10_000);
  script.server.restore(backup);
  script.network.break();
  await script.run(200_000);
  const before = script.requests.length;
  for (let i = 0; i < 5; i += 1) {
    for (const process of [...script.world.alive]) script.world.end(process, 1, 'exit');
    await script.run(60_000);
  }
  const told = script.requests.slice(before).filter((one) => one.startsWith('PATCH'));
  assert.ok(told.length <= 1, `${told.length} times`);
});

test('all is right at once when word comes that the API server answers again', async () => {
  for (let longerMs = 0; longerMs < 100_000; longerMs += 9000) {
    const script = createScript();
    script.start();
    const job = script.server.create('job', spec('1', { restartPolicy: 'Never' }))!;
    await script.run(10_000);
    script.fate.of = 'reset';
    script.network.break();
    script.world.end([...script.world.alive][0]!, 0, 'exit');
    const containers = [aContainer({ name: 'a' })];
    script.node().desired.setManifests([aPod({ containers }, { name: 'edge', uid: 'static' })]);
    await script.run(200_000 + longerMs);
    script.fate.of = 'well';
    const web = script.server.create('web', spec())!;
    script.node().answersAgain();
    await script.run(8000);
    assert.equal(script.statusOf(job).phase, 'Succeeded', `${longerMs}`);
    assert.equal(script.statusOf(web).phase, 'Running', `${longerMs}`);
    const mirror = script.server.objects.get('default/edge');
    assert.equal(mirror && script.statusOf(mirror).phase, 'Running', `${longerMs}`);
  }
});

for (const fate of ['500', '403', 'reset', 'portal'] as const) {
  test(`all is right a minute after an outage, whenever that ends: ${fate}`, async () => {
    for (let longerMs = 0; longerMs < 600_000; longerMs += 25_000) {
      const script = createScript();
      script.start();
      const job = script.server.create('job', spec('1', { restartPolicy: 'Never' }))!;
      const web = script.server.create('web', spec())!;
      await script.run(10_000);
      script.fate.of = fate;
      script.network.break();
      await script.run(1000);
      script.world.end(
        [...script.world.alive].find(({ uid }) => uid === job.metadata.uid)!,
        0,
        'exit',
      );
      script.server.remove(script.server.find(web.metadata.uid)!, 5);
      const pod = aPod(
        { containers: [aContainer({ name: 'a' })] },
        { name: 'edge', uid: 'static' },
      );
      script.node().desired.setManifests([pod]);
      await script.run(600_000 + longerMs);
      script.fate.of = 'well';
      await script.run(60_000);
      const mirror = script.server.objects.get('default/edge');
      assert.ok(mirror, `no mirror pod, ${longerMs}`);
      assert.equal(script.statusOf(mirror).phase, 'Running', `${longerMs}`);
      assert.equal(script.statusOf(job).phase, 'Succeeded', `${longerMs}`);
      assert.equal(script.server.find(web.metadata.uid), undefined, `${longerMs}`);
    }
  });
}
