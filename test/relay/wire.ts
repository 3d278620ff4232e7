/**
 * What the relay costs on the wire: a program that is run in a network namespace of its own
 * (`unshare --net`). A real mosquitto with TLS is in another one, and the kernel's counters of the
 * interface between them are all that is believed: both directions, with all headers, of Ethernet
 * too, and what ARP asks.
 *
 *   wire.ts '{"crashes": 20, "keepAliveSeconds": 60, "idleSeconds": 120}'
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NewEvent } from '../../src/kube/event.ts';
import type { PodState } from '../../src/relay/message.ts';
import { farBroker, NEAR } from './far-broker.ts';
import { createNode, pod, until } from './world.ts';

export type WireTask = {
  readonly crashes: number;
  readonly keepAliveSeconds: number;
  /** 0: not measured. */
  readonly idleSeconds: number;
};

/** Bytes at the interface, of ten pods. */
export type WireBytes = {
  /** TLS, MQTT, the snapshot and all else until the relay rests. */
  readonly connection: number;
  /** The status of a pod that has crashed. */
  readonly crash: number;
  /** The same with its event. */
  readonly crashAndEvent: number;
  /** Its container has been started again: the status and three events. */
  readonly restart: number;
  readonly idlePerDay?: number;
};

/** As long as a Deployment makes it. */
const nameOf = (which: number) => `web-7d9c5b8f6d-x2x4${which}`;
type SaidOfPod = Pick<NewEvent, 'type' | 'reason' | 'message'>;
const CRASHED: Partial<PodState> = { ready: 0, reason: 'CrashLoopBackOff' };
const BACK_OFF: SaidOfPod = {
  type: 'Warning',
  reason: 'BackOff',
  message: 'Back-off restarting failed container main',
};
const IMAGE = '"docker.io/library/nginx:1.29"';
const STARTED: readonly SaidOfPod[] = [
  ['Pulled', `Container image ${IMAGE} already present on machine`] as const,
  ['Created', 'Container created: main'] as const,
  ['Started', 'Container started: main'] as const,
].map(([reason, message]) => ({ type: 'Normal', reason, message }));
/** Longer than TCP delays an acknowledgement. */
const QUIET_MS = 300;
const BETWEEN_DELTAS_MS = 10_000;

function bytesNow(): number {
  const line =
    new RegExp(`^ *${NEAR}: *(.*)$`, 'm').exec(readFileSync('/proc/net/dev', 'utf8'))?.[1] ?? '';
  const fields = line.split(/ +/).map(Number);
  return fields[0]! + fields[8]!;
}

/** Until nothing passes any more. */
async function quiet(): Promise<number> {
  let before = -1;
  for (;;) {
    const now = bytesNow();
    if (now === before) return now;
    before = now;
    await sleep(QUIET_MS);
  }
}

async function measure(task: WireTask): Promise<WireBytes> {
  const broker = await farBroker();
  const { keepAliveSeconds } = task;
  const begin = await quiet();
  const node = createNode(() => ({ ...broker.at, keepAliveSeconds }));
  for (const [which, one] of node.pods) node.pods.set(which, { ...one, name: nameOf(which) });
  await until('connected', () => node.relay.report().connected);
  const connected = await quiet();
  let turns = 0;
  const turn = (change: Partial<PodState>, events: readonly SaidOfPod[]) => {
    const which = turns % 10;
    const name = nameOf(which);
    const turned = { ...pod(which, ++turns), name, ...change };
    node.pods.set(which, turned);
    const { uid, namespace } = turned;
    for (const event of events) {
      const at = event.reason === 'BackOff' ? ` in pod ${name}_${namespace}(${uid})` : '';
      const object = { kind: 'Pod', namespace, name, uid } as const;
      node.relay.event({ ...event, message: event.message + at, object }, node.clock.now());
    }
    node.relay.changed();
  };
  const average = async (what: () => void) => {
    const told = async () => {
      what();
      await sleep(50);
      node.clock.skip(BETWEEN_DELTAS_MS);
      await quiet();
    };
    // The first ones tell the topics, once for a connection.
    for (let n = 0; n < 2; n++) await told();
    const from = bytesNow();
    for (let n = 0; n < task.crashes; n++) await told();
    return Math.round((bytesNow() - from) / task.crashes);
  };
  const crash = await average(() => turn(CRASHED, []));
  const crashAndEvent = await average(() => turn(CRASHED, [BACK_OFF]));
  const restart = await average(() => turn({}, STARTED));
  const rest = await quiet();
  await sleep(task.idleSeconds * 1000);
  const idle = bytesNow() - rest;
  await node.end();
  broker.end();
  return {
    ...{ connection: connected - begin, crash, crashAndEvent, restart },
    ...(task.idleSeconds > 0 && { idlePerDay: Math.round((idle * 86_400) / task.idleSeconds) }),
  };
}

const [task] = process.argv.slice(2);
process.stdout.write(`${JSON.stringify(await measure(JSON.parse(task ?? '{}') as WireTask))}\n`);
