import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { Looks } from '../../src/agent/looks.ts';
import { watchRuntime, type RuntimeState } from '../../src/agent/runtime-watch.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { encode } from '../../src/cri/codec.ts';
import { createRuntimeService } from '../../src/cri/runtime.ts';
import * as schema from '../../src/cri/schema.ts';
import { createPeer, framed, respond, type Call } from '../cri/peer.ts';

/** A watch of a runtime that has nothing; its pauses end when the test says so. */
async function watched(t: { after: (end: () => Promise<void>) => void }) {
  const peer = await createPeer();
  const conditions = { network: true };
  let events: Call | undefined;
  peer.answer = (call) => {
    const method = String(call.headers[':path']).replace(/^.*\//, '');
    if (method === 'GetContainerEvents') {
      call.stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      events = call;
    } else if (method === 'Status') {
      const network = { type: 'NetworkReady', status: conditions.network };
      respond(call, [encode(schema.StatusResponse, { status: { conditions: [network] } })]);
    } else respond(call, [Buffer.alloc(0)]);
  };
  const pauses: number[] = [];
  let go = () => {};
  const clock = systemClock('boot', () => 0);
  const stop = new AbortController();
  const runtime = createRuntimeService(peer.channel());
  const looks = new Looks({
    runtime,
    epoch: () => 'e',
    onExited: (_, ended) => Promise.resolve(ended),
    soon: (run) => void setImmediate(run),
  });
  const state: RuntimeState = {
    connected: false,
    version: undefined,
    status: undefined,
    networkReady: false,
    message: undefined,
  };
  const done = watchRuntime(
    {
      runtime,
      looks,
      clock: {
        ...clock,
        sleep: (ms, signal) => {
          pauses.push(ms);
          return new Promise<void>((resolve, reject) => {
            go = resolve;
            signal.addEventListener('abort', () => reject(signal.reason as Error));
          });
        },
      },
      log: createLog('error', () => undefined),
      onChange: () => undefined,
      onBack: () => Promise.resolve(),
      onState: () => undefined,
      onEverything: () => undefined,
      comes: () => new Promise(() => undefined),
      podsFirst: Promise.resolve(),
    },
    state,
    stop.signal,
  );
  t.after(async () => {
    stop.abort(new Error('the test is over'));
    await done;
    await peer[Symbol.asyncDispose]();
  });
  const until = async (what: string, so: () => boolean) => {
    for (let i = 0; !so(); i++) {
      assert.ok(i < 500, what);
      await sleep(10);
    }
  };
  /** How long the next pause is. */
  const next = async (): Promise<number> => {
    const before = pauses.length;
    go();
    await until('a pause', () => pauses.length > before);
    return pauses.at(-1)!;
  };
  await until('a first pause', () => pauses.length > 0 && events !== undefined);
  const tell = async () => {
    const event = encode(schema.ContainerEventResponse, { containerId: 'c' });
    events!.stream.write(framed(event));
    await sleep(100);
  };
  return { state, conditions, pauses, next, tell };
}

test('all is listed often until the event stream has told of something', async (t) => {
  const { pauses, next, tell } = await watched(t);
  assert.deepEqual(pauses, [10_000]);
  assert.equal(await next(), 10_000);
  await tell();
  assert.equal(await next(), 60_000);
  assert.equal(await next(), 60_000);
});

test('a network that goes away while limpet runs is seen, and its return', async (t) => {
  const { state, conditions, next } = await watched(t);
  assert.equal(state.networkReady, true);
  conditions.network = false;
  assert.equal(await next(), 2_000);
  assert.equal(state.networkReady, false);
  conditions.network = true;
  assert.equal(await next(), 10_000);
  assert.equal(state.networkReady, true);
});
