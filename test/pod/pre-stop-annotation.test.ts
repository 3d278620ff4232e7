import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { LifecycleHandler } from '../../src/kube/pod.ts';
import { preStopAnnotation, readPreStop } from '../../src/pod/pre-stop-annotation.ts';

const HTTP: LifecycleHandler = {
  ...{ kind: 'httpGet', path: '/bye', port: 'web', scheme: 'HTTPS', host: 'h' },
  httpHeaders: [{ name: 'X-A', value: 'b' }],
};

test('as the kubelet writes it, and back', () => {
  const written: readonly [LifecycleHandler, string][] = [
    [{ kind: 'exec', command: ['sh', '-c', 'x'] }, '{"exec":{"command":["sh","-c","x"]}}'],
    [{ kind: 'sleep', seconds: 5 }, '{"sleep":{"seconds":5}}'],
    [
      HTTP,
      '{"httpGet":{"path":"/bye","port":"web","host":"h","scheme":"HTTPS",' +
        '"httpHeaders":[{"name":"X-A","value":"b"}]}}',
    ],
    [
      { kind: 'httpGet', path: '/', port: 80, scheme: 'HTTP', httpHeaders: [] },
      '{"httpGet":{"path":"/","port":80,"scheme":"HTTP"}}',
    ],
  ];
  for (const [handler, text] of written) {
    assert.equal(preStopAnnotation(handler), text);
    assert.deepEqual(readPreStop(text), handler);
  }
});

test('what is no hook is none', () => {
  const rubbish = ['', '{', 'null', '[]', '{}', '{"exec":{}}', '{"exec":{"command":[1]}}'];
  for (const text of [...rubbish, '{"sleep":{}}', '{"httpGet":{"path":"/"}}', undefined]) {
    assert.equal(readPreStop(text), undefined, text ?? 'none');
  }
});
