/**
 * What counts as another way out: a program that is run in a network namespace of its own. Prints what
 * came of each step.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLibc } from '../../src/linux/libc.ts';
import { createLinks } from '../../src/linux/links.ts';

const ip = (line: string) => void execFileSync('ip', line.split(' '));
const QUIET_MS = 400;
const links = createLinks(openLibc());
const said: Record<string, boolean> = {};

/** Whether a way was gained by what is done. */
async function step(what: string, ...lines: readonly string[]): Promise<void> {
  const stop = new AbortController();
  const gained = links.gained(stop.signal);
  for (const line of lines) ip(line);
  const timer = setTimeout(() => stop.abort(), QUIET_MS);
  said[what] = await gained;
  clearTimeout(timer);
}

/** The kernel gathers changes of links for up to a second. */
async function isOut(): Promise<void> {
  while (Object.hasOwn(networkInterfaces(), 'cable')) await sleep(20);
}

const open = () => readdirSync('/proc/self/fd').length;
await step('nothing');
// What Node opens for its first signals and children stays.
ip('link show');
const before = open();
await step(
  'a pod comes, with addresses of the link',
  ...['link add pod type veth peer name inside', 'link set pod up', 'link set inside up'],
);
await step(
  'an interface without an address',
  ...['link add cable type veth peer name other', 'link set cable up', 'link set other up'],
);
await step('an address', 'addr add 10.8.0.2/24 dev cable');
await step('the cable is out', 'link set other down');
await isOut();
await step('the cable is in', 'link set other up');
await step('the gateway of pods, once', 'addr add 10.244.0.1/32 dev pod');
await step(
  'the gateway of pods, at another pod',
  ...['link add pod2 type veth peer name inside2', 'link set inside2 up', 'link set pod2 up'],
  'addr add 10.244.0.1/32 dev pod2',
);
await step('the default route', 'route add default via 10.8.0.1');
await step('out again', 'link set other down');
await isOut();
// As long as nobody listens it is not looked at: a look, and then it comes.
await step('still out');
ip('link set other up');
await sleep(QUIET_MS);
await step('in while nobody listened');
process.stdout.write(
  JSON.stringify({ said, left: open() - before + process.listenerCount('SIGURG') }),
);
