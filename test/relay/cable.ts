/**
 * A relay whose cable was out for so long that it waits for minutes, and then is in again: a program
 * that is run in a network namespace of its own. Prints how long it takes.
 */
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLibc } from '../../src/linux/libc.ts';
import { createLinks } from '../../src/linux/links.ts';
import { farBroker, NEAR } from './far-broker.ts';
import { createNode, until } from './world.ts';

export type Cable = {
  /** How long the relay was going to wait. */
  readonly pauseMs: number;
  readonly connectedAfterMs: number;
};

const broker = await farBroker();
broker.unplug();
// The kernel gathers changes of links for up to a second.
await until('no carrier', () => !Object.hasOwn(networkInterfaces(), NEAR));
const { gained } = createLinks(openLibc());
const node = createNode(() => broker.at, { linkGained: gained });
const pauseMs = () => node.clock.slept.at(-1) ?? 0;
for (let tries = 0; tries < 400 && pauseMs() < 120_000; tries++) {
  node.clock.skip(300_000);
  // Time for an attempt, and for the next pause to begin.
  await sleep(20);
}
// It listens, and nothing is to be heard.
await sleep(500);
const waitedMs = pauseMs();
broker.plug();
const begin = performance.now();
try {
  await until('connected', () => node.relay.report().connected);
  const cable: Cable = {
    pauseMs: waitedMs,
    connectedAfterMs: Math.round(performance.now() - begin),
  };
  process.stdout.write(`${JSON.stringify(cable)}\n`);
} finally {
  await node.end();
  broker.end();
}
