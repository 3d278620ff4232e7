/**
 * Power cuts at random moments: each boot must bring the pods to where they belong, with nothing
 * lost that was acknowledged and nothing done twice. The board is harder than life: on each boot
 * the network cable may be out.
 *
 *   LIMPET_CUTS=25 LIMPET_SEED=7 scripts/test node power-cuts
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { until } from '../../scripts/lib/install-limpet.ts';
import { appletsOf } from '../../scripts/lib/make-root.ts';
import { busyboxImage, randomFile } from '../../scripts/lib/oci-archive.ts';
import { serveRegistry } from '../../scripts/lib/registry.ts';
import { seededRandom, type Random } from '../../src/base/random.ts';
import type { PodReport } from '../../src/server/api.ts';
import {
  clear,
  container,
  described,
  FOREVER,
  isReady,
  live,
  nameOf,
  openBoard,
  pause,
  podText,
  statusesOf,
  type Board,
} from './board.ts';

const CUTS = Number(process.env['LIMPET_CUTS'] ?? 2);
const SEED = Number(process.env['LIMPET_SEED'] ?? 1);
const CONVERGE_MS = 240_000;
const SLOW_IMAGE_BYTES = 1_500_000;
const REGISTRY_BYTES_PER_SECOND = 400_000;
const GUEST_VIEW_OF_HOST = '10.0.2.2';

type Kind = 'pull' | 'start' | 'backoff' | 'stop' | 'apply';
const KINDS: readonly Kind[] = ['start', 'apply', 'pull', 'stop', 'backoff'];

/** What must be there again. */
type Expected = {
  /** Acknowledged, with the uid that was acknowledged. */
  readonly applied: Map<string, string>;
  /** Asked for, but the power went before the answer. */
  readonly maybe: Set<string>;
  /** UIDs whose deletion was acknowledged. */
  readonly deleted: Set<string>;
  /** Restart counts by uid and container, which only grow. */
  readonly counts: Map<string, number>;
  /** Pods that need an image that may not have come. */
  readonly pulling: Set<string>;
};

type Rig = {
  readonly board: Board;
  readonly random: Random;
  readonly expected: Expected;
  /** Adds an image that nobody has pulled yet, and gives its name. */
  newImage(): string;
};

const DATA = [{ name: 'data', hostPath: { path: '/var/lib/cuts', type: 'DirectoryOrCreate' } }];
const MOUNT = { volumeMounts: [{ name: 'data', mountPath: '/data' }] };

/** A job that leaves a mark on the disk as the first thing it does. */
function job(name: string, seconds: number): string {
  const script = `echo "$(hostname)" >> /data/${name}; sync; sleep ${seconds}; exit 0`;
  return podText(name, undefined, {
    restartPolicy: 'Never',
    containers: [container({ script, more: MOUNT })],
    volumes: DATA,
  });
}

function steady(name: string, more: object = {}): string {
  return podText(name, undefined, {
    containers: [container({ more })],
    initContainers: [
      container({ name: 'init', script: 'echo init' }),
      container({ name: 'side', script: FOREVER, more: { restartPolicy: 'Always' } }),
    ],
  });
}

async function apply({ board, expected }: Rig, name: string, manifest: string): Promise<void> {
  expected.maybe.add(name);
  const { items } = await board.apply(manifest);
  expected.maybe.delete(name);
  expected.applied.set(name, items[0]!.uid);
}

async function remove({ board, expected }: Rig, name: string): Promise<void> {
  const uid = expected.applied.get(name);
  assert.ok(uid !== undefined);
  expected.applied.delete(name);
  expected.maybe.add(name);
  await board.delete(name);
  expected.maybe.delete(name);
  expected.deleted.add(uid);
}

function between(random: Random, from: number, to: number): number {
  return from + random.next() * (to - from);
}

/** Brings the board to a moment of this kind; returns what it was, in words. */
const moments: Readonly<Record<Kind, (rig: Rig, round: number) => Promise<string>>> = {
  start: async (rig, round) => {
    const ms = between(rig.random, 0, 9000);
    await apply(rig, `job-${round}`, job(`job-${round}`, 3));
    await apply(rig, `steady-${round}`, steady(`steady-${round}`));
    await pause(ms);
    return `${(ms / 1000).toFixed(1)} s into the start of two pods`;
  },
  apply: async (rig, round) => {
    const ms = between(rig.random, 500, 12_000);
    const stop = performance.now() + ms;
    let sent = 0;
    const busy = (async () => {
      for (; performance.now() < stop + 5000 && sent < 40; sent++) {
        const name = `apply-${round}-${sent}`;
        if (sent % 5 === 4) await remove(rig, `apply-${round}-${sent - 1}`);
        else await apply(rig, name, sent % 2 === 0 ? job(name, 1) : podText(name, undefined));
      }
    })().catch(() => undefined);
    await pause(ms);
    await rig.board.node.cut();
    await busy;
    return `after ${sent} applies and deletions in ${(ms / 1000).toFixed(1)} s`;
  },
  pull: async (rig, round) => {
    const ms = between(rig.random, 200, 7000);
    const image = rig.newImage();
    const name = `pull-${round}`;
    rig.expected.pulling.add(name);
    await apply(rig, name, podText(name, undefined, { containers: [{ ...container({}), image }] }));
    await pause(ms);
    return `${(ms / 1000).toFixed(1)} s into a pull`;
  },
  stop: async (rig, round) => {
    const ms = between(rig.random, 0, 6000);
    const name = `stubborn-${round}`;
    const script = 'trap "" TERM; while true; do sleep 1; done';
    await apply(rig, name, podText(name, script, { terminationGracePeriodSeconds: 4 }));
    await rig.board.untilPods('the pod to stop runs', (pods) => {
      const pod = live(pods, name);
      return pod !== undefined && isReady(pod);
    });
    await remove(rig, name);
    await pause(ms);
    return `${(ms / 1000).toFixed(1)} s into the stop of a pod with 4 s of grace`;
  },
  backoff: async (rig) => {
    const ms = between(rig.random, 0, 8000);
    await rig.board.untilPods('a pod is in backoff', (pods) =>
      pods.some(({ summary }) => summary === 'CrashLoopBackOff'),
    );
    await pause(ms);
    return `${(ms / 1000).toFixed(1)} s into a crash-loop backoff`;
  },
};

/** Why the pods are not yet where they belong, or nothing. */
function unsettled(pods: readonly PodReport[], expected: Expected, plugged: boolean): string[] {
  const wrong: string[] = [];
  for (const [name, uid] of expected.applied) {
    const found = live(pods, name);
    if (found?.pod.metadata.uid !== uid) wrong.push(`${name} (uid ${uid}) is not there`);
  }
  for (const report of pods) {
    const name = nameOf(report);
    const { phase } = report.status;
    if (report.deleting) wrong.push(`${name} is still being ended`);
    else if (name === 'crashing') continue;
    else if (report.pod.spec.restartPolicy === 'Never') {
      if (phase !== 'Succeeded' && phase !== 'Failed') wrong.push(`${name} has not ended`);
    } else if (!isReady(report)) {
      const waits = statusesOf(report).some(({ state }) =>
        /^(ErrImagePull|ImagePullBackOff)$/.test(state.waiting?.reason ?? ''),
      );
      if (!(expected.pulling.has(name) && !plugged && waits)) wrong.push(`${name} is not ready`);
    }
  }
  return wrong;
}

/** What must hold once all is settled. */
async function examine({ board, expected }: Rig): Promise<void> {
  const pods = await board.pods();
  for (const { pod, deleting } of pods) {
    const { uid, name } = pod.metadata;
    assert.ok(!expected.deleted.has(uid) || deleting, `${name} came back after its deletion`);
  }
  const names = pods.filter(({ deleting }) => !deleting).map(nameOf);
  assert.equal(new Set(names).size, names.length, 'no pod is there twice');
  for (const report of pods) {
    for (const { name, restartCount } of statusesOf(report)) {
      const key = `${report.pod.metadata.uid}/${name}`;
      const before = expected.counts.get(key) ?? 0;
      assert.ok(
        restartCount >= before,
        `the restart count of ${nameOf(report)}/${name} went from ${before} to ${restartCount}`,
      );
      expected.counts.set(key, restartCount);
      if (report.pod.spec.restartPolicy === 'Never') {
        assert.equal(restartCount, 0, `${nameOf(report)} started again`);
      }
    }
  }
  const marks = await board.sh('cd /var/lib/cuts 2>/dev/null && grep -c "" * || true');
  for (const line of marks.trim().split('\n').filter(Boolean)) {
    // With one file grep does not name it.
    const count = Number(line.slice(line.lastIndexOf(':') + 1));
    assert.ok(count <= 1, `a container that must never run twice did: ${line}`);
  }
  await noneTwice(board);
}

/** Each container of a pod is alive at most once, and nothing is alive of no pod. */
async function noneTwice(board: Board): Promise<void> {
  const pods = await board.pods();
  const known = new Map(pods.map((report) => [report.pod.metadata.uid, report]));
  const alive = await board.containersByPod();
  for (const [uid, ids] of alive) {
    const report = known.get(uid);
    assert.ok(report !== undefined, `containers of no pod are alive: ${uid}`);
    const wanted = statusesOf(report).length;
    // One more is the sandbox's own.
    assert.ok(
      ids.length <= wanted + 1,
      `${nameOf(report)} has ${ids.length} live containers and should have ${wanted + 1} at most`,
    );
  }
}

async function oneCut(rig: Rig, round: number, kind: Kind): Promise<string> {
  const { board, random, expected } = rig;
  const words = await moments[kind](rig, round);
  await board.node.cut();
  const plugged = random.next() < 0.5;
  board.note(`cut ${round}: ${words}; the next boot is ${plugged ? 'plugged' : 'unplugged'}`);
  await board.node.boot({ unplugged: !plugged });
  await board.reconnect();
  let wrong: string[] = ['the agent does not answer'];
  await until(
    `cut ${round} (${words}): the pods are where they belong`,
    async () => {
      const pods = await board.pods().catch(() => undefined);
      wrong =
        pods === undefined ? ['the agent does not answer'] : unsettled(pods, expected, plugged);
      return wrong;
    },
    (seen) => seen.length === 0,
    { timeoutMs: CONVERGE_MS, everyMs: 1000 },
  ).catch(async (error: Error) => {
    const pods = await board.pods().catch(() => []);
    const journal = await board.tell('journalctl -u limpet -n 60 --no-pager');
    throw new Error(`${error.message}\n${pods.map(described).join('\n')}\n${journal.stdout}`);
  });
  const [now = 0, agentUs = 0] = (
    await board.sh(
      'cut -d" " -f1 /proc/uptime; systemctl show limpet -P ExecMainStartTimestampMonotonic',
    )
  )
    .trim()
    .split('\n')
    .map(Number);
  // What was not acknowledged may have been done or not.
  for (const report of await board.pods()) {
    const name = nameOf(report);
    if (!expected.maybe.has(name) || report.deleting) continue;
    expected.applied.set(name, report.pod.metadata.uid);
  }
  expected.maybe.clear();
  await examine(rig);
  const { store } = await board.status();
  assert.match(store.state, /^(clean|unclean)$/, store.message ?? '');
  if (!plugged) await board.node.plug();
  const recovered = `${(now - agentUs / 1e6).toFixed(1)} s after the agent's start, ${now.toFixed(1)} s after the kernel's`;
  return `cut ${round} ${kind}: ${words}; booted ${plugged ? 'plugged' : 'unplugged'}; all well ${recovered}`;
}

/** Keeps the board from filling up, and deletion under test. */
async function tidy(rig: Rig): Promise<void> {
  for (const name of [...rig.expected.applied.keys()]) {
    if (/^(job|steady|apply|pull)-/.test(name)) await remove(rig, name);
  }
  const gone = (pods: readonly PodReport[]) => pods.every(({ deleting }) => !deleting);
  await rig.board.untilPods('what was deleted is gone', gone);
}

test('power cuts at random moments', { timeout: CUTS * 600_000 + 1_200_000 }, async () => {
  const random = seededRandom(SEED);
  await using board = await openBoard({ suite: 'power-cuts' });
  await clear(board);
  await board.sh('rm -rf /var/lib/cuts');
  await using registry = await serveRegistry({
    images: [],
    bytesPerSecond: REGISTRY_BYTES_PER_SECOND,
  });
  const address = `${GUEST_VIEW_OF_HOST}:${registry.port}`;
  await board.node.trustRegistry(address);
  await board.sh('sync');
  const program = await readFile(board.node.image.busybox);
  const applets = appletsOf(program);
  let images = 0;
  const rig: Rig = {
    board,
    random,
    expected: {
      applied: new Map(),
      maybe: new Set(),
      deleted: new Set(),
      counts: new Map(),
      pulling: new Set(),
    },
    newImage: () => {
      const name = `${address}/slow/image-${images++}:1`;
      const extra = [randomFile('ballast', SLOW_IMAGE_BYTES)];
      registry.add(busyboxImage({ arch: board.node.arch, names: [name], program, applets, extra }));
      return name;
    },
  };
  await apply(rig, 'crashing', podText('crashing', 'sleep 2; exit 1'));
  // Its image can't be pulled by its name: each start makes do with the copy that all pods use.
  await apply(rig, 'pillar', steady('pillar', { imagePullPolicy: 'Always' }));
  await board.untilPods('the first pods run', (pods) => {
    const pillar = live(pods, 'pillar');
    return pillar !== undefined && isReady(pillar);
  });
  const lines: string[] = [];
  for (let round = 1; round <= CUTS; round++) {
    const kind = KINDS[(round - 1) % KINDS.length]!;
    lines.push(await oneCut(rig, round, kind));
    board.note(lines.at(-1)!);
    if (round % 3 === 0) await tidy(rig);
  }
  await tidy(rig);
  await remove(rig, 'crashing');
  await remove(rig, 'pillar');
  await board.untilPods('all pods are gone', (pods) => pods.length === 0);
  assert.deepEqual(await board.traces(), [], 'nothing is left of them');
  process.stdout.write(`${lines.join('\n')}\n`);
});
