/** How pods begin, restart, change and end. */
import assert from 'node:assert/strict';
import type { Board } from '../board.ts';
import {
  container,
  FOREVER,
  isReady,
  live,
  nameOf,
  podText,
  statusesOf,
  together,
} from '../board.ts';
import type { Cases } from './case.ts';

const DATA = [{ name: 'data', hostPath: { path: '/var/lib/life', type: 'DirectoryOrCreate' } }];
const MOUNT = { volumeMounts: [{ name: 'data', mountPath: '/data' }] };

/** A pod whose container notes when it starts, and ends with this code. */
function ends(name: string, restartPolicy: string, code: number): string {
  const script = `cut -d' ' -f1 /proc/uptime >> /data/${name}; echo run; exit ${code}`;
  return podText(name, undefined, {
    restartPolicy,
    containers: [container({ script, more: MOUNT })],
    volumes: DATA,
  });
}

async function startsOf(board: Board, name: string): Promise<readonly number[]> {
  const { stdout } = await board.tell(`cat /var/lib/life/${name}`);
  return stdout.trim().split('\n').filter(Boolean).map(Number);
}

const POLICIES: readonly (readonly [string, string, number])[] = [
  ['always-good', 'Always', 0],
  ['always-bad', 'Always', 1],
  ['on-failure-good', 'OnFailure', 0],
  ['on-failure-bad', 'OnFailure', 1],
  ['never-good', 'Never', 0],
  ['never-bad', 'Never', 1],
];

/** Delays after the first three failures; in emulation the start itself takes its time. */
const BACKOFFS = [0, 10, 20];
const LATE_SECONDS = 90;

async function restarts(board: Board): Promise<void> {
  await board.sh('rm -rf /var/lib/life');
  await board.apply(
    together(
      ...POLICIES.map((policy) => ends(...policy)),
      podText('too-long', undefined, { activeDeadlineSeconds: 8 }),
    ),
  );
  const again = new Set(['always-good', 'always-bad', 'on-failure-bad']);
  let sawBackoff = false;
  const pods = await board.untilPods(
    'each pod restarts or ends as its policy says',
    (seen) => {
      const bad = live(seen, 'always-bad');
      sawBackoff ||= bad?.summary === 'CrashLoopBackOff';
      return (
        seen.length === 7 &&
        seen.every((report) =>
          again.has(nameOf(report))
            ? statusesOf(report)[0]!.restartCount >= BACKOFFS.length
            : report.status.phase === 'Succeeded' || report.status.phase === 'Failed',
        )
      );
    },
    300_000,
  );
  assert.ok(sawBackoff, 'CrashLoopBackOff was shown in between');
  const phase = (name: string) => live(pods, name)?.status.phase;
  assert.equal(phase('on-failure-good'), 'Succeeded');
  assert.equal(phase('never-good'), 'Succeeded');
  assert.equal(phase('never-bad'), 'Failed');
  assert.equal(phase('too-long'), 'Failed');
  assert.equal(live(pods, 'too-long')?.status.reason, 'DeadlineExceeded');
  for (const name of ['on-failure-good', 'never-good', 'never-bad']) {
    assert.equal((await startsOf(board, name)).length, 1, `${name} ran once`);
  }
  for (const name of again) {
    const starts = await startsOf(board, name);
    // A restart counts once its container is made; the last one may not have begun yet.
    assert.ok(starts.length >= BACKOFFS.length, `${name} was started ${starts.length} times`);
    for (const [index, delay] of BACKOFFS.slice(0, starts.length - 1).entries()) {
      const waited = starts[index + 1]! - starts[index]!;
      assert.ok(
        waited >= delay - 0.5 && waited < delay + LATE_SECONDS,
        `${name}: restart ${index + 1} came ${waited} s after the start before, not ${delay}`,
      );
    }
  }
  const previous = await board.tell('limpet logs always-bad --previous');
  assert.deepEqual([previous.code, previous.stdout], [0, 'run\n'], previous.stderr);
  const events = await board.events('always-bad');
  const backoff = events.find(({ reason }) => reason === 'BackOff');
  assert.match(
    backoff?.message ?? '',
    /^Back-off restarting failed container main in pod always-bad_/,
  );
}

async function cannotStart(board: Board): Promise<void> {
  const image = (name: string, more: object) =>
    podText(name, undefined, { containers: [{ ...container({}), ...more }] });
  await board.apply(
    together(
      podText('fine', undefined),
      image('no-image', { image: 'limpet.invalid/nothing:1' }),
      image('never-pull', { image: 'limpet.invalid/nothing:1', imagePullPolicy: 'Never' }),
      podText('no-command', undefined, {
        containers: [container({ command: ['/no/such/program'] })],
      }),
      podText('no-directory', undefined, {
        containers: [container({ more: { volumeMounts: [{ name: 'gone', mountPath: '/gone' }] } })],
        volumes: [{ name: 'gone', hostPath: { path: '/no/such/directory', type: 'Directory' } }],
      }),
    ),
  );
  const reasons = new Map<string, Set<string>>();
  await board.untilPods(
    'each pod that cannot start says why',
    (pods) => {
      for (const report of pods) {
        const set = reasons.get(nameOf(report)) ?? new Set();
        reasons.set(nameOf(report), set);
        for (const { state, lastState } of statusesOf(report)) {
          for (const { waiting, terminated } of [state, lastState]) {
            if (waiting !== undefined) set.add(waiting.reason);
            if (terminated !== undefined) set.add(terminated.reason);
          }
        }
      }
      const has = (name: string, ...words: readonly string[]) =>
        words.every((word) => reasons.get(name)?.has(word) === true);
      const fine = live(pods, 'fine');
      return (
        has('no-image', 'ImagePullBackOff') &&
        has('never-pull', 'ErrImageNeverPull') &&
        has('no-command', 'CrashLoopBackOff') &&
        fine !== undefined &&
        isReady(fine)
      );
    },
    240_000,
  );
  const started = reasons.get('no-command');
  assert.ok(started?.has('StartError') === true || started?.has('RunContainerError') === true);
  const said = async (name: string) =>
    (await board.events(name)).map((e) => `${e.reason} ${e.message}`);
  const noImage = (await said('no-image')).join('\n');
  assert.match(noImage, /Failed Failed to pull image "limpet\.invalid\/nothing:1"/);
  assert.match((await said('no-command')).join('\n'), /\/no\/such\/program/);
  assert.match((await said('never-pull')).join('\n'), /nothing:1/);
  await board.untilPods('the missing directory is told of', () => true);
  const mount = (await said('no-directory')).join('\n');
  assert.match(
    mount,
    /FailedMount MountVolume\.SetUp failed for volume "gone".*\/no\/such\/directory/,
  );
  assert.equal(live(await board.pods(), 'no-directory')?.status.phase, 'Pending');
}

async function manifests(board: Board): Promise<void> {
  const folder = '/etc/kubernetes/manifests';
  const name = `static-${board.node.name}`;
  const write = async (text: string) => await board.tell(`cat > ${folder}/static.yaml`, text);
  const yaml = (word: string) => `# a static pod
apiVersion: v1
kind: Pod
metadata:
  name: static
spec:
  terminationGracePeriodSeconds: 2
  containers:
    - name: main
      image: limpet.local/busybox:1
      command: [sh, -c, 'echo ${word}; ${FOREVER}']
`;
  await board.tell(`cat > ${folder}/.hidden.yaml`, yaml('hidden').replace('static', 'hidden'));
  // Half of it first, as an editor or a slow copy leaves it for a while.
  const whole = yaml('first');
  await write(whole.slice(0, whole.indexOf('image:') + 3));
  await board.sh('sleep 3');
  assert.equal((await board.pods()).length, 0, 'nothing is made of half a file');
  await write(whole);
  const begun = await board.untilPods('the static pod runs', (pods) =>
    pods.some((report) => nameOf(report) === name && isReady(report)),
  );
  assert.equal(begun.length, 1, 'and none of a dotfile');
  const uid = live(begun, name)?.pod.metadata.uid;
  assert.match(uid ?? '', /^[0-9a-f]{32}$/, "a static pod's uid is a hash");
  // The same text again changes nothing.
  const before = await board.processes();
  await write(whole);
  await board.sh(`touch ${folder}/static.yaml; sleep 3`);
  assert.deepEqual(await board.processes(), before);
  await board.tell(
    `cat > ${folder}/.new && mv ${folder}/.new ${folder}/static.yaml`,
    yaml('second'),
  );
  const changed = await board.untilPods('it is replaced', (pods) => {
    const now = live(pods, name);
    return now !== undefined && now.pod.metadata.uid !== uid && isReady(now) && pods.length === 1;
  });
  assert.equal((await board.tell(`limpet logs ${name}`)).stdout, 'second\n');
  assert.equal(changed.length, 1);
  await board.sh(`rm ${folder}/static.yaml`);
  await board.untilPods('it ends when its file goes', (pods) => pods.length === 0);
}

const STUBBORN = 'trap "" TERM; echo up; while true; do sleep 1; done';

async function deletion(board: Board): Promise<void> {
  await board.sh('rm -rf /var/lib/life');
  const stubborn = (name: string, grace: number) =>
    podText(name, STUBBORN, { terminationGracePeriodSeconds: grace });
  const polite = podText('polite', undefined, {
    terminationGracePeriodSeconds: 30,
    containers: [
      container({
        script:
          'trap "echo asked >> /data/polite; exit 0" TERM; while true; do sleep 60 & wait $!; done',
        more: MOUNT,
      }),
    ],
    volumes: DATA,
  });
  const one = podText('changing', 'echo one; exec sleep 100000', {
    terminationGracePeriodSeconds: 1,
  });
  await board.apply(together(stubborn('slow', 6), stubborn('hurried', 300), polite, one));
  const pods = await board.untilPods(
    'four pods run',
    (seen) => seen.length === 4 && seen.every(isReady),
  );
  const uid = live(pods, 'changing')?.pod.metadata.uid;
  const began = performance.now();
  await board.delete('slow');
  await board.delete('polite');
  await board.delete('hurried');
  const replaced = await board.apply(one.replace('echo one', 'echo two'));
  assert.equal(replaced.items[0]?.action, 'replaced');
  assert.notEqual(replaced.items[0]?.uid, uid);
  await board.untilPods(
    'the polite pod is gone',
    (seen) => live(seen, 'polite') === undefined && !seen.some((p) => nameOf(p) === 'polite'),
  );
  await board.untilPods('the slow pod is gone', (seen) => !seen.some((p) => nameOf(p) === 'slow'));
  const slowMs = performance.now() - began;
  assert.ok(slowMs >= 5500, `it had its six seconds, and not ${slowMs} ms`);
  assert.equal(await board.sh('cat /var/lib/life/polite'), 'asked\n');
  // A shorter grace overrides a longer one that is running.
  assert.ok(
    (await board.pods()).some((p) => nameOf(p) === 'hurried' && p.summary === 'Terminating'),
  );
  await board.delete('hurried', 1);
  await board.untilPods(
    'the hurried pod is gone, long before its 300 s',
    (seen) => !seen.some((p) => nameOf(p) === 'hurried'),
    60_000,
  );
  await board.untilPods('the replaced pod runs', (seen) => {
    const now = live(seen, 'changing');
    return now !== undefined && isReady(now) && seen.length === 1;
  });
  assert.equal((await board.tell('limpet logs changing')).stdout, 'two\n');
}

/** Pods of a batch; 20 in the campaign. */
const BATCH = Number(process.env['LIMPET_BATCH'] ?? 6);

async function batch(board: Board): Promise<void> {
  const names = Array.from({ length: BATCH }, (_, index) => `batch-${index}`);
  const began = performance.now();
  await board.apply(together(...names.map((name) => podText(name, undefined))));
  let firstMs = 0;
  await board.untilPods(
    `${BATCH} pods run`,
    (pods) => {
      if (firstMs === 0 && pods.some(isReady)) firstMs = performance.now() - began;
      return pods.length === BATCH && pods.every(isReady);
    },
    600_000,
  );
  const lastMs = performance.now() - began;
  const seconds = (ms: number) => (ms / 1000).toFixed(1);
  board.note(
    `${BATCH} pods: the first runs after ${seconds(firstMs)} s, the last after ${seconds(lastMs)} s`,
  );
  const events = await board.events();
  const times = (reason: string) =>
    events
      .filter((e) => e.reason === reason && e.object.name.startsWith('batch-'))
      .map((e) => e.firstWallMs);
  const [created, started] = [times('Created'), times('Started')];
  assert.equal(created.length, BATCH);
  assert.ok(
    Math.min(...started) < Math.max(...created),
    'the first container runs before the last is created',
  );
}

/** What a unit is to do in a boot, as the machine itself tells. */
async function reboot(board: Board): Promise<void> {
  await board.apply(podText('stays', undefined));
  await board.untilPods('the pod runs', (pods) => pods.every(isReady));
  await board.node.restart(() => board.sh('systemctl reboot'));
  await board.reconnect();
  await board.untilPods('the pod runs again', (pods) => pods.length === 1 && pods.every(isReady));
  const journal = await board.sh('journalctl -b -o cat --no-pager');
  assert.match(journal, /starting version=\S+ node=\S+ store=clean /, 'it had ended in order');
  assert.doesNotMatch(journal, /ordering cycle/);
  const started = await board.sh(
    'systemctl show limpet -P ExecMainStartTimestampMonotonic; ' +
      'systemctl show local-fs.target basic.target -P ActiveEnterTimestampMonotonic',
  );
  const [agent = 0, files = 0, basic = 0] = started.trim().split(/\s+/).map(Number);
  assert.ok(
    files < agent && agent < basic,
    `beside the rest of the boot, not after it: ${started}`,
  );
}

export const lifeCases: Cases = {
  'restart policies and crash-loop backoff': restarts,
  'pods that cannot start': cannotStart,
  'a folder of manifests': manifests,
  'deletion and its grace': deletion,
  'a batch is not started in lockstep': batch,
  'a reboot, in order': reboot,
};
