// scripts/try --here: the main job on this very machine, with the agent killed instead of the power.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { PodReport } from '../../src/server/api.ts';
import { neededLibraries } from './elf.ts';
import { briefly, until } from './install-limpet.ts';
import { appletsOf } from './make-root.ts';
import { busyboxImage, ociArchive } from './oci-archive.ts';
import { run } from './process.ts';

export type TryHere = {
  readonly say: (line: string) => void;
  readonly show: (text: string) => void;
  readonly script: (name: string, ...args: string[]) => Promise<void>;
};

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLES = join(ROOT, 'scripts/examples');
const CONTAINERD = '/run/containerd/containerd.sock';
const JOB_DATA = '/var/lib/limpet-job';
const IMAGE = 'limpet.local/busybox:1';
const BUSYBOX = ['/bin/busybox', '/usr/bin/busybox', '/bin/busybox-static'];
const PODS_TIMEOUT_MS = 180_000;

/** Everything of the trial, and how to talk to its agent. */
type Trial = TryHere & {
  readonly binary: string;
  readonly directory: string;
  readonly arguments: readonly string[];
  limpet(...words: string[]): Promise<string>;
  /** Nothing while the agent does not answer. */
  pods(): Promise<readonly PodReport[] | undefined>;
};

/** Runs the trial and leaves the machine as it was. Throws when this machine is not fit for it. */
export async function tryHere({ say, show, script }: TryHere): Promise<void> {
  await requireFitness();
  const arch = process.arch === 'x64' ? 'x64' : 'arm64';
  say(`building limpet for ${arch}`);
  await script('build.ts', '--arch', arch);
  // Not /tmp: a database belongs on a disk.
  const directory = await mkdtemp('/var/lib/limpet-try-');
  const binary = join(directory, 'limpet');
  const folders = ['state', 'run', 'manifests', 'logs'].map((name) => join(directory, name));
  const [state = '', runs = '', manifests = '', logs = ''] = folders;
  const socket = join(runs, 'limpet.sock');
  const limpet = async (...words: string[]): Promise<string> =>
    (await run(binary, [...words, '--socket', socket], { timeoutMs: 60_000 })).stdout;
  const trial: Trial = {
    ...{ say, show, script, binary, directory, limpet },
    arguments: [
      'run',
      ...['--root-dir', state, '--run-dir', runs, '--pod-manifest-path', manifests],
      ...['--pod-logs-dir', logs, '--cgroup-driver', await cgroupDriver()],
    ],
    pods: async () => {
      const text = await limpet('pods', '-A', '--output', 'json').catch(() => undefined);
      if (text === undefined) return undefined;
      return (JSON.parse(text) as { readonly items: readonly PodReport[] }).items;
    },
  };
  const agents: ChildProcess[] = [];
  const had = existsSync(JOB_DATA);
  try {
    for (const folder of folders) await mkdir(folder, { mode: 0o700 });
    await copyFile(join(ROOT, 'dist', `limpet-linux-${arch}`), binary);
    await importImage(trial);
    await mainJob(trial, agents);
    say('all is as it should be');
  } finally {
    say('ending the pods and removing what the trial made');
    await end(trial, agents);
    if (!had) await rm(JOB_DATA, { recursive: true, force: true });
  }
}

/** Refuses a machine on which limpet can't run, or would meddle with what runs there. */
async function requireFitness(): Promise<void> {
  const must = (so: boolean, otherwise: string): void => {
    if (!so) throw new Error(`--here: ${otherwise}`);
  };
  must(process.getuid?.() === 0, 'needs root: sudo scripts/try --here');
  const controllers = await readFile('/sys/fs/cgroup/cgroup.controllers', 'utf8').catch(() => '');
  must(controllers !== '', 'needs cgroup v2, which this machine has not; try without --here');
  must(
    controllers.split(/\s+/).includes('memory'),
    'the cgroup memory controller is off; "limpet doctor" says how to switch it on',
  );
  must(existsSync(CONTAINERD), `needs containerd, and there is no ${CONTAINERD}`);
  must(!existsSync('/run/limpet/limpet.sock'), 'limpet runs here already; stop it first');
  const { stdout } = await run('ctr', ['-n', 'k8s.io', 'containers', 'ls', '-q'], {
    timeoutMs: 60_000,
  });
  // An agent ends pods that nobody wants, and nobody has told this one of them.
  must(
    stdout.trim() === '',
    'containerd has pods of somebody else (a kubelet?), which limpet would end; ' +
      'see: ctr -n k8s.io containers ls',
  );
}

/** containerd 1.7 does not say which driver it uses; its configuration does. */
async function cgroupDriver(): Promise<string> {
  const { stdout } = await run('containerd', ['config', 'dump'], { check: false });
  return /^\s*SystemdCgroup\s*=\s*true/m.test(stdout) ? 'systemd' : 'cgroupfs';
}

async function importImage({ say, directory }: Trial): Promise<void> {
  const { stdout } = await run('ctr', ['-n', 'k8s.io', 'images', 'ls', '-q']);
  if (stdout.split('\n').includes(IMAGE)) return;
  say(`making the image ${IMAGE} from this machine's busybox`);
  let program: Buffer | undefined;
  for (const path of BUSYBOX) {
    const found = await readFile(path).catch(() => undefined);
    if (found !== undefined && neededLibraries(found).length === 0) program ??= found;
  }
  if (program === undefined) {
    throw new Error('needs a static busybox: sudo apt-get install busybox-static');
  }
  const archive = join(directory, 'busybox.tar');
  const arch = process.arch === 'x64' ? 'amd64' : 'arm64';
  const image = busyboxImage({ arch, names: [IMAGE], program, applets: appletsOf(program) });
  await using file = await open(archive, 'w');
  await file.writeFile(ociArchive([image]));
  await run('ctr', ['-n', 'k8s.io', 'images', 'import', archive], { timeoutMs: 120_000 });
}

/** Starts the agent; what it says goes to a file, which is shown when it ends too early. */
async function startAgent(trial: Trial, agents: ChildProcess[]): Promise<ChildProcess> {
  await using log = await open(join(trial.directory, 'limpet.log'), 'a');
  const child = spawn(trial.binary, trial.arguments, { stdio: ['ignore', log.fd, log.fd] });
  agents.push(child);
  await until(
    'the agent answers',
    async () => {
      if (child.exitCode !== null) {
        trial.show(await readFile(join(trial.directory, 'limpet.log'), 'utf8'));
        throw new Error(`the agent ended with ${child.exitCode}`);
      }
      return await trial.limpet('status').then(
        () => true,
        () => false,
      );
    },
    (answers) => answers,
    { timeoutMs: 60_000 },
  );
  return child;
}

function ended(child: ChildProcess): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (child.exitCode !== null || child.signalCode !== null) resolve();
  else child.once('exit', () => resolve());
  return promise;
}

/** The web server and the worker run with all their containers, the job is done. */
function allWell(pods: readonly PodReport[] | undefined): boolean {
  return (
    pods?.length === 3 &&
    pods.every(({ pod, status }) =>
      pod.spec.restartPolicy === 'Never'
        ? status.phase === 'Succeeded'
        : status.conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
    )
  );
}

async function containers(): Promise<string> {
  const { stdout } = await run('ctr', ['-n', 'k8s.io', 'tasks', 'ls']);
  return stdout
    .split('\n')
    .map((line) => line.trim().replace(/\s+/g, ' '))
    .filter((line) => line.endsWith('RUNNING'))
    .sort()
    .join('\n');
}

async function mainJob(trial: Trial, agents: ChildProcess[]): Promise<void> {
  const { say, show, limpet, directory } = trial;
  say('starting limpet');
  const first = await startAgent(trial, agents);
  say('a web server as a manifest in its folder; a worker and a job by limpet apply');
  await copyFile(join(EXAMPLES, 'web.yaml'), join(directory, 'manifests/web.yaml'));
  for (const name of ['worker', 'job']) {
    show(await limpet('apply', '-f', join(EXAMPLES, `${name}.yaml`)));
  }
  const timeoutMs = PODS_TIMEOUT_MS;
  const before = (await until('the three pods run', () => trial.pods(), allWell, { timeoutMs }))!;
  say('$ limpet status');
  show(await limpet('status'));
  const processes = await containers();
  say('killing limpet');
  first.kill('SIGKILL');
  await ended(first);
  check(say, 'the containers go on without it', (await containers()) === processes);
  const beganMs = performance.now();
  await startAgent(trial, agents);
  const again = await until('limpet has its pods back', () => trial.pods(), allWell, { timeoutMs });
  const after = again!;
  say(`limpet knew its pods again after ${((performance.now() - beganMs) / 1000).toFixed(1)} s`);
  show(after.map(briefly).join('\n'));
  check(say, 'no container was restarted', (await containers()) === processes);
  for (const { pod } of before) {
    const same = after.some((report) => report.pod.metadata.uid === pod.metadata.uid);
    check(say, `${pod.metadata.name} has the same uid`, same);
  }
  const lines = (await readFile(join(JOB_DATA, 'runs'), 'utf8')).trim().split('\n');
  check(say, `the job ran once (its own record has ${lines.length} line)`, lines.length === 1);
}

function check(say: TryHere['say'], what: string, so: boolean): void {
  say(`${so ? 'yes' : 'NO '}  ${what}`);
  if (!so) throw new Error(`not so: ${what}`);
}

/** Ends the pods, then the agent, then removes the trial's folder. */
async function end(trial: Trial, agents: ChildProcess[]): Promise<void> {
  const { say, limpet, directory } = trial;
  const running = agents.some((child) => child.exitCode === null && child.signalCode === null);
  if (agents.length > 0) {
    if (!running) await startAgent(trial, agents);
    await rm(join(directory, 'manifests/web.yaml'), { force: true });
    for (const { pod, source } of (await trial.pods()) ?? []) {
      if (source !== 'file') await limpet('delete', `pod/${pod.metadata.name}`, '--now');
    }
    await until(
      'all pods are gone',
      () => trial.pods(),
      (pods) => pods?.length === 0,
      { timeoutMs: PODS_TIMEOUT_MS },
    );
  }
  for (const child of agents) {
    child.kill('SIGTERM');
    await ended(child);
  }
  await rm(directory, { recursive: true, force: true });
  say('nothing of it is left but its image in containerd');
}
