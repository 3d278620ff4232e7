/** What holds for every kind of probe. A new kind does not compile here without its fixture. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Probe, ProbeHandler } from '../../src/kube/pod.ts';
import { PROBES, runProbe } from '../../src/probe/index.ts';
import { deadPort, grpcServer, httpServer, never, silence, targetOf } from './servers.ts';
import type { Listening } from './servers.ts';

type Fixture = {
  /** Something that is well, something that is not, and something that never answers. */
  readonly well: () => Promise<Listening>;
  readonly ill: () => Promise<Listening>;
  readonly handler: (port: number) => ProbeHandler;
  /** The same, hanging. */
  readonly hanging: (port: number) => ProbeHandler;
};

const nothing = (): Promise<Listening> =>
  Promise.resolve({ port: 0, [Symbol.asyncDispose]: () => Promise.resolve() });
const dead = async (): Promise<Listening> => {
  const port = await deadPort();
  return { port, [Symbol.asyncDispose]: () => Promise.resolve() };
};
const httpGet = (port: number): ProbeHandler => ({
  ...{ kind: 'httpGet', path: '/', port, scheme: 'HTTP', httpHeaders: [] },
});
const grpc = (port: number): ProbeHandler => ({ kind: 'grpc', port, service: '' });

const FIXTURES: { readonly [K in ProbeHandler['kind']]: Fixture } = {
  exec: {
    well: nothing,
    // The port of a fixture that is well is 0.
    ill: () => Promise.resolve({ port: 1, [Symbol.asyncDispose]: () => Promise.resolve() }),
    handler: (port) => ({ kind: 'exec', command: ['sh', '-c', `echo said; exit ${port}`] }),
    hanging: () => ({ kind: 'exec', command: ['sleep', '60'] }),
  },
  httpGet: {
    well: () => httpServer((_, response) => response.end('fine')),
    ill: () => httpServer((_, response) => response.writeHead(500).end('oh')),
    handler: httpGet,
    hanging: httpGet,
  },
  tcpSocket: {
    well: silence,
    ill: dead,
    handler: (port) => ({ kind: 'tcpSocket', port }),
    // An address of a network for documentation: packets to it get no answer, or none at all.
    hanging: (port) => ({ kind: 'tcpSocket', port, host: '192.0.2.1' }),
  },
  grpc: {
    well: () => grpcServer({}),
    ill: () => grpcServer({ message: Buffer.from([0x08, 2]) }),
    handler: grpc,
    hanging: grpc,
  },
};

const probe = (handler: ProbeHandler): Probe => ({
  ...{ handler, initialDelaySeconds: 0, timeoutSeconds: 1, periodSeconds: 10 },
  ...{ successThreshold: 1, failureThreshold: 3 },
});

for (const kind of Object.keys(PROBES) as ProbeHandler['kind'][]) {
  const fixture = FIXTURES[kind];

  test(`${kind}: what is well is a success`, async () => {
    await using server = await fixture.well();
    const answer = await runProbe(targetOf(), probe(fixture.handler(server.port)), never);
    assert.equal(answer.result, 'success', answer.text);
  });

  test(`${kind}: what is not is a failure`, async () => {
    await using server = await fixture.ill();
    const answer = await runProbe(targetOf(), probe(fixture.handler(server.port)), never);
    assert.equal(answer.result, 'failure', answer.text);
    assert.notEqual(answer.text, '');
  });

  test(`${kind}: what does not answer in time is a failure`, async () => {
    await using server = await silence();
    const began = performance.now();
    const answer = await runProbe(targetOf(), probe(fixture.hanging(server.port)), never);
    assert.equal(answer.result, 'failure', answer.text);
    assert.ok(performance.now() - began < 1900, 'the timeout is one second');
  });

  test(`${kind}: given up, it rejects at once with the signal's reason`, async () => {
    await using server = await silence();
    const controller = new AbortController();
    const reason = new Error('given up');
    const handler = fixture.hanging(server.port);
    const asked = runProbe(targetOf(), probe(handler), controller.signal);
    if (kind !== 'tcpSocket') await new Promise((resolve) => setTimeout(resolve, 50));
    controller.abort(reason);
    await assert.rejects(asked, (error) => error === reason);
  });

  if (kind === 'exec') continue;
  test(`${kind}: without an address nothing can be asked`, async () => {
    const target = { ...targetOf(), podIP: undefined };
    const handler = fixture.handler(80);
    const answer = await runProbe(target, probe(handler), never);
    assert.deepEqual(answer, { result: 'error', text: 'the pod has no address' });
  });
}
