// Objects that change while a pod runs or waits for them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fault } from '../../src/base/failure.ts';
import type { PodSpec, Volume } from '../../src/kube/pod.ts';
import type { Action, PodEvent, Seen, Want } from '../../src/pod/model.ts';
import { firstSeen } from '../../src/pod/model.ts';
import { plan } from '../../src/pod/plan.ts';
import { reduce } from '../../src/pod/reduce.ts';
import { container, pod } from '../sim/pods.ts';
import { Rig } from './rig.ts';

const CHANGED: PodEvent = { type: 'ObjectsChanged' };
const secret: Volume = {
  ...{ name: 'secret', kind: 'secret', objectName: 's', items: [], optional: false },
  defaultMode: 0o644,
};
const scratch: Volume = { name: 'scratch', kind: 'emptyDir', medium: '' };

function rigOf(spec: Partial<PodSpec> = {}): Rig {
  return new Rig(pod('p', { containers: [container('a')], volumes: [scratch, secret], ...spec }));
}

test('an object that changes has its volumes set up again, and nothing else happens', () => {
  const rig = rigOf();
  rig.after(5);
  rig.zero();
  rig.post(CHANGED);
  assert.deepEqual(rig.after(100), ['0 SetUpVolume secret']);
});

test('until it is up to date again the volume is used as it was, also by what starts', () => {
  const rig = rigOf();
  rig.after(5);
  rig.zero();
  rig.fail('SetUpVolume secret', 'NotFound', 3);
  rig.post(CHANGED);
  rig.exit('a', 1);
  assert.deepEqual(rig.after(2), [
    '0 SetUpVolume secret',
    '0 PullImage busybox',
    '0 CreateContainer a#1',
    '0 StartContainer a#1',
    '1 SetUpVolume secret',
  ]);
  assert.deepEqual(rig.after(3), ['3 SetUpVolume secret']);
  assert.deepEqual(rig.after(100), ['7 SetUpVolume secret']);
});

test('what a pod waited for is tried at once when it is there', () => {
  const rig = rigOf();
  rig.fail('SetUpVolume secret', 'NotFound', 7);
  rig.after(70);
  rig.zero();
  rig.post(CHANGED);
  assert.deepEqual(rig.after(1), [
    '0 SetUpVolume secret',
    '0 RunPodSandbox 0',
    '0 CreateContainer a#0',
    '0 StartContainer a#0',
  ]);
});

test('a pod that ends has nothing set up any more', () => {
  const rig = rigOf();
  rig.after(5);
  rig.zero();
  rig.delete(0);
  rig.post(CHANGED);
  assert.equal(
    rig.after(10).some((line) => line.includes('SetUpVolume')),
    false,
  );
});

// One step at a time, for what happens while an action is on its way.

const NOW = { monoMs: 1000, wallMs: 1_800_000_000_000, boot: 'b' };

function stepper(spec: Partial<PodSpec>) {
  const want: Want = {
    pod: pod('p', { containers: [container('a')], volumes: [secret], ...spec }),
    ...{ source: 'api', order: 1 },
  };
  let seen: Seen = firstSeen(undefined);
  const post = (event: PodEvent) => (seen = reduce(want, seen, event, NOW));
  const begin = (): Action[] => {
    const { start } = plan(want, seen, NOW);
    for (const action of start) post({ type: 'ActionStarted', action });
    return start.filter(({ type }) => type !== 'Look');
  };
  const end = (action: Action | undefined, fault?: Fault) => {
    const result = fault === undefined ? ({ ok: true } as const) : ({ ok: false, fault } as const);
    post({ type: 'ActionEnded', action: action!, seq: 0, result });
  };
  post({ type: 'Admitted' });
  post({ type: 'Looked', view: { seq: 1, epoch: 'e', sandboxes: [], containers: [] } });
  const first = begin();
  end(first.find(({ type }) => type === 'SetUpPod'));
  return { first, post, begin, end, seen: () => seen };
}

const FAULT: Fault = { code: 'NotFound', message: 'secret "s" not found' };

test('what changes while a volume is being set up is in it in the end', () => {
  const steps = stepper({});
  const first = steps.begin().find(({ key }) => key === 'volume/secret');
  assert.equal(first?.type, 'SetUpVolume');
  steps.post(CHANGED);
  assert.equal(
    steps.begin().some(({ key }) => key === 'volume/secret'),
    false,
    'two at once',
  );
  steps.end(first);
  const again = steps.begin();
  assert.deepEqual(
    again.filter(({ key }) => key === 'volume/secret'),
    [first],
  );
  steps.end(again.find(({ key }) => key === 'volume/secret'));
  assert.equal(
    steps.begin().some(({ key }) => key === 'volume/secret'),
    false,
  );
});

test('a failure that is older than the change is no reason to wait', () => {
  const steps = stepper({});
  const first = steps.begin().find(({ key }) => key === 'volume/secret');
  steps.post(CHANGED);
  steps.end(first, FAULT);
  assert.equal(steps.begin().find(({ key }) => key === 'volume/secret')?.type, 'SetUpVolume');
});

test('a container that could not be configured and a pull that failed are tried at once', () => {
  const steps = stepper({ imagePullSecrets: ['registry'], volumes: [] });
  const pull = steps.first.find(({ type }) => type === 'PullImage');
  steps.end(pull, FAULT);
  assert.equal(
    steps.begin().find(({ type }) => type === 'PullImage'),
    undefined,
  );
  steps.post(CHANGED);
  assert.equal(steps.begin().find(({ type }) => type === 'PullImage')?.key, 'image/busybox');
  const seen = {
    ...steps.seen(),
    retries: {
      'container/a': {
        fault: { ...FAULT, reason: 'CreateContainerConfigError' },
        ...{ failures: 5, untilMonoMs: 60_000 },
      },
      sandbox: { fault: FAULT, failures: 5, untilMonoMs: 60_000 },
    },
  };
  const want: Want = { pod: pod('p', {}), source: 'api', order: 1 };
  assert.deepEqual(Object.keys(reduce(want, seen, CHANGED, NOW).retries), ['sandbox']);
});
