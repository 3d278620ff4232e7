// The way into a virtual node: one ssh connection that all commands share.
import { spawn } from 'node:child_process';
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run, type Finished } from './process.ts';

export type Way = {
  readonly port: number;
  readonly key: string;
  /** The socket of the shared connection. */
  readonly control: string;
};

export type SshOptions = {
  readonly input?: string | Uint8Array;
  readonly timeoutMs?: number;
  /** Throw when the command fails; true unless told. */
  readonly check?: boolean;
  readonly onLine?: (line: string) => void;
};

/** The arguments of an ssh that goes through the shared connection. */
export function sshArguments(way: Way): string[] {
  const options = {
    BatchMode: 'yes',
    ControlPath: way.control,
    IdentitiesOnly: 'yes',
    LogLevel: 'ERROR',
    // The machine is made anew for each test; 127.0.0.1 needs no proof of who it is.
    StrictHostKeyChecking: 'no',
    UserKnownHostsFile: '/dev/null',
  };
  const named = Object.entries(options).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  return ['-F', 'none', ...named, '-i', way.key, '-p', `${way.port}`];
}

/**
 * Opens the shared connection. `ready` says whether the machine has told that it lets us in, and
 * throws when there is no machine to wait for. Throws after `timeoutMs`.
 */
export async function connect(
  way: Way,
  options: { readonly timeoutMs: number; readonly ready: () => Promise<boolean> },
): Promise<void> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    // To knock before somebody is there is answered late: QEMU's network waits longer each time.
    if ((await options.ready()) && (await opened(way))) return;
    if (performance.now() > end) throw new Error(`no ssh after ${options.timeoutMs} ms`);
    await sleep(100);
  }
}

/** Whether the shared connection stands. */
export async function connected(way: Way): Promise<boolean> {
  const args = [...sshArguments(way), '-O', 'check', 'root@127.0.0.1'];
  return (await run('ssh', args, { check: false, timeoutMs: 10_000 })).code === 0;
}

/** Closes the shared connection, if there is one. */
export async function disconnect(way: Way): Promise<void> {
  const args = [...sshArguments(way), '-O', 'exit', 'root@127.0.0.1'];
  await run('ssh', args, { check: false, timeoutMs: 10_000 });
}

/**
 * Makes a unix socket of the machine reachable as one of the host's, until the connection ends.
 * Throws when the machine refuses.
 */
export async function forwardSocket(way: Way, local: string, remote: string): Promise<void> {
  const args = [...sshArguments(way), '-O', 'forward', '-L', `${local}:${remote}`];
  await run('ssh', [...args, 'root@127.0.0.1'], { timeoutMs: 10_000 });
}

async function opened(way: Way): Promise<boolean> {
  // -f puts the connection in the background once it stands; it must not hold on to our pipes.
  const more = ['-o', 'ControlMaster=yes', '-o', 'ConnectTimeout=60', '-N', '-f'];
  const args = [...sshArguments(way), ...more, 'root@127.0.0.1'];
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const child = spawn('ssh', args, { stdio: 'ignore' });
  child.on('error', () => resolve(false));
  child.on('exit', (code) => resolve(code === 0));
  return await promise;
}

/**
 * Runs a command in the machine as root. A list is quoted word by word; a string is given to the
 * machine's shell as it is. Throws when it fails (unless `check` is false) or takes too long.
 */
export async function ssh(
  way: Way,
  command: string | readonly string[],
  options: SshOptions = {},
): Promise<Finished> {
  const line = typeof command === 'string' ? command : command.map(quoted).join(' ');
  return await run('ssh', [...sshArguments(way), 'root@127.0.0.1', line], options);
}

/** A word as a POSIX shell reads it back. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * Copies files and directories into the machine. `to` is taken for a directory when it ends with
 * a slash or when there are several; otherwise it is the copy's own name.
 */
export async function copyIn(way: Way, from: readonly string[], to: string): Promise<void> {
  const first = from[0];
  if (first === undefined) throw new Error('nothing to copy');
  if (from.length === 1 && !to.endsWith('/')) {
    const rename = renaming(basename(first), basename(to));
    await pipe(way, [first], dirname(to), ['--transform', rename]);
  } else await pipe(way, from, to, []);
}

async function pipe(
  way: Way,
  from: readonly string[],
  directory: string,
  more: readonly string[],
): Promise<void> {
  const sources = from.flatMap((path) => ['-C', dirname(path), basename(path)]);
  // Decompressing costs the machine less than ssh's cipher does.
  const pack = ['--use-compress-program', 'gzip -1'];
  const sender = ['tar', '-c', ...pack, '--owner=0', '--group=0', '--sparse', ...more, ...sources];
  const into = quoted(directory);
  const receiver = `mkdir -p ${into} && busybox gunzip -c | tar -x --no-same-owner -C ${into}`;
  await piped(sender, ['ssh', ...sshArguments(way), 'root@127.0.0.1', receiver]);
}

/** Copies a file or directory out of the machine, to the name `to`. */
export async function copyOut(way: Way, from: string, to: string): Promise<void> {
  const directory = to.endsWith('/') ? to : dirname(to);
  const rename = renaming(basename(from), basename(to));
  const more = to.endsWith('/') ? [] : ['--transform', rename];
  const send = `tar -c -C ${quoted(dirname(from))} ${quoted(basename(from))}`;
  await run('mkdir', ['-p', directory]);
  await piped(
    ['ssh', ...sshArguments(way), 'root@127.0.0.1', send],
    ['tar', '-x', '--no-same-owner', '-C', directory, ...more],
  );
}

/** Two programs, the output of the first being the input of the second. */
async function piped(sender: readonly string[], receiver: readonly string[]): Promise<void> {
  const from = spawn(sender[0] ?? '', sender.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  const into = spawn(receiver[0] ?? '', receiver.slice(1), { stdio: ['pipe', 'ignore', 'pipe'] });
  from.stdout.pipe(into.stdin);
  into.stdin.on('error', () => undefined);
  // A receiver that has ended would leave the sender waiting for ever.
  into.on('close', () => from.stdout.destroy());
  let said = '';
  for (const child of [from, into])
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ends = [from, into].map(async (child) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    child.on('error', reject);
    child.on('close', (code: number | null) => resolve(code ?? 1));
    return await promise;
  });
  if ((await Promise.all(ends)).some((code) => code !== 0)) {
    throw new Error(`copying failed: ${said.trim()}`);
  }
}

/** What tar's --transform takes to give the first name the second. */
function renaming(from: string, to: string): string {
  const pattern = from.replaceAll(/[\\,.*[\]^$]/g, String.raw`\$&`);
  const replacement = to.replaceAll(/[\\,&]/g, String.raw`\$&`);
  return `s,^${pattern},${replacement},`;
}
