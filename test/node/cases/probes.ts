/**
 * Probes and hooks of real containers. In an emulated machine a command in a container takes
 * seconds, so what is asked by command gets time.
 */
import assert from 'node:assert/strict';
import type { Board } from '../board.ts';
import { container, isReady, live, podText, statusesOf, together } from '../board.ts';
import type { Cases } from './case.ts';

const SHARED = '/var/lib/probes';
const VOLUMES = [{ name: 'shared', hostPath: { path: SHARED, type: 'DirectoryOrCreate' } }];
const MOUNT = { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] };
const OFTEN = { periodSeconds: 2, failureThreshold: 2, timeoutSeconds: 30 };
/** A command in a container of an emulated machine. */
const COMMAND = { periodSeconds: 2, timeoutSeconds: 30 };

const sh = (script: string) => ({ exec: { command: ['sh', '-c', script] } });
const get = (path: string, port: number | string = 'web') => ({ httpGet: { path, port } });

const web = podText('web', undefined, {
  containers: [
    container({
      command: ['httpd', '-f', '-p', '8080', '-h', '/shared/web'],
      more: {
        ...MOUNT,
        ports: [{ name: 'web', containerPort: 8080 }],
        readinessProbe: { ...get('/ready'), ...OFTEN },
        livenessProbe: { ...get('/live'), ...OFTEN, terminationGracePeriodSeconds: 3 },
      },
    }),
  ],
  volumes: VOLUMES,
});

const tcp = podText('tcp', undefined, {
  containers: [
    container({
      script: 'sleep 3; exec nc -ll -p 9000 -e true',
      more: { readinessProbe: { tcpSocket: { port: 9000 }, ...OFTEN } },
    }),
  ],
});

/** From the manifest folder, with the host's network. */
const fixed = podText('fixed', undefined, {
  hostNetwork: true,
  containers: [
    container({
      command: ['httpd', '-f', '-p', '8099', '-h', '/shared/web'],
      more: { ...MOUNT, readinessProbe: { ...get('/live', 8099), ...OFTEN } },
    }),
  ],
  volumes: VOLUMES,
});

const gated = podText('gated', undefined, {
  initContainers: [
    container({
      name: 'side',
      more: {
        ...MOUNT,
        restartPolicy: 'Always',
        startupProbe: { ...sh('test -f /shared/up'), ...COMMAND, failureThreshold: 100 },
      },
    }),
  ],
  containers: [container({ script: 'date > /shared/main; sleep 3600', more: MOUNT })],
  volumes: VOLUMES,
});

const ready = (pods: Parameters<typeof live>[0], name: string): boolean => {
  const pod = live(pods, name);
  return pod !== undefined && isReady(pod);
};
const main = (pods: Parameters<typeof live>[0], name: string) =>
  live(pods, name)?.status.containerStatuses[0];

async function probes(board: Board): Promise<void> {
  await board.sh(`rm -rf ${SHARED}; mkdir -p ${SHARED}/web; touch ${SHARED}/web/live`);
  await board.tell('cat > /etc/kubernetes/manifests/fixed.yaml', fixed);
  await board.apply(together(web, tcp, gated));
  const early = await board.untilPods(
    'the web server runs, the others are ready',
    (pods) =>
      ready(pods, 'tcp') &&
      pods.some(
        ({ pod, status }) => pod.metadata.name.startsWith('fixed') && status.podIP !== '',
      ) &&
      main(pods, 'web')?.state.running !== undefined,
  );
  assert.equal(ready(early, 'web'), false, 'not ready while its page is not there');
  assert.equal(main(early, 'web')?.started, true);
  await board.untilPods('the static pod is ready', (pods) =>
    pods.some((report) => report.pod.metadata.name.startsWith('fixed') && isReady(report)),
  );
  const events = await board.events('web');
  const words = 'Readiness probe failed: HTTP probe failed with statuscode: 404';
  const unready = events.find(({ message }) => message === words);
  assert.equal(unready?.reason, 'Unhealthy', JSON.stringify(events));
  assert.equal(unready?.object.fieldPath, 'spec.containers{main}');

  const side = live(await board.pods(), 'gated')?.status;
  assert.equal(side?.initContainerStatuses[0]?.started, false);
  assert.equal(side?.phase, 'Pending');
  assert.equal((await board.tell(`test -e ${SHARED}/main`)).code, 1, 'main was not started');
  await board.sh(`touch ${SHARED}/up ${SHARED}/web/ready`);
  await board.untilPods(
    'the page makes the web server ready, the file lets the main container start',
    (pods) => ready(pods, 'web') && ready(pods, 'gated'),
  );

  await restartOfTheAgent(board);

  await board.sh(`rm ${SHARED}/web/ready`);
  const unreadyPods = await board.untilPods(
    'not ready without the page',
    (pods) => !ready(pods, 'web'),
  );
  assert.equal(main(unreadyPods, 'web')?.restartCount, 0);
  await board.sh(`touch ${SHARED}/web/ready`);
  await board.untilPods('ready with the page', (pods) => ready(pods, 'web'));

  await board.sh(`rm ${SHARED}/web/live; rm /etc/kubernetes/manifests/fixed.yaml`);
  await board.untilPods('a failed liveness probe restarts', (pods) => {
    const { restartCount = 0, lastState, state } = main(pods, 'web') ?? {};
    return restartCount >= 1 && (lastState?.terminated ?? state?.terminated) !== undefined;
  });
  const [first] = await board.untilPods('and says why', (pods) => live(pods, 'web') !== undefined);
  assert.ok(first !== undefined);
  const told = await board.events('web');
  const killing = told.find(({ reason }) => reason === 'Killing');
  assert.equal(killing?.message, 'Container main failed liveness probe, will be restarted');
  const last = main(await board.pods(), 'web');
  // As the first process of its container httpd has no handler for SIGTERM.
  assert.equal(last?.lastState.terminated?.exitCode, 137);
  await board.sh(`touch ${SHARED}/web/live`);
  await board.untilPods('it comes right again', (pods) => ready(pods, 'web'));
}

/** Nothing is restarted, and nothing that was ready is not, from the first answer on. */
async function restartOfTheAgent(board: Board): Promise<void> {
  const before = new Map((await board.pods()).map((pod) => [pod.pod.metadata.name, pod]));
  const processes = await board.processes();
  await board.sh('kill -9 $(systemctl show limpet -P MainPID); systemctl restart limpet');
  for (let i = 0; i < 10; i += 1) {
    const pods = await board.pods().catch(() => []);
    for (const { pod, status } of pods) {
      const was = before.get(pod.metadata.name);
      if (was === undefined || !isReady(was) || status.phase !== 'Running') continue;
      const condition = status.conditions.find(({ type }) => type === 'Ready');
      assert.equal(condition?.status, 'True', `${pod.metadata.name} is ready all the time`);
      for (const { name, restartCount } of statusesOf({ ...was, status })) {
        assert.equal(restartCount, 0, `${pod.metadata.name}/${name} was not restarted`);
      }
    }
  }
  await board.untilPods('all are ready', (pods) =>
    ['web', 'tcp', 'gated'].every((name) => ready(pods, name)),
  );
  assert.deepEqual(await board.processes(), processes, 'every process went on');
}

const hooked = podText('hooked', undefined, {
  terminationGracePeriodSeconds: 60,
  containers: [
    container({
      script:
        'trap "echo term >> /shared/order; exit 0" TERM; echo start >> /shared/order; ' +
        'while true; do sleep 3600 & wait $!; done',
      more: {
        ...MOUNT,
        lifecycle: {
          postStart: sh('sleep 2; echo post >> /shared/order'),
          preStop: sh('echo pre >> /shared/order; sleep 2; echo pre-end >> /shared/order'),
        },
      },
    }),
    container({ name: 'second', script: 'echo second >> /shared/order; sleep 3600', more: MOUNT }),
  ],
  volumes: VOLUMES,
});

const GRACE = 20;
/** What the machine may take from a decision to the signal. */
const SLACK = 10;
const UPTIME = "cut -d' ' -f1 /proc/uptime";
const hanging = podText('hanging', undefined, {
  terminationGracePeriodSeconds: GRACE,
  containers: [
    container({
      script: `trap "${UPTIME} > /shared/signal; exit 0" TERM; while true; do sleep 3600 & wait $!; done`,
      more: { ...MOUNT, lifecycle: { preStop: sh(`${UPTIME} > /shared/hook; sleep 1000`) } },
    }),
  ],
  volumes: VOLUMES,
});

const sleeping = podText('sleeping', undefined, {
  terminationGracePeriodSeconds: 30,
  containers: [container({ more: { lifecycle: { preStop: { sleep: { seconds: 5 } } } } })],
});

const failing = podText('failing', undefined, {
  containers: [container({ more: { lifecycle: { postStart: sh('echo s3cret; exit 7') } } })],
});

async function hooks(board: Board): Promise<void> {
  await board.sh(`rm -rf ${SHARED}; mkdir -p ${SHARED}`);
  await board.apply(together(hooked, hanging, sleeping, failing));
  await board.untilPods(
    'three run, one has a hook that fails',
    (pods) =>
      ['hooked', 'hanging', 'sleeping'].every((name) => ready(pods, name)) &&
      (main(pods, 'failing')?.restartCount ?? 0) >= 1,
  );
  const order = () => board.sh(`cat ${SHARED}/order`);
  assert.equal(await order(), 'start\npost\nsecond\n');

  const told = await board.events('failing');
  const failed = told.find(({ reason }) => reason === 'FailedPostStartHook');
  assert.equal(failed?.message, 'PostStartHook failed');
  assert.ok(told.some(({ reason, message }) => reason === 'Killing' && message === failed?.reason));
  assert.ok(!JSON.stringify(told).includes('s3cret'));
  await board.delete('failing', 1);

  // What a hook leaves is over when its container is.
  const began = performance.now();
  for (const name of ['hooked', 'hanging', 'sleeping']) await board.delete(name);
  const gone = new Map<string, number>();
  await board.untilPods('all are gone', (pods) => {
    for (const name of ['hooked', 'hanging', 'sleeping']) {
      const isGone = !pods.some(({ pod }) => pod.metadata.name === name);
      if (isGone && !gone.has(name)) gone.set(name, (performance.now() - began) / 1000);
    }
    return pods.length === 0;
  });
  assert.equal(await order(), 'start\npost\nsecond\npre\npre-end\nterm\n');
  assert.ok((gone.get('sleeping') ?? 0) >= 5, `sleeping took ${gone.get('sleeping')} s`);
  const at = await board.sh(`cat ${SHARED}/hook ${SHARED}/signal`);
  const [hook = 0, signal = 0] = at.trim().split('\n').map(Number);
  board.note(`SIGTERM ${signal - hook} s after a hook that hangs, with ${GRACE} s of grace`);
  assert.ok(signal > hook, 'the signal comes after the hook');
  assert.ok(signal - hook < GRACE + SLACK, `SIGTERM after ${signal - hook} s`);
}

const noisy = podText('noisy', undefined, {
  containers: [
    container({
      more: {
        livenessProbe: {
          exec: { command: ['sh', '-c', 'head -c 1073741824 /dev/zero'] },
          ...{ periodSeconds: 2, timeoutSeconds: 20, failureThreshold: 1000 },
        },
      },
    }),
  ],
});

const PEAK = 'p=$(systemctl show limpet -P MainPID); grep VmHWM /proc/$p/status';
const RESET = 'p=$(systemctl show limpet -P MainPID); echo 5 > /proc/$p/clear_refs';
const peakKiB = (text: string) => Number(/(\d+) kB/.exec(text)?.[1]);

/** A probe that prints a gigabyte: the runtime gives the agent the beginning, or gives up. */
async function noise(board: Board): Promise<void> {
  await board.apply(noisy);
  await board.untilPods('the pod runs', (pods) => ready(pods, 'noisy'));
  await board.sh(RESET);
  const before = peakKiB(await board.sh(PEAK));
  const asked = async () =>
    (await board.events('noisy')).filter(({ reason }) => reason === 'Unhealthy').length;
  // Whether it fails or not is up to the runtime's limits; what counts is that it was made.
  for (let i = 0; i < 30 && (await asked()) === 0; i += 1) await board.sh('sleep 2');
  const after = peakKiB(await board.sh(PEAK));
  board.note(`peak memory ${before} then ${after} KiB; ${await asked()} kinds of events`);
  assert.ok(after - before < 16 * 1024, `${after - before} KiB more`);
  assert.equal(main(await board.pods(), 'noisy')?.restartCount, 0);
}

export const probeCases: Cases = {
  'probes: readiness, liveness and startup, and a restart of the agent': probes,
  'hooks: postStart and preStop': hooks,
  'a probe that prints a gigabyte': noise,
};
