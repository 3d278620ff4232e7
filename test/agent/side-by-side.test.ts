import assert from 'node:assert/strict';
import { test } from 'node:test';

import { sideBySide } from '../../src/agent/side-by-side.ts';
import { Failure } from '../../src/base/failure.ts';
import type { Log } from '../../src/base/log.ts';

function listen() {
  const lines: string[] = [];
  const write = (message: string, fields?: object) =>
    void lines.push(`${message} ${JSON.stringify(fields)}`);
  const log = { debug: write, info: write, warn: write, error: write } as unknown as Log;
  return { log, lines };
}

test('one that fails is told of, and the others go on', async () => {
  const { log, lines } = listen();
  const rest = Promise.withResolvers<void>();
  const failed = Promise.reject(new Failure('Unavailable', 'the port is taken'));
  let isOver = false;
  const all = sideBySide({ failed, rest: rest.promise, none: undefined }, log, never()).then(
    () => (isOver = true),
  );
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isOver, false);
  assert.deepEqual(lines, [
    'a part of the agent has ended {"part":"failed","message":"the port is taken"}',
  ]);
  rest.resolve();
  await all;
});

test('a mistake of ours comes out at once, while others still run', async () => {
  const { log } = listen();
  const endless = new Promise<void>(() => undefined);
  const broken = Promise.reject(new TypeError('undefined is not a function'));
  await assert.rejects(sideBySide({ endless, broken }, log, never()), TypeError);
});

test('whatever ends with the agent is no failure', async () => {
  const { log, lines } = listen();
  const controller = new AbortController();
  const work = new Promise((_, reject) => {
    controller.signal.addEventListener('abort', () => reject(new Error('the agent is stopping')));
  });
  const all = sideBySide({ work }, log, controller.signal);
  controller.abort();
  await all;
  assert.deepEqual(lines, []);
});

function never(): AbortSignal {
  return new AbortController().signal;
}
