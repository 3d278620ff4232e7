/**
 * The main job in one command: pods on a board, the plug pulled, the pods back without a network.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { get } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { PodReport } from '../src/server/api.ts';
import { briefly, installLimpet, podsOf, until } from './lib/install-limpet.ts';
import { containersAlone, startTimes, type StartTimes } from './lib/start-times.ts';
import { tryHere } from './lib/try-here.ts';
import { startTryRelay, type TryRelay } from './lib/try-relay.ts';
import { up, type Arch, type Containerd, type VirtualNode } from './lib/virtual-node.ts';

const ROOT = join(import.meta.dirname, '..');
const EXAMPLES = join(ROOT, 'scripts/examples');

const HELP = `Usage: scripts/try [--arch amd64|arm64] [--containerd 1.7|2] [--keep]
       scripts/try --here

Builds limpet, boots a virtual board, runs three pods on it: a web server, a worker with an init
container and a sidecar, a job that must run only once. Then it pulls the network cable and cuts
the power, boots again without a network, and shows that the same pods are back. An MQTT broker on
this machine hears of all that: what mosquitto_sub prints there is shown as it comes. At the end the
board boots once more without limpet, for what containerd alone takes for the same containers.

  --arch        the board's processor; this machine's own unless told
  --containerd  1.7 (Debian trixie and Raspberry Pi OS, the default) or 2
  --keep        leave the board running, and say how to get in and how to end it
  --here        without a virtual board: on this machine, which needs cgroup v2 and containerd.
                Instead of a power cut the agent is killed. As root
`;

const beganMs = performance.now();
function say(line: string): void {
  const seconds = ((performance.now() - beganMs) / 1000).toFixed(0).padStart(4);
  process.stdout.write(`${seconds} s  ${line}\n`);
}

function show(text: string): void {
  for (const line of text.trimEnd().split('\n')) process.stdout.write(`        ${line}\n`);
}

/** Runs one of our own scripts, with its output as ours. */
function script(name: string, ...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, 'scripts', name), ...args], {
      stdio: 'inherit',
    });
    child.on('error', reject);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`scripts/${name} ended with ${code}`));
    });
  });
}

function fetchPage(port: number): Promise<string> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port, timeout: 5000 }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      response.on('end', () => resolve(body.trim()));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', (error) => resolve(`(${error.message})`));
  });
}

const PAGE = 'limpet holds on';

/** The three pods are as they should be: two run with all containers ready, the job is done. */
function allWell(pods: readonly PodReport[]): boolean {
  if (pods.length !== 3) return false;
  return pods.every(({ pod, status }) =>
    pod.spec.restartPolicy === 'Never'
      ? status.phase === 'Succeeded'
      : status.conditions.some((c) => c.type === 'Ready' && c.status === 'True'),
  );
}

function check(what: string, so: boolean): void {
  say(`${so ? 'yes' : 'NO '}  ${what}`);
  if (!so) throw new Error(`not so: ${what}`);
}

const PODS_MS = 600_000;
/** While its pods come back, nobody looks: a look costs an emulated processor what they need. */
const LEFT_ALONE_MS = 12_000;

async function untilWell(node: VirtualNode, what: string): Promise<readonly PodReport[]> {
  return await until(what, () => podsOf(node), allWell, {
    timeoutMs: PODS_MS,
    // Each question costs the emulated processor what the pods need.
    everyMs: 2000,
    show: (pods) => pods.map(briefly).join('\n'),
  });
}

async function untilPage(port: number, timeoutMs: number): Promise<void> {
  const isPage = (page: string) => page === PAGE;
  await until('the web server answers', () => fetchPage(port), isPage, { timeoutMs });
}

/** Everything until the plug is pulled. */
async function firstBoot(
  node: VirtualNode,
  relay: TryRelay,
  port: number,
): Promise<readonly PodReport[]> {
  say('installing limpet on the board');
  await relay.configure(node);
  await installLimpet(node);
  say(
    'a web server as a manifest in /etc/kubernetes/manifests; a worker and a job by limpet apply',
  );
  const worker = await readFile(join(EXAMPLES, 'worker.yaml'));
  const job = await readFile(join(EXAMPLES, 'job.yaml'));
  await node.copyIn(join(EXAMPLES, 'web.yaml'), '/etc/kubernetes/manifests/web.yaml');
  show((await node.ssh('limpet apply -f -', { input: worker })).stdout);
  show((await node.ssh('limpet apply -f -', { input: job })).stdout);
  const pods = await untilWell(node, 'the three pods run');
  await untilPage(port, 30_000);
  say(`the web server answers on port ${port} of this machine: ${await fetchPage(port)}`);
  say('$ limpet status');
  show((await node.ssh('limpet status')).stdout);
  await relay.running(pods);
  // A board has been up for longer than this when its power goes.
  await node.ssh(
    'until ls /var/lib/limpet/compiled-???????????????? 2>/dev/null; do sleep 1; done',
    {
      timeoutMs: 120_000,
    },
  );
  return pods;
}

async function mainJob(node: VirtualNode, relay: TryRelay): Promise<void> {
  const port = node.forwards.find(({ guest }) => guest === 8080)!.host;
  const before = await firstBoot(node, relay, port);
  say('pulling the network cable');
  await node.unplug();
  say('cutting the power');
  await node.cut();
  say('booting again, with the cable still out');
  await node.boot({ unplugged: true, say, quietMs: LEFT_ALONE_MS });
  const after = await untilWell(node, 'the three pods run again');
  say('$ limpet status');
  show((await node.ssh('limpet status')).stdout);
  compare(before, after);
  const runs = (await node.ssh('cat /var/lib/limpet-job/runs')).stdout.trim().split('\n');
  check(`the job ran once (its own record has ${runs.length} line)`, runs.length === 1);
  const ip = after.find(({ pod }) => pod.metadata.name.startsWith('web'))?.status.podIP ?? '';
  const ask = async () =>
    (await node.ssh(`busybox wget -q -O - http://${ip}/`, { check: false })).stdout.trim();
  await until(`the web server answers on the board at ${ip}`, ask, (page) => page === PAGE, {
    timeoutMs: 30_000,
  });
  check(`the web server answers on the board, at the pod's address ${ip}`, true);
  const times = await startTimes(node);
  await relay.offline();
  say('plugging the cable in again');
  await relay.plug(node, after);
  await untilPage(port, 60_000);
  check('the web server answers from outside', true);
  await compareTimes(node, times);
}

async function compareTimes(node: VirtualNode, { agentS, allS }: StartTimes): Promise<void> {
  say('booting once more without limpet, for what the runtime alone takes');
  const options = { unplugged: true, quietMs: 2 * LEFT_ALONE_MS };
  const { cold, warm, fromKernelS } = await containersAlone(node, options);
  const rounds = [cold, warm];
  const compared = [
    ['the 5 that run, with the network of their pods', rounds.map(({ networkedS }) => networkedS)],
    [
      'and the pause containers of their pods',
      rounds.map(({ networkedS, pausesS }) => networkedS + pausesS),
    ],
    ['the 5 without a network or pods', rounds.map(({ bareS }) => bareS)],
  ] as const;
  say(
    `to all pods running: ${allS.toFixed(1)} s from the kernel's start, ` +
      `${(allS - agentS).toFixed(1)} s from the agent's`,
  );
  say(
    `the same containers by ctr run alone, as soon as containerd answers: ${fromKernelS.toFixed(1)} s ` +
      `from the kernel's start; limpet takes ${(allS / fromKernelS).toFixed(2)} times that`,
  );
  say('what ctr run itself takes for them, one after the other, after a boot and once more;');
  const both = (numbers: readonly number[], digits: number) =>
    numbers.map((number) => number.toFixed(digits)).join(' and ');
  for (const [what, alone] of compared) {
    const against = (seconds: number) =>
      both(
        alone.map((aloneS) => seconds / aloneS),
        2,
      );
    say(
      `  ${what}: ctr run ${both(alone, 1)} s; ` +
        `${against(allS)} times that from the kernel's start, ${against(allS - agentS)} from the agent's`,
    );
  }
}

function compare(before: readonly PodReport[], after: readonly PodReport[]): void {
  say('before the power cut');
  for (const pod of before) show(briefly(pod));
  say('after it');
  for (const pod of after) show(briefly(pod));
  for (const was of before) {
    const { name, uid } = was.pod.metadata;
    const is = after.find(({ pod }) => pod.metadata.name === name);
    check(`${name} has the same uid`, is?.pod.metadata.uid === uid);
    const counts = (report: PodReport) =>
      report.status.containerStatuses.map(({ restartCount }) => restartCount);
    const never = was.pod.spec.restartPolicy === 'Never';
    const [old, now] = [counts(was), counts(is!)];
    const right = old.every((n, i) => (never ? now[i] === n : (now[i] ?? -1) >= n));
    check(`${name}: restart counts went from ${old.join(', ')} to ${now.join(', ')}`, right);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      arch: { type: 'string' },
      containerd: { type: 'string' },
      keep: { type: 'boolean' },
      here: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return;
  }
  if (values.here === true) return tryHere({ say, show, script });
  const own: Arch = process.arch === 'x64' ? 'amd64' : 'arm64';
  const arch = (values.arch ?? own) as Arch;
  if (arch !== 'amd64' && arch !== 'arm64') throw new Error('--arch is amd64 or arm64');
  const containerd = (values.containerd ?? '1.7') as Containerd;
  if (containerd !== '1.7' && containerd !== '2') throw new Error('--containerd is 1.7 or 2');
  say(`building limpet for ${arch}`);
  await script('build.ts', '--arch', arch === 'amd64' ? 'x64' : 'arm64');
  const name = `try-${arch}-${process.pid}`;
  say(`booting a virtual board: ${arch}, containerd ${containerd}`);
  const forwards = [{ host: 0, guest: 8080 }];
  const node = await up({ name, arch, containerd, forwards, say });
  const end = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => end.abort(new Error(`ended by ${signal}`)));
  }
  const interrupted = new Promise<never>((_, reject) => {
    end.signal.addEventListener('abort', () => reject(end.signal.reason as Error));
  });
  try {
    await using relay = await startTryRelay({ say, check });
    await Promise.race([mainJob(node, relay), interrupted]);
    say('all is as it should be');
  } finally {
    if (values.keep === true) {
      say(`the board is left running. Get in: scripts/virtual-node ssh ${name}`);
      say(`End it: scripts/virtual-node down ${name}`);
    } else {
      say('ending the board and removing its disk');
      await node.down();
    }
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`scripts/try: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
