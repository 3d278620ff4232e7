import assert from 'node:assert/strict';
import { test } from 'node:test';

import { inContainer, podsOf, problemsOf } from './parse-manifest.ts';

const containerOf = (lines: string) => podsOf(inContainer(lines))[0]!.spec.containers[0]!;

test('a probe has the defaults of Kubernetes, zero means the default too', () => {
  const { livenessProbe } = containerOf('livenessProbe: {httpGet: {port: 80}}');
  assert.deepEqual(livenessProbe, {
    handler: { kind: 'httpGet', path: '/', port: 80, scheme: 'HTTP', httpHeaders: [] },
    initialDelaySeconds: 0,
    timeoutSeconds: 1,
    periodSeconds: 10,
    successThreshold: 1,
    failureThreshold: 3,
  });
  const zeros = containerOf(
    `livenessProbe: {httpGet: {port: 80, host: '', path: '', scheme: ''}, timeoutSeconds: 0,
  periodSeconds: 0, successThreshold: 0, failureThreshold: 0, initialDelaySeconds: 0}`,
  );
  assert.deepEqual(zeros.livenessProbe, livenessProbe);
});

test('every kind of handler and every field is read', () => {
  const container = containerOf(`startupProbe:
  exec: {command: [cat, /ready]}
  initialDelaySeconds: 1
  timeoutSeconds: 2
  periodSeconds: 3
  failureThreshold: 5
  terminationGracePeriodSeconds: 6
livenessProbe: {tcpSocket: {port: web, host: 10.0.0.1}}
readinessProbe: {grpc: {port: 9000, service: liveness}, successThreshold: 4}
lifecycle:
  postStart:
    httpGet: {path: /up?x=1, port: web, host: h, scheme: HTTPS, httpHeaders: [{name: X-A, value: b}]}
  preStop: {sleep: {seconds: 5}}`);
  assert.deepEqual(container.startupProbe, {
    handler: { kind: 'exec', command: ['cat', '/ready'] },
    initialDelaySeconds: 1,
    timeoutSeconds: 2,
    periodSeconds: 3,
    successThreshold: 1,
    failureThreshold: 5,
    terminationGracePeriodSeconds: 6,
  });
  const tcp = { kind: 'tcpSocket', port: 'web', host: '10.0.0.1' };
  assert.deepEqual(container.livenessProbe?.handler, tcp);
  const grpc = { kind: 'grpc', port: 9000, service: 'liveness' };
  assert.deepEqual(container.readinessProbe?.handler, grpc);
  assert.equal(container.readinessProbe?.successThreshold, 4);
  assert.deepEqual(container.lifecycle, {
    postStart: {
      ...{ kind: 'httpGet', path: '/up?x=1', port: 'web', host: 'h', scheme: 'HTTPS' },
      httpHeaders: [{ name: 'X-A', value: 'b' }],
    },
    preStop: { kind: 'sleep', seconds: 5 },
  });
});

test('null and empty hooks are none', () => {
  const container = containerOf('lifecycle: {}\nlivenessProbe: null\nstartupProbe: null');
  assert.deepEqual(
    ['lifecycle', 'livenessProbe', 'startupProbe', 'readinessProbe'].filter((k) => k in container),
    [],
  );
});

/** Lines of a container, where the problem is, and what must be said of it. */
const WRONG: readonly [lines: string, where: string, what: string][] = [
  ['livenessProbe: {}', 'livenessProbe', 'must specify a handler type'],
  ['livenessProbe: {periodSeconds: 3}', 'livenessProbe', 'must specify a handler type'],
  ['lifecycle: {preStop: {}}', 'preStop', 'must specify a handler type'],
  [
    'livenessProbe: {exec: {command: [a]}, tcpSocket: {port: 1}}',
    'tcpSocket',
    'may not specify more than 1 handler type',
  ],
  ['livenessProbe: {exec: {command: []}}', 'exec.command', 'is required'],
  ['livenessProbe: {exec: {}}', 'exec.command', 'is required'],
  ['livenessProbe: {httpGet: {path: /}}', 'httpGet.port', 'is required'],
  ['livenessProbe: {httpGet: {port: 0}}', 'port', 'must be between 1 and 65535, inclusive'],
  ['livenessProbe: {tcpSocket: {port: 65536}}', 'port', 'must be between 1 and 65535, inclusive'],
  ['livenessProbe: {tcpSocket: {port: "80"}}', 'port', 'must contain at least one letter (a-z)'],
  ['livenessProbe: {tcpSocket: {port: Web}}', 'port', 'must contain only alpha-numeric'],
  ['livenessProbe: {grpc: {port: web}}', 'grpc.port', 'must be a whole number'],
  ['livenessProbe: {grpc: {}}', 'grpc.port', 'is required'],
  ['livenessProbe: {httpGet: {port: 1, scheme: http}}', 'scheme', 'must be one of "HTTP", "HTTPS"'],
  [
    'livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: "a b", value: x}]}}',
    'httpHeaders[0].name',
    "a valid HTTP header must consist of alphanumeric characters or '-'",
  ],
  [
    'livenessProbe: {tcpSocket: {port: 1}, initialDelaySeconds: -1}',
    'initialDelaySeconds',
    'must be between 0 and 2147483647',
  ],
  ['livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}', 'successThreshold', 'must be 1'],
  ['startupProbe: {tcpSocket: {port: 1}, successThreshold: 2}', 'successThreshold', 'must be 1'],
  [
    'readinessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 2}',
    'terminationGracePeriodSeconds',
    'must not be set for readinessProbes',
  ],
  [
    'livenessProbe: {tcpSocket: {port: 1}, terminationGracePeriodSeconds: 0}',
    'terminationGracePeriodSeconds',
    'must be greater than 0',
  ],
  [
    'lifecycle: {preStop: {sleep: {seconds: 31}}}',
    'preStop.sleep.seconds',
    'must be non-negative and less than terminationGracePeriodSeconds (30)',
  ],
  ['lifecycle: {preStop: {sleep: {seconds: -1}}}', 'sleep.seconds', 'must be non-negative'],
  ['lifecycle: {preStop: {grpc: {port: 1}}}', 'preStop.grpc', 'LifecycleHandler has no such field'],
  ['livenessProbe: {sleep: {seconds: 1}}', 'livenessProbe.sleep', 'Probe has no such field'],
];

for (const [lines, where, what] of WRONG) {
  test(`refused: ${lines}`, () => {
    const problems = problemsOf(inContainer(lines));
    const found = problems.some((text) => text.includes(`${where}: `) && text.includes(what));
    assert.ok(found, problems.join('\n'));
  });
}

test('what an HTTP header says is not repeated', () => {
  const lines =
    'livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: Authorization, value: 4711}]}}';
  const problems = problemsOf(inContainer(lines));
  assert.ok(!problems.join('\n').includes('4711'), problems.join('\n'));
});

const inInit = (lines: string) => `apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: c, image: i}]
  initContainers:
  - name: d
    image: i
${lines.replace(/^/gm, '    ')}`;

test('an init container has neither probes nor hooks, a sidecar has', () => {
  const lines = `livenessProbe: {tcpSocket: {port: 1}}
readinessProbe: {tcpSocket: {port: 1}}
startupProbe: {tcpSocket: {port: 1}}
lifecycle: {preStop: {sleep: {seconds: 1}}}`;
  const problems = problemsOf(inInit(lines));
  for (const name of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe']) {
    const what = `${name}: may not be set for init containers without restartPolicy=Always`;
    assert.ok(
      problems.some((problem) => problem.includes(what)),
      problems.join('\n'),
    );
  }
  const [pod] = podsOf(inInit(`restartPolicy: Always\n${lines}`));
  assert.ok(pod!.spec.initContainers[0]!.startupProbe !== undefined);
});
