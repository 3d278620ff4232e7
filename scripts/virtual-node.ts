// The command line of the virtual node. The machine itself is in lib/virtual-node.ts.
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { connected, sshArguments } from './lib/ssh.ts';
import { attach, list, up } from './lib/virtual-node.ts';
import type { Arch, Containerd, Forward, Pages, VirtualNode } from './lib/virtual-node.ts';

const help = `A virtual Raspberry Pi: a QEMU machine with pure cgroup v2, systemd, containerd and ssh.

  scripts/virtual-node up NAME [OPTION…]    make a new machine and boot it
  scripts/virtual-node ssh NAME [COMMAND…]  run a command in it as root, or a shell
  scripts/virtual-node copy NAME SRC… DEST  copy into it; "copy NAME :SRC DEST" copies out
  scripts/virtual-node unplug NAME          take its network cable out (ssh keeps working)
  scripts/virtual-node plug NAME            put the cable back
  scripts/virtual-node cut NAME             cut its power: what it did not flush is lost
  scripts/virtual-node boot NAME            give the power back [--unplugged] [--clock DATE]
  scripts/virtual-node clock NAME DATE      set its clock, now and for later boots
  scripts/virtual-node console NAME         print what it wrote to its serial console
  scripts/virtual-node down NAME            end it and delete its disk
  scripts/virtual-node list                 print all machines

Options of up:
  --arch amd64|arm64             architecture (this host's own)
  --containerd 1.7|2             version of containerd (1.7, as Raspberry Pi OS has it)
  --pages 4k|16k                 page size of the kernel (4k; 16k only with arm64)
  --memory MB                    memory (1024)
  --forward HOSTPORT:GUESTPORT   lead a port of 127.0.0.1 into the machine; 0 takes a free one
  --unplugged                    boot with the cable out
  --clock DATE                   boot with the clock at this date
  --mirror ADDRESS               Debian mirror, if this host's package sources name none

Examples:
  scripts/virtual-node up pi --forward 10250:10250
  scripts/virtual-node copy pi dist/limpet /usr/local/bin/
  scripts/virtual-node ssh pi systemctl status containerd
  scripts/virtual-node cut pi && scripts/virtual-node boot pi --unplugged
  scripts/virtual-node clock pi 2031-01-01T00:00:00Z
  scripts/virtual-node up five --arch arm64 --pages 16k --containerd 2

What is built is kept in ~/.cache/limpet (LIMPET_CACHE names another place). From the machine the
host is 10.0.2.2. Exit codes: 0 done, 1 failed, 2 wrong arguments; "ssh" ends with the command's.
`;

const commands = ['up', 'ssh', 'copy', 'unplug', 'plug', 'cut', 'boot', 'clock', 'console', 'down'];

class Misuse extends Error {}

const started = performance.now();

function say(line: string): void {
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stderr.write(`[${seconds.padStart(6)} s] ${line}\n`);
}

async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command === undefined || command === 'help' || command === '--help' || command === '-h') {
    process.stdout.write(help);
    return command === undefined ? 2 : 0;
  }
  if (rest[0] === '--help') {
    process.stdout.write(help);
    return 0;
  }
  if (command !== 'list' && !commands.includes(command)) throw unknown(command);
  // Everything after the name is the other command's own, options too.
  if (command === 'ssh') return await shell(await attach(needed(rest[0], 'NAME')), rest.slice(1));
  const { values, positionals } = parsed(rest);
  if (command === 'list') return await printList();
  const name = needed(positionals[0], 'NAME');
  if (command === 'up') return await make(name, values);
  const node = await attach(name);
  switch (command) {
    case 'copy':
      await copy(node, positionals.slice(1));
      return 0;
    case 'unplug':
    case 'plug':
    case 'cut':
    case 'down':
      await node[command]();
      return 0;
    case 'boot':
      await node.boot({ ...bootOptions(values), say });
      return 0;
    case 'clock':
      await node.clock(date(needed(positionals[1], 'DATE')));
      return 0;
    case 'console':
      process.stdout.write(await node.console());
      return 0;
    default:
      throw unknown(command);
  }
}

function unknown(command: string): Misuse {
  return new Misuse(`there is no command "${command}"; see scripts/virtual-node --help`);
}

type Values = ReturnType<typeof parsed>['values'];

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        arch: { type: 'string' },
        containerd: { type: 'string' },
        pages: { type: 'string' },
        memory: { type: 'string' },
        forward: { type: 'string', multiple: true },
        unplugged: { type: 'boolean' },
        clock: { type: 'string' },
        mirror: { type: 'string' },
      },
    });
  } catch (error) {
    throw new Misuse(error instanceof Error ? error.message : String(error));
  }
}

async function make(name: string, values: Values): Promise<number> {
  const arch = oneOf<Arch>('--arch', values.arch, ['amd64', 'arm64']);
  const containerd = oneOf<Containerd>('--containerd', values.containerd, ['1.7', '2']);
  const pages = oneOf<Pages>('--pages', values.pages, ['4k', '16k']);
  const memory = values.memory === undefined ? undefined : wholeNumber('--memory', values.memory);
  const node = await up({
    name,
    say,
    ...(arch === undefined ? {} : { arch }),
    ...(containerd === undefined ? {} : { containerd }),
    ...(pages === undefined ? {} : { pages }),
    ...(memory === undefined ? {} : { memoryMiB: memory }),
    ...(values.mirror === undefined ? {} : { mirror: values.mirror }),
    forwards: (values.forward ?? []).map(forward),
    ...bootOptions(values),
  });
  for (const { host, guest } of node.forwards) say(`127.0.0.1:${host} leads to port ${guest}`);
  say(`${name} is up; a shell: scripts/virtual-node ssh ${name}`);
  return 0;
}

async function shell(node: VirtualNode, command: readonly string[]): Promise<number> {
  const { way } = node;
  if (!(await node.running())) throw new Error(`"${node.name}" has no power; boot it first`);
  const terminal = command.length === 0 && process.stdin.isTTY ? ['-t'] : [];
  // Should the shared connection have ended, ssh makes one of its own.
  if (!(await connected(way))) say('connecting');
  const args = [...sshArguments(way), ...terminal, 'root@127.0.0.1', ...command];
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const child = spawn('ssh', args, { stdio: 'inherit' });
  child.on('error', reject);
  child.on('exit', (code) => resolve(code ?? 255));
  return await promise;
}

async function copy(node: VirtualNode, paths: readonly string[]): Promise<void> {
  const to = needed(paths.at(-1), 'DEST');
  const from = paths.slice(0, -1);
  const first = needed(from[0], 'SRC');
  if (from.length === 1 && first.startsWith(':')) await node.copyOut(first.slice(1), to);
  else await node.copyIn(from, to.replace(/^:/, ''));
}

async function printList(): Promise<number> {
  for (const name of await list()) {
    const node = await attach(name).catch(() => undefined);
    if (node === undefined) {
      process.stdout.write(`${name}  broken\n`);
      continue;
    }
    const power = (await node.running()) ? 'running' : 'no power';
    const forwards = node.forwards.map(({ host, guest }) => `${host}:${guest}`).join(' ');
    const kind = `${node.arch} ${node.pages} containerd ${node.containerd} ${node.accel}`;
    process.stdout.write(`${name}  ${power}  ${kind}  ssh ${node.sshPort}  ${forwards}\n`);
  }
  return 0;
}

function bootOptions(values: Values): { unplugged?: boolean; clock?: Date } {
  return {
    ...(values.unplugged === undefined ? {} : { unplugged: values.unplugged }),
    ...(values.clock === undefined ? {} : { clock: date(values.clock) }),
  };
}

function oneOf<T extends string>(
  option: string,
  value: string | undefined,
  allowed: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const found = allowed.find((each) => each === value);
  if (found === undefined) throw new Misuse(`${option} is ${allowed.join(' or ')}, not "${value}"`);
  return found;
}

function forward(text: string): Forward {
  const [host = '', guest = ''] = text.split(':');
  return { host: wholeNumber('--forward', host), guest: wholeNumber('--forward', guest) };
}

function wholeNumber(option: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new Misuse(`${option} wants a number, not "${text}"`);
  return Number(text);
}

function date(text: string): Date {
  const found = new Date(text);
  if (Number.isNaN(found.getTime())) throw new Misuse(`"${text}" is no date`);
  return found;
}

function needed(value: string | undefined, what: string): string {
  if (value === undefined) throw new Misuse(`${what} is missing; see scripts/virtual-node --help`);
  return value;
}

// `list | head` has all that it wants.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

process.exitCode = await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`virtual-node: ${error instanceof Error ? error.message : String(error)}\n`);
  return error instanceof Misuse ? 2 : 1;
});
