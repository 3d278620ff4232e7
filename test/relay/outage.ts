/**
 * A node whose broker is not there, for `memory.test.ts`: pods change and events come, far more
 * than the outbox takes. Takes --expose-gc. Prints the private dirty memory of the process, in bytes, as it goes on.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createNode, pod } from './world.ts';

const [port] = process.argv.slice(2);
const CHANGES = 8_000;
const node = createNode(() => ({ port: Number(port) }));

function privateDirtyBytes(): number {
  const rollup = readFileSync('/proc/self/smaps_rollup', 'utf8');
  return 1024 * Number(/^Private_Dirty: *(\d+) kB$/m.exec(rollup)?.[1]);
}

// As the agent does after work; without it, what is measured is when V8 last collected.
const collect = gc!;
const dirty: number[] = [];
for (let n = 1; n <= CHANGES; n++) {
  const which = n % 10;
  node.pods.set(which, pod(which, n));
  node.relay.changed();
  const { uid, name } = pod(which);
  const object = { kind: 'Pod', namespace: 'default', name, uid } as const;
  const message = `Back-off restarting failed container main in pod ${name}_default(${uid}) ${n}`;
  const event = { type: 'Warning', reason: 'BackOff', message, object } as const;
  node.relay.event(event, node.clock.now());
  // Nine days, with the attempts to connect and the writes of the outbox that belong to them.
  node.clock.skip((9 * 86_400_000) / CHANGES);
  if (n % 20 === 0) await sleep(1);
  if (n % (CHANGES / 4) !== 0) continue;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  dirty.push(privateDirtyBytes());
}
const { waiting, dropped } = node.outbox;
process.stdout.write(JSON.stringify({ dirty, waiting, dropped }));
await node.end();
