// The virtual node: a QEMU machine that looks like a Pi, with a power plug, a cable and a clock.
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDirectory, exists, lock } from './cache.ts';
import { image, type Arch, type Containerd, type Image, type Pages } from './image.ts';
import { freePorts } from './ports.ts';
import { programsToRun, require } from './prerequisites.ts';
import { run, type Finished } from './process.ts';
import * as qemu from './qemu.ts';
import * as way from './ssh.ts';

export type { Arch, Containerd, Pages } from './image.ts';
export type { Forward } from './qemu.ts';
export type { SshOptions } from './ssh.ts';

export type Say = (line: string) => void;

export type UpOptions = {
  /** Also the machine's host name: letters, digits and hyphens. */
  readonly name: string;
  /** The host's own architecture unless told. */
  readonly arch?: Arch;
  /** 1.7, as Debian trixie and Raspberry Pi OS have it, unless told. */
  readonly containerd?: Containerd;
  /** 4k unless told. */
  readonly pages?: Pages;
  /** 1024 unless told. */
  readonly memoryMiB?: number;
  /** Ports of the host's 127.0.0.1 that lead to the machine; host port 0 takes a free one. */
  readonly forwards?: readonly qemu.Forward[];
  /** Boot with the cable out. */
  readonly unplugged?: boolean;
  /** What the machine's clock says when it boots. */
  readonly clock?: Date;
  /** A Debian mirror, should an image have to be built on a host that names none. */
  readonly mirror?: string;
  readonly say?: Say;
};

export type BootOptions = {
  readonly unplugged?: boolean;
  readonly clock?: Date;
  readonly say?: Say;
  /** How long it is left alone once it would let us in: a login takes a second of its boot. */
  readonly quietMs?: number;
};

export type VirtualNode = {
  readonly name: string;
  readonly arch: Arch;
  readonly containerd: Containerd;
  readonly pages: Pages;
  readonly accel: qemu.Accelerator;
  readonly sshPort: number;
  /** The address of its `eth0`. No two machines have the same. */
  readonly address: string;
  readonly forwards: readonly qemu.Forward[];
  /** Where the machine's disk, console output and state are. */
  readonly directory: string;
  readonly image: Image;
  /** How ssh gets in, for a program that runs ssh itself. */
  readonly way: way.Way;
  /** Runs a command as root; see ssh.ts. Throws when it fails, unless `check` is false. */
  ssh(command: string | readonly string[], options?: way.SshOptions): Promise<Finished>;
  /** Copies into the machine: to the name `remote`, or into it when it ends with a slash. */
  copyIn(local: string | readonly string[], remote: string): Promise<void>;
  copyOut(remote: string, local: string): Promise<void>;
  /** Takes the network cable out; ssh keeps working. */
  unplug(): Promise<void>;
  plug(): Promise<void>;
  /** Cuts the power: what the machine has not flushed to its disk is lost. */
  cut(): Promise<void>;
  /** Gives the power back, and waits until the machine can be used. */
  boot(options?: BootOptions): Promise<void>;
  /** Does what makes the machine start again by itself, and waits until it can be used. */
  restart(how: () => Promise<unknown>): Promise<void>;
  /** Sets the machine's clock, now and for later boots. */
  clock(date: Date): Promise<void>;
  /** Whether the machine has power. */
  running(): Promise<boolean>;
  /** What the machine has written to its serial console, over all boots. */
  console(): Promise<string>;
  /** Lets containerd pull over plain HTTP from `host:port` (the host itself is 10.0.2.2). */
  trustRegistry(address: string): Promise<void>;
  /** Sends a line to QEMU's monitor and returns its answer. */
  monitor(command: string): Promise<string>;
  /** Ends the machine and deletes all that is its own. */
  down(): Promise<void>;
};

type State = {
  readonly name: string;
  readonly image: Image;
  readonly accel: qemu.Accelerator;
  readonly machineId: string;
  readonly memoryMiB: number;
  readonly sshPort: number;
  readonly address: string;
  readonly forwards: readonly qemu.Forward[];
  /** A short path: a socket's may not be longer than 107 bytes. */
  readonly sockets: string;
  /** 0 when it has no power. */
  readonly pid: number;
  /** How far the machine's clock is ahead of the host's. */
  readonly clockAheadMs: number;
};

const bootTimeoutMs = 300_000;

/**
 * Makes a new machine with a fresh disk, boots it, and returns when it can be used: ssh and
 * containerd answer. What is missing is built first and kept. Throws when the name is taken.
 */
export async function up(options: UpOptions): Promise<VirtualNode> {
  const say = options.say ?? (() => undefined);
  const arch = options.arch ?? (process.arch === 'x64' ? 'amd64' : 'arm64');
  const { name } = options;
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) {
    throw new Error(`"${name}" is no name for a machine: use lower-case letters, digits, hyphens`);
  }
  await require(programsToRun(arch), say);
  const pages = options.pages ?? '4k';
  const choice = { arch, pages, containerd: options.containerd ?? '1.7' };
  const base = await image(choice, say, options.mirror);
  const accel = await qemu.accelerator(arch, base.kernel, base.initramfs, say);
  const directory = directoryOf(name);
  await mkdir(join(cacheDirectory(), 'nodes'), { recursive: true });
  await mkdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error;
    throw new Error(`there is a machine "${name}" already; end it with: down ${name}`);
  });
  const disk = ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', base.disk];
  await run('qemu-img', [...disk, join(directory, 'disk.qcow2')]);
  const state = {
    name,
    image: base,
    accel,
    machineId: randomBytes(16).toString('hex'),
    memoryMiB: options.memoryMiB ?? 1024,
    ...(await ports(options.forwards ?? [])),
    sockets: directory.length < 80 ? directory : await mkdtemp(join(tmpdir(), 'limpet-')),
    pid: 0,
    clockAheadMs: 0,
  };
  {
    await using _held = await lock('node-addresses');
    await save({ ...state, address: await freeAddress() });
  }
  const node = await attach(name);
  await node.boot(options);
  return node;
}

/** The machine of this name, which `up` made in this process or another. */
export async function attach(name: string): Promise<VirtualNode> {
  const { image: base, ...state } = await load(name);
  const directory = directoryOf(name);
  const monitor = join(state.sockets, 'monitor');
  const shared = wayOf(state, base);
  const link = async (up: boolean): Promise<void> => {
    await qemu.command(monitor, 'set_link', { name: 'cable', up });
  };
  return {
    name,
    arch: base.arch,
    containerd: base.containerd,
    pages: base.pages,
    accel: state.accel,
    sshPort: state.sshPort,
    address: state.address,
    forwards: state.forwards,
    directory,
    image: base,
    way: shared,
    ssh: async (command, options) => await way.ssh(shared, command, options),
    copyIn: async (local, remote) => {
      await way.copyIn(shared, typeof local === 'string' ? [local] : local, remote);
    },
    copyOut: async (remote, local) => await way.copyOut(shared, remote, local),
    unplug: async () => await link(false),
    plug: async () => await link(true),
    cut: async () => await cut(name),
    boot: async (options = {}) => await boot(name, options),
    restart: async (how) => {
      const before = (await consoleText(directory)).length;
      await how();
      await dropConnection(await load(name));
      await untilReady(await load(name), before);
    },
    clock: async (date) => await setClock(name, date),
    running: async () => await qemu.running((await load(name)).pid, directory),
    console: async () => await consoleText(directory),
    trustRegistry: async (address) => {
      const path = `/etc/containerd/certs.d/${address}/hosts.toml`;
      const input = `server = "http://${address}"\n\n[host."http://${address}"]\n`;
      await way.ssh(shared, `mkdir -p "$(dirname ${path})" && cat > ${path}`, { input });
    },
    monitor: async (line) => {
      const args = { 'command-line': line };
      return String(await qemu.command(monitor, 'human-monitor-command', args));
    },
    down: async () => await down(name),
  };
}

/** The names of all machines, running or not. */
export async function list(): Promise<string[]> {
  const path = join(cacheDirectory(), 'nodes');
  return (await readdir(path).catch(() => [])).sort();
}

async function boot(name: string, options: BootOptions): Promise<void> {
  const say = options.say ?? (() => undefined);
  const directory = directoryOf(name);
  // Two boots at once would write to one disk.
  await using _held = await lock(`node-${name}`);
  const state = await load(name);
  if (await qemu.running(state.pid, directory)) throw new Error(`"${name}" has power already`);
  const now = Date.now();
  const clockAheadMs =
    options.clock === undefined ? state.clockAheadMs : options.clock.getTime() - now;
  const monitor = join(state.sockets, 'monitor');
  await rm(monitor, { force: true });
  const { kernel, initramfs, arch, pages } = state.image;
  const disk = { file: join(directory, 'disk.qcow2'), format: 'qcow2' as const };
  const clock = clockAheadMs === 0 ? undefined : new Date(now + clockAheadMs);
  // systemd would bring a clock that is before its own release up to that.
  const past = clock !== undefined && clockAheadMs < 0;
  const kernelArguments = past ? [`systemd.clock_usec=${clock.getTime() * 1000}`] : [];
  const machine = { ...state, kernelArguments, arch, pages, kernel, initramfs, disk };
  const line = [
    ...qemu.machineLine({ ...machine, console: join(directory, 'console.log') }),
    ...qemu.networkLine(state),
  ];
  const paused = options.unplugged === true;
  say(`booting ${name} (${arch}, ${state.accel})`);
  const before = (await consoleText(directory)).length;
  const pid = await qemu.start(line, { directory, monitor, clock, paused });
  await save({ ...state, pid, clockAheadMs });
  if (paused) {
    await qemu.command(monitor, 'set_link', { name: 'cable', up: false });
    await qemu.command(monitor, 'cont');
  }
  await untilReady({ ...state, pid }, before, say, options.quietMs);
}

/** Waits for a boot of which the console tells from `before` on. */
async function untilReady(
  state: State,
  before: number,
  say: Say = () => undefined,
  quietMs = 0,
): Promise<void> {
  const { name, pid } = state;
  const directory = directoryOf(name);
  const shared = wayOf(state, state.image);
  let leftAloneMs = quietMs;
  const ready = async (): Promise<boolean> => {
    if (!(await qemu.running(pid, directory))) throw new Error('the machine has stopped');
    const isReady = (await consoleText(directory)).slice(before).includes('limpet-ssh-ready');
    if (isReady) {
      await sleep(leftAloneMs);
      // Once: a login that failed is tried again at once.
      leftAloneMs = 0;
    }
    return isReady;
  };
  await way.connect(shared, { timeoutMs: bootTimeoutMs, ready }).catch(async (error: unknown) => {
    const log = (await consoleText(directory)).slice(before);
    throw new Error(`"${name}" did not boot: ${String(error)}\n${log.slice(-2000)}`);
  });
  say('ssh answers');
  // Starting what is being started waits for it: containerd says itself when it is ready.
  await way.ssh(shared, 'systemctl start containerd.service', { timeoutMs: bootTimeoutMs });
  say('containerd is ready');
}

async function cut(name: string): Promise<void> {
  const state = await load(name);
  await qemu.kill(state.pid, directoryOf(name));
  await dropConnection(state);
  await save({ ...state, pid: 0 });
}

/** The shared connection ends with the machine, but not before it has noticed. */
async function dropConnection(state: State): Promise<void> {
  await way.disconnect(wayOf(state, state.image));
  await rm(join(state.sockets, 'ssh'), { force: true });
}

async function setClock(name: string, date: Date): Promise<void> {
  const state = await load(name);
  await save({ ...state, clockAheadMs: date.getTime() - Date.now() });
  const seconds = (date.getTime() / 1000).toFixed(3);
  await way.ssh(wayOf(state, state.image), `date --set=@${seconds}`);
}

async function down(name: string): Promise<void> {
  const state = await load(name).catch(() => undefined);
  const directory = directoryOf(name);
  if (state !== undefined) {
    await cut(name);
    if (state.sockets !== directory) await rm(state.sockets, { recursive: true, force: true });
  }
  await rm(directory, { recursive: true, force: true });
}

async function consoleText(directory: string): Promise<string> {
  return await readFile(join(directory, 'console.log'), 'utf8').catch(() => '');
}

// On a disk, not in XDG_RUNTIME_DIR, which is memory: the machine's disk grows here.
function directoryOf(name: string): string {
  return join(cacheDirectory(), 'nodes', name);
}

function wayOf(state: Pick<State, 'sshPort' | 'sockets'>, base: Image): way.Way {
  return { port: state.sshPort, key: base.sshKey, control: join(state.sockets, 'ssh') };
}

async function load(name: string): Promise<State> {
  const path = join(directoryOf(name), 'state.json');
  if (!(await exists(path))) throw new Error(`there is no machine "${name}"`);
  return JSON.parse(await readFile(path, 'utf8')) as State;
}

async function save(state: State): Promise<void> {
  const path = join(directoryOf(state.name), 'state.json');
  await writeFile(`${path}.new`, JSON.stringify(state, undefined, 2));
  await rename(`${path}.new`, path);
}

/**
 * An address that no other machine has. Each stands alone in a network of its own, but one control
 * plane may have many of them as nodes, and tells them apart by it.
 */
async function freeAddress(): Promise<string> {
  const states = (await list()).map(async (name) => await load(name).catch(() => undefined));
  const taken = (await Promise.all(states)).map((state) => state?.address);
  // Below are the host and QEMU's DNS.
  for (let last = 15; last < 255; last++) {
    if (!taken.includes(`10.0.2.${last}`)) return `10.0.2.${last}`;
  }
  throw new Error('there are too many machines; end some with: scripts/virtual-node down NAME');
}

async function ports(
  wanted: readonly qemu.Forward[],
): Promise<{ sshPort: number; forwards: qemu.Forward[] }> {
  const [sshPort = 0, ...free] = await freePorts(1 + wanted.length);
  const forwards = wanted.map(({ host, guest }, n) => ({
    host: host === 0 ? (free[n] ?? 0) : host,
    guest,
  }));
  return { sshPort, forwards };
}
