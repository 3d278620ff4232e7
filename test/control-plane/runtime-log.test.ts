// containerd's own part of a start, as scripts/bench reads it from the log of containerd 2.1.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { busyMs, linesOf, startCalls } from '../../scripts/lib/runtime-log.ts';

const POD = 'for &PodSandboxMetadata{Name:web-0,Uid:b14310b7,Namespace:default,Attempt:0,}';
const JOURNAL = [
  ['22:58.037', `RunPodSandbox ${POD}`],
  ['23:05.277', `RunPodSandbox ${POD} returns sandbox id "764"`],
  ['23:05.475', 'CreateContainer within sandbox "764" for container &ContainerMetadata{Name:a,}'],
  ['23:05.600', 'connecting to shim 764'],
  [
    '23:05.899',
    'CreateContainer within sandbox "764" for &ContainerMetadata{Name:a,} returns container id "a42"',
  ],
  ['23:05.955', 'StartContainer for "a42"'],
  ['23:06.980', 'StartContainer for "a42" returns successfully'],
  ['23:07.000', 'StartContainer for "b43"'],
]
  .map(([at = '', text = '']) =>
    JSON.stringify({
      MESSAGE: `time="2026-11-25T18:${at}000000Z" level=info msg="${text.replaceAll('"', '\\"')}"`,
      // The journal has taken all of them together, 200 s after the boot.
      __REALTIME_TIMESTAMP: String(Date.parse('2026-11-25T18:23:08Z') * 1000),
      __MONOTONIC_TIMESTAMP: '200000000',
    }),
  )
  .join('\n');

test('calls are found from their beginning to their end, at the time that containerd says', () => {
  const calls = startCalls(linesOf(`${JOURNAL}\n`));
  assert.deepEqual(
    calls.map(({ name, fromMs, toMs }) => [name, Math.round(fromMs), Math.round(toMs)]),
    [
      ['RunPodSandbox', 190_037, 197_277],
      ['CreateContainer', 197_475, 197_899],
      ['StartContainer', 197_955, 198_980],
    ],
  );
});

test('calls that go on side by side count once', () => {
  const call = (fromMs: number, toMs: number) =>
    ({ name: 'StartContainer', fromMs, toMs }) as const;
  assert.equal(busyMs([call(5, 9), call(0, 4), call(1, 3), call(8, 12)]), 11);
  assert.equal(busyMs([]), 0);
});
