import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Container, Probe } from '../../src/kube/pod.ts';
import { NO_STREAK, counted, killGraceSeconds, killMessage } from '../../src/pod/health.ts';
import type { Want } from '../../src/pod/model.ts';
import { aContainer, aPod } from './a-pod.ts';

const PROBE: Probe = {
  ...{ handler: { kind: 'exec', command: ['x'] }, initialDelaySeconds: 0, timeoutSeconds: 1 },
  ...{ periodSeconds: 10, successThreshold: 2, failureThreshold: 3 },
};

test('a verdict takes as many equal answers in a row as the threshold says', () => {
  const verdicts = (answers: string) => {
    let streak = NO_STREAK;
    return [...answers]
      .map((letter) => {
        const next = counted(streak, letter === '+' ? 'success' : 'failure', PROBE);
        streak = next.streak;
        return next.verdict === undefined ? '.' : next.verdict === 'success' ? 'S' : 'F';
      })
      .join('');
  };
  assert.equal(verdicts('++'), '.S');
  assert.equal(verdicts('---'), '..F');
  assert.equal(verdicts('--+--+-+'), '........');
  assert.equal(verdicts('+++---+++'), '.SS..F.SS');
});

const wantOf = (container: Container, restartPolicy: 'Always' | 'Never' = 'Always'): Want => ({
  pod: aPod({ containers: [container], restartPolicy }),
  source: 'local',
  order: 1,
});

test('the grace of a probe is its own or the pod’s; words are the kubelet’s', () => {
  const container = aContainer({
    livenessProbe: { ...PROBE, terminationGracePeriodSeconds: 100 },
    startupProbe: PROBE,
  });
  const want = wantOf(container);
  assert.equal(killGraceSeconds(want, container, { cause: 'liveness' }), 100);
  assert.equal(killGraceSeconds(want, container, { cause: 'startup' }), 30);
  assert.equal(killGraceSeconds(want, container, { cause: 'postStart' }), 30);
  const words = (cause: 'startup' | 'liveness' | 'postStart', of = want) =>
    killMessage(of, container, { cause });
  assert.equal(words('liveness'), 'Container web failed liveness probe, will be restarted');
  assert.equal(words('startup', wantOf(container, 'Never')), 'Container web failed startup probe');
  assert.equal(words('postStart'), 'FailedPostStartHook');
  const sidecar = aContainer({ name: 'side', restartPolicy: 'Always' });
  const beside: Want = { ...want, pod: aPod({ initContainers: [sidecar] }) };
  assert.equal(
    killMessage(beside, sidecar, { cause: 'startup' }),
    'Init container side failed startup probe',
  );
});
