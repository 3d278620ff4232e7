/**
 * What the relay costs on the wire: a program that is run in a network namespace of its own
 * (`unshare --net`). A real mosquitto with TLS is in another one, and the kernel's counters of the
 * interface between them are all that is believed: both directions, with all headers, of Ethernet
 * too, and what ARP asks.
 *
 *   wire.ts '{"crashes": 20, "keepAliveSeconds": 60, "idleSeconds": 120}'
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createAuthority } from '../../scripts/lib/certificates.ts';
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
  readonly idlePerDay?: number;
};

const NEAR = '10.9.0.1';
const FAR = '10.9.0.2';
const PORT = 8883;
/** Longer than TCP delays an acknowledgement. */
const QUIET_MS = 300;
const BETWEEN_DELTAS_MS = 10_000;

function bytesNow(): number {
  const line = /^ *near: *(.*)$/m.exec(readFileSync('/proc/net/dev', 'utf8'))?.[1] ?? '';
  const fields = line.split(/ +/).map(Number);
  return fields[0]! + fields[8]!;
}

/** A broker behind an interface of its own. */
async function farBroker() {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-wire-'));
  const authority = createAuthority('fleet');
  const { certificate, key } = authority.issue({ name: 'broker', names: [FAR] });
  const [cert, keyFile] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  writeFileSync(cert, certificate);
  writeFileSync(keyFile, key);
  const config = [
    ...[`listener ${PORT} 0.0.0.0`, 'allow_anonymous true', 'user root'],
    ...[`certfile ${cert}`, `keyfile ${keyFile}`],
  ];
  writeFileSync(join(directory, 'mosquitto.conf'), `${config.join('\n')}\n`);
  const program = ['/usr/sbin/mosquitto', '-c', join(directory, 'mosquitto.conf')];
  const child = spawn('unshare', ['--net', '--', ...program], { stdio: 'ignore' });
  // It is in its namespace when it is no longer the program that brings it there.
  const name = () => readFileSync(`/proc/${child.pid}/comm`, 'utf8').trim();
  await until('mosquitto', () => name() === 'mosquitto');
  const ip = (...args: string[]) => execFileSync('ip', args);
  const farIp = (...args: string[]) =>
    execFileSync('nsenter', [`--net=/proc/${child.pid}/ns/net`, 'ip', ...args]);
  ip('link', 'add', 'near', 'type', 'veth', 'peer', 'name', 'far', 'netns', String(child.pid));
  // Without it IPv6 would ask for routers and neighbours all the time.
  ip('link', 'set', 'near', 'addrgenmode', 'none');
  farIp('link', 'set', 'far', 'addrgenmode', 'none');
  ip('addr', 'add', `${NEAR}/24`, 'dev', 'near');
  ip('link', 'set', 'near', 'up');
  farIp('addr', 'add', `${FAR}/24`, 'dev', 'far');
  farIp('link', 'set', 'far', 'up');
  return {
    credentials: { authority: authority.certificate },
    end: () => {
      child.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
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
  const at = { host: FAR, port: PORT, tls: true, credentials: broker.credentials };
  const begin = await quiet();
  const node = createNode(() => ({ ...at, keepAliveSeconds }));
  await until('connected', () => node.relay.report().connected);
  const connected = await quiet();
  let restarts = 0;
  const crash = (withEvent: boolean) => {
    const which = restarts % 10;
    const crashed = { ...pod(which, ++restarts), ready: 0, reason: 'CrashLoopBackOff' };
    node.pods.set(which, crashed);
    if (withEvent) {
      const { uid } = crashed;
      const name = `${crashed.name}_${crashed.namespace}(${uid})`;
      const message = `Back-off restarting failed container main in pod ${name}`;
      const object = { kind: 'Pod', namespace: 'default', name: crashed.name, uid } as const;
      const event = { type: 'Warning', reason: 'BackOff', message, object } as const;
      node.relay.event(event, node.clock.now());
    }
    node.relay.changed();
  };
  const average = async (withEvent: boolean) => {
    // The first ones tell the topics, once for a connection.
    for (let n = 0; n < 2; n++) await told(withEvent);
    const from = bytesNow();
    for (let n = 0; n < task.crashes; n++) await told(withEvent);
    return Math.round((bytesNow() - from) / task.crashes);
  };
  const told = async (withEvent: boolean) => {
    crash(withEvent);
    await sleep(50);
    node.clock.skip(BETWEEN_DELTAS_MS);
    await quiet();
  };
  const [crashBytes, crashAndEvent] = [await average(false), await average(true)];
  const rest = await quiet();
  await sleep(task.idleSeconds * 1000);
  const idle = bytesNow() - rest;
  await node.end();
  broker.end();
  return {
    ...{ connection: connected - begin, crash: crashBytes, crashAndEvent },
    ...(task.idleSeconds > 0 && { idlePerDay: Math.round((idle * 86_400) / task.idleSeconds) }),
  };
}

const [task] = process.argv.slice(2);
process.stdout.write(`${JSON.stringify(await measure(JSON.parse(task ?? '{}') as WireTask))}\n`);
