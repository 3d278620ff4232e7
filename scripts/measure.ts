/**
 * Measures limpet in a virtual node: what it costs when nothing happens, and how long it takes to
 * bring the pods back after a power cut; and without one the bytes of the relay. Exits with 1 when a
 * bound does not hold.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { NodeReport, PodReport } from '../src/server/api.ts';
import type { WireBytes, WireTask } from '../test/relay/wire.ts';
import { askAgent, installLimpet, podsOf, until } from './lib/install-limpet.ts';
import { startNodeBroker } from './lib/node-broker.ts';
import { run } from './lib/process.ts';
import { restBetween, sample, type Rest } from './lib/rest.ts';
import { megabytes, table } from './lib/table.ts';
import {
  compareUsage,
  steadyUsage,
  usageCost,
  usingPods,
  type Steady,
  type UsageCost,
} from './lib/usage.ts';
import {
  up,
  type Arch,
  type Containerd,
  type Pages,
  type VirtualNode,
} from './lib/virtual-node.ts';

const ROOT = join(import.meta.dirname, '..');

const HELP = `Usage: scripts/measure idle|usage [--pods 10,30] [--minutes 5] [--relay] [MACHINE]
       scripts/measure relay [--minutes 30]

idle   memory, processor, wake-ups and disk writes of limpet while its pods run and nothing happens
  --relay       after that, with the last number of pods: limpet started again, without and with a
                relay to an MQTT broker on this machine
usage  the figures of limpet top beside the kernel's and those of ctr; its system calls while
       somebody looks; what a look costs with so many pods (10,50,110)
relay  bytes between the relay with 10 pods and a mosquitto with TLS, at the interface, all headers
       counted: of a crash, and at rest at the keep-alive of the defaults; takes root, no machine

MACHINE: [--arch amd64|arm64] [--pages 4k|16k] [--containerd 1.7|2]
  --json FILE   writes the figures there as well

Bounds of idle: private dirty memory is at most 24 MB with 10 pods, at most 2 MB more with 30, and
at most 3 MB more with a relay than without; nothing is written to the disk at rest. Bounds of
usage: within 2 %; no fork, no write to the disk; reads grow with the number of pods and no faster.
Bounds of relay: one crash with its event is at most 400 bytes, a day at rest 0.5 MB. MB is 10^6.
`;

const LIMPET = { unit: 'limpet', executable: '/usr/bin/limpet' };
const MAX_DIRTY_BYTES = 24e6;
const MAX_MORE_BYTES = 2e6;
const MAX_RELAY_BYTES = 3e6;
const SETTLE_MS = 60_000;
/** A change is backed up ten minutes after the backup before: that write belongs to the change. */
const BACKUP_MS = 11 * 60_000;
const PODS_TIMEOUT_MS = 1_800_000;

const beganMs = performance.now();
function say(line: string): void {
  const seconds = ((performance.now() - beganMs) / 1000).toFixed(0).padStart(4);
  process.stderr.write(`${seconds} s  ${line}\n`);
}

function podText(name: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'main',
          image: 'limpet.local/busybox:1',
          command: ['sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'],
        },
      ],
    },
  });
}

function isReady({ status }: PodReport): boolean {
  return status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True');
}

/** Applies pods until there are `count`, and waits until all run. */
async function havePods(node: VirtualNode, count: number): Promise<void> {
  const there = (await podsOf(node)).length;
  const names = Array.from({ length: count - there }, (_, index) => `pod-${there + index}`);
  const input = names.map((name) => `---\n${podText(name)}\n`).join('');
  if (names.length > 0) await node.ssh('limpet apply -f -', { input, timeoutMs: 120_000 });
  await until(
    `${count} pods run`,
    async () => (await podsOf(node)).filter(isReady).length,
    (running) => running === count,
    { timeoutMs: PODS_TIMEOUT_MS, everyMs: 5000 },
  );
}

async function idle(
  node: VirtualNode,
  counts: readonly number[],
  minutes: number,
): Promise<Rest[]> {
  const rests: Rest[] = [];
  for (const count of counts) {
    await havePods(node, count);
    say(`${count} pods run; nothing is done for ${minutes} minutes`);
    await sleep(rests.length === 0 ? SETTLE_MS : BACKUP_MS);
    const from = await sample(node, LIMPET);
    await sleep(minutes * 60_000);
    rests.push(restBetween(count, from, await sample(node, LIMPET)));
  }
  return rests;
}

type Figures = { readonly figures: object; readonly bounds: readonly Bound[] };
type Measure = (
  node: VirtualNode,
  counts: readonly number[],
  minutes: number,
  relay: boolean,
) => Promise<Figures>;

type Relayed = { readonly without: Rest; readonly with: Rest };

/** Rests after a start of limpet each, for a first start leaves other memory behind. */
async function idleWithRelay(node: VirtualNode, pods: number, minutes: number): Promise<Relayed> {
  const rest = async (): Promise<Rest> => {
    await node.ssh('systemctl restart limpet', { timeoutMs: 120_000 });
    await havePods(node, pods);
    await sleep(SETTLE_MS);
    const from = await sample(node, LIMPET);
    await sleep(minutes * 60_000);
    return restBetween(pods, from, await sample(node, LIMPET));
  };
  say('limpet is started again, without a relay');
  const without = await rest();
  await using broker = await startNodeBroker(say);
  await broker.configure(node);
  say('and with a relay');
  const relayed = { without, with: await rest() };
  const report = await askAgent<NodeReport>(node, '/v1/status');
  if (report?.relay?.connected !== true) throw new Error('the relay is not connected');
  return relayed;
}

function columnsOf(rests: readonly Rest[], relayed: Relayed | undefined) {
  const columns = rests.map((rest) => ({ title: `${rest.pods} pods`, rest }));
  if (relayed === undefined) return columns;
  return [
    ...columns,
    { title: 'started again', rest: relayed.without },
    { title: 'with relay', rest: relayed.with },
  ];
}

const rest: Measure = async (node, counts, minutes, relay) => {
  const rests = await idle(node, counts, minutes);
  const relayed = relay ? await idleWithRelay(node, counts.at(-1)!, minutes) : undefined;
  process.stdout.write(restTable(rests, relayed));
  const bounds = [...boundsOf(rests), ...(relayed === undefined ? [] : [relayBound(relayed)])];
  return { figures: { rests, relayed }, bounds };
};

function restTable(rests: readonly Rest[], relayed: Relayed | undefined): string {
  const columns = columnsOf(rests, relayed);
  const row = (name: string, show: (rest: Rest) => string) => [
    name,
    ...columns.map(({ rest }) => show(rest)),
  ];
  return table([
    ['', ...columns.map(({ title }) => title)],
    row('private dirty', (r) => megabytes(r.privateDirtyBytes)),
    row('  in huge pages', (r) => megabytes(r.hugeBytes)),
    row('PSS', (r) => megabytes(r.pssBytes)),
    row('RSS', (r) => megabytes(r.rssBytes)),
    row("  the executable's own file", (r) => megabytes(r.executableBytes)),
    row('processor, a minute', (r) => `${r.cpuMsPerMinute} ms`),
    row('wake-ups, a minute', (r) => String(r.wakeUpsPerMinute)),
    row('preemptions, a minute', (r) => String(r.preemptionsPerMinute)),
    row('write calls, a minute', (r) => String(r.writeCallsPerMinute)),
    row('written to the disk by limpet', (r) => `${r.writtenBytes} B`),
    row('written to the disk by all', (r) => `${r.diskWrittenBytes} B`),
    row('file descriptors', (r) => String(r.descriptors)),
    row('threads', (r) => String(r.threads)),
    row('measured for', (r) => `${r.minutes} min`),
  ]);
}

/** Pods that use something, beside those that are counted. */
const USING = 'using';
const USING_MS = 30_000;

const usage: Measure = async (node, counts, minutes) => {
  await node.ssh('limpet apply -f -', { input: usingPods(USING), timeoutMs: 60_000 });
  const others = (await podsOf(node)).length;
  await havePods(node, others);
  await sleep(USING_MS);
  const compared = await compareUsage(node, USING);
  const wrong = compared.filter(({ agrees }) => !agrees);
  for (const one of wrong) say(`differs: ${JSON.stringify(one)}`);
  const by = (who: string) => compared.filter((one) => one.by === who).length;
  say(`${by('kernel')} figures compared with the kernel's files, ${by('ctr')} with those of ctr`);
  await node.ssh(
    `for p in busy files shared network; do limpet delete pod ${USING}-$p --wait; done`,
    {
      timeoutMs: 120_000,
    },
  );
  const [first = 0] = counts;
  await havePods(node, first);
  say(`${first} pods run; somebody looks for ${minutes} minutes`);
  await sleep(SETTLE_MS);
  const steady = await steadyUsage(node, 'containers', minutes * 60);
  for (const line of steady.diskWrites) say(`wrote: ${line}`);
  const costs: UsageCost[] = [];
  for (const count of counts) {
    await havePods(node, count);
    say(`${count} pods run`);
    await sleep(SETTLE_MS);
    for (const depth of ['pods', 'containers'] as const) costs.push(await usageCost(node, depth));
  }
  process.stdout.write(usageTable(steady, costs));
  return {
    figures: { compared, steady, costs },
    bounds: [
      { what: `${compared.length} figures agree within 2 %`, holds: wrong.length === 0 },
      { what: `no fork in ${minutes} min with a viewer`, holds: steady.forks === 0 },
      { what: 'nothing was written to the disk meanwhile', holds: steady.diskWrites.length === 0 },
      { what: 'somebody looked', holds: steady.looks > 0 && compared.length > 0 },
      { what: 'reads are linear in the pods', holds: isLinear(costs) },
    ],
  };
};

/** Each more pod costs as many reads as the one before, within a tenth. */
function isLinear(costs: readonly UsageCost[]): boolean {
  return ['pods', 'containers'].every((depth) => {
    const of = costs.filter((cost) => cost.depth === depth);
    const each = of.slice(1).map((cost, index) => {
      const before = of[index]!;
      return (cost.reads - before.reads) / (cost.pods - before.pods);
    });
    return Math.max(...each) <= 1.1 * Math.min(...each);
  });
}

function usageTable(steady: Steady, costs: readonly UsageCost[]): string {
  const { seconds, looks, kernelReads, allReads, opens, forks, diskWrites } = steady;
  const each = (count: number) => (count / Math.max(1, looks)).toFixed(0);
  return (
    `with a viewer for ${seconds} s, under strace: ${looks} looks, ${forks} forks, ` +
    `${diskWrites.length} writes to the disk, ${kernelReads} reads of kernel files ` +
    `(${each(kernelReads)} a look), ${allReads} reads of all kinds, ${opens} files opened\n` +
    table([
      ['a look', 'pods', 'reads', 'processor', 'answer'],
      ...costs.map(({ depth, pods, reads, cpuMs, answerBytes }) => [
        ...[depth, String(pods), reads.toFixed(0), `${cpuMs.toFixed(1)} ms`],
        `${(answerBytes / 1000).toFixed(1)} kB`,
      ]),
    ])
  );
}

type Bound = { readonly what: string; readonly holds: boolean };

function relayBound({ without, with: relayed }: Relayed): Bound {
  const grown = relayed.privateDirtyBytes - without.privateDirtyBytes;
  const what =
    `private dirty with a relay is at most ${megabytes(MAX_RELAY_BYTES)} more than without ` +
    `(${megabytes(grown)})`;
  return { what, holds: grown <= MAX_RELAY_BYTES };
}

function boundsOf(rests: readonly Rest[]): readonly Bound[] {
  const [first, ...more] = rests;
  if (first === undefined) return [];
  const bounds: Bound[] = [];
  if (first.pods <= 10) {
    const what = `private dirty with ${first.pods} pods is at most ${megabytes(MAX_DIRTY_BYTES)}`;
    bounds.push({ what, holds: first.privateDirtyBytes <= MAX_DIRTY_BYTES });
  }
  for (const rest of more) {
    if (rest.pods > 30) continue;
    const grown = rest.privateDirtyBytes - first.privateDirtyBytes;
    const what =
      `private dirty with ${rest.pods} pods is at most ${megabytes(MAX_MORE_BYTES)} more ` +
      `(${megabytes(grown)})`;
    bounds.push({ what, holds: grown <= MAX_MORE_BYTES });
  }
  for (const { pods, writtenBytes } of rests) {
    const what = `limpet wrote nothing to the disk with ${pods} pods`;
    bounds.push({ what, holds: writtenBytes === 0 });
  }
  return bounds;
}

async function relayBytes(minutes: number): Promise<number> {
  const task: WireTask = { crashes: 20, keepAliveSeconds: 90, idleSeconds: minutes * 60 };
  const program = [process.execPath, join(ROOT, 'test/relay/wire.ts'), JSON.stringify(task)];
  const { stdout } = await run('unshare', ['--net', '--', ...program]);
  const bytes = JSON.parse(stdout) as WireBytes;
  const { connection, crash, crashAndEvent, restart, idlePerDay = Infinity } = bytes;
  process.stdout.write(
    table([
      ['to connect, with the snapshot', `${connection} B`],
      ['a pod has crashed', `${crash} B`],
      ['a pod has crashed, with its event', `${crashAndEvent} B`],
      ['its container is started again, with three events', `${restart} B`],
      [`a day at rest, from ${minutes} minutes`, megabytes(idlePerDay)],
    ]),
  );
  return shown([
    { what: 'one crash with its event is at most 400 B', holds: crashAndEvent <= 400 },
    { what: 'a day at rest is at most 0.5 MB', holds: idlePerDay <= 0.5e6 },
  ]);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      arch: { type: 'string', default: process.arch === 'x64' ? 'amd64' : 'arm64' },
      pages: { type: 'string', default: '4k' },
      containerd: { type: 'string', default: '1.7' },
      pods: { type: 'string' },
      minutes: { type: 'string' },
      relay: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [what] = positionals;
  const isUsage = what === 'usage';
  const isKnown = what === 'idle' || what === 'relay' || isUsage;
  if (values.help === true || !isKnown || positionals.length > 1) {
    process.stdout.write(HELP);
    return values.help === true ? 0 : 2;
  }
  const minutes = Number(values.minutes ?? (what === 'relay' ? '30' : '5'));
  if (what === 'relay') return await relayBytes(minutes);
  const { arch, pages, containerd } = machineOf(values);
  const pods = (values.pods ?? (isUsage ? '10,50,110' : '10,30')).split(',').map(Number);
  if (![minutes, ...pods].every((number) => number > 0)) throw new Error('numbers are above 0');
  const build = ['--arch', arch === 'amd64' ? 'x64' : 'arm64'];
  await run(process.execPath, [join(ROOT, 'scripts/build.ts'), ...build]);
  const name = `measure-${arch}-${process.pid}`;
  // A shim of the runtime takes more than most pods do.
  const memoryMiB = Math.max(...pods) > 50 ? 3072 : 1024;
  const node = await up({ name, arch, pages, containerd, memoryMiB, say });
  const end = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => end.abort(new Error(`ended by ${signal}`)));
  }
  const interrupted = new Promise<never>((_, reject) => {
    end.signal.addEventListener('abort', () => reject(end.signal.reason as Error));
  });
  try {
    const machine = { arch, pages, containerd, accel: node.accel };
    const task = { measure: isUsage ? usage : rest, machine, pods, minutes, relay: values.relay };
    return await Promise.race([report(node, task, values.json), interrupted]);
  } finally {
    await node.down();
  }
}

function machineOf(values: {
  readonly arch: string;
  readonly pages: string;
  readonly containerd: string;
}): { arch: Arch; pages: Pages; containerd: Containerd } {
  const { arch, pages, containerd } = values;
  if (arch !== 'amd64' && arch !== 'arm64') throw new Error('--arch is amd64 or arm64');
  if (pages !== '4k' && pages !== '16k') throw new Error('--pages is 4k or 16k');
  if (containerd !== '1.7' && containerd !== '2') throw new Error('--containerd is 1.7 or 2');
  return { arch, pages, containerd };
}

type Task = {
  readonly measure: Measure;
  readonly machine: object;
  readonly pods: readonly number[];
  readonly minutes: number;
  readonly relay: boolean;
};

async function report(
  node: VirtualNode,
  { measure, machine, pods, minutes, relay }: Task,
  json: string | undefined,
): Promise<number> {
  await installLimpet(node);
  const { figures, bounds } = await measure(node, pods, minutes, relay);
  if (json !== undefined) {
    await writeFile(json, `${JSON.stringify({ machine, ...figures }, undefined, 2)}\n`);
  }
  process.stdout.write(`${JSON.stringify(machine)}\n`);
  return shown(bounds);
}

/** Prints the bounds. Returns the exit code. */
function shown(bounds: readonly Bound[]): number {
  for (const bound of bounds)
    process.stdout.write(`${bound.holds ? 'yes' : 'NO '}  ${bound.what}\n`);
  return bounds.every(({ holds }) => holds) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(
    `scripts/measure: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}
