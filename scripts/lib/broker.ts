// A real mosquitto on a free port, with its own configuration and folder.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from './ports.ts';
import { found } from './prerequisites.ts';

export type Broker = {
  readonly port: number;
  readonly directory: string;
  start(): Promise<void>;
  signal(name: NodeJS.Signals): void;
  /** Kills it, also one that stands still. */
  stop(): Promise<void>;
} & AsyncDisposable;

/** `files`: by name, written beside the configuration; `$dir` in `lines` stands for their folder. */
export async function startBroker(
  lines: readonly string[] = [],
  files: Readonly<Record<string, string>> = {},
): Promise<Broker> {
  const directory = mkdtempSync(join(tmpdir(), 'limpet-mosquitto-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  const passwords = join(directory, 'passwords');
  if ('passwords' in files) spawnSync('mosquitto_passwd', ['-U', passwords]);
  const [port = 0] = await freePorts(1);
  const anonymous = 'passwords' in files ? 'false' : 'true';
  const config = [
    `listener ${port} 127.0.0.1`,
    `allow_anonymous ${anonymous}`,
    'set_tcp_nodelay true',
    ...(process.getuid?.() === 0 ? ['user root'] : []),
    ...lines.map((line) => line.replaceAll('$dir', directory)),
  ];
  writeFileSync(join(directory, 'mosquitto.conf'), `${config.join('\n')}\n`);
  let child: ChildProcess | undefined;
  const broker: Broker = {
    port,
    directory,
    start: async () => {
      const program = (await found('mosquitto')) ?? 'mosquitto';
      child = spawn(program, ['-c', join(directory, 'mosquitto.conf')], { stdio: 'ignore' });
      await untilOpen(port);
    },
    signal: (name) => void child?.kill(name),
    stop: async () => {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
    [Symbol.asyncDispose]: async () => {
      await broker.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  await broker.start();
  return broker;
}

async function untilOpen(port: number): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const socket = connect(port, '127.0.0.1');
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isOpen) return;
    await sleep(50);
  }
  throw new Error(`mosquitto does not listen on ${port}`);
}
