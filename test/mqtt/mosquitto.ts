/** A real mosquitto on a free port of the loopback, with its own configuration and no files kept. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { found } from '../../scripts/lib/prerequisites.ts';

export type Mosquitto = {
  readonly port: number;
  readonly url: string;
  [Symbol.asyncDispose](): Promise<void>;
};

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** `lines`: more of its configuration; without any, everybody may do everything. */
export async function startMosquitto(
  lines: readonly string[] = ['allow_anonymous true'],
  port?: number,
): Promise<Mosquitto> {
  const program = await found('mosquitto');
  if (program === undefined) throw new Error('needs mosquitto: apt-get install mosquitto');
  const directory = await mkdtemp(join(tmpdir(), 'limpet-mosquitto-'));
  const at = port ?? (await freePort());
  const file = join(directory, 'mosquitto.conf');
  const config = [`listener ${at} 127.0.0.1`, 'persistence false', ...lines];
  await writeFile(file, `${config.join('\n')}\n`);
  const child = spawn(program, ['-c', file], { stdio: 'ignore' });
  await listening(child, at);
  return {
    port: at,
    url: `mqtt://127.0.0.1:${at}`,
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.kill('SIGKILL')) await once(child, 'exit');
      await rm(directory, { recursive: true });
    },
  };
}

async function listening(child: ChildProcess, port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    if (child.exitCode !== null) throw new Error(`mosquitto ended with ${child.exitCode}`);
    const socket = connect(port, '127.0.0.1');
    const there = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (there) return;
    await sleep(50);
  }
  throw new Error('mosquitto does not listen');
}
