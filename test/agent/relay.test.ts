/** The agent's side of the relay: a real store, a real broker, and what `limpet status` says of it. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import Database from 'better-sqlite3';
import { connectAsync } from 'mqtt';
import { createRelay } from '../../src/agent/relay.ts';
import { reportOf } from '../../src/agent/report.ts';
import type { Worker } from '../../src/agent/turns.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { podTable } from '../../src/command/pod-table.ts';
import { configObject, fillDefaults, type Settings } from '../../src/kube/config-settings.ts';
import { LIMPET_FIELDS, type LimpetConfig } from '../../src/kube/limpet-config.ts';
import type { Probe } from '../../src/kube/pod.ts';
import type { BoardCondition } from '../../src/node/board.ts';
import { decode } from '../../src/relay/codec.ts';
import { fold, NOTHING, type Message } from '../../src/relay/fold.ts';
import type { MessageKind, PodState } from '../../src/relay/message.ts';
import { parseTopic } from '../../src/relay/topic.ts';
import type { BrokerReport } from '../../src/server/api.ts';
import { limpet } from '../command/cli.ts';
import { startWatch } from '../command/watching.ts';
import { aContainer, aPod } from '../pod/a-pod.ts';
import { Rig } from '../pod/rig.ts';
import { startBroker } from '../../scripts/lib/broker.ts';
import { until } from '../relay/world.ts';
import { serveCanned } from '../server/canned.ts';
import { event, open } from '../store/world.ts';

const clock = systemClock('0b5e55ed-boot', () => 0);
const hot: BoardCondition = {
  ...{ type: 'Overheated', status: 'True', reason: 'TooHot', message: '82 °C' },
  since: '2026-11-21T10:00:00Z',
};

function createAgentRelay(
  t: TestContext,
  more: Partial<LimpetConfig['relay']>,
  workers: readonly Worker[] = [],
) {
  const all: Settings = new Map();
  fillDefaults(all, LIMPET_FIELDS, true);
  const { relay } = configObject(LIMPET_FIELDS, all) as LimpetConfig;
  const root = mkdtempSync(join(tmpdir(), 'limpet-agent-relay-'));
  const lines: string[] = [];
  const log = createLog('info', (line) => lines.push(line));
  const store = open({ directory: join(root, 'store'), podsDirectory: join(root, 'pods') });
  const stack = new AsyncDisposableStack();
  const begin = () =>
    createRelay(
      { nodeName: 'pi1', rootDirectory: root, version: '1.2.3', relay: { ...relay, ...more } },
      {
        ...{ clock, log, store, trimHeap: () => undefined, workers: () => workers },
        ...{ conditions: () => [hot], hostIPs: () => ['10.0.0.7'], figures: () => [] },
        libc: undefined,
        ready: Promise.resolve(),
        usage: () => Promise.reject(new Error('metricsInterval is 0')),
      },
      stack,
    )!;
  const stop = new AbortController();
  t.after(() => {
    store[Symbol.dispose]();
    rmSync(root, { recursive: true, force: true });
  });
  return {
    ...{ root, store, lines, begin, stop },
    end: async (running: Promise<void>) => {
      stop.abort();
      await running;
      await stack.disposeAsync();
    },
  };
}

/** The line of `limpet status`. */
async function statusLine(report: BrokerReport): Promise<string> {
  await using served = await serveCanned({ node: { relay: report } });
  const { code, out } = await limpet(['status', '--socket', served.socket]);
  assert.equal(code, 0);
  return /^Relay: +(.*)$/m.exec(out)?.[1] ?? assert.fail(out);
}

test('tells the broker of the node, its conditions and events; the status says so', async (t) => {
  await using broker = await startBroker();
  const world = createAgentRelay(t, { broker: `mqtt://127.0.0.1:${broker.port}`, fleet: 'farm' });
  const relay = world.begin();
  const running = relay.run(world.stop.signal);
  const reader = await connectAsync(`mqtt://127.0.0.1:${broker.port}`, { protocolVersion: 5 });
  const heard = new Map<MessageKind, unknown>();
  reader.on('message', (topic, payload) => {
    const { kind } = parseTopic(topic)!;
    const decoded = decode(kind, payload);
    heard.set(kind, decoded.ok ? decoded.message : decoded.fault);
  });
  await reader.subscribeAsync('limpet/v1/farm/pi1/+');
  await until('the snapshot', () => heard.has('snap'));
  const { node, conditions } = heard.get('snap') as {
    readonly node: { readonly version: string; readonly address: string; readonly cpus: number };
    readonly conditions: readonly unknown[];
  };
  assert.equal(node.version, '1.2.3');
  assert.equal(node.address, '10.0.0.7');
  assert.ok(node.cpus > 0);
  const since = Date.parse(hot.since) / 1000;
  assert.deepEqual(conditions, [{ type: 'Overheated', status: 'True', since, reason: 'TooHot' }]);
  world.store.recordEvent(event('Started'), clock.now());
  await until('the event', () => heard.has('evt'));
  assert.equal((heard.get('evt') as { readonly reason: string }).reason, 'Started');
  const line = await statusLine(relay.report());
  assert.match(line, /^mqtt:\/\/127\.0\.0\.1:\d+, connected \(MQTT 5\) for \d+s$/);
  await reader.endAsync();
  await world.end(running);
  assert.match(await statusLine(relay.report()), /NOT CONNECTED for \d+s: the agent is stopping$/);
});

test('a pod with an init container and a sidecar is told of as limpet pods shows it', async (t) => {
  await using broker = await startBroker();
  const address = `mqtt://127.0.0.1:${broker.port}`;
  const readinessProbe: Probe = {
    ...{ handler: { kind: 'exec', command: ['x'] }, initialDelaySeconds: 0, timeoutSeconds: 1 },
    ...{ periodSeconds: 10, successThreshold: 1, failureThreshold: 3 },
  };
  const side = aContainer({ name: 'side', restartPolicy: 'Always', readinessProbe });
  const shop = aPod({
    initContainers: [aContainer({ name: 'init' }), side],
    containers: [aContainer({ name: 'main' })],
  });
  const rig = new Rig(shop);
  const worker: Worker = {
    ...{ uid: shop.metadata.uid, want: rig.want, seen: rig.seen, status: undefined },
    ...{ mailbox: [], stored: undefined, timer: undefined, aborts: new Map() },
  };
  const world = createAgentRelay(t, { broker: address, fleet: 'home' }, [worker]);
  const relay = world.begin();
  const running = relay.run(world.stop.signal);
  const watch = startWatch(['--broker', address, '-o', 'json']);
  t.after(() => watch.child.kill());
  const reader = await connectAsync(address, { protocolVersion: 5 });
  t.after(() => reader.endAsync(true));
  let view = NOTHING;
  reader.on('message', (topic, payload) => {
    const { kind } = parseTopic(topic)!;
    const decoded = decode(kind, payload);
    if (decoded.ok) view = fold(view, { kind, message: decoded.message } as Message);
  });
  await reader.subscribeAsync('limpet/v1/home/pi1/+');
  /** As it is now, with an event, which takes it along at once. */
  const told = async (is: Partial<PodState>) => {
    worker.seen = rig.seen;
    const { metadata } = shop;
    const object = { kind: 'Pod', ...metadata } as const;
    world.store.recordEvent({ ...event('Turned'), object }, clock.now());
    const row = podTable([reportOf(worker, rig.now(), undefined)], Date.now(), false);
    const { ready, containers, restarts, reason = is.phase } = is as PodState;
    assert.match(row, new RegExp(`shop +${ready}/${containers} +${reason} +${restarts} `));
    const pod = () => view.base?.pods.get(metadata.uid);
    await until(JSON.stringify(is), () => {
      const said: Partial<PodState> = pod() ?? {};
      return Object.entries(is).every(([key, value]) => said[key as keyof PodState] === value);
    });
    assert.equal(pod()?.reason, is.reason);
  };
  rig.after(1);
  await told({ phase: 'Pending', ready: 0, containers: 2, restarts: 0, reason: 'Init:0/2' });
  rig.exit('init', 0);
  rig.after(1);
  await told({ phase: 'Running', ready: 1, containers: 2, restarts: 0 });
  await watch.until(/"pods":\{"ready":0,"total":1\}/);
  rig.exit('side', 1);
  rig.after(1);
  rig.probed('side', 'readiness', 'success');
  rig.after(1);
  await told({ phase: 'Running', ready: 2, containers: 2, restarts: 1 });
  await watch.until(/"pods":\{"ready":1,"total":1\}/);
  await world.end(running);
});

test('files that are missing, a broker that is not there, and then all is well', async (t) => {
  await using broker = await startBroker(['password_file $dir/passwords'], {
    passwords: 'pi:secret-word\n',
  });
  const files = mkdtempSync(join(tmpdir(), 'limpet-credentials-'));
  t.after(() => rmSync(files, { recursive: true, force: true }));
  const [usernameFile, passwordFile] = [join(files, 'user'), join(files, 'password')];
  writeFileSync(usernameFile, 'pi\n');
  const address = `mqtt://127.0.0.1:${broker.port}`;
  const world = createAgentRelay(t, { broker: address, usernameFile, passwordFile });
  const relay = world.begin();
  const running = relay.run(world.stop.signal);
  world.store.recordEvent(event('Started'), clock.now());
  const isSaid = (what: RegExp) => () => what.test(relay.report().message ?? '');
  await until('a missing file', isSaid(/\/password/));
  const line = await statusLine(relay.report());
  assert.match(line, /NOT CONNECTED for \d+s, 1 messages waiting: .*\/password.*no such file/i);
  writeFileSync(passwordFile, 'wrong-word\n');
  await until('a refusal', isSaid(/refused for lack of a right/), 30_000);
  assert.ok(!world.lines.join('').includes('wrong-word'));
  writeFileSync(passwordFile, 'secret-word\n');
  await until('connected', () => relay.report().connected, 60_000);
  await until('told', () => relay.report().waiting === 0);
  await world.end(running);
});

test('an outbox that can not be opened costs the relay and nothing else', async (t) => {
  const world = createAgentRelay(t, { broker: 'mqtts://broker.example' });
  // Of a newer limpet: it is not damaged and is left as it is.
  const path = join(world.root, 'outbox.db');
  const newer = new Database(path);
  newer.pragma('user_version = 99');
  newer.close();
  const relay = world.begin();
  await relay.run(world.stop.signal);
  relay.changed();
  world.store.recordEvent(event('Started'), clock.now());
  assert.match(await statusLine(relay.report()), /NOT CONNECTED for .*outbox\.db/);
  assert.ok(world.lines.some((line) => line.includes('the relay does not run')));
  assert.ok(existsSync(path));
});
