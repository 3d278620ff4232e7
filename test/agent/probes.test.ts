// Probe loops over a clock that a test moves, and a runtime that a test answers for.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Probes } from '../../src/agent/probes.ts';
import type { Worker } from '../../src/agent/turns.ts';
import type { Clock } from '../../src/base/clock.ts';
import { Failure } from '../../src/base/failure.ts';
import type { NewEvent } from '../../src/kube/event.ts';
import type { Probe } from '../../src/kube/pod.ts';
import type { ContainerLedger, ContainerSeen, PodEvent } from '../../src/pod/model.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';

const PROBE: Probe = {
  ...{ handler: { kind: 'exec', command: ['x'] }, initialDelaySeconds: 0, timeoutSeconds: 1 },
  ...{ periodSeconds: 10, successThreshold: 1, failureThreshold: 2 },
};

/** A clock that stands still until it is moved. */
function handClock() {
  let monoMs = 1000;
  const timers = new Set<{ monoMs: number; run: () => void }>();
  const clock: Clock = {
    now: () => ({ monoMs, wallMs: 0, boot: 'boot' }),
    sleep: () => Promise.reject(new Error('nobody sleeps here')),
    at: (at, run) => {
      const timer = { monoMs: at, run };
      timers.add(timer);
      return { cancel: () => void timers.delete(timer) };
    },
    soon: (run) => void setImmediate(run),
  };
  /** Lets seconds pass, and everything that follows from it happen. */
  const after = async (seconds: number) => {
    const endMs = monoMs + seconds * 1000;
    for (;;) {
      const next = [...timers].sort((a, b) => a.monoMs - b.monoMs)[0];
      if (next === undefined || next.monoMs > endMs) break;
      monoMs = Math.max(monoMs, next.monoMs);
      timers.delete(next);
      next.run();
      for (let i = 0; i < 10; i += 1) await Promise.resolve();
    }
    monoMs = endMs;
  };
  return { clock, after, timers };
}

const seenContainer: ContainerSeen = {
  ...{ id: 'c1', name: 'web', attempt: 0, state: 'CONTAINER_RUNNING', podSandboxId: 's1' },
  ...{ createdAt: 0n, startedAt: 0n, finishedAt: 0n, exitCode: 0, imageRef: '', reason: '' },
  ...{ message: '', labels: {}, annotations: {}, logPath: '' },
};

function workerOf(probes: Partial<Parameters<typeof aContainer>[0]>, ledger = {}): Worker {
  const web: ContainerLedger = { attempt: 0, sandboxAttempt: 0, ...ledger };
  const seen = {
    ...firstSeen({ sandboxAttempt: 0, containers: { web } }),
    view: { ...{ seq: 1, epoch: 'e', sandboxes: [] }, containers: [seenContainer] },
  };
  return {
    ...{ uid: 'u', want: { pod: aPod({ containers: [aContainer(probes)] }), source: 'local' } },
    ...{ seen, status: undefined, mailbox: [], stored: undefined, timer: undefined },
    aborts: new Map(),
  } as unknown as Worker;
}

function rig(worker: Worker, chance = 0) {
  const { clock, after, timers } = handClock();
  const asked: number[] = [];
  const posted: PodEvent[] = [];
  const events: NewEvent[] = [];
  let answer: () => Promise<{ exitCode: number; output: string }> = () =>
    Promise.resolve({ exitCode: 0, output: '' });
  let signal: AbortSignal | undefined;
  const probes = new Probes({
    runtime: {
      execSync: (_, __, ___, its) => {
        asked.push(clock.now().monoMs / 1000 - 1);
        signal = its;
        return answer();
      },
    },
    clock,
    random: { next: () => chance, fork: () => assert.fail(), uuid: () => '' },
    hostIP: () => undefined,
    post: (_, event) => posted.push(event),
    onEvent: (event) => events.push(event),
  });
  const answers = (exitCode: number, output = '') => {
    answer = () => Promise.resolve({ exitCode, output });
  };
  return {
    ...{ probes, after, timers, asked, posted, events, answers },
    fails: (failure: Failure) => (answer = () => Promise.reject(failure)),
    hangs: () => (answer = () => new Promise(() => undefined)),
    aborted: () => signal?.aborted,
    follow: (is = worker) => probes.follow([is], () => true),
  };
}

test('without probes nothing is begun', () => {
  const { follow, timers } = rig(workerOf({}));
  follow();
  assert.equal(timers.size, 0);
});

test('a probe is made each period, and only news is told', async () => {
  const { follow, after, asked, posted, answers } = rig(workerOf({ readinessProbe: PROBE }));
  follow();
  await after(35);
  assert.deepEqual(asked, [0, 10, 20, 30]);
  assert.equal(posted.length, 1);
  answers(1);
  await after(20);
  const results = posted.map((event) => event.type === 'Probed' && event.result);
  assert.deepEqual(results, ['success', 'failure'], 'the second failure in a row counts');
});

test('after a restart of the agent the first probe comes after a part of the period', async () => {
  const late = rig(workerOf({ readinessProbe: PROBE }), 0.7);
  late.follow();
  await late.after(20);
  assert.deepEqual(late.asked, [7, 17]);

  const running = rig(workerOf({ readinessProbe: PROBE }), 0.7);
  await running.after(60);
  running.follow();
  await running.after(5);
  assert.deepEqual(running.asked, [60], 'an agent that runs for long asks at once');
});

test('the initial delay counts from the start of the container', async () => {
  const livenessProbe = { ...PROBE, initialDelaySeconds: 30 };
  const at = { boot: 'boot', monoMs: 1000, wallMs: 9e12 };
  const intent = { attempt: 0, epoch: 'e', at };
  const { follow, after, asked } = rig(workerOf({ livenessProbe }, { intent }));
  await after(25);
  follow();
  await after(20);
  assert.deepEqual(asked, [30, 40]);
});

test('a startup probe comes before the others, and after it they begin', async () => {
  const probes = { startupProbe: PROBE, livenessProbe: PROBE, readinessProbe: PROBE };
  const { follow, after, posted } = rig(workerOf(probes));
  const told = () => posted.splice(0).map((event) => event.type === 'Probed' && event.probe);
  follow();
  await after(25);
  assert.deepEqual(told(), ['startup']);
  follow(workerOf(probes, { started: true }));
  await after(25);
  assert.deepEqual(told(), ['liveness', 'readiness']);
});

test('what is not wanted any more is given up', async () => {
  const worker = workerOf({ livenessProbe: PROBE });
  const { follow, after, hangs, aborted, timers, posted } = rig(worker);
  hangs();
  follow();
  await after(1);
  assert.equal(aborted(), false);
  follow({ ...worker, seen: { ...worker.seen, view: undefined } } as unknown as Worker);
  assert.equal(aborted(), true);
  assert.equal(timers.size, 0);
  assert.deepEqual(posted, []);
});

test('an answer that is none counts for nothing, and people are told', async () => {
  const { follow, after, fails, posted, events, asked } = rig(workerOf({ livenessProbe: PROBE }));
  fails(new Failure('Unavailable', 'the runtime is away'));
  follow();
  await after(95);
  assert.equal(asked.length, 30, 'three times each time');
  assert.deepEqual(posted, []);
  const text = 'Liveness probe errored and resulted in unknown state: the runtime is away';
  assert.deepEqual([events[0]?.reason, events[0]?.message], ['Unhealthy', text]);
});

test('of a probe that fails for ever people are told now and then', async () => {
  const probe = { ...PROBE, periodSeconds: 1 };
  const { follow, after, answers, events } = rig(workerOf({ readinessProbe: probe }));
  answers(1, 'no');
  follow();
  await after(3599);
  assert.equal(events.length, 25 + 11);
  assert.equal(events[0]?.message, 'Readiness probe failed: no');
  assert.equal(events[0]?.object.fieldPath, 'spec.containers{web}');
});

test('a probe that takes longer than its period is made again at once', async () => {
  const { clock, after } = handClock();
  const asked: number[] = [];
  const waiting: (() => void)[] = [];
  using probes = new Probes({
    runtime: {
      execSync: () =>
        new Promise((resolve) => {
          asked.push(clock.now().monoMs);
          waiting.push(() => resolve({ exitCode: 0, output: '' }));
        }),
    },
    clock,
    random: { next: () => 0, fork: () => assert.fail(), uuid: () => '' },
    ...{ hostIP: () => undefined, post: () => undefined, onEvent: () => undefined },
  });
  probes.follow([workerOf({ livenessProbe: PROBE })], () => true);
  await after(25);
  assert.deepEqual(asked, [1000], 'never two at a time');
  waiting[0]!();
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
  await after(0);
  assert.deepEqual(asked, [1000, 26_000]);
});
