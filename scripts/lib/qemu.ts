// QEMU: how a machine is described, started, talked to and found again.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cacheDirectory } from './cache.ts';
import type { Arch, Pages } from './image.ts';
import { run } from './process.ts';

export type Accelerator = 'kvm' | 'tcg';

export type Forward = { readonly host: number; readonly guest: number };

export type Machine = {
  readonly arch: Arch;
  readonly pages: Pages;
  readonly accel: Accelerator;
  readonly name: string;
  /** 32 hexadecimal digits. */
  readonly machineId: string;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly initramfs: string;
  readonly disk: { readonly file: string; readonly format: 'raw' | 'qcow2' };
  /** Takes the serial console's output; appended to. */
  readonly console: string;
  readonly kernelArguments?: readonly string[];
};

/** The cards: `cable` is the one that is pulled, `mgmt` the one that tests come in by. */
export type Network = {
  readonly sshPort: number;
  /** What QEMU's DHCP server gives `eth0`: in 10.0.2.0/24, from 10.0.2.15 on. */
  readonly address: string;
  readonly forwards: readonly Forward[];
};

const serialOf = { amd64: 'ttyS0', arm64: 'ttyAMA0' } as const;

/** The arguments that describe a machine to QEMU, its program's name first. */
export function machineLine(machine: Machine): string[] {
  const kernelArguments = [
    `console=${serialOf[machine.arch]}`,
    'quiet',
    'cgroup_no_v1=all',
    'psi=1',
    'mitigations=off',
    'net.ifnames=0',
    'panic=5',
    // What only takes an emulated processor's time at boot.
    'audit=0',
    // The modules a Pi's kernel has; loading systemd's BPF programs takes an emulated one seconds.
    'lsm=landlock,yama',
    'cryptomgr.notests',
    'rcupdate.rcu_expedited=1',
    ...(machine.arch === 'amd64' ? ['8250.nr_uarts=1', 'no_timer_check'] : []),
    'systemd.firstboot=off',
    'systemd.show_status=false',
    `systemd.hostname=${machine.name}`,
    `systemd.machine_id=${machine.machineId}`,
    ...(machine.kernelArguments ?? []),
  ];
  return [
    ...processor(machine),
    ...['-name', `limpet-${machine.name}`, '-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-smp', '2', '-m', `${machine.memoryMiB}`],
    ...['-kernel', machine.kernel, '-initrd', machine.initramfs],
    ...['-append', kernelArguments.join(' ')],
    // What the guest has flushed reaches the host's page cache and so outlives QEMU; what it has
    // not flushed is lost with QEMU: that is what a power cut means here.
    '-drive',
    `file=${comma(machine.disk.file)},format=${machine.disk.format},if=none,id=disk,cache=writeback,discard=unmap`,
    ...['-device', 'virtio-blk-pci,drive=disk', '-device', 'virtio-rng-pci'],
    // It bites nobody who has not woken it, and then resets the machine.
    ...['-device', 'i6300esb', '-action', 'watchdog=reset'],
    // Free, for a device that a case plugs in.
    ...['-device', 'pcie-root-port,id=free-slot'],
    ...['-chardev', `file,id=serial,path=${comma(machine.console)},append=on`],
    ...['-serial', 'chardev:serial'],
  ];
}

function processor(machine: Pick<Machine, 'arch' | 'pages' | 'accel'>): string[] {
  const { arch, accel } = machine;
  const how = accel === 'kvm' ? 'kvm' : 'tcg,thread=multi';
  if (arch === 'amd64') {
    // Emulated, cmpxchg16b makes the guest's kernel fault twice in QEMU 7.2, so it must not be
    // offered; and Nehalem is the oldest processor on which all programs here run.
    const cpu = accel === 'kvm' ? 'host' : 'Nehalem,-cx16';
    return [
      'qemu-system-x86_64',
      '-machine',
      'q35,hpet=off,sata=off,smbus=off',
      '-accel',
      how,
      '-cpu',
      cpu,
    ];
  }
  // A Pi 4 has an A72; a Pi 5, whose kernel has 16 KiB pages, an A76. The A72 has no such pages.
  const emulated = machine.pages === '16k' ? 'cortex-a76' : 'cortex-a72';
  const cpu = accel === 'kvm' ? 'host' : emulated;
  return ['qemu-system-aarch64', '-machine', 'virt', '-accel', how, '-cpu', cpu];
}

/**
 * The arguments for the two network cards. `eth0` is the cable: the way out, the way to the host
 * (10.0.2.2) and the forwards. `mgmt0` leads only in, to ssh, and nowhere else: a test must be able
 * to look at a machine whose cable is out, and must not thereby give it a network. (ssh over vsock
 * would need the host's kernel to help, and over a serial port would be one session at a time.)
 */
export function networkLine(network: Network): string[] {
  const forwards = network.forwards
    .map(({ host, guest }) => `,hostfwd=tcp:127.0.0.1:${host}-${network.address}:${guest}`)
    .join('');
  const way = `,hostfwd=tcp:127.0.0.1:${network.sshPort}-169.254.77.15:22`;
  return [
    ...['-netdev', `user,id=cable-net,ipv6=off,dhcpstart=${network.address}${forwards}`],
    ...['-device', 'virtio-net-pci,id=cable,netdev=cable-net,mac=52:54:00:11:00:01,romfile='],
    ...['-netdev', `user,id=mgmt-net,ipv6=off,restrict=on,net=169.254.77.0/24${way}`],
    ...['-device', 'virtio-net-pci,id=mgmt,netdev=mgmt-net,mac=52:54:00:11:00:02,romfile='],
  ];
}

/** Starts a machine in the background and returns its process id. */
export async function start(
  line: readonly string[],
  options: {
    readonly directory: string;
    readonly monitor: string;
    /** When the machine's own clock says it starts; now when missing. */
    readonly clock?: Date | undefined;
    /** Do not run yet: the monitor's `cont` starts it. */
    readonly paused?: boolean;
  },
): Promise<number> {
  const pidFile = join(options.directory, 'pid');
  const base = options.clock?.toISOString().slice(0, 19) ?? 'utc';
  const more = [
    ...['-rtc', `base=${base}`],
    ...['-qmp', `unix:${comma(options.monitor)},server=on,wait=off`],
    ...['-pidfile', pidFile, '-daemonize'],
    ...(options.paused === true ? ['-S'] : []),
  ];
  await run(line[0] ?? '', [...line.slice(1), ...more], { timeoutMs: 60_000 });
  return Number(await readFile(pidFile, 'utf8'));
}

/** Whether a process is there and is the machine in this directory, not one with its old number. */
export async function running(pid: number, directory: string): Promise<boolean> {
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return line.includes('qemu-system') && line.includes(`${directory}/`);
}

/** Ends a machine as a power cut does, and returns when it is gone. */
export async function kill(pid: number, directory: string): Promise<void> {
  if (!(await running(pid, directory))) return;
  process.kill(pid, 'SIGKILL');
  while (await isEnding(pid, directory)) await sleep(20);
}

/**
 * Its memory goes first, and its command line with it; its first thread may be a zombie by then. Its
 * files stay locked until the last of its threads is gone.
 */
async function isEnding(pid: number, directory: string): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  if (stat === '') return false;
  const isZombie = /\) [ZX] /.test(stat);
  if (isZombie) return (await readdir(`/proc/${pid}/task`).catch(() => [])).length > 1;
  const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return line === '' || line.includes(`${directory}/`);
}

/** Sends one command to a machine's monitor and returns what it answers. */
export async function command(
  monitor: string,
  execute: string,
  args: Readonly<Record<string, unknown>> = {},
): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const socket = createConnection(monitor);
  let text = '';
  socket.setEncoding('utf8');
  socket.setTimeout(30_000, () => socket.destroy(new Error('the monitor does not answer')));
  socket.on('error', reject);
  socket.on('close', () => reject(new Error(`the monitor hung up on "${execute}"`)));
  socket.on('connect', () => {
    socket.write(`${JSON.stringify({ execute: 'qmp_capabilities', id: 0 })}\n`);
    socket.write(`${JSON.stringify({ execute, arguments: args, id: 1 })}\n`);
  });
  socket.on('data', (chunk: string) => {
    const lines = (text + chunk).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const message = JSON.parse(line) as {
        id?: number;
        return?: unknown;
        error?: { desc: string };
      };
      if (message.id !== 1) continue;
      if (message.error === undefined) resolve(message.return);
      else reject(new Error(`the monitor refused "${execute}": ${message.error.desc}`));
      socket.end();
    }
  });
  return await promise;
}

/**
 * What can run machines of an architecture here. That a device is there says nothing of whether it
 * works, so a kernel is started on it, once per boot of the host, and must say a word within 3 s.
 */
export async function accelerator(
  arch: Arch,
  kernel: string,
  initramfs: string,
  say: (line: string) => void,
): Promise<Accelerator> {
  const own = process.arch === 'x64' ? 'amd64' : 'arm64';
  const wish = process.env['LIMPET_ACCEL'];
  if (wish === 'kvm' || wish === 'tcg') return wish;
  if (arch !== own) return 'tcg';
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  const path = join(cacheDirectory(), `accelerator-${arch}`);
  const [known, verdict] = (await readFile(path, 'utf8').catch(() => '')).split(' ');
  if (known === boot && (verdict === 'kvm' || verdict === 'tcg')) return verdict;
  const line = [
    ...processor({ arch, pages: '4k', accel: 'kvm' }),
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-m', '256', '-no-reboot'],
    ...['-kernel', kernel, '-initrd', initramfs, '-serial', 'stdio'],
    ...['-append', `console=${serialOf[arch]} quiet limpet.hello`],
  ];
  const tried = await run(line[0] ?? '', line.slice(1), { timeoutMs: 3000, check: false }).catch(
    () => undefined,
  );
  const works = tried?.stdout.includes('limpet-hello') === true;
  const accel = works ? 'kvm' : 'tcg';
  say(works ? 'KVM works here' : 'KVM does not work here: the processor is emulated');
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, `${boot} ${accel}`);
  return accel;
}

/** Boots a new disk once, until the system has set itself up and switched itself off. */
export async function settle(
  machine: Pick<Machine, 'arch' | 'pages' | 'accel' | 'kernel' | 'initramfs'> & {
    readonly disk: string;
    readonly log: string;
  },
): Promise<void> {
  const line = machineLine({
    ...machine,
    name: 'limpet',
    machineId: '0'.repeat(31) + '1',
    memoryMiB: 1024,
    disk: { file: machine.disk, format: 'raw' },
    console: machine.log,
    kernelArguments: ['limpet.settle'],
  });
  await writeFile(machine.log, '');
  const failed = await run(line[0] ?? '', [...line.slice(1), '-no-reboot'], {
    timeoutMs: 900_000,
  }).catch((error: unknown) => error);
  const log = await readFile(machine.log, 'utf8');
  if (failed instanceof Error || !log.includes('limpet-first-boot-done')) {
    const why = failed instanceof Error ? failed.message : 'it switched off too early';
    throw new Error(`the new image does not boot: ${why}\n${log.slice(-3000)}`);
  }
}

/** A comma in a path would end the option it is in. */
function comma(path: string): string {
  return path.replaceAll(',', ',,');
}
